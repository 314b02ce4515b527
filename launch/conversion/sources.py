"""What is converted: its weights, the run that they belong to, its tokenizers."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
import yaml

from triptych.configs.registry import named_run
from triptych.configs.token_data import tokenizer_folder
from triptych.configs.tree import from_mapping, with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.vocabulary import MODALITIES
from triptych.launch.conversion.layout import RUN, TOKENIZERS, folder_kind, trained_tokens
from triptych.launch.run_directory import RunDirectory
from triptych.models.sharding import sharding_of
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.averages.config import WEIGHTS, part_of_weights, require_weights
from triptych.trainer.checkpoint.disk.document import STATE, read_document
from triptych.trainer.checkpoint.disk.reading import StoredPart
from triptych.trainer.checkpoint.foreign.deepspeed_universal import UniversalWeights, universal_folder
from triptych.trainer.checkpoint.foreign.deepspeed_zero import DeepSpeedWeights, deepspeed_folder
from triptych.trainer.checkpoint.foreign.llama import LlamaWeights, SafetensorsFolder
from triptych.trainer.checkpoint.foreign.torch_dist import METADATA, TorchDistWeights, torch_dist_folder
from triptych.trainer.checkpoint.foreign.weights import Shapes, Wanted, WantedParameter, Weights, require_shapes
from triptych.trainer.parallel.groups import Groups

Origin = Literal["native", "hf", "deepspeed", "megatron", "llama"]


@dataclass(kw_only=True, slots=True, frozen=True)
class SourceConfig:
    """folder: what to read. origin: what it is; None: looked at. run: a run's name or directory, for what does not say
    of which run it is. settings: changes to that run, `path=value`. weights: an average's name, or a part's, of a
    native checkpoint.
    """

    folder: Path
    origin: Origin | None = None
    run: str | None = None
    settings: Sequence[str] = ()
    weights: str = WEIGHTS


@dataclass(kw_only=True, slots=True, frozen=True)
class Source:
    """tokenizers: folder with one per modality. tokens: that the weights have been trained on, where that is known.
    notes: why the weights are an initialisation alone.
    """

    origin: Origin
    run: TrimodalRun
    weights: Weights
    tokenizers: Path
    tokens: int | None = None
    notes: Sequence[str] = field(default_factory=tuple)


def open_source(config: SourceConfig, groups: Groups) -> Source:
    """Look at a source and verify what it has to be verified by. ValueError, naming what is wrong, for a folder that is
    none of these, damaged, or of another model than its run.
    """
    if not config.folder.is_dir():
        raise ValueError(f"{config.folder} is no folder; give a run's directory or a checkpoint")
    origin = config.origin or detected(config.folder)
    if origin != "native" and config.weights != WEIGHTS:
        raise ValueError(f"--weights {config.weights} is of native checkpoints alone; leave it out")
    match origin:
        case "native":
            source = _native(config)
        case "hf":
            source = _hugging_face(config)
        case _:
            source = _foreign(config, origin, groups)
    require_shapes(str(config.folder), source.weights.shapes, wanted_parameters(source.run, groups))
    return source


def detected(folder: Path) -> Origin:
    """What a folder holds. ValueError if it is nothing that can be read."""
    kind = folder_kind(folder)
    if kind == "triptych":
        return "hf"
    if (folder / RUN).is_file() or (folder / STATE).is_file():
        return "native"
    if torch_dist_folder(folder) is not None:
        return "megatron"
    if universal_folder(folder) is not None or deepspeed_folder(folder) is not None:
        return "deepspeed"
    if kind is not None:
        return "llama"
    raise ValueError(
        f"{folder} is no checkpoint that is known; give a run's directory, a folder under its checkpoints/, a Hugging "
        "Face folder, or one of DeepSpeed or Megatron"
    )


def wanted_parameters(run: TrimodalRun, groups: Groups) -> Wanted:
    """The run's model by parameter, built nowhere."""
    with torch.device("meta"):
        model = TrimodalTransformer(run.model, groups.collection)
    return {
        name: WantedParameter(shape=tuple(parameter.shape), sharding=sharding_of(parameter))
        for name, parameter in model.named_parameters()
    }


