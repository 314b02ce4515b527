"""What a run has left: logs, heartbeats, stacks, collectives, launchers' output, checkpoints. Reading only."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from triptych.launch.postmortem.collectives import Collective, read_collectives
from triptych.launch.run_directory import RunDirectory
from triptych.trainer.checkpoint.disk.document import Damaged, read_document
from triptych.trainer.checkpoint.disk.files import first_fault
from triptych.trainer.checkpoint.disk.folders import checkpoint_folders
from triptych.trainer.parallel.watch.heart import Heartbeat

LEFT = ("end", "stopped", "finished")
"""How a rank's session is over: with an event in its log, or, in order, as its heartbeat says."""

LINGER_SECONDS = 15.0
"""For which a heart may go on after the end was written: who serves the store waits until the others have read why."""

CHECKED_BYTES = 4 * 2**30  # of a checkpoint that is read whole; of a larger one only index and sizes are looked at
OUTPUT_BYTES = 2**20  # of the end of each of a launcher's files
_RANK = re.compile(r"rank(\d+)")
_OUTPUTS = ("*.out", "*.err", "*.log", "slurm*/*", "slurm/**/*.out", "slurm/**/*.err", "launcher/**/*")

HINTS: tuple[tuple[str, str], ...] = (
    (r"oom[-_ ]kill|Out of memory: Killed|out-of-memory handler", "the machine ran out of memory and killed a process"),
    (r"OutOfMemoryError|CUDA out of memory", "a GPU ran out of memory"),
    (r"DUE TO TIME LIMIT", "the job reached its time limit"),
    (r"NODE_?FAIL|NODE FAILURE|DUE TO NODE", "a node failed"),
    (r"CANCELLED AT|DUE TO PREEMPTION", "the job was cancelled or preempted"),
    (r"No space left on device|Disk quota exceeded", "a disk was full"),
    (r"NCCL (error|WARN)|ncclSystemError|ncclRemoteError|NVLink|Xid", "the GPUs' links reported an error"),
    (r"Signal 9|SIGKILL|\bKilled\b|exitcode +: -9", "a process was killed (signal 9)"),
    (r"Signal 11|SIGSEGV|Segmentation fault|exitcode +: -11", "a process crashed (signal 11)"),
)
"""What is looked for in the output of launchers, gravest first, and what it means."""


@dataclass(kw_only=True, slots=True)
class Rank:
    """What one rank has left. events: all of its log, in order. left: that which ended its last session, None while
    none has. step, tokens: of its last line. damage: of the log itself.
    """

    number: int
    events: list[dict[str, Any]] = field(default_factory=list)
    left: dict[str, Any] | None = None
    step: int = 0
    tokens: int = 0
    first_step: int | None = None
    beat: Heartbeat | None = None
    stacks: str = ""
    damage: str = ""

    @property
    def name(self) -> str:
        return f"rank {self.number}" + (f" ({self.beat.host})" if self.beat else "")


@dataclass(kw_only=True, slots=True, frozen=True)
class CheckpointState:
    """fault: what is wrong with it, None if nothing was found. checked: "whole", or only its "sizes"."""

    name: str
    tokens: int
    num_bytes: int
    checked: str
    fault: str | None


@dataclass(kw_only=True, slots=True, frozen=True)
class Hint:
    """A line of a launcher's output, and what it means."""

    file: str
    line: str
    meaning: str


@dataclass(kw_only=True, slots=True, frozen=True)
class Evidence:
    """Everything. now: seconds since 1970, at which it was read."""

    folder: Path
    now: float
    settings: dict[str, Any]
    ranks: dict[int, Rank]
    checkpoints: list[CheckpointState]
    collectives: dict[int, list[Collective]]
    hints: list[Hint]
    finished: bool

    @property
    def world_size(self) -> int:
        """As the ranks last had it, or as many as have left something."""
        return max([beat.world_size for rank in self.ranks.values() if (beat := rank.beat)] or [len(self.ranks)])


