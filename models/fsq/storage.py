"""A tokenizer's folder: config.json (its config and fingerprint) and weights.safetensors. No pickle.

Both files are written beside their place and moved into it, the config last, so that a folder with a config is whole.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "weights.safetensors"
_Config = TypeVar("_Config")
_FORMAT = 1  # raise it when the code around the weights changes what codes come out


def _weights(model: nn.Module) -> bytes:
    state = {name: tensor.detach().float().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return safetensors.torch.save(state)


def _digest(config: dict[str, Any], weights: bytes) -> str:
    head = json.dumps({"format": _FORMAT, "config": config}, sort_keys=True)
    return hashlib.sha256(head.encode() + weights).hexdigest()


def fingerprint(config: Any, model: nn.Module) -> str:
    """sha256, in hex, over the config (a dataclass) and the bytes of the float32 weights."""
    return _digest(asdict(config), _weights(model))


def save(folder: Path, config: Any, model: nn.Module) -> None:
    """Write both files; the folder is made if need be."""
    weights = _weights(model)
    fields = asdict(config)
    head = {"format": _FORMAT, "fingerprint": _digest(fields, weights), "config": fields}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((WEIGHTS_FILE, weights), (CONFIG_FILE, json.dumps(head, indent=2).encode() + b"\n")):
        beside = folder / f"{name}.partial"
        beside.write_bytes(content)
        beside.replace(folder / name)


def _head(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        head = json.loads(path.read_bytes())
        complete = isinstance(head["config"], dict) and isinstance(head["fingerprint"], str) and "format" in head
    except FileNotFoundError:
        raise ValueError(f"no tokenizer at {folder}: {path} is missing; train one or give its folder") from None
    except (ValueError, KeyError, TypeError):
        complete, head = False, {}
    if not complete:
        raise ValueError(f"{path} is damaged: no tokenizer config; train the tokenizer again")
    return head


def kind(folder: Path) -> str:
    """`kind` of the config in the folder. ValueError, naming the file, if it is missing or damaged."""
    found = _head(folder)["config"].get("kind")
    if not isinstance(found, str):
        raise ValueError(f"{folder / CONFIG_FILE} is damaged: it names no kind; train the tokenizer again")
    return found


def load(folder: Path, config_class: type[_Config]) -> tuple[_Config, dict[str, Tensor]]:
    """Config and weights. ValueError in one line, naming the file, if one is missing, damaged or of another kind."""
    head = _head(folder)
    config_path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    try:
        config = TypeAdapter(config_class).validate_json(json.dumps(head["config"]), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "config"
        raise ValueError(f"{config_path} does not fit: {field}: {first['msg']}; train the tokenizer again") from None
    try:
        weights = weights_path.read_bytes()
        state = safetensors.torch.load(weights)
    except FileNotFoundError:
        raise ValueError(f"{weights_path} is missing; train the tokenizer again") from None
    except SafetensorError as error:
        line = " ".join(str(error).split())
        raise ValueError(f"{weights_path} is damaged ({line}); train the tokenizer again") from None
    if head["format"] != _FORMAT or _digest(head["config"], weights) != head["fingerprint"]:
        raise ValueError(f"{weights_path} is not what {config_path} describes; train the tokenizer again")
    return config, state


def fill(model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
    """Copy loaded weights into the model. ValueError, naming the file, if names or shapes differ."""
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if wanted != {name: tensor.shape for name, tensor in state.items()}:
        raise ValueError(
            f"{folder / WEIGHTS_FILE} holds other tensors than its config wants; train the tokenizer again"
        )
    with torch.no_grad():
        model.load_state_dict(state)