def _native(config: SourceConfig) -> Source:
    """A run's directory, of which the newest sound checkpoint is taken, or one of its checkpoints."""
    if (config.folder / STATE).is_file():
        checkpoint = config.folder
        directory = RunDirectory(folder=checkpoint.resolve().parent.parent)
    else:
        directory = RunDirectory(folder=config.folder)
        checkpoint = directory.newest_checkpoint("weights")
    run = _run_of(config) if config.run is not None else with_settings(directory.read(), config.settings)
    document = read_document(checkpoint)
    part = config.weights if config.weights in document.index else part_of_weights(config.weights)
    if part not in document.index:
        require_weights(config.weights, document.index, checkpoint)
    return Source(
        origin="native",
        run=run,
        weights=StoredPart(checkpoint, part),
        tokenizers=_tokenizers(run),
        tokens=document.header.tokens,
    )


class _FolderWeights:
    """Those of a folder that this project has written."""

    def __init__(self, folder: Path) -> None:
        self._folder = SafetensorsFolder(folder)
        self.shapes: Shapes = {name: self._folder.shape(name) for name in self._folder.names()}

    def read(self, name: str) -> torch.Tensor:
        return self._folder.read(name).to(torch.float32)


def _hugging_face(config: SourceConfig) -> Source:
    if config.run is not None:
        run = _run_of(config)
    else:
        path = config.folder / RUN
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))["run"]
        except FileNotFoundError:
            raise ValueError(f"{path} is missing; name the run with --run") from None
        except (yaml.YAMLError, KeyError, TypeError) as error:
            line = " ".join(str(error).split())
            raise ValueError(f"{path} is damaged ({line}); name the run with --run") from None
        run = with_settings(from_mapping(TrimodalRun, document, origin=str(path)), config.settings)
    return Source(
        origin="hf",
        run=run,
        weights=_FolderWeights(config.folder),
        tokenizers=config.folder / TOKENIZERS,
        tokens=trained_tokens(config.folder),
    )


def _foreign(config: SourceConfig, origin: Origin, groups: Groups) -> Source:
    run = _run_of(config)
    wanted = wanted_parameters(run, groups)
    notes: Sequence[str] = ()
    match origin:
        case "megatron":
            iteration = torch_dist_folder(config.folder)
            if iteration is None:
                raise ValueError(f"{config.folder} has no {METADATA}; give the folder of one iteration, in torch_dist")
            weights: Weights = TorchDistWeights(iteration, wanted)
        case "deepspeed":
            universal, zero = universal_folder(config.folder), deepspeed_folder(config.folder)
            if universal is None and zero is None:
                raise ValueError(
                    f"{config.folder} has no mp_rank_*_model_states.pt and no zero/; give a DeepSpeed folder"
                )
            weights = UniversalWeights(universal) if universal else DeepSpeedWeights(zero or config.folder, wanted)
        case _:
            found = LlamaWeights(config.folder, run.model, wanted, _initial(run, groups))
            weights, notes = found, found.notes
    return Source(origin=origin, run=run, weights=weights, tokenizers=_tokenizers(run), notes=notes)


def _initial(run: TrimodalRun, groups: Groups) -> dict[str, torch.Tensor]:
    """The run's initial values of what is no matrix of a layer; of layer 0 in the place of all, which are alike there:
    values are keyed by name.
    """
    one_layer = replace(run, model=replace(run.model, num_layers=1))
    return {name: parameter.detach() for name, parameter in one_layer.build_model(groups).named_parameters()}


def _run_of(config: SourceConfig) -> TrimodalRun:
    if config.run is None:
        raise ValueError(f"{config.folder} does not say which run it is of; add --run NAME (or a run's directory)")
    named = Path(config.run)
    run = RunDirectory(folder=named).read() if (named / RUN).is_file() else named_run(config.run)
    return with_settings(run, config.settings)


def _tokenizers(run: TrimodalRun) -> Path:
    return tokenizer_folder(run.data_folder, MODALITIES[0]).parent
