"""The newest sound checkpoint, agreed on by all ranks, into whatever boxes they hold."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException

from triptych.trainer.checkpoint.disk.document import Damaged, Document, StoredFile, read_document
from triptych.trainer.checkpoint.disk.files import first_fault
from triptych.trainer.checkpoint.disk.folders import checkpoint_folders
from triptych.trainer.checkpoint.disk.storage import FolderReader
from triptych.trainer.checkpoint.planning import HeldLoadPlanner, flat_state
from triptych.trainer.checkpoint.ranks import Ranks
from triptych.trainer.checkpoint.shards import State

Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Part to parameter name to shape of the whole."""


def newest_sound(
    folders: list[Path], read: Callable[[Path], Document], fault: Callable[[Path, Document], str | None]
) -> tuple[Path, Document, dict[Path, str]]:
    """The last of `folders` that is as it was written, its index, and what is wrong with those passed over.

    read: an index, or `Damaged`; another error ends the search. fault: what is wrong with the files, or None.
    `Damaged` if none is sound; ValueError if there is none at all.
    """
    skipped: dict[Path, str] = {}
    for folder in reversed(folders):
        try:
            document = read(folder)
            found = fault(folder, document)
        except Damaged as error:
            found = str(error).rpartition(";")[0]
        else:
            if found is None:
                return folder, document, skipped
        skipped[folder] = found
    raise Damaged("; ".join(skipped.values()))


def newest_checkpoint(folder: Path, part: str, warn: Callable[[str], None]) -> Path:
    """In one process: the newest checkpoint under a run's checkpoint folder whose `part` is sound; `warn` is told of
    each one passed over. ValueError if there is none.
    """
    folders = checkpoint_folders(folder)
    if not folders:
        raise ValueError(f"{folder} holds no checkpoint; train first (triptych train)")
    try:
        found, _, skipped = newest_sound(
            folders,
            read_document,
            lambda path, document: first_fault(path, {name: document.files[name] for name in document.files_of(part)}),
        )
    except Damaged as error:
        raise ValueError(f"no checkpoint is sound ({error}); restore one, or train again") from None
    for line in passed_over(skipped, found):
        warn(line)
    return found


def passed_over(skipped: Mapping[Path, str], used: Path) -> list[str]:
    """One line for each damaged checkpoint: which, why, and what takes its place."""
    return [
        f"checkpoint {folder} is passed over ({why}); {used.name} is used instead" for folder, why in skipped.items()
    ]


def shared_fault(folder: Path, document: Document, ranks: Ranks) -> str | None:
    """What is wrong with a checkpoint's files, the same answer on every rank. Each file is read by one of them."""
    faults = ranks.gather(first_fault(folder, _share(document.files, ranks.number, ranks.count)))
    return next((fault for fault in faults if fault is not None), None)


def _share(files: Mapping[str, StoredFile], rank: int, num_ranks: int) -> dict[str, StoredFile]:
    """The files that fall to a rank: largest first, each to the rank that has least to read."""
    load = [0] * num_ranks
    mine = {}
    for name in sorted(files, key=lambda name: (-files[name].num_bytes, name)):
        reader = min(range(num_ranks), key=load.__getitem__)
        load[reader] += files[name].num_bytes
        if reader == rank:
            mine[name] = files[name]
    return mine


def wanted_shapes(state: State, ranks: Ranks) -> Shapes:
    """What all ranks together hold."""
    shapes: dict[str, dict[str, tuple[int, ...]]] = {}
    for held in ranks.gather(
        {part: {name: held.shape for name, held in tensors.items()} for part, tensors in state.items()}
    ):
        for part, tensors in held.items():
            shapes.setdefault(part, {}).update(tensors)
    return shapes


def require_parameters(folder: Path, document: Document, wanted: Shapes) -> None:
    """ValueError, naming the first difference, unless the checkpoint has every part, with the same names and shapes."""
    for part, tensors in wanted.items():
        if part not in document.index:
            raise ValueError(f"checkpoint {folder} has no part {part!r}; use a run that wrote it")
        saved = {name: tensor.shape for name, tensor in document.index[part].items()}
        for name in sorted(saved.keys() | tensors.keys()):
            there, here = saved.get(name, "missing"), tensors.get(name, "missing")
            if there != here:
                raise ValueError(
                    f"checkpoint {folder} is of another model ({name}: {there} there, {here} here); "
                    "use the run that wrote it"
                )


def require_identity(folder: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """ValueError, naming the first difference, unless the checkpoint was made with the same model and tokenizers."""
    for key in wanted:
        if saved.get(key) != wanted[key]:
            name, there, here = _first_difference(key, saved.get(key), wanted[key])
            raise ValueError(
                f"checkpoint {folder} was made with another {key} ({name}: {_short(there)} there, {_short(here)} "
                f"here); use the same {key}, or another run directory"
            )


@torch.no_grad()
def fill(state: State, folder: Path, document: Document, ranks: Ranks) -> None:
    """Copy what a verified checkpoint holds into the boxes of every rank, in place and into their dtype. All ranks
    call it. OSError, naming the rank, if a file can no longer be read.
    """
    try:
        dcp.load(
            flat_state(state),
            storage_reader=FolderReader(folder, document),
            planner=HeldLoadPlanner(),
            process_group=ranks.group,
        )
    except CheckpointException as error:
        rank, (failure, _) = next(iter(error.failures.items()))
        raise OSError(f"checkpoint {folder} could not be read (rank {rank}: {failure}); try again") from error


def _first_difference(name: str, there: Any, here: Any) -> tuple[str, Any, Any]:
    """The path to the first value that differs, and both values. What was not written is None."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in (*here, *there):
            if there.get(key) != here.get(key):
                return _first_difference(f"{name}.{key}", there.get(key), here.get(key))
    return name, there, here


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
