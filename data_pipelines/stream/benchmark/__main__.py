"""Every loader that is installed, three times over, in turn: `python -m triptych.data_pipelines.stream.benchmark`.

Sets are made once, under --work: texts of 500 tokens in tens of shards for speed, 10,000 shards for the start, 10,500
names for one shard of 100,000 samples for a place behind 10**9. Results go to --out as JSON and as a table.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from triptych.data_pipelines.stream.benchmark.documents import NUM_WORKERS, ROW_LENGTH, ROWS, Texts
from triptych.data_pipelines.stream.benchmark.measure import MODULES, PEERS
from triptych.data_pipelines.stream.benchmark.peers.protocol import Peer
from triptych.data_pipelines.stream.benchmark.report import commit, hardware, table, versions

SPEED = Texts(number=60_000, mean_tokens=500, per_shard=1_000)
START = Texts(number=100_000, mean_tokens=40, per_shard=10)
FAR = Texts(number=100_000, mean_tokens=40, per_shard=100_000)
FAR_SHARDS = 10_500
FAR_SAMPLES = 10**9
SKIPPED_SAMPLES = 200_000
"""How many samples a loader throws away that cannot seek."""

_TIMEOUT_SECONDS = 300.0
_MAX_GIB = 10.0


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="The token stream against its peers.")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-data"), help="where sets are made and kept")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement of speed")
    parser.add_argument("--commit", default=None)
    options = parser.parse_args()
    peers = [peer for peer in PEERS if _is_there(peer)]
    sets = _make_sets(peers, options.work)
    runs: list[dict[str, Any]] = []
    for repeat in range(options.repeats):
        for peer in peers:
            given_up = {run["purpose"] for run in runs if run["peer"] == peer.name and "failed" in run}
            runs += _measured(peer, sets, repeat, options.seconds, given_up)
    document = {
        "commit": options.commit or commit(),
        "hardware": hardware(),
        "versions": versions(peers),
        "shapes": {"row_length": ROW_LENGTH, "rows": ROWS, "num_workers": NUM_WORKERS, "far_samples": FAR_SAMPLES}
        | {name: asdict(texts) for name, texts in (("speed", SPEED), ("start", START), ("far", FAR))},
        "facts": {peer.name: asdict(peer.facts) for peer in peers},
        "runs": runs,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "stream.json").write_text(json.dumps(document, indent=1) + "\n")
    (options.out / "stream.md").write_text(table(document))
    _say(table(document))


def _is_there(peer: Peer) -> bool:
    if peer.package is None or importlib.util.find_spec(MODULES[peer.package].split(".")[0]) is not None:
        return True
    _say(f"{peer.package} is not installed and is left out; pip install {peer.package} to measure it")
    return False


def _make_sets(peers: list[Peer], work: Path) -> dict[str, Path]:
    """Folder of each purpose, with a folder of each format below."""
    for purpose, texts in (("speed", SPEED), ("start", START), ("far", FAR)):
        for peer in peers:
            folder = work.resolve() / purpose / peer.format
            done = folder.parent / f".{peer.name}"
            if done.exists() or (purpose == "far" and not peer.can_seek):
                continue
            _say(f"writing {purpose} for {peer.name}")
            folder.mkdir(parents=True, exist_ok=True)
            peer.write(folder, texts)
            if purpose == "far":
                peer.multiply(folder, FAR_SHARDS)
            done.touch()
    return {purpose: work.resolve() / purpose for purpose in ("speed", "start", "far")}


def _measured(
    peer: Peer, sets: dict[str, Path], repeat: int, seconds: float, given_up: set[str]
) -> list[dict[str, Any]]:
    """Speed, start, and a place behind many samples, each in a process of its own; not again what was given up."""
    far = ("seek", sets["far"], FAR_SAMPLES) if peer.can_seek else ("skip", sets["start"], SKIPPED_SAMPLES)
    plans = [("speed", sets["speed"], 0), ("start", sets["start"], 0)]
    if peer.can_seek or peer.package == "webdataset":
        plans.append(far)
    runs = []
    for purpose, folder, samples in plans:
        if purpose in given_up:
            continue
        load = os.getloadavg()[0]
        found = _in_process(peer, folder / peer.format, samples, seconds if purpose == "speed" else 0.0)
        run = {"peer": peer.name, "purpose": purpose, "repeat": repeat, "samples": samples, "load_before": load} | found
        _say(json.dumps(run))
        runs.append(run)
    return runs


def _in_process(peer: Peer, folder: Path, samples: int, seconds: float) -> dict[str, Any]:
    """What `measure` says, or why it did not come to it: in time, and within memory that leaves the machine alone."""
    arguments = [peer.name, str(folder), str(samples), str(seconds)]
    command = [sys.executable, "-P", "-m", "triptych.data_pipelines.stream.benchmark.measure", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    start = time.monotonic()
    failed = ""
    while process.poll() is None and not failed:
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            gib = _group_gib(process.pid)
            if gib > _MAX_GIB:
                failed = f"took {gib:.0f} GiB after {time.monotonic() - start:.0f} s and was ended"
            elif time.monotonic() - start > _TIMEOUT_SECONDS:
                failed = f"not within {_TIMEOUT_SECONDS:.0f} s"
    if failed:
        os.killpg(process.pid, signal.SIGKILL)
    out, err = process.communicate()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # workers that outlive it
    if failed:
        return {"failed": failed}
    if process.returncode:
        return {"failed": (err.strip().splitlines() or ["no word"])[-1]}
    return json.loads(out.strip().splitlines()[-1])


def _group_gib(group: int) -> float:
    """Memory of the processes of a group; pages that they share count once."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rsplit(")", 1)[1].split()[2]) == group:
                lines = (path.parent / "smaps_rollup").read_text().splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue  # it has ended
    return total / (1 << 20)


def _say(text: str) -> None:
    sys.stdout.write(text.rstrip() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