def gather(directory: RunDirectory, now: float | None = None) -> Evidence:
    """Read a run directory. ValueError if it holds no run."""
    if not directory.settings.exists():
        raise ValueError(f"{directory.folder} holds no run (no run.yaml); name the directory of a run")
    ranks: dict[int, Rank] = {}
    for number, path in _by_rank(directory.folder / "logs", "rank*.jsonl"):
        ranks[number] = read_log(number, path)
    for number, path in _by_rank(directory.heartbeats, "rank*.json"):
        rank = ranks.setdefault(number, Rank(number=number))
        try:
            rank.beat = Heartbeat.read(path)
        except (ValueError, OSError) as error:
            rank.damage = str(error)
    for number, path in _by_rank(directory.dumps, "rank*.txt"):
        if path.name == f"rank{number}.txt" and number in ranks:
            ranks[number].stacks = path.read_text(encoding="utf-8", errors="replace")[:200_000]
    for rank in ranks.values():
        _forget_what_came_before(rank)
    return Evidence(
        folder=directory.folder,
        now=time.time() if now is None else now,
        settings=_settings(directory),
        ranks=dict(sorted(ranks.items())),
        checkpoints=[_checkpoint_state(folder) for folder in checkpoint_folders(directory.checkpoints)],
        collectives=read_collectives(directory.dumps),
        hints=list(_hints(directory.folder)),
        finished=directory.finished.exists(),
    )


def read_log(number: int, path: Path) -> Rank:
    """One rank's log, line by line: only events are parsed, and the last step."""
    rank, last, first, broken = Rank(number=number), "", "", 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.endswith("\n"):
                break  # a kill came in the middle of it
            if not line.startswith('{"event"'):
                first, last = first or line, line
                rank.left = None
                continue
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                broken += 1
                continue
            rank.events.append(event)
            if event.get("event") == LEFT[0]:
                rank.left = event
    try:
        if last:
            record = json.loads(last)
            rank.step, rank.tokens = int(record["step"]), int(record["tokens"])
    except (json.JSONDecodeError, KeyError, TypeError, ValueError):
        broken += 1
    rank.damage = f"{broken} lines of {path.name} cannot be read" if broken else ""
    return rank


def _forget_what_came_before(rank: Rank) -> None:
    """A heartbeat that is younger than the end of the last session is of a later one, which has not come to a step or
    has left in order: logs have no line of that.
    """
    beat = rank.beat
    if beat is not None and beat.state in LEFT and (rank.left is None or beat.time > seconds_of(rank.left)):
        rank.left = {"event": beat.state}
    if rank.left is None or rank.beat is None or rank.beat.state != "running":
        return
    if rank.beat.time > seconds_of(rank.left) + 2 * rank.beat.beat_seconds + LINGER_SECONDS:
        rank.left = None


def seconds_of(event: dict[str, Any]) -> float:
    """When an event was written, seconds since 1970; 0 if it does not say."""
    try:
        return datetime.fromisoformat(str(event["time"])).timestamp()
    except (KeyError, ValueError):
        return 0.0


def _by_rank(folder: Path, pattern: str) -> Iterator[tuple[int, Path]]:
    for path in sorted(folder.glob(pattern)) if folder.is_dir() else []:
        if (found := _RANK.match(path.name)) is not None:
            yield int(found[1]), path


def _settings(directory: RunDirectory) -> dict[str, Any]:
    """run.yaml as it is; nothing where it is damaged: this must still say why a run died."""
    import yaml

    try:
        document = yaml.safe_load(directory.settings.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return {}
    return document if isinstance(document, dict) else {}


def _checkpoint_state(folder: Path) -> CheckpointState:
    tokens = int(folder.name.removeprefix("tokens-"))
    try:
        document = read_document(folder)
    except (Damaged, ValueError) as error:
        fault = str(error).rpartition(";")[0]
        return CheckpointState(name=folder.name, tokens=tokens, num_bytes=0, checked="whole", fault=fault)
    num_bytes = sum(file.num_bytes for file in document.files.values())
    if num_bytes <= CHECKED_BYTES:
        fault, checked = first_fault(folder, document.files), "whole"
    else:
        fault, checked = _wrong_size(folder, {name: file.num_bytes for name, file in document.files.items()}), "sizes"
    return CheckpointState(name=folder.name, tokens=tokens, num_bytes=num_bytes, checked=checked, fault=fault)


def _wrong_size(folder: Path, sizes: dict[str, int]) -> str | None:
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size:,} bytes, not {size:,}"
    return None


def _hints(folder: Path) -> Iterator[Hint]:
    paths = sorted({path for pattern in _OUTPUTS for path in folder.glob(pattern) if path.is_file()})
    for path in paths:
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - OUTPUT_BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            continue
        for pattern, meaning in HINTS:
            line = next((line for line in lines if re.search(pattern, line)), None)
            if line is not None:
                yield Hint(file=str(path.relative_to(folder)), line=line.strip()[:300], meaning=meaning)
