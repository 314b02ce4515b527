"""Points trained as processes of their own, so many at once."""

import json
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.launch.environment import environment_of_child
from triptych.launch.sweep.folder import PointFolder

POLL_SECONDS = 0.2
TAIL_BYTES = 1 << 16  # a step's line has about 1,000


@dataclass(kw_only=True, slots=True, frozen=True)
class Job:
    """One point to be trained. settings: of a run that starts; one that is resumed has its own."""

    run: str
    name: str
    settings: tuple[str, ...]
    total_tokens: int
    place: PointFolder


@dataclass(kw_only=True, slots=True, frozen=True)
class Ended:
    """How a job's process ended. failure: empty if the run came to its end. stopped: it was told to stop before."""

    job: Job
    failure: str
    stopped: bool
    seconds: float


@dataclass(kw_only=True, slots=True, frozen=True)
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    started: float


def train_jobs(
    jobs: Sequence[Job],
    *,
    num_processes: int,
    descriptor: int,
    stop_requested: Callable[[], bool],
    ended: Callable[[Ended], None],
    under_way: Callable[[Sequence[Job]], None],
) -> None:
    """Train all jobs, `num_processes` at once. A failing one stops no other.

    descriptor: that all of them inherit (`SweepFolder.held`). ended: told of each that has ended. under_way: told a few
    times a second which ones are running. A stop request is handed on as SIGTERM, at which a run saves a checkpoint;
    an exception, the second Ctrl-C above all, kills them.
    """
    waiting, running, told_to_stop = deque(jobs), list[_Running](), False
    try:
        while running or (waiting and not stop_requested()):
            while waiting and len(running) < num_processes and not stop_requested():
                running.append(_start(waiting.popleft(), num_processes, descriptor))
            if stop_requested() and not told_to_stop:
                told_to_stop = True
                for each in running:
                    each.process.send_signal(signal.SIGTERM)
            for each in [each for each in running if each.process.poll() is not None]:
                running.remove(each)
                ended(_ending(each, told_to_stop))
            under_way([each.job for each in running])
            time.sleep(POLL_SECONDS)
    finally:
        for each in running:
            each.process.kill()
            each.process.wait()


def latest(place: PointFolder) -> tuple[int, Mapping[str, float]]:
    """Tokens and metrics of a run's last step so far; (0, {}) before the first."""
    for line in reversed(_tail(place.run.log(0)).split("\n")[:-1]):  # what follows the last newline is being written
        try:
            document = json.loads(line)
        except ValueError:  # the tail begins in the middle of a line
            continue
        if "tokens" in document and "metrics" in document:
            return int(document["tokens"]), document["metrics"]
    return 0, {}


def _start(job: Job, num_processes: int, descriptor: int) -> _Running:
    place = job.place
    place.folder.mkdir(parents=True, exist_ok=True)
    place.forget()
    command = [sys.executable, "-m", "triptych.launch.train", job.run, "--run-dir", str(place.folder)]
    if place.can_resume():
        command.append("--resume")
    else:
        place.clear()
        command += [part for setting in job.settings for part in ("--set", setting)]
    with place.console.open("ab") as console:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=environment_of_child(num_processes),
            pass_fds=(descriptor,),
            start_new_session=True,  # Ctrl-C in the terminal is for the sweep, which hands it on once
        )
    return _Running(job=job, process=process, started=time.monotonic())


def _ending(each: _Running, told_to_stop: bool) -> Ended:
    code, place = each.process.returncode, each.job.place
    failure = ""
    if code or not place.is_trained(each.job.total_tokens):
        failure = place.last_line() or f"exit code {code}"
        if code < 0:
            failure = f"ended by {signal.Signals(-code).name}; last it said: {failure}"
    return Ended(
        job=each.job, failure=failure, stopped=told_to_stop and bool(failure), seconds=time.monotonic() - each.started
    )


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
