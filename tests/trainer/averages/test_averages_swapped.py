"""The model under an average, with every way in which its weights are kept, and back."""

from unittest import mock

import pytest
from averaged_runs import AVERAGES, AveragedRun, differing, part
from torch import distributed

from triptych.trainer.engine.engine import Engine
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

KINDS = [(0, "fp32"), (1, "fp32"), (1, "bf16"), (2, "fp32"), (2, "bf16")]


def swap(groups, zero, precision):
    """What differs, by what should be equal."""
    run = AveragedRun(groups, AVERAGES[:2], zero=zero, precision=precision).train(3)
    before, module = run.whole(), run.module()
    wrong, average = {}, part(before, "ema/slow")
    with run.averages.swapped("slow"):
        inside = run.module()
        rounded = {name: average[name].to(tensor.dtype) for name, tensor in inside.items()}
        wrong["average in the model"] = differing(inside, rounded)
        wrong["moved at all"] = [] if len(differing(inside, module)) > len(inside) // 2 else ["nothing"]
    wrong["module afterwards"] = differing(run.module(), module)
    wrong["state afterwards"] = differing(run.whole(), before)
    with pytest.raises(ZeroDivisionError), run.averages.swapped("fast"):
        raise ZeroDivisionError
    wrong["module after an exception"] = differing(run.module(), module)
    wrong["state after an exception"] = differing(run.whole(), before)
    ahead = AveragedRun(groups, AVERAGES[:2], zero=zero, precision=precision).train(4)
    wrong["the next step"] = differing(run.train(1).whole(), ahead.whole())
    return {what: names for what, names in wrong.items() if names}


def _swap_all():
    place = Placement(rank=distributed.get_rank(), world_size=distributed.get_world_size())
    with process_groups(place) as groups:
        return {kind: swap(groups, *kind) for kind in KINDS}


def _swap_without_telling_the_model():
    """The mistake of writing master weights that nobody brings to the parameters."""
    with process_groups(Placement()) as groups, mock.patch.object(Engine, "weights_written"):
        return swap(groups, 1, "fp32")


def test_weights_that_do_not_reach_the_model_are_noticed(run_processes):
    (wrong,) = run_processes(_swap_without_telling_the_model, 1)
    assert {"average in the model", "moved at all"} <= wrong.keys()


@pytest.mark.parametrize("num_processes", [1, 2])
def test_swapped_in_and_taken_back_bit_equal(run_processes, num_processes):
    expected = {kind: {} for kind in KINDS}
    assert run_processes(_swap_all, num_processes) == [expected] * num_processes
