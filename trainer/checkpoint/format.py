"""A checkpoint on disk: a folder of safetensors files and one JSON that names, sizes and sums them.

    tokens-000000012345/
        state.json              format, clock, cursor, identity, sha256 of each file
        weights.safetensors     name -> fp32
        exp_avg.safetensors     name -> fp32
        exp_avg_sq.safetensors  name -> fp32

The folder appears under its name by one rename, after everything in it is on the disk: it is whole or it is not there.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 1
STATE = "state.json"
_FIELDS = {"tokens": int, "step": int, "num_updates": int, "cursor": dict, "identity": dict, "sha256": dict}


def write_checkpoint(folder: Path, parts: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
    """Write `parts` (part name -> parameter name -> tensor) and `state` under `folder`, atomically. OSError if the disk
    refuses.
    """
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for part, tensors in parts.items():
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial / f"{part}.safetensors")
        sums = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
        document = {"format": FORMAT, **state, "sha256": sums}
        (partial / STATE).write_text(json.dumps(document, indent=1), encoding="utf-8")
        for path in partial.iterdir():
            _flush_to_disk(path)
        _flush_to_disk(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        _flush_to_disk(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(
            f"checkpoint {folder} could not be written ({error}); free disk space or choose another run directory"
        ) from error


def read_state(folder: Path) -> dict[str, Any]:
    """The JSON of a checkpoint. ValueError if it is missing, damaged or of another format."""
    path = folder / STATE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} is not a checkpoint (no {STATE}); name a folder under a run's checkpoints/"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); use an older checkpoint") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"{path} has format {found}, this version reads {FORMAT}; use the version that wrote it")
    for name, kind in _FIELDS.items():
        if not isinstance(state.get(name), kind):
            raise ValueError(f"{path} is damaged (no sound {name!r}); use an older checkpoint")
    return state


def read_part(folder: Path, part: str) -> dict[str, Tensor]:
    """One file of tensors, its checksum verified. ValueError if it is missing or damaged."""
    name = f"{part}.safetensors"
    path = folder / name
    expected = read_state(folder)["sha256"].get(name)
    try:
        if expected is None or _sha256(path) != expected:
            raise ValueError(f"{path} does not match its checksum in {STATE}; use an older checkpoint")
        return load_file(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing; use an older checkpoint") from error


def complete_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints under a run's checkpoint folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.startswith("tokens-") and (path / STATE).is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
