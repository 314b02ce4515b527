"""`triptych train` as several processes: one that dies, hangs or errs ends all of them, and every one says why."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from tiny_world import environment

pytest_plugins = ["command_fixtures"]

QUICK = {"fit__watch__silence_seconds": 6, "fit__watch__suspicion_seconds": 3, "fit__watch__beat_seconds": 0.2}
WITHOUT_END = {"fit__total_tokens": 40_000_000, "fit__checkpoint__every_tokens": 1_000_000, **QUICK}


class Ranks:
    """Processes of one run, started as Slurm does: nobody ends the others when one has died."""

    def __init__(self, folder, arguments):
        """arguments: of `triptych train`, one list per rank."""
        self.folder = folder
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(len(arguments))}
        self.processes = [
            self._start(rank, given, {**meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank, given in enumerate(arguments)
        ]

    def _start(self, rank, arguments, variables):
        with (self.folder / f"out{rank}").open("w") as out, (self.folder / f"err{rank}").open("w") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "triptych.launch.train", *arguments],
                cwd=self.folder,
                env=environment(**variables),
                stdout=out,
                stderr=err,
            )

    def wait(self, *ranks, seconds=60):
        """Exit codes; a rank that does not end is a failure."""
        end = time.monotonic() + seconds
        return [self.processes[rank].wait(max(0.1, end - time.monotonic())) for rank in ranks]

    def said(self, rank):
        return (self.folder / f"err{rank}").read_text()

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def start(tmp_path):
    """`start(*arguments_per_rank)`; whatever still runs at the end is killed."""
    started = []

    def call(*arguments):
        started.append(Ranks(tmp_path, arguments))
        return started[-1]

    yield call
    for ranks in started:
        ranks.kill()


def free_port():
    """Below the ports that the system gives to connections: one of those may be taken again before rank 0 is up."""
    for port in range(20_000 + os.getpid() % 10_000, 32_000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def wait_for_steps(run_dir, rank, seconds=120):
    """Until a rank has logged a step, and its sign of life says so."""
    end = time.monotonic() + seconds
    while not (run_dir / "logs" / f"rank{rank}.jsonl").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(2.5)


def last_line(run_dir, rank):
    return json.loads((run_dir / "logs" / f"rank{rank}.jsonl").read_text().splitlines()[-1])


@pytest.mark.parametrize(
    ("number", "victim", "cause"),
    [
        (signal.SIGKILL, 1, "no sign of life for 3 s, and a connection broke"),
        (signal.SIGSTOP, 0, "no answer from its store for 6 s"),
    ],
    ids=["killed", "stopped"],
)
def test_a_rank_that_dies_or_hangs_ends_the_other(start, world, tmp_path, number, victim, cause):
    """Rank 0 serves the store by which the others watch; rank 1 does not."""
    run, other = tmp_path / "run", 1 - victim
    ranks = start(*[world.training(run, **WITHOUT_END)[1:]] * 2)
    wait_for_steps(run, victim)
    ranks.processes[victim].send_signal(number)
    assert ranks.wait(other) == [1]
    (line,) = ranks.said(other).splitlines()
    assert line.startswith(f"triptych: error: rank {victim} ({socket.gethostname()}): {cause}")
    assert re.search(r"last seen after step \d+, [\d,]+ tokens, in \w+", line)
    logged = last_line(run, other)
    assert (logged["event"], logged["rank"], logged["cause"] in line) == ("end", victim, True)


def test_a_process_killed_under_torchrun_is_named_by_the_other(world, tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    running = subprocess.Popen(
        [*torchrun, "-m", "triptych.launch.train", *world.training(tmp_path / "run", **WITHOUT_END)[1:]],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_steps(tmp_path / "run", 0)
        os.kill(process_of_rank(running.pid, 0), signal.SIGKILL)
        _, err = running.communicate(timeout=60)
    finally:
        running.terminate()  # torchrun takes its processes along
    assert running.returncode == 1
    assert "triptych: error: rank 0 (" in err, err
    assert last_line(tmp_path / "run", 1)["rank"] == 0


def process_of_rank(parent, rank):
    """The child of torchrun that was told this rank."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=True)
    for pid in map(int, children.stdout.split()):
        with open(f"/proc/{pid}/environ", "rb") as file:
            if f"RANK={rank}".encode() in file.read().split(b"\0"):
                return pid
    raise AssertionError(f"torchrun has no child of rank {rank}")


def test_ranks_asked_to_stop_end_well(start, world, tmp_path):
    ranks = start(*[world.training(tmp_path / "run", **WITHOUT_END)[1:]] * 2)
    wait_for_steps(tmp_path / "run", 0)
    ranks.processes[1].send_signal(signal.SIGTERM)
    assert ranks.wait(0, 1) == [0, 0]
    assert ranks.said(0) + ranks.said(1) == ""


@pytest.mark.parametrize(
    ("settings", "says"),
    [(["fit.seed=x"], "triptych: error: --set: fit.seed: "), (["fit.logical_batch=7"], "triptych: error: ")],
    ids=["before the groups", "within them"],
)
def test_what_every_rank_finds_wrong_is_said_once(start, world, tmp_path, settings, says):
    wrong = world.training(tmp_path / "run", *(part for each in settings for part in ("--set", each)), **QUICK)[1:]
    ranks = start(wrong, wrong)
    assert ranks.wait(0, 1) == [2, 2]
    assert ranks.said(0).startswith(says)
    assert ranks.said(0).count("\n") == 1
    assert ranks.said(1) == ""
    assert not (tmp_path / "run").exists()


def test_what_one_rank_finds_wrong_is_said_with_its_rank(start, world, tmp_path):
    right = world.training(tmp_path / "run", **QUICK)[1:]
    ranks = start(right, [*right, "--set", "fit.seed=x"])
    assert ranks.wait(0, 1) == [2, 2]
    line = f"triptych: error: rank 1 ({socket.gethostname()}): --set: fit.seed: "
    assert [ranks.said(rank).startswith(line) for rank in (0, 1)] == [True, True]


def test_a_command_line_that_cannot_be_parsed_is_said_once(start, tmp_path):
    ranks = start(["--no-such-option"], ["--no-such-option"])
    assert ranks.wait(0, 1) == [2, 2]
    assert "No such option" in ranks.said(0)
    assert ranks.said(1) == ""
