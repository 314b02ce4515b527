"""Averages in checkpoints: an interruption changes no bit, any layout loads what any other saved."""

import pytest
from averaged_runs import AVERAGES, TENSOR, AveragedRun, differing, part
from torch import distributed

from triptych.trainer.averages.config import AverageConfig
from triptych.trainer.checkpoint.disk.folders import complete_checkpoints
from triptych.trainer.checkpoint.disk.reading import read_part
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

PARTS = tuple(config.part for config in AVERAGES)


@pytest.fixture(scope="module")
def groups():
    with process_groups(Placement()) as opened:
        yield opened


def test_an_interrupted_run_ends_bit_equal_to_one_that_was_not(groups, tmp_path):
    uninterrupted = AveragedRun(groups).train(7).whole()
    AveragedRun(groups).train(4).save(tmp_path)
    run = AveragedRun(groups).load(tmp_path).train(3)
    resumed = run.whole()
    assert run.state.logical_updates not in (0.5 * run.state.step, 2.0 * run.state.step)  # the batch did change
    assert {key[0] for key in resumed} >= {*PARTS, "weights"}
    assert differing(uninterrupted, resumed) == []
    assert all(differing(part(resumed, name), part(resumed, "weights")) for name in PARTS)


def test_one_that_the_checkpoint_has_not_begins_as_the_loaded_weights_and_is_told_of(groups, tmp_path):
    fast, slow, even = AVERAGES
    AveragedRun(groups, [fast, slow]).train(3).save(tmp_path)
    warnings = []
    run = AveragedRun(groups, [slow, even, AverageConfig(name="new", decay=0.9)]).load(tmp_path, warnings)
    found = run.whole()
    assert differing(part(found, "ema/new"), part(found, "weights")) == []
    assert differing(part(found, "ema/slow"), part(found, "weights"))
    assert [line.partition(" has ")[2] for line in warnings] == [
        "no ema/even; it begins anew",
        "no ema/new; it begins anew",
        "ema/fast, which this run does not ask for; it is left unread",
    ]


def test_one_that_began_on_resuming_decays_by_what_has_passed_since(groups, tmp_path):
    AveragedRun(groups, ()).train(3).save(tmp_path)
    run = AveragedRun(groups, [AverageConfig(name="new", decay=0.9)]).load(tmp_path)
    first, updates = part(run.whole(), "weights"), run.state.logical_updates
    found = run.train(1).whole()
    kept = 0.9 ** (run.state.logical_updates - updates)
    new, weights = part(found, "ema/new"), part(found, "weights")
    assert max((new[name] - (kept * first[name] + (1 - kept) * weights[name])).abs().max() for name in new) < 1e-6


def _train_and_save(folder):
    """Under dp 2 with ZeRO-1 and under tp 2; what all ranks hold in the end."""
    place, found = Placement(rank=distributed.get_rank(), world_size=2), {}
    with process_groups(place) as groups:
        found["dp"] = AveragedRun(groups).train(4).save(folder / "dp").whole()
    with process_groups(place, TENSOR) as groups:
        found["tp"] = AveragedRun(groups).train(4).save(folder / "tp").whole()
    with process_groups(place) as groups:
        found["tp to dp"] = AveragedRun(groups, zero=2, precision="bf16").load(folder / "tp").whole()
    return found


def test_what_two_processes_saved_one_loads_bit_equal(run_processes, groups, tmp_path):
    found, _ = run_processes(_train_and_save, 2, tmp_path)
    alone = AveragedRun(groups).train(4).whole()
    for layout in ("dp", "tp"):
        loaded = AveragedRun(groups).load(tmp_path / layout).whole()
        assert differing(found[layout], loaded) == []
        (checkpoint,) = complete_checkpoints(tmp_path / layout)
        assert all(differing(read_part(checkpoint, name), part(loaded, name)) == [] for name in PARTS)
        apart = {key: (loaded[key] - alone[key]).abs().max().item() for key in loaded if key[0] in PARTS}
        assert max(apart.values()) < 1e-4, apart
    assert differing(found["tp"], found["tp to dp"]) == []
