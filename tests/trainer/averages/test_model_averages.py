"""Averages in one process against torch's AveragedModel and against sums written out by hand."""

import copy

import pytest
import torch
from plain_runs import PlainEngine, average_of, move, pass_time, start, started
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from triptych.trainer.averages.averages import ModelAverages
from triptych.trainer.averages.config import AverageConfig, DecayWarmup
from triptych.trainer.state import TrainState

KAPPAS = (1.0, 0.25, 4.0, 1.5, 8.0, 1.0)


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(1)


def parameters(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def assert_close(average, expected, tolerance=1e-6):
    for name, tensor in expected.items():
        torch.testing.assert_close(average[name], tensor, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("device", ["model", "cpu"])
def test_is_torchs_exponential_average_step_by_step(draw, device):
    state, averages = started(decay=0.9, device=device)
    theirs = AveragedModel(state.engine.module, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(state.engine.module)  # its first call takes the weights, as ours does at the start
    for _ in range(20):
        move(state, draw)
        averages(state)
        theirs.update_parameters(state.engine.module)
        assert_close(average_of(state), parameters(theirs.module))


def test_is_torchs_uniform_average_step_by_step(draw):
    state, averages = started(kind="uniform")
    theirs = AveragedModel(state.engine.module)
    for _ in range(20):
        move(state, draw)
        averages(state)
        theirs.update_parameters(state.engine.module)
        assert_close(average_of(state), parameters(theirs.module))


def test_buffers_are_averaged_as_torch_does_it(draw):
    state, averages = started(decay=0.9, buffers="average")
    theirs = AveragedModel(state.engine.module, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    theirs.update_parameters(state.engine.module)
    for _ in range(10):
        move(state, draw)
        averages(state)
        theirs.update_parameters(state.engine.module)
    buffers = {name: buffer for name, buffer in theirs.module.named_buffers() if name.startswith("norm.running")}
    assert len(buffers) == 2
    assert_close(average_of(state), buffers)


@pytest.mark.parametrize(("buffers", "copied"), [("copy", {"norm.running_mean", "norm.running_var"}), ("none", set())])
def test_buffers_are_copied_or_left_out(draw, buffers, copied):
    state, averages = started(decay=0.9, buffers=buffers)
    move(state, draw)
    averages(state)
    found = {name: tensor for name, tensor in average_of(state).items() if name.startswith("norm.running")}
    assert found.keys() == copied
    assert all(torch.equal(tensor, state.engine.module.get_buffer(name)) for name, tensor in found.items())


@pytest.mark.parametrize("settings", [{"decay": 0.9}, {"half_life_tokens": 650.0}], ids=["decay", "half-life"])
def test_unequal_steps_decay_by_what_they_are(draw, settings):
    """decay^kappa against its sum, in fp64."""
    state, averages = started(**settings)
    expected = {name: tensor.double() for name, tensor in parameters(state.engine.module).items()}
    for kappa in KAPPAS:
        move(state, draw, kappa=kappa)
        averages(state)
        kept = 0.9**kappa if "decay" in settings else 2.0 ** (-100 * kappa / 650)
        for name, weight in parameters(state.engine.module).items():
            expected[name] = kept * expected[name] + (1 - kept) * weight
    assert_close(average_of(state), {name: tensor.float() for name, tensor in expected.items()})


@pytest.mark.parametrize("settings", [{"decay": 0.97}, {"half_life_tokens": 2000.0}], ids=["decay", "half-life"])
@pytest.mark.parametrize("kappa", [0.25, 1.0, 5.0])
def test_the_batch_does_not_change_what_is_left_of_the_first_weights(settings, kappa):
    state, averages = started(**settings)
    first = parameters(state.engine.module)
    with torch.no_grad():
        for parameter in state.engine.module.parameters():
            parameter.zero_()
    while state.tokens < 2000:
        pass_time(state, kappa=kappa)
        averages(state)
    left = 0.5 if "half_life_tokens" in settings else 0.97**20
    assert_close(average_of(state), {name: left * tensor for name, tensor in first.items()}, 1e-5)


def test_until_its_start_it_is_the_weights(draw):
    state, averages = started(kind="uniform", start_tokens=300)
    seen = []
    for number in range(1, 7):
        move(state, draw)
        averages(state)
        seen.append(parameters(state.engine.module)["linear.weight"])
        expected = seen[-1] if number <= 3 else torch.stack(seen[3:]).mean(0)
        assert_close(average_of(state), {"linear.weight": expected})


def test_an_interval_takes_the_first_step_past_each_multiple_and_decays_by_all_since(draw):
    state, averages = started(decay=0.9, update_every_tokens=250)
    expected, taken = parameters(state.engine.module), 0
    for step in range(1, 11):
        move(state, draw)
        averages(state)
        if step in (3, 5, 8, 10):
            kept, taken = 0.9 ** (step - taken), step
            weights = parameters(state.engine.module)
            expected = {name: kept * expected[name] + (1 - kept) * weights[name] for name in expected}
        assert_close(average_of(state), expected)


def test_an_interval_leads_by_as_much_as_is_said():
    """Where weights move steadily: (1 - decay) k (k - 1) / 2 of a step, to first order in 1 - decay."""
    decay, interval = 0.9999, 10
    ends, module = [], torch.nn.Linear(5, 3)
    for every in (0, 100 * interval):
        config = AverageConfig(name="slow", decay=decay, update_every_tokens=every)
        state, averages = start(config, module=copy.deepcopy(module))
        for _ in range(interval):
            pass_time(state)
            with torch.no_grad():
                for parameter in state.engine.module.parameters():
                    parameter.add_(1.0)
            averages(state)
        ends.append(average_of(state)["weight"].double())
    lead = (ends[1] - ends[0]).mean().item()
    assert lead == pytest.approx((1 - decay) * interval * (interval - 1) / 2, rel=1e-2)


def test_the_warmup_begins_with_a_copy_and_ends_with_the_decay(draw):
    state, averages = started(decay=0.5, warmup=DecayWarmup())
    move(state, draw)
    averages(state)
    first = parameters(state.engine.module)
    assert_close(average_of(state), first, 0)
    move(state, draw)
    averages(state)
    second = parameters(state.engine.module)
    kept = 1 - 2 ** (-2 / 3)
    expected = {name: kept * first[name] + (1 - kept) * second[name] for name in first}
    assert_close(average_of(state), expected)


def test_several_at_once_are_each_what_they_would_be_alone(draw):
    configs = [AverageConfig(name=f"a{i}", decay=decay) for i, decay in enumerate((0.5, 0.9))]
    configs.append(AverageConfig(name="a2", kind="uniform"))
    module = start(*configs)[0].engine.module
    runs = [start(*chosen, module=copy.deepcopy(module)) for chosen in (configs, *([config] for config in configs))]
    for state, averages in runs:
        again = torch.Generator().manual_seed(7)
        for _ in range(5):
            move(state, again)
            averages(state)
    together = runs[0][0]
    for config, (alone, _) in zip(configs, runs[1:], strict=True):
        assert_close(average_of(together, config.name), average_of(alone, config.name), 0)


class RoundedEngine(PlainEngine):
    """Holds the bf16 weights for masters: the mistake that the test below must see."""

    def __init__(self, module):
        super().__init__(copy.deepcopy(module).bfloat16())


@pytest.mark.parametrize(("engine", "stalls"), [(PlainEngine, False), (RoundedEngine, True)])
def test_fp32_does_not_stall_where_bf16_does(engine, stalls):
    """Weights that drift by 1e-4 of themselves per step, at a decay of 0.999: bf16 rounds both away."""
    state = TrainState(engine=engine(torch.nn.Linear(64, 1, bias=False)))
    averages = ModelAverages([AverageConfig(name="slow", decay=0.999)], state)
    state.carried |= averages.carried
    (weight,) = state.engine.module.parameters()
    first = average_of(state)["weight"].double().clone()
    expected = first.clone()
    for step in range(1, 2001):
        with torch.no_grad():
            weight.mul_(1 + 1e-4)
        pass_time(state)
        averages(state)
        expected = 0.999 * expected + 0.001 * first * (1 + 1e-4) ** step
    error = ((average_of(state)["weight"].double() - expected) / expected).abs().max().item()
    assert (error > 0.05) if stalls else (error < 1e-4)


def test_swapped_in_and_out(draw):
    state, averages = started(decay=0.9, buffers="average")
    for _ in range(3):
        move(state, draw)
        averages(state)
    module = state.engine.module
    before, average = copy.deepcopy(module.state_dict()), {k: t.clone() for k, t in average_of(state).items()}
    with averages.swapped("slow"):
        inside = {name: module.state_dict()[name].clone() for name in average}
    assert all(torch.equal(inside[name], average[name]) for name in average)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(torch.equal(tensor, average[name]) for name, tensor in average_of(state).items())
    assert state.engine.written == 2


def test_an_exception_while_swapped_brings_the_weights_back(draw):
    state, averages = started(decay=0.9)
    move(state, draw)
    averages(state)
    before = copy.deepcopy(state.engine.module.state_dict())
    with pytest.raises(ZeroDivisionError), averages.swapped("slow"):
        raise ZeroDivisionError
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.engine.module.state_dict().items())


def test_a_swap_within_a_swap_leads_back(draw):
    state, averages = start(*(AverageConfig(name=f"a{i}", decay=decay) for i, decay in enumerate((0.5, 0.9))))
    move(state, draw)
    averages(state)
    weights, first = parameters(state.engine.module), average_of(state, "a0")["linear.bias"].clone()
    with averages.swapped("a0"):
        with averages.swapped("a1"):
            assert not torch.equal(state.engine.module.linear.bias, first)
        assert torch.equal(state.engine.module.linear.bias, first)
    assert_close(parameters(state.engine.module), weights, 0)


@pytest.mark.parametrize("forbidden", ["save", "update"])
def test_neither_a_checkpoint_nor_a_step_within_a_swap(draw, forbidden):
    state, averages = started(decay=0.9)
    with averages.swapped("slow"), pytest.raises(AssertionError, match="weights"):
        state.carried["ema/slow"].held() if forbidden == "save" else averages(state)


def test_an_unknown_name_lists_the_known_ones():
    _, averages = started(decay=0.9)
    with pytest.raises(ValueError, match=r"no average fast \(it has: slow\); name"):
        averages.swapped("fast")
