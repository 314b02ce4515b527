"""The folders of a run's checkpoints: their names, how one appears, which go."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from triptych.trainer.checkpoint.disk.document import STATE
from triptych.trainer.checkpoint.disk.files import flush_folder

_NAME = re.compile(r"tokens-(\d+)")
_PARTIAL = ".partial-"


def checkpoint_folder(folder: Path, tokens: int) -> Path:
    """Where the checkpoint at `tokens` belongs."""
    return folder / f"tokens-{tokens:015d}"


def checkpoint_folders(folder: Path) -> list[Path]:
    """Everything under a run's checkpoint folder that is named like a checkpoint, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=_tokens)


def complete_checkpoints(folder: Path) -> list[Path]:
    """Those with an index, oldest first."""
    return [path for path in checkpoint_folders(folder) if (path / STATE).is_file()]


def partial_folder(target: Path) -> Path:
    """Where a checkpoint is written before it is whole."""
    return target.with_name(f"{_PARTIAL}{target.name}")


def make_partial_folder(target: Path) -> None:
    """Make the folder to write in, and clear away whatever interrupted saves have left. OSError if the disk refuses."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f"{_PARTIAL}*"):
        shutil.rmtree(left)
    partial_folder(target).mkdir()


def commit_folder(target: Path) -> None:
    """Give the folder that was written its name, once its files are on the disk. One that has the name already, a
    damaged one that the run has gone back behind, makes way. OSError if the disk refuses.
    """
    partial = partial_folder(target)
    flush_folder(partial)
    if target.exists():
        drop_folder(target)
    partial.rename(target)
    flush_folder(target.parent)


def drop_folder(folder: Path) -> None:
    """Delete a checkpoint; it loses its name first, so that a half deleted one is never taken for whole."""
    dropped = folder.with_name(f"{_PARTIAL}dropped-{folder.name}")
    folder.rename(dropped)
    shutil.rmtree(dropped)


def to_drop(found: Sequence[Path], *, keep_last: int, keep_every_tokens: int) -> list[Path]:
    """Which of these checkpoints, oldest first, are no longer kept.

    The last ones stay, and so does the first at or past each multiple of `keep_every_tokens` (0: of none).
    """
    kept, multiples = set(found[-keep_last:]), {0}
    for path in found:
        multiple = _tokens(path) // keep_every_tokens if keep_every_tokens else 0
        if multiple not in multiples:
            multiples.add(multiple)
            kept.add(path)
    return [path for path in found if path not in kept]


def _tokens(path: Path) -> int:
    name = _NAME.fullmatch(path.name)
    assert name is not None
    return int(name[1])
