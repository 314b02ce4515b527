"""Which collectives each rank was at, from what torch's flight recorder has written."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.launch.postmortem.plain_pickle import read_plain_pickle

_OURS = re.compile(r"rank(\d+)\.collectives\.json")
_TORCHS = re.compile(r"nccl_trace_rank_?(\d+)")
_MOST_BYTES = 2**30


@dataclass(kw_only=True, slots=True, frozen=True)
class Collective:
    """One that a rank took part in, or waits in. group: of processes. sequence: its number there, the same on all."""

    group: str
    sequence: int
    name: str
    state: str
    sizes: str


@dataclass(kw_only=True, slots=True, frozen=True)
class OddCollective:
    """Where ranks part: `absent` have not come to a collective in which `waiting` wait."""

    collective: Collective
    absent: tuple[int, ...]
    waiting: tuple[int, ...]

    def __str__(self) -> str:
        who = ", ".join(map(str, self.absent))
        there = f"{self.collective.name} number {self.collective.sequence} of group {self.collective.group}"
        return f"rank {who} never came to {there}, in which {len(self.waiting)} ranks wait"


def read_collectives(folder: Path) -> dict[int, list[Collective]]:
    """By rank. What cannot be read is left out: these files are written by a process that is about to end."""
    found: dict[int, list[Collective]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        ours, torchs = _OURS.fullmatch(path.name), _TORCHS.fullmatch(path.name)
        match = ours or torchs
        if match is None or path.stat().st_size > _MOST_BYTES:
            continue
        try:
            content = path.read_bytes()
            document = json.loads(content) if content[:1] == b"{" else read_plain_pickle(content)
            found[int(match[1])] = list(_entries(document))
        except (ValueError, OSError, KeyError, TypeError):
            continue
    return found


def odd_collective(collectives: Mapping[int, list[Collective]]) -> OddCollective | None:
    """The first collective that some ranks wait in and others of their group have not come to; None if there is none.

    A rank whose file was not written says nothing. That it belongs to a group shows by what it has done there.
    """
    found: list[OddCollective] = []
    for group in sorted({each.group for entries in collectives.values() for each in entries}):
        mine = {rank: [each for each in entries if each.group == group] for rank, entries in collectives.items()}
        last = {rank: max(each.sequence for each in entries) for rank, entries in mine.items() if entries}
        first_missing = min(last.values()) + 1
        there = {rank: each for rank in last for each in mine[rank] if each.sequence == first_missing}
        # NCCL's are begun ahead: only what is not completed is waited in. gloo's are never said to be completed.
        waiting = tuple(rank for rank, each in there.items() if each.state != "completed")
        if waiting:
            absent = tuple(rank for rank, number in last.items() if number < first_missing)
            found.append(OddCollective(collective=there[waiting[0]], absent=absent, waiting=waiting))
    return min(found, key=lambda each: (len(each.absent), each.collective.group), default=None)


def _entries(document: Mapping[str, Any]) -> Iterator[Collective]:
    for entry in document.get("entries", ()):
        group = entry.get("process_group") or (entry.get("pg_name", "default"), "")
        names = [str(part) for part in group if part] if isinstance(group, (list, tuple)) else [str(group)]
        yield Collective(
            group=" ".join(names),
            sequence=int(entry.get("collective_seq_id", entry.get("seq_id", 0))),
            name=str(entry.get("profiling_name", "a collective")).rpartition(":")[2],
            state=str(entry.get("state", "unknown")),
            sizes=str(entry.get("input_sizes", "")),
        )
