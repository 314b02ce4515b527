"""Several agents without Slurm, two processes each: a fixed number of nodes, and a range of which one is lost.

Switched on by TRIPTYCH_TEST_SLURM=1, as the tests beside it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from slurm_cluster import command_of, descendants, free_ports
from tiny_world import environment, make_world

if os.environ.get("TRIPTYCH_TEST_SLURM") != "1":
    pytest.skip("several agents take minutes: set TRIPTYCH_TEST_SLURM=1", allow_module_level=True)

TOKENS, EVERY = 400_000, 50_000
AGENT, TORCHRUN = "triptych.launch.slurm.agent", "torch.distributed.run"
QUICK = {"fit__watch__silence_seconds": 6, "fit__watch__suspicion_seconds": 3, "fit__watch__beat_seconds": 0.5}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


class Agents:
    """One per node."""

    def __init__(self, world, folder, module, nodes, **settings):
        self.run = folder / "run"
        (self.port,) = free_ports(1)
        chosen = {"fit__total_tokens": TOKENS, "fit__checkpoint__every_tokens": EVERY, **QUICK, **settings}
        self._arguments = [
            *("-m", module, "--nnodes", nodes, "--nproc-per-node", "2", "--rdzv-backend", "c10d"),
            *("--rdzv-endpoint", f"127.0.0.1:{self.port}", "--rdzv-id", "7", "--local-addr", "127.0.0.1"),
            *("--rdzv-conf", "last_call_timeout=3", "--max-restarts", "3" if ":" in nodes else "0"),
            *("-m", "triptych.launch.train", "trimodal_demo", "--run-dir", str(self.run), "--resume-if-started"),
            *world.settings(fit__micro_batch_per_dp_rank=2, **chosen),
        ]
        self._folder, self.processes = folder, []

    def start(self, **more):
        number = len(self.processes)
        with (self._folder / f"agent{number}").open("w") as said:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, *self._arguments],
                    cwd=self._folder,
                    env=environment(**more),
                    stdout=said,
                    stderr=subprocess.STDOUT,
                )
            )

    def said(self):
        return "\n".join((self._folder / f"agent{number}").read_text() for number in range(len(self.processes)))

    def lose(self, number):
        """An agent and all that it has started, at once."""
        pid = self.processes[number].pid
        for each in (*descendants(pid), pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)

    def records(self):
        path = self.run / "logs" / "rank0.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [record for record in map(json.loads, lines) if "metrics" in record]

    def wait_until(self, condition, seconds=300):
        began = time.monotonic()
        while not condition():
            assert time.monotonic() < began + seconds, self.said()
            time.sleep(0.1)
        return time.monotonic() - began


@pytest.fixture
def agents(world, tmp_path):
    """`agents(module, nodes, **settings)`; those that still run at the end are killed."""
    made = []

    def call(module, nodes, **settings):
        made.append(Agents(world, tmp_path, module, nodes, **settings))
        return made[-1]

    yield call
    for each in made:
        for number, process in enumerate(each.processes):
            each.lose(number)
            process.wait()


@pytest.mark.parametrize("module", [AGENT, TORCHRUN])
def test_two_nodes_are_one_run(agents, module):
    two = agents(module, "2", fit__total_tokens=20_000)
    two.start()
    two.start()
    assert [each.wait(300) for each in two.processes] == [0, 0], two.said()
    assert sorted(path.name for path in (two.run / "logs").iterdir()) == [f"rank{rank}.jsonl" for rank in range(4)]


def test_a_lost_node_leaves_a_run_of_fewer_and_one_that_comes_makes_it_more(agents):
    """2 nodes, 1, and 2 again: each time from the newest checkpoint, with the logical batch as it was."""
    some = agents(AGENT, "1:2")
    some.start()
    some.start()
    some.wait_until(lambda: some.records() and some.records()[-1]["tokens"] > 1.5 * EVERY)
    reached, lines = some.records()[-1]["tokens"], len(some.records())
    some.lose(1)
    seconds = some.wait_until(lambda: len(some.records()) > lines + 20)
    print(f"\na node lost, of two agents, to 20 steps further: {seconds:.1f} s")
    again = some.records()[lines:]
    assert 0 <= reached - min(record["tokens"] for record in again) <= EVERY + 2000
    lines = len(some.records())
    some.start()
    some.wait_until(lambda: sum("launch.train" in command_of(pid) for pid in descendants(some.processes[2].pid)) >= 2)
    some.wait_until(lambda: min(record["tokens"] for record in [*some.records()[lines:], {"tokens": TOKENS}]) < TOKENS)
    assert some.processes[0].wait(300) == 0, some.said()
    records = some.records()
    assert (some.run / "finished").exists()
    assert {record["batch"] for record in records} == {8}
    last = {record["step"]: record for record in records}
    assert sorted(last) == list(range(1, len(last) + 1))


def test_torchrun_that_restarts_on_its_old_store_is_refused_by_name(agents):
    one = agents(TORCHRUN, "1:2")
    one.start()
    one.wait_until(lambda: len(one.records()) > 3)
    os.kill(next(pid for pid in descendants(one.processes[0].pid) if "launch.train" in command_of(pid)), signal.SIGKILL)
    assert one.processes[0].wait(300) == 1
    assert "set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in one.said()
