"""Folders of pretrained models: reading anyone's, and keeping one as part of a tokenizer.

A tokenizer's folder holds `config.json` (ours: fields and fingerprint) and `model/`, the model as its own library saves
it: its config.json and float32 weights as safetensors. No pickle is ever read.
"""

import hashlib
import importlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

CONFIG_FILE = "config.json"
MODEL_FOLDER = "model"
Precision = Literal["float32", "float64"]
_Config = TypeVar("_Config")
_FORMAT = 1  # raise it when the code around the models changes what codes come out
_NOT_THE_MODEL = ("_name_or_path", "_diffusers_version", "transformers_version", "architectures", "dtype")


@dataclass(kw_only=True, slots=True, frozen=True)
class Architecture:
    """A model class of another library.

    name: its `model_type` (transformers) or `_class_name` (diffusers). whole: the `model_type` of the larger model that
    holds it, as `model.vqmodel` with the config `vq_config`, if there is one.
    """

    library: Literal["transformers", "diffusers"]
    model_class: str
    name: str
    whole: str | None = None


def declared_name(folder: Path) -> str:
    """What the folder's `config.json` says that it is. ValueError, naming the file, if it does not."""
    path = folder / CONFIG_FILE
    content = read_object(path)
    name = content.get("model_type") or content.get("_class_name")
    if not isinstance(name, str):
        raise ValueError(f"{path} names no model_type and no _class_name; give a model's own folder")
    return name


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object. ValueError, naming the file, if it is missing or something else."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path} is missing; give the folder of a model") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is not JSON; copy it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object; copy it again")
    return content


def load_model(architecture: Architecture, folder: Path) -> Any:
    """The model in float32 on the CPU, in evaluation mode.

    ValueError in one line, naming the folder, if the library is not installed, the weights are not safetensors, or some
    are missing or of another shape; the libraries themselves would go on with random ones.
    """
    _require_safetensors(folder)
    try:
        model_class = getattr(importlib.import_module(architecture.library), architecture.model_class)
        given = _arguments(architecture, folder)
        with _silence(architecture.library):
            model, info = model_class.from_pretrained(folder, **given)
            if "key_mapping" in given:  # a model remembers it, and would be saved under the larger model's names
                part, model = model, model_class(given["config"])
                model.load_state_dict(part.state_dict())
    except ImportError as error:
        line = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{folder} needs a package ({line}); install it, most come with 'triptych[tokenizers]'"
        ) from error
    except AttributeError as error:
        raise ValueError(
            f"the installed {architecture.library} has no {architecture.model_class}; install a newer one"
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        line = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder} is no {architecture.model_class} ({line}); copy it again") from error
    lost = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if lost:
        raise ValueError(
            f"{folder} lacks {len(lost)} weights of {architecture.model_class}, such as {lost[0]}; copy it again"
        )
    return model.eval().requires_grad_(False)


def keep_model(model: Any, folder: Path) -> None:
    """Write the model's config and its weights, one file of safetensors, into the tokenizer's folder."""
    with _silence("transformers"):
        model.save_pretrained(folder / MODEL_FOLDER, max_shard_size="1000GB", safe_serialization=True)


def write_config(folder: Path, config: Any) -> None:
    """Write `config.json` beside a kept model: fields and the fingerprint of everything."""
    head = {"format": _FORMAT, "fingerprint": _fingerprint(folder, asdict(config)), "config": asdict(config)}
    (folder / CONFIG_FILE).write_text(json.dumps(head, indent=2) + "\n")


def read_config(folder: Path, config_class: type[_Config]) -> tuple[_Config, str]:
    """The fields and the fingerprint, which is computed again from the files.

    ValueError in one line, naming the file, if one is missing, damaged, or not what the config describes.
    """
    path = folder / CONFIG_FILE
    head = read_object(path)
    try:
        config = TypeAdapter(config_class).validate_json(json.dumps(head.get("config")), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "config"
        raise ValueError(f"{path} does not fit: {field}: {first['msg']}; adopt the tokenizer again") from None
    fingerprint = _fingerprint(folder, head["config"])
    if head.get("format") != _FORMAT or head.get("fingerprint") != fingerprint:
        raise ValueError(f"{folder / MODEL_FOLDER} is not what {path} describes; adopt the tokenizer again")
    return config, fingerprint


def copy_folder(source: Path, target: Path) -> None:
    """Copy a tokenizer's files; the config last, so that a folder with a config is whole."""
    shutil.copytree(source / MODEL_FOLDER, target / MODEL_FOLDER, dirs_exist_ok=True)
    shutil.copy(source / CONFIG_FILE, target / CONFIG_FILE)


def _fingerprint(folder: Path, fields: dict[str, Any]) -> str:
    """sha256 in hex over our fields, the model's config without what says nothing of its values, and every tensor."""
    model = read_object(folder / MODEL_FOLDER / CONFIG_FILE)
    described = {name: value for name, value in model.items() if name not in _NOT_THE_MODEL}
    head = json.dumps({"format": _FORMAT, "config": fields, "model": described}, sort_keys=True)
    digest = hashlib.sha256(head.encode())
    files = _require_safetensors(folder / MODEL_FOLDER)
    for path in files:
        try:
            with safe_open(path, "np") as tensors:
                for name in sorted(tensors.keys()):
                    value = tensors.get_tensor(name)
                    digest.update(f"{name} {value.dtype} {value.shape}".encode())
                    digest.update(value.tobytes())
        except SafetensorError as error:
            line = " ".join(str(error).split())
            raise ValueError(f"{path} is damaged ({line}); adopt the tokenizer again") from None
    return digest.hexdigest()


def _require_safetensors(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if pickled:
        raise ValueError(
            f"{folder} has its weights in {pickled[0]}, a pickle, which may run anything; save them as safetensors, "
            f"with the model's save_pretrained"
        )
    raise ValueError(f"{folder} has no weights (*.safetensors); give the whole folder of the model")


def _arguments(architecture: Architecture, folder: Path) -> dict[str, Any]:
    """Of from_pretrained."""
    given: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    if architecture.library == "diffusers":
        return {**given, "torch_dtype": torch.float32}
    given["dtype"] = torch.float32
    if architecture.whole is not None and declared_name(folder) == architecture.whole:
        from transformers import AutoConfig

        whole: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
        given |= {"config": whole.vq_config, "key_mapping": {r"^(?:model\.)?vqmodel\.": ""}}
    return given


@contextmanager
def _silence(library: str) -> Iterator[None]:
    """No progress bars, no report of weights that are not used: whatever matters is checked and raised here."""
    logging = importlib.import_module(f"{library}.utils.logging")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def move(model: nn.Module, precision: Precision, device: str) -> None:
    """Put the model where and in what it computes."""
    # The libraries' own `to` warns or refuses for reasons (quantized or mixed weights) that float32 files rule out.
    nn.Module.to(model, device=device, dtype=torch.float64 if precision == "float64" else torch.float32)
