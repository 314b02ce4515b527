"""The parts of the measurement, each by itself."""

import time

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from triptych.launch.profile.measure.memory import Memory, MemoryStages, backed_bytes, measured_parts, storages
from triptych.launch.profile.measure.parts import PartTimes
from triptych.launch.profile.measure.steady import is_steady, quartiles, warm_up
from triptych.launch.profile.measure.trace import merged, without


def test_parts_are_timed_from_change_to_change_and_wait_for_the_device():
    moments, waits = iter([0.0, 1.0, 3.0, 6.0, 10.0]), []
    times = PartTimes(lambda: waits.append(1), lambda: next(moments))
    for part in ("forward", "backward", "forward", "other"):
        times(part)
    assert {part: seconds for part, seconds in times.seconds.items() if seconds} == {
        "other": 1.0,
        "forward": 2.0 + 4.0,
        "backward": 3.0,
    }
    assert len(waits) == 5


@pytest.mark.parametrize(
    ("seconds", "steady"),
    [
        ([1.0] * 5, False),
        ([1.0] * 6, True),
        ([9.0, 1.0, 1.0, 1.0, 1.0, 1.04], True),
        ([2.0, 2.0, 2.0, 1.8, 1.8, 1.8], False),
    ],
)
def test_steps_are_steady_when_two_windows_agree(seconds, steady):
    assert is_steady(seconds) is steady


class Unmoving:
    """A rig whose steps take as long as a step before."""

    def __init__(self):
        self.groups, self.device, self.steps = self, torch.device("cpu"), 0

    def any_rank(self, value):
        return value

    def step(self):
        self.steps += 1
        time.sleep(0.001)


def test_as_many_steps_warm_up_as_are_asked_for():
    rig = Unmoving()
    warmed, _ = warm_up(rig, at_least=12, at_most=5)
    assert warmed == rig.steps == 12


def test_quartiles_of_one_value_are_that_value():
    assert quartiles([3.0]) == (3.0, 3.0) and quartiles([1.0, 2.0, 3.0]) == (1.5, 2.5)


class Told:
    """Memory that says what it is told to."""

    def __init__(self, *amounts):
        self._amounts = iter(amounts)
        self.living = 70

    def now(self):
        return next(self._amounts)


def test_activations_are_those_of_all_forward_passes_without_their_backward_pass():
    stages = MemoryStages(Told(100, 110, 110, 125))  # a pipeline's warm-up: two forward passes, then backward
    for part in ("forward", "other", "forward", "backward", "other", "backward", "optimizer"):
        stages(part)
    assert stages.activations == 25 and stages.held == 70


def test_activations_of_one_micro_batch_after_the_other_are_not_added():
    stages = MemoryStages(Told(100, 110, 104, 116))
    for part in ("forward", "other", "backward", "forward", "other", "backward", "optimizer"):
        stages(part)
    assert stages.activations == 12


def test_gradients_are_what_lives_besides_and_shared_memory_counts_once():
    stages = MemoryStages(Told(0, 5))
    for part in ("forward", "backward", "optimizer"):
        stages(part)
    found = measured_parts(parameters={1: 10}, optimizer={1: 10, 2: 20}, stages=stages, peak=90)
    assert found == {"parameters": 10, "gradients": 40, "optimizer": 20, "activations": 5, "other": 15}


def test_memory_that_is_not_written_is_not_backed():
    tensor = torch.empty(64 << 20, dtype=torch.uint8)  # more than glibc ever gives again from what was freed
    before = backed_bytes(tensor.data_ptr(), tensor.nbytes)
    tensor[: 4 << 20] = 1
    written = backed_bytes(tensor.data_ptr(), tensor.nbytes)
    assert before < 1 << 20 and (4 << 20) - 8192 <= written < 8 << 20


def test_tensors_without_memory_hold_none():
    with FakeTensorMode():
        fake = torch.empty(1000)
    assert storages([fake, torch.empty(1000, device="meta")]) == {}


def test_resident_memory_grows_with_what_is_written():
    memory = Memory(torch.device("cpu"))
    memory.restart_peak()
    tensor = torch.ones(32 << 20, dtype=torch.uint8)
    assert memory.now() > 28 << 20 and memory.peak >= memory.now() - (1 << 20)
    assert memory.living >= tensor.nbytes and memory.peak_reserved is None


def test_intervals():
    assert merged([(3, 4), (0, 2), (1, 3)]) == [(0, 4)]
    assert without((0, 10), [(2, 3), (5, 12)]) == [(0, 2), (3, 5)]
    assert without((4, 5), [(0, 10)]) == []
