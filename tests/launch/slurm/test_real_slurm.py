"""Runs on a Slurm that these tests start: interrupted in every way that Slurm knows, they end as one that never was.

Switched on by TRIPTYCH_TEST_SLURM=1 (`make test-slurm`), minutes; as root, with the packages slurm-wlm and munge.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, command_of, descendants, node_of, processes, why_not
from tiny_world import environment, make_world

from triptych.launch.run_directory import commit
from triptych.launch.slurm.code_copy import copy_code
from triptych.trainer.checkpoint.disk.folders import complete_checkpoints

if os.environ.get("TRIPTYCH_TEST_SLURM") != "1":
    pytest.skip("a Slurm of our own takes minutes: set TRIPTYCH_TEST_SLURM=1", allow_module_level=True)
if missing := why_not():
    pytest.skip(f"no Slurm can be started here: {missing}", allow_module_level=True)

TOKENS, EVERY = 300_000, 50_000
LONG_TOKENS = 800_000  # beyond the minute after which Slurm may signal at the earliest
START_SECONDS, RUN_SECONDS = 240, 1500
QUICK = {"fit__watch__silence_seconds": 6, "fit__watch__suspicion_seconds": 3, "fit__watch__beat_seconds": 0.5}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with SlurmCluster(tmp_path_factory.mktemp("slurm"), num_nodes=3) as running:
        yield running


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def path_of_code(tmp_path_factory):
    """For PYTHONPATH: the code as it is now, for the jobs and what they are compared with alike."""
    target = tmp_path_factory.mktemp("code") / "code"
    copy_code(Path(__file__).parents[3], target, commit())
    return str(target)


@pytest.fixture(scope="module")
def table():
    """What was measured, by name, in seconds; written where TRIPTYCH_SLURM_TABLE says."""
    measured = {}
    yield measured
    if path := os.environ.get("TRIPTYCH_SLURM_TABLE"):
        rows = [f"| {name} | {value:.1f} |" for name, value in measured.items()]
        Path(path).write_text("\n".join(["| from what to what | seconds |", "|---|---|", *rows, ""]))


class Job:
    """A run that was submitted."""

    def __init__(self, cluster, folder, numbers):
        self.cluster, self.folder, self.numbers = cluster, folder, numbers

    @property
    def number(self):
        return self.numbers[0]

    @property
    def log(self):
        return "".join(path.read_text() for path in sorted((self.folder / "slurm").glob("*.log")))

    def tokens(self):
        return max([record["tokens"] for record in records(self.folder)], default=0)

    def wait_for_tokens(self, tokens, seconds=START_SECONDS):
        """Until it has got that far."""
        end = time.monotonic() + seconds
        while self.tokens() < tokens:
            assert time.monotonic() < end, f"{self.tokens()} tokens: {self.log}"
            assert self.cluster.job(self.number)["JobState"] in ("PENDING", "RUNNING", "COMPLETING"), self.log
            time.sleep(0.1)

    def wait_for_end(self, state, number=None):
        """Until the job (the first of a chain if none is given) is in that state; what Slurm knows of it."""
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        found = self.cluster.wait_for_job(number or self.number, ends, RUN_SECONDS)
        assert found["JobState"] == state, self.log
        return found


@pytest.fixture
def submit(cluster, world, path_of_code, tmp_path):
    """`submit(*options, **settings)`: a run on 2 nodes of 2 processes. What is left of it is cancelled."""
    jobs = []

    def call(*options, time_limit="30", grace=60, nodes=2, **changes):
        chosen = {
            "fit__total_tokens": TOKENS,
            "fit__checkpoint__every_tokens": EVERY,
            "fit__micro_batch_per_dp_rank": 2,
            **QUICK,
            **changes,
        }
        where = tmp_path / "run"
        given = [f"--nodes={nodes}", "--gpus-per-node=2", "--gpu-request=none", f"--time={time_limit}"]
        given += [f"--grace-seconds={grace}", f"--run-dir={where}", "--submit", *options, *world.settings(**chosen)]
        done = subprocess.run(
            [sys.executable, "-c", "from triptych.launch.cli import main; main()", "slurm", "trimodal_demo", *given],
            cwd=tmp_path,
            env={**cluster.environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": path_of_code},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        jobs.append(Job(cluster, where, re.findall(r"^job (\d+)", done.stdout, re.MULTILINE)))
        return jobs[-1]

    yield call
    for job in jobs:
        for number in job.numbers:
            cluster.call("scancel", "--signal=KILL", "--full", number, check=False)
            cluster.call("scancel", number, check=False)
    cluster.wait_until_idle()


@pytest.fixture(scope="module")
def reference(world, path_of_code, tmp_path_factory):
    """Losses by step of a run that nothing interrupts."""
    return uninterrupted(world, path_of_code, tmp_path_factory.mktemp("reference"), TOKENS)


@pytest.fixture(scope="module")
def long_reference(world, path_of_code, tmp_path_factory):
    """As `reference`, of the long run."""
    return uninterrupted(world, path_of_code, tmp_path_factory.mktemp("reference"), LONG_TOKENS)


def uninterrupted(world, path_of_code, folder, tokens):
    """Losses by step of a run by torchrun itself on one node."""
    run = folder / "run"
    settings = world.settings(
        fit__total_tokens=tokens, fit__checkpoint__every_tokens=EVERY, fit__micro_batch_per_dp_rank=2, **QUICK
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    done = subprocess.run(
        [*torchrun, "-m", "triptych.launch.train", "trimodal_demo", "--run-dir", run, *settings],
        cwd=run.parent,
        env=environment(PYTHONPATH=path_of_code),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return losses(run)


def records(run_dir):
    """Steps as the first rank has logged them, those of an attempt after those of the one before."""
    path = run_dir / "logs" / "rank0.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [record for record in map(json.loads, lines) if "metrics" in record]


def losses(run_dir):
    """The last loss that was logged of each step."""
    return {record["step"]: record["metrics"]["loss"] for record in records(run_dir)}


def processes_of_ranks(node):
    """The processes that train on a node."""
    steps = [pid for pid in processes() if command_of(pid).startswith("slurmstepd") and node_of(pid) == node]
    below = {pid for step in steps for pid in descendants(step)}
    commands = {pid: command_of(pid) for pid in below}
    return [pid for pid, command in commands.items() if "launch.train" in command and "slurm.agent" not in command]


def nodes_of(job):
    """Where a job runs: the first node has the script."""
    nodes = job.cluster.job(job.number)["NodeList"]
    return job.cluster.call("scontrol", "show", "hostnames", nodes).split()


def newest(job):
    return int(complete_checkpoints(job.folder / "checkpoints")[-1].name.removeprefix("tokens-"))


def seconds_until(condition, seconds=RUN_SECONDS):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds
        time.sleep(0.05)
    return time.monotonic() - began


def restarts(job):
    return int(job.cluster.job(job.number)["Restarts"])


def test_the_limit_saves_requeues_and_the_run_ends_as_if_it_were_none(submit, long_reference):
    """Two minutes, a minute of grace: Slurm signals up to half a minute early."""
    job = submit(time_limit="2", grace=60, fit__total_tokens=LONG_TOKENS)
    found = job.wait_for_end("COMPLETED")
    assert int(found["Restarts"]) >= 1, job.log
    assert "stopped before its end at tokens-" in job.log
    assert losses(job.folder) == long_reference


def test_a_save_that_is_slower_than_the_grace_comes_back_too(submit, reference):
    """Processes that are stopped cannot save: Slurm ends the job at its limit, with a state of its own."""
    job = submit(time_limit="2", grace=15)
    job.wait_for_tokens(60_000, seconds=100)
    stopped = [pid for node in nodes_of(job) for pid in processes_of_ranks(node)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    seconds_until(lambda: restarts(job) == 1)
    assert "ended by Slurm: Reason=TimeLimit" in job.log
    job.cluster.call("scontrol", "update", f"jobid={job.number}", "timelimit=30")
    job.wait_for_end("COMPLETED")
    assert losses(job.folder) == reference


def test_a_stop_while_it_starts_is_kept(submit, reference):
    """Sent when the agents are there, long before a step."""
    job = submit()
    seconds_until(lambda: any("slurm.agent" in command_of(pid) for pid in processes()))
    time.sleep(1)
    job.cluster.call("scancel", "--signal=USR1", "--batch", job.number)
    seconds_until(lambda: restarts(job) == 1)
    assert "stopped before its end" in job.log
    job.wait_for_end("COMPLETED")
    assert losses(job.folder) == reference


def test_a_stop_saves_the_last_whole_step_and_costs_none(submit, table, reference):
    job = submit()
    job.wait_for_tokens(120_000)
    asked = time.monotonic()
    job.cluster.call("scancel", "--signal=USR1", "--batch", job.number)
    seconds_until(lambda: newest(job) % EVERY > 1000)
    table["signal to saved checkpoint"] = time.monotonic() - asked
    seconds_until(lambda: restarts(job) == 1)
    table["signal to requeued"] = time.monotonic() - asked
    saved = newest(job)
    assert saved == job.tokens()
    seconds_until(lambda: job.tokens() > saved)
    table["signal to the next step"] = time.monotonic() - asked
    job.wait_for_end("COMPLETED")
    assert [record["step"] for record in records(job.folder)] == sorted(reference)
    assert losses(job.folder) == reference


@pytest.mark.parametrize("which", [1, 0], ids=["another", "the one with the script"])
def test_a_lost_node_costs_no_more_than_an_interval(submit, table, reference, which):
    job = submit()
    job.wait_for_tokens(120_000)
    node = nodes_of(job)[which]
    lost = time.monotonic()
    job.cluster.lose_node(node)
    name = "a node lost" + (" (that of the script)" if which == 0 else "")
    try:
        seconds_until(lambda: restarts(job) >= 1)
        table[f"{name} to requeued"] = time.monotonic() - lost
        done = records(job.folder)
        seconds_until(lambda: len(records(job.folder)) > len(done))
        table[f"{name} to the next step"] = time.monotonic() - lost
        first = records(job.folder)[len(done)]
        table[f"{name}: steps done twice"] = done[-1]["step"] + 1 - first["step"]
        assert 0 < done[-1]["tokens"] - first["tokens"] <= EVERY + 2000
        assert node not in nodes_of(job)
        job.wait_for_end("COMPLETED")
        assert losses(job.folder) == reference
    finally:
        job.cluster.start_node(node)


def test_a_killed_process_is_a_failure_that_a_restart_mends(submit, table, reference):
    job = submit()
    job.wait_for_tokens(120_000)
    victim = processes_of_ranks(nodes_of(job)[1])[0]
    os.kill(victim, signal.SIGKILL)
    table["a process killed to requeued"] = seconds_until(lambda: restarts(job) == 1)
    assert "failed with exit code 137" in job.log
    job.wait_for_end("COMPLETED")
    assert losses(job.folder) == reference


def test_a_chain_goes_on_and_what_is_left_of_it_ends(submit, reference):
    job = submit("--chain=3")
    job.wait_for_tokens(120_000)
    job.cluster.call("scancel", "--signal=USR1", "--batch", job.number)
    first = job.wait_for_end("COMPLETED")
    second = job.wait_for_end("COMPLETED", job.numbers[1])
    job.wait_for_end("CANCELLED", job.numbers[2])
    assert (first["Restarts"], second["Restarts"]) == ("0", "0")
    assert losses(job.folder) == reference


def test_what_a_user_must_mend_ends_with_2_and_is_not_tried_again(submit):
    job = submit("--chain=2", data__folder="nowhere")
    found = job.wait_for_end("FAILED")
    job.wait_for_end("CANCELLED", job.numbers[1])
    assert (found["ExitCode"], found["Restarts"]) == ("2:0", "0")
    said = [line for line in job.log.splitlines() if line.startswith("triptych: error: ")]
    assert len(said) == 1
    assert "nowhere/tokenizers/text" in said[0]


def test_a_cancelled_job_saves_and_does_not_come_back(submit):
    job = submit()
    job.wait_for_tokens(120_000)
    job.cluster.call("scancel", job.number)
    found = job.wait_for_end("CANCELLED")
    assert newest(job) == job.tokens()
    assert found["Restarts"] == "0"


def test_failures_without_progress_are_given_up(submit):
    job = submit("--max-failures=1", fit__checkpoint__every_tokens=100_000_000)
    for attempt in range(2):
        seconds_until(lambda: restarts(job) == attempt)  # noqa: B023 - called at once
        lines = len(records(job.folder))
        seconds_until(lambda: len(records(job.folder)) > lines + 20)  # noqa: B023
        os.kill(processes_of_ranks(nodes_of(job)[1])[0], signal.SIGKILL)
    found = job.wait_for_end("FAILED")
    assert (found["ExitCode"], found["Restarts"]) == ("137:0", "1")
    assert "given up" in job.log


def test_the_points_of_a_sweep_are_an_array(submit, cluster):
    job = submit("--grid=fit.seed=0,1", "--at-once=1", nodes=1, fit__total_tokens=20_000)
    found = job.wait_for_end("COMPLETED")
    assert found["ArrayJobId"] == job.number
    seconds_until(lambda: cluster.call("squeue", "--noheader").strip() == "")
    points = sorted((job.folder / "points").iterdir())
    assert [(point.name, (point / "finished").exists()) for point in points] == [("seed=0", True), ("seed=1", True)]
