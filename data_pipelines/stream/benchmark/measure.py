"""One loader in one process of its own: what it takes to the first batch, then its speed and its memory.

As a program: `python -m triptych.data_pipelines.stream.benchmark.measure PEER FOLDER SAMPLES SECONDS`; its last line is
a `Measured` in JSON.
"""

import importlib
import json
import multiprocessing
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from triptych.data_pipelines.stream.benchmark.documents import NUM_WORKERS
from triptych.data_pipelines.stream.benchmark.peers.energon import Energon
from triptych.data_pipelines.stream.benchmark.peers.litdata import LitData
from triptych.data_pipelines.stream.benchmark.peers.mosaic import Mosaic
from triptych.data_pipelines.stream.benchmark.peers.protocol import Peer
from triptych.data_pipelines.stream.benchmark.peers.triptych import Triptych
from triptych.data_pipelines.stream.benchmark.peers.webdataset import WebDataset

PEERS: tuple[Peer, ...] = (Triptych(), WebDataset(), Mosaic(), LitData(), Energon())
MODULES = {
    "webdataset": "webdataset",
    "mosaicml-streaming": "streaming",
    "litdata": "litdata",
    "megatron-energon": "megatron.energon",
}
"""What a package is imported as."""

_WARM_SECONDS = 2.0


@dataclass(kw_only=True, slots=True, frozen=True)
class Measured:
    """first_batch_seconds: from making the loader, the package imported. tokens_per_second: as they reach the trainer,
    without padding. tokens_per_cpu_second: of the time that all processes had. rss_mib, pss_mib: of all processes;
    pages that they share count in each, or once. All 0 where nothing was measured but the first batch.
    """

    first_batch_seconds: float
    tokens_per_second: float
    tokens_per_cpu_second: float
    rss_mib: float
    pss_mib: float


def measure(peer: Peer, folder: Path, samples: int, seconds: float) -> Measured:
    """First batch behind so many samples, then batches for so many seconds."""
    start = time.perf_counter()
    batches = peer.batches(folder, NUM_WORKERS, samples)
    next(batches)
    first = time.perf_counter() - start
    tokens, wall, used = 0, 0.0, 0.0
    if seconds:
        warm = time.perf_counter() + _WARM_SECONDS
        while time.perf_counter() < warm:
            next(batches)
        began, used = time.perf_counter(), _cpu_seconds()
        while (wall := time.perf_counter() - began) < seconds:
            tokens += next(batches)
        used = _cpu_seconds() - used
    return Measured(
        first_batch_seconds=first,
        tokens_per_second=tokens / wall if wall else 0.0,
        tokens_per_cpu_second=tokens / used if used else 0.0,
        rss_mib=sum(_memory_kib(pid, "Rss") for pid in _tree()) / 1024,
        pss_mib=sum(_memory_kib(pid, "Pss") for pid in _tree()) / 1024,
    )


def _tree() -> list[int]:
    """This process and all below it."""
    found, parents = [], [os.getpid()]
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has ended
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    while parents:
        found.append(parents.pop())
        parents += children.get(found[-1], [])
    return found


def _cpu_seconds() -> float:
    total = 0
    for pid in _tree():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _memory_kib(pid: int, kind: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))


def main() -> None:
    """The program."""
    name, folder, samples, seconds = sys.argv[1:]
    peer = next(peer for peer in PEERS if peer.name == name)
    if peer.package is not None:
        importlib.import_module(MODULES[peer.package])
    measured = measure(peer, Path(folder), int(samples), float(seconds))
    sys.stdout.write(json.dumps(asdict(measured)) + "\n")
    sys.stdout.flush()
    for process in multiprocessing.active_children():
        process.kill()
    os._exit(0)  # workers end with it; some loaders take their time to say goodbye


if __name__ == "__main__":
    main()
