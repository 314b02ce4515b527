"""A run that is killed, stopped, refused by its disk or robbed of its newest checkpoint goes on as if nothing was."""

import random
import signal
import time
from dataclasses import replace

import pytest
from attempts import Attempt
from comparison import Uninterrupted, difference
from damage import KINDS
from layout_run import Cell
from repetitions import Repetition, carry_out, carry_out_damaged, damaged_copy, interrupted

from triptych.trainer.checkpoint.disk.folders import complete_checkpoints
from triptych.trainer.checkpoint.disk.reading import verify_checkpoint
from triptych.trainer.parallel.layout import ParallelLayout

ALONE = Cell(layout=ParallelLayout())
TWO = Cell(layout=ParallelLayout(), data=2, zero=2)
STAGES = Cell(layout=ParallelLayout(pipeline=2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def uninterrupted(folder):
    return Uninterrupted(folder)


@pytest.fixture(scope="module")
def stopped_in_the_middle(folder):
    return interrupted(folder, ALONE)


@pytest.mark.parametrize(
    "repetition",
    [
        Repetition(seed=100, cells=(TWO, TWO), moments=("write",)),
        Repetition(seed=101, cells=(TWO, STAGES), moments=("commit",)),
    ],
    ids=lambda repetition: " then ".join(map(str, repetition.cells)),
)
def test_killed_and_resumed_it_is_the_uninterrupted_run(folder, uninterrupted, repetition):
    outcome = carry_out(repetition, folder, uninterrupted)
    assert outcome.is_right(repetition), outcome


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_newest_checkpoint_is_passed_over(folder, uninterrupted, stopped_in_the_middle, kind):
    outcome = carry_out_damaged(stopped_in_the_middle, folder / kind, kind, 0, ALONE, uninterrupted)
    assert outcome.before.is_none, outcome


def test_without_a_sound_checkpoint_there_is_one_clear_error(folder, stopped_in_the_middle):
    count = len(complete_checkpoints(stopped_in_the_middle.checkpoints))
    copy, _ = damaged_copy(
        stopped_in_the_middle, folder / "all", "flipped tensors", random.Random(0), num_checkpoints=count
    )
    resumed = replace(copy, number=1, cell=TWO, resume=True)
    with resumed.start() as ranks:
        assert ranks.wait(60)
    errors = [resumed.error(rank) for rank in range(2)]
    assert [kind for kind, _ in errors] == ["ValueError", "ValueError"]
    (text,) = {text for _, text in errors}
    assert "\n" not in text
    assert text.startswith("no checkpoint is sound (")
    assert "restore one, or remove " in text
    assert all(path.name in text for path in complete_checkpoints(copy.checkpoints))


def test_a_stop_asked_for_during_a_write_leaves_a_sound_checkpoint(folder, uninterrupted):
    attempt = Attempt(run=folder / "stopped", cell=TWO, operation_seconds=0.005)
    with attempt.start() as ranks:
        _until(lambda: any(attempt.checkpoints.glob(".partial-tokens-*")))
        ranks.signal(1, signal.SIGTERM)
        assert ranks.wait(60)
    assert ranks.codes == [0, 0], attempt.tracebacks()
    newest = complete_checkpoints(attempt.checkpoints)[-1]
    assert verify_checkpoint(newest).header.step == attempt.curve[-1]["step"] < 20
    assert not list(attempt.checkpoints.glob(".partial-*"))
    resumed = replace(attempt, number=1, resume=True, operation_seconds=0.0)
    resumed.finish()
    assert difference([attempt, resumed], uninterrupted.of(TWO)).is_none


def test_a_full_disk_of_one_rank_ends_all_and_the_checkpoint_before_is_whole(folder, uninterrupted):
    attempt = Attempt(run=folder / "full", cell=TWO, full_disk_of=1)
    with attempt.start() as ranks:
        assert ranks.wait(60)
    (error,) = {attempt.error(rank) for rank in range(2)}
    (before,) = complete_checkpoints(attempt.checkpoints)
    assert error[0] == "OSError"
    assert "could not be written (rank 1: OSError: [Errno 28] No space left on device" in error[1]
    assert "\n" not in error[1]
    assert not list(attempt.checkpoints.glob(".partial-*"))
    step = verify_checkpoint(before).header.step  # it will be dropped
    resumed = replace(attempt, number=1, resume=True, full_disk_of=None)
    resumed.finish()
    assert resumed.curve[0]["step"] == step + 1
    assert difference([attempt, resumed], uninterrupted.of(TWO)).is_none


def _until(happened):
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)
