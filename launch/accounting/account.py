"""`triptych data account`: where every document that a run planned has gone."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from triptych.configs.token_data import build_mixture
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.stream.windows import SourceOrder
from triptych.launch.inspection.plain import plain
from triptych.launch.run_directory import RunDirectory
from triptych.trainer.checkpoint.disk.document import Header, read_document
from triptych.trainer.checkpoint.disk.folders import checkpoint_folders
from triptych.trainer.checkpoint.loading import newest_sound
from triptych.trainer.loader.account import Account, EpochAccount, take_account

_MOST_CHARACTERS = 60  # of a name or reason
_MOST_FAULTS = 10


def account(folder: Path, *, as_json: bool, console: Console | None = None) -> int:
    """Hold a run's logs, up to its newest checkpoint, against what its sources planned; print it per source and epoch.

    The exit code: 1 if planned is not seen and lost. ValueError if the run, its logs, a checkpoint or its shards are
    missing, damaged, or of another run.
    """
    directory = RunDirectory(folder=folder)
    run = directory.read()
    name, header = _newest_header(directory)
    found = take_account(_orders(run, header), header.cursor, header.tokens, _logs(directory))
    if as_json:
        about = {"run": run.name, "checkpoint": name, "tokens": header.tokens}
        print(json.dumps(about | _as_json(found), indent=1))
    else:
        _print(found, f"{name}, {header.tokens:,} tokens", console or Console(highlight=False))
    return 1 if found.faults else 0


def _newest_header(directory: RunDirectory) -> tuple[str, Header]:
    """The newest checkpoint with a sound index, by name; its tensors need not be."""
    folders = checkpoint_folders(directory.checkpoints)
    if not folders:
        raise ValueError(f"{directory.checkpoints} holds no checkpoint; train first (triptych train)")
    folder, document, _ = newest_sound(folders, read_document, lambda path, document: None)
    return folder.name, document.header


def _orders(run: TrimodalRun, header: Header) -> Mapping[str, SourceOrder]:
    """Of the run's training split. The shards must be of the tokenizers that the checkpoint was made with."""
    prints = header.identity.get("tokenizers", {})
    mixture = build_mixture(run.data, run.layout, prints, split="train", seed=run.fit.seed)
    return mixture.orders


def _logs(directory: RunDirectory) -> list[Path]:
    """Of all ranks, in their order. ValueError if there is none of rank 0."""
    first = directory.log(0)
    if not first.is_file():
        raise ValueError(f"{first} is missing; restore it")
    ranks = [path.stem.removeprefix("rank") for path in first.parent.glob("rank*.jsonl")]
    return [directory.log(rank) for rank in sorted(int(rank) for rank in ranks if rank.isdecimal())]


def _print(found: Account, where: str, console: Console) -> None:
    numbers = ("epoch", "planned", "seen", "lost")
    table = Table("source", *(Column(name, justify="right", no_wrap=True) for name in numbers), "reasons")
    for entry in found.epochs:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in _reasons(entry).items())
        amounts = (f"{entry.planned:,}", f"{entry.seen:,}", f"{len(entry.lost):,}")
        epoch = f"{entry.epoch}{'' if entry.is_complete else ' (begun)'}"
        table.add_row(_shown(entry.source), epoch, *amounts, escape(reasons))
    console.print(table)
    sums = f"planned {found.planned:,} = seen {found.seen:,} + lost {found.lost:,}"
    if not found.faults:
        console.print(f"{sums}, each by its id; {where}", soft_wrap=True)
        return
    console.print(
        f"[bold red]does not add up[/bold red]: {sums}, the logs took {found.taken:,}; {where}", soft_wrap=True
    )
    for fault in found.faults[:_MOST_FAULTS]:
        console.print(escape(fault), soft_wrap=True)
    if len(found.faults) > _MOST_FAULTS:
        console.print(f"and {len(found.faults) - _MOST_FAULTS:,} more (--json has all of them)", soft_wrap=True)


def _as_json(found: Account) -> dict[str, Any]:
    return {
        "holds": not found.faults,
        "planned": found.planned,
        "seen": found.seen,
        "lost": found.lost,
        "taken": found.taken,
        "faults": list(found.faults),
        "epochs": [
            {
                "source": entry.source,
                "epoch": entry.epoch,
                "complete": entry.is_complete,
                "planned": entry.planned,
                "seen": entry.seen,
                "lost": [
                    {"sample": key.sample, "offset": key.offset, "reason": reason}
                    for key, reason in sorted(entry.lost.items())
                ],
                "reasons": _reasons(entry),
            }
            for entry in found.epochs
        ],
    }


def _reasons(entry: EpochAccount) -> dict[str, int]:
    """Number of the lost by reason, most first."""
    return dict(Counter(plain(reason, _MOST_CHARACTERS) for reason in entry.lost.values()).most_common())


def _shown(text: str) -> str:
    return escape(plain(text, _MOST_CHARACTERS))
