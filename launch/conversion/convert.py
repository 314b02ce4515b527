"""From a source to a folder that is whole or not there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from triptych.data_pipelines.shards.atomic import atomic_folder
from triptych.launch.conversion.hugging_face import DTYPES, FolderConfig, model_config, write_hugging_face
from triptych.launch.conversion.native import write_native
from triptych.launch.conversion.sources import Source, SourceConfig, open_source
from triptych.launch.conversion.verification import (
    Denoise,
    Verified,
    compare,
    hugging_face_model,
    native_model,
    plain_model,
)
from triptych.trainer.checkpoint.foreign.weights import ChangedWeights, Weights
from triptych.trainer.parallel.groups import Groups, process_groups
from triptych.trainer.parallel.placement import Placement

Target = Literal["hf", "native"]


@dataclass(kw_only=True, slots=True, frozen=True)
class ConversionConfig:
    """source: what is read. folder: of a Hugging Face target. command: as it was typed, kept in a native one."""

    source: SourceConfig
    target: Target
    folder: FolderConfig = field(default_factory=FolderConfig)
    verify: bool = False
    command: str = "triptych convert"


class Different(Exception):
    """What was written is not what was read. Nothing is left of it."""


def convert(config: ConversionConfig, target: Path, say: Callable[[str], None]) -> Verified | None:
    """Write `target`, which must not exist, at once or not at all; say: is told of what the user should know.

    `Different`, with every difference in a line, if both sides are compared and are not the same. ValueError as
    `open_source` and for a target that exists; OSError if the disk refuses.
    """
    if target.exists():
        raise ValueError(f"{target} already exists; remove it or choose another folder")
    if config.target == "native" and config.folder.precision != "fp32":
        raise ValueError("--dtype bf16 is of --to hf: a native checkpoint has fp32 weights; leave it out")
    with process_groups(Placement()) as groups:
        source = open_source(config.source, groups)
        _require_effect(config, source)
        for note in source.notes:
            say(f"an initialisation, not the same function: {note}")
        with atomic_folder(target) as partial:
            if config.target == "hf":
                write_hugging_face(partial, source, config.folder)
                checkpoint = partial
            else:
                checkpoint = write_native(partial, target, source, config.command)
            if not config.verify:
                return None
            verified = _verify(config, source, checkpoint, groups)
            if verified.differences:
                raise Different("\n".join(verified.differences))
            return verified


def _require_effect(config: ConversionConfig, source: Source) -> None:
    named = [setting for setting in config.source.settings if setting.startswith("data.folder=")]
    if named and source.origin == "hf" and config.target == "native":
        raise ValueError(
            f"--set {named[-1]} has no effect, the run's data.folder is where the tokenizers go; leave it out, "
            "and set it where the run is trained"
        )


def _verify(config: ConversionConfig, source: Source, written: Path, groups: Groups) -> Verified:
    weights: Weights = source.weights
    if config.folder.precision != "fp32":
        dtype = DTYPES[config.folder.precision]
        weights = ChangedWeights(origin=weights, change=lambda tensor: tensor.to(dtype).to(torch.float32))
    run, origin = source.run, "hf" if config.target == "hf" else "native"
    if origin == "hf":
        result: Weights = open_source(SourceConfig(folder=written, origin="hf"), groups).weights
        right = hugging_face_model(written)
    else:
        from triptych.trainer.checkpoint.disk.reading import StoredPart

        result = StoredPart(written, "weights")
        right = native_model(run, result, groups)
    return compare(weights, result, _model_of_source(config, source, weights, groups), right, run)


def _model_of_source(config: ConversionConfig, source: Source, weights: Weights, groups: Groups) -> Denoise:
    """By other code than the result's, where there is such: native against plain torch. `weights` are those that the
    result should have, so rounded ones are not compared with what they were.
    """
    if source.origin == "native" or config.target == "hf":
        return native_model(source.run, weights, groups)
    if source.origin == "hf":
        return hugging_face_model(config.source.folder)
    return plain_model(model_config(source.run, "fp32", None), weights)
