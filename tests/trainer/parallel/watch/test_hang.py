"""Who lets the others wait, from what all ranks show; nobody as long as somebody may still get on."""

import threading
import time

import pytest

from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.watch import progress
from triptych.trainer.parallel.watch.hang import HangLimits, Stance, hang
from triptych.trainer.parallel.watch.heart import Heart, Heartbeat
from triptych.trainer.parallel.watch.progress import Whereabouts, whereabouts
from triptych.trainer.parallel.watch.ring import WatchConfig
from triptych.trainer.parallel.watch.stragglers import Stragglers

LIMITS = HangLimits(seconds=100.0, steps=20.0, slow_seconds=1000.0)


def stances(*ranks):
    """(phase, place, whether it meets others, seconds) of each."""
    return {
        rank: Stance(
            host=f"node{rank}", step=7, here=Whereabouts(phase=phase, place=place, meets=meets), still_seconds=seconds
        )
        for rank, (phase, place, meets, seconds) in enumerate(ranks)
    }


WAITS = ("between", "trainer.parallel.groups.any_rank", True, 120.0)


def test_the_rank_that_is_in_no_collective_is_named_with_its_phase_and_place():
    found = hang(stances(WAITS, ("data", "trainer.loader.waiting", False, 118.0), WAITS), LIMITS, 1.0)
    assert (found.rank, found.host, found.place) == (1, "node1", "after step 7, in trainer.loader.waiting")
    assert found.cause.startswith("hung in its data for 120 s, while the others wait for it in a collective")


def test_a_rank_that_waits_in_another_collective_is_named():
    odd = ("step", "trainer.engine.gradients.clip_gradients", True, 120.0)
    assert hang(stances(WAITS, WAITS, odd, WAITS), LIMITS, 1.0).rank == 2


def test_where_all_wait_for_each_other_nobody_is():
    found = hang(stances(WAITS, WAITS), LIMITS, 1.0)
    assert found.rank is None and "look at the network" in found.cause


@pytest.mark.parametrize(
    "other",
    [("forward_backward", "", False, 3.0), ("samples", "", False, 120.0), ("checkpoint", "", False, 400.0)],
    ids=["it gets on", "samples take long", "checkpoints take long"],
)
def test_nobody_hangs_as_long_as_one_may_still_get_on(other):
    assert hang(stances(WAITS, other), LIMITS, 1.0) is None


def test_long_steps_have_longer():
    assert LIMITS.of("step", 60.0) == 1200.0
    assert HangLimits(seconds=0.0, steps=1.0, slow_seconds=0.0).of("start", 1.0) == float("inf")


def test_a_thread_is_seen_where_it_is(monkeypatch):
    """In a function of the package's, called from the loader, waiting for others."""
    source = "def wait(inner):\n    inner()\n"
    outer, inner = {"__name__": "triptych.trainer.loader.loader"}, {"__name__": "triptych.trainer.parallel.groups"}
    exec(compile(source, "outer", "exec"), outer)
    exec(compile(source.replace("wait", "any_rank"), "inner", "exec"), inner)
    going = threading.Event()
    thread = threading.Thread(target=lambda: outer["wait"](lambda: inner["any_rank"](going.wait)), daemon=True)
    thread.start()
    while (seen := whereabouts(thread.ident)).place != "trainer.parallel.groups.any_rank":
        time.sleep(0.01)
    going.set()
    assert (seen.phase, seen.meets) == ("data", True)


def test_a_process_alone_that_hangs_writes_its_stacks_and_ends(tmp_path):
    config = WatchConfig(hang_seconds=0.2, hang_slow_seconds=0.4, beat_seconds=0.05)
    ends = []
    folders = (tmp_path / "heartbeats", tmp_path / "dumps")
    heart = Heart(config, *folders, rank=0, world_size=1, host="node0", resident_bytes=lambda: 5, end=ends.append)
    with heart:
        deadline = time.monotonic() + 20
        while not ends and time.monotonic() < deadline:
            time.sleep(0.05)
    assert ends[0].rank == 0 and ends[0].cause.startswith("hung in start for ")
    assert "test_a_process_alone_that_hangs" in (tmp_path / "dumps" / "rank0.txt").read_text()
    beat = Heartbeat.read(tmp_path / "heartbeats" / "rank0.json")
    assert (beat.state, beat.resident_bytes, beat.host) == ("done", 5, "node0")


def test_a_rank_that_gets_on_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SLOW", frozenset())
    config = WatchConfig(hang_seconds=2.0, hang_slow_seconds=2.0, beat_seconds=0.05)
    ends = []
    heart = Heart(
        config,
        tmp_path / "beats",
        tmp_path / "dumps",
        rank=3,
        world_size=4,
        host="",
        resident_bytes=int,
        end=ends.append,
    )
    with heart:
        for step in range(1, 5):
            heart.note(record(step))
            time.sleep(0.1)
    assert ends == [] and not (tmp_path / "dumps").exists()
    assert Heartbeat.read(tmp_path / "beats" / "rank3.json").step == 4


def record(step):
    return StepRecord(
        step=step, tokens=10 * step, total_tokens=100, batch_tokens=10, batch=4, kappa=1.0, seconds=0.1,
        learning_rate=0.1, gradient_norm=1.0, metrics={},
    )  # fmt: skip


def test_a_straggler_is_named_once_and_again_after_it_has_caught_up():
    stragglers = Stragglers(1.5, 3)
    slow, even = [1.0, 1.1, 2.0, 0.9], [1.0, 1.1, 1.0, 0.9]
    found = [[each.rank for each in stragglers.add(seconds)] for seconds in [*[slow] * 5, even, *[slow] * 3]]
    assert found == [[], [], [2], [], [], [], [], [], [2]]


def test_stages_of_a_pipeline_are_not_compared():
    assert Stragglers(1.5, 1, num_stages=2).add([1.0, 1.0, 3.0, 3.0]) == []
    assert [each.rank for each in Stragglers(1.5, 1).add([1.0, 1.0, 1.0, 3.0])] == [3]
