"""One point profiled in fresh processes, as torchrun would start them, and how it ended."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from triptych.launch.environment import environment_of_child

State = Literal["done", "out of memory", "failed", "too long", "pruned"]

POLL_SECONDS = 0.1
TAIL_BYTES = 1 << 14
GRACE_SECONDS = 20.0  # for the others to end, once one process has

_OUT_OF_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|can't allocate memory|cannot allocate memory|MemoryError|bad_alloc", re.IGNORECASE
)


@dataclass(kw_only=True, slots=True, frozen=True)
class Ending:
    """How a point's processes ended. reason: empty where it is done."""

    state: State
    reason: str = ""


class Stopped(Exception):
    """A stop was asked for; the point's processes have been ended."""


def run_point(
    arguments: Sequence[str],
    folder: Path,
    *,
    world_size: int,
    limit_seconds: float,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Ending:
    """Start `python -m triptych.launch.profile` so many times and wait for all; each writes rankN.log in the folder.
    Stopped, if that is asked for meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    places = _places(world_size)
    processes = []
    try:
        for rank, place in enumerate(places):
            with (folder / f"rank{rank}.log").open("wb") as console:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-P", "-m", "triptych.launch.profile", *arguments],
                        stdin=subprocess.DEVNULL,
                        stdout=console,
                        stderr=subprocess.STDOUT,
                        env={**environment_of_child(world_size), **place},
                        start_new_session=True,  # Ctrl-C in the terminal is for the sweep, which ends them
                    )
                )
        in_time = _wait(processes, limit_seconds, stop_requested)
    finally:
        codes = [process.poll() for process in processes]
        for process in processes:
            _end(process)
    logs = [_tail(folder / f"rank{rank}.log") for rank in range(world_size)]
    return _ending(codes, logs, in_time, limit_seconds)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With whatever it has started and left: it leads a group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _places(world_size: int) -> list[dict[str, str]]:
    """Of each process, as `launch/environment.py` reads it; one alone meets nobody."""
    if world_size == 1:
        return [{}]
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    everyone = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**everyone, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world_size)]


def _wait(
    processes: Sequence["subprocess.Popen[bytes]"], limit_seconds: float, stop_requested: Callable[[], bool]
) -> bool:
    """Until all have ended, or some time after one has failed; False if time ran out."""
    deadline, failing = time.monotonic() + limit_seconds, False
    while time.monotonic() < deadline:
        codes = [process.poll() for process in processes]
        if all(code is not None for code in codes):
            return True
        if not failing and any(codes):
            failing, deadline = True, min(deadline, time.monotonic() + GRACE_SECONDS)
        if stop_requested():
            raise Stopped
        time.sleep(POLL_SECONDS)
    return failing


def _ending(codes: Sequence[int | None], logs: Sequence[str], in_time: bool, limit_seconds: float) -> Ending:
    if all(code == 0 for code in codes):
        return Ending(state="done")
    told = [line for log in logs for line in log.splitlines() if _OUT_OF_MEMORY.search(line)]
    if told:
        return Ending(state="out of memory", reason=told[0].strip()[:300])
    if -signal.SIGKILL in codes:
        return Ending(state="out of memory", reason="killed by the system, most likely for memory")
    if not in_time:
        return Ending(state="too long", reason=f"not done after {limit_seconds / 60:g} minutes")
    lines = [line for log in logs for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("triptych: error:")]
    last = (errors or lines[-1:] or [f"exit codes {', '.join(map(str, codes))}"])[0]
    return Ending(state="failed", reason=last.removeprefix("triptych: error:").strip()[:300])


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
        return file.read().decode("utf-8", errors="replace")
