"""That optimizers receive the numbers of every step: read back from their groups, and from what they do to weights."""

import shutil
from dataclasses import dataclass

import pytest
import torch

from triptych.models.parameterization import KINDS, ShapeRatio
from triptych.trainer.optimizer import set_hyper_parameters
from triptych.trainer.scaling.rules import AdamWValues, completed_p, scale_adamw

BASE = AdamWValues(learning_rate=1e-2, betas=(0.9, 0.95), epsilon=0.1, weight_decay=0.3)
SHAPE = ShapeRatio(width=2.0, depth=3.0, depth_exponent=0.5)
KAPPAS = (1.0, 4.0, 0.25) * 4
KINDS_THAT_DECAY = {"embedding", "mlp_in"}
SIZES = {"embedding": (7, 3), "mlp_in": (67, 5), "norm": (5,), "query_key_norm": (1,)}  # odd: vector units and a rest
TOLERANCE = 5e-6  # fp32 against fp64 after twelve steps, weights about 1; measured 1e-6


def build_torch(groups):
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def build_fused(groups):
    _need_compiler()
    from deepspeed.ops.adam import FusedAdam

    return FusedAdam(groups, lr=0.0)


def build_cpu(groups):
    _need_compiler()
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    return DeepSpeedCPUAdam(groups, lr=0.0)


def _need_compiler():
    """DeepSpeed compiles its optimizers on first use."""
    missing = [name for name in ("c++", "ninja") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"DeepSpeed compiles this optimizer; not found: {', '.join(missing)}")
    if torch.cuda.is_available():
        pytest.skip("where there is a GPU, DeepSpeed builds FusedAdam for it, not for the CPU")


DEEPSPEED = [
    pytest.param(build_fused, id="FusedAdam", marks=pytest.mark.slow),
    pytest.param(build_cpu, id="DeepSpeedCPUAdam", marks=pytest.mark.slow),
]
OPTIMIZERS = [pytest.param(build_torch, id="torch"), *DEEPSPEED]


@dataclass
class Reference:
    """AdamW of one parameter in fp64, written as in its paper; corrections are what the moments are divided by."""

    weights: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor

    @classmethod
    def of(cls, parameter):
        weights = parameter.detach().double().clone()
        return cls(weights, torch.zeros_like(weights), torch.zeros_like(weights))

    def step(self, gradient, values, corrections):
        gradient, (beta1, beta2) = gradient.double(), values.betas
        self.first = beta1 * self.first + (1 - beta1) * gradient
        self.second = beta2 * self.second + (1 - beta2) * gradient**2
        update = (self.first / corrections[0]) / ((self.second / corrections[1]).sqrt() + values.epsilon)
        self.weights = self.weights - values.learning_rate * (update + values.weight_decay * self.weights)


def values_by_kind(kappa):
    scaled = scale_adamw(BASE, kappa)
    return {kind: completed_p(kind, SHAPE).applied(scaled) for kind in KINDS}


def without_decay_of_gains(kind, values):
    decay = values.weight_decay if kind in KINDS_THAT_DECAY else 0.0
    return AdamWValues(
        learning_rate=values.learning_rate, betas=values.betas, epsilon=values.epsilon, weight_decay=decay
    )


def make_groups(dtype=torch.float32):
    """Two parameters of every kind, one group per kind."""
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "kind": kind,
            "params": [torch.nn.Parameter(torch.randn(size, generator=generator, dtype=dtype)) for _ in range(2)],
        }
        for kind, size in SIZES.items()
    ]


def parameters_of(groups):
    return [(group["kind"], parameter) for group in groups for parameter in group["params"]]


def largest_difference(build, expected_values, corrections, *, before_step=None, dtype=torch.float32):
    """Of an optimizer given KAPPAS in turn, against references that are given `expected_values(kappa)`."""
    groups = make_groups(dtype)
    optimizer = build(groups)
    references = [(kind, parameter, Reference.of(parameter)) for kind, parameter in parameters_of(groups)]
    generator = torch.Generator().manual_seed(2)
    for index, kappa in enumerate(KAPPAS):
        set_hyper_parameters(optimizer.param_groups, values_by_kind(kappa))
        if before_step:
            before_step(optimizer, index)
        for kind, parameter, reference in references:
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=dtype)
            expected = without_decay_of_gains(kind, expected_values(kappa)[kind])
            reference.step(parameter.grad, expected, corrections(expected.betas, index))
        optimizer.step()
    return max((parameter - reference.weights).abs().max().item() for _, parameter, reference in references)


def corrections_by_count(betas, index):
    """What every one of the optimizers does by itself: this step's betas to the power of the number of steps."""
    return [1 - beta ** (index + 1) for beta in betas]


def corrections_by_sum(betas, index):
    """What the moments weigh, whatever this step's betas: 1 - (product of all betas so far)."""
    return [1 - beta ** sum(KAPPAS[: index + 1]) for beta in BASE.betas]


def step_by_sum(optimizer, index):
    """torch counts in a tensor, and adds one before it steps."""
    for state in optimizer.state.values():
        state["step"].fill_(sum(KAPPAS[: index + 1]) / KAPPAS[index] - 1)


@pytest.mark.parametrize("build", OPTIMIZERS)
def test_groups_hold_the_values_of_their_kind(build):
    optimizer = build(make_groups())
    for kappa in KAPPAS[:3]:
        values = values_by_kind(kappa)
        set_hyper_parameters(optimizer.param_groups, values)
        for group in optimizer.param_groups:
            expected = without_decay_of_gains(group["kind"], values[group["kind"]])
            assert group["lr"] == expected.learning_rate
            assert group["betas"] == expected.betas
            assert group["eps"] == expected.epsilon
            assert group["weight_decay"] == expected.weight_decay


@pytest.mark.parametrize("build", OPTIMIZERS)
def test_weights_follow_values_that_change_every_step(build):
    assert largest_difference(build, values_by_kind, corrections_by_count) < TOLERANCE


FIELDS = ("learning_rate", "betas", "epsilon", "weight_decay")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("build", OPTIMIZERS)
def test_a_value_that_did_not_arrive_would_show(build, field):
    """Against a reference in which one value stays at its base."""

    def one_stays(kappa):
        stayed, values = values_by_kind(1.0), values_by_kind(kappa)
        return {kind: replaced(values[kind], field, getattr(stayed[kind], field)) for kind in KINDS}

    assert largest_difference(build, one_stays, corrections_by_count) > 100 * TOLERANCE


def replaced(values, field, value):
    return AdamWValues(**{name: getattr(values, name) for name in FIELDS} | {field: value})


def test_torch_corrects_by_a_fractional_step():
    """Set so that kappa * step is the sum of kappas so far. In fp64; these sums are exact in torch's fp32 count."""
    found = largest_difference(
        build_torch, values_by_kind, corrections_by_sum, before_step=step_by_sum, dtype=torch.float64
    )
    assert found < 1e-13


def test_torch_left_alone_corrects_otherwise():
    assert largest_difference(build_torch, values_by_kind, corrections_by_sum, dtype=torch.float64) > 1e-3


def moves_in_a_constant_gradient(kappas, before_step):
    """Of one weight, in units of the learning rate. A moment rightly corrected is the gradient: every move is 1."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = build_torch([{"params": [weight], "kind": "norm"}])
    moves = []
    for index, kappa in enumerate(kappas):
        betas = scale_adamw(BASE, kappa).betas
        values = AdamWValues(learning_rate=1.0, betas=betas, epsilon=0.0, weight_decay=0.0)
        set_hyper_parameters(optimizer.param_groups, {"norm": values})
        before_step(optimizer, index)
        weight.grad, before = torch.full_like(weight, -0.37), weight.item()
        optimizer.step()
        moves.append(weight.item() - before)
    return moves


def test_a_constant_gradient_moves_by_the_learning_rate_whatever_the_batches():
    moves = moves_in_a_constant_gradient(KAPPAS, step_by_sum)
    assert moves == pytest.approx([1.0] * len(KAPPAS), abs=1e-12)


def test_a_whole_count_of_steps_does_not():
    moves = moves_in_a_constant_gradient(KAPPAS, lambda optimizer, index: None)
    assert max(abs(move - 1) for move in moves) > 0.2


def test_kappas_that_fp32_cannot_hold_cost_little():
    kappas = [1.0, 1 / 3, 0.7, 2.3, 5.1] * 20

    def before_step(optimizer, index):
        for state in optimizer.state.values():
            state["step"].fill_(sum(kappas[: index + 1]) / kappas[index] - 1)

    assert moves_in_a_constant_gradient(kappas, before_step) == pytest.approx([1.0] * len(kappas), abs=1e-6)


@pytest.mark.parametrize("build", DEEPSPEED)
def test_deepspeed_refuses_a_fractional_step(build):
    groups = make_groups()
    optimizer = build(groups)
    set_hyper_parameters(optimizer.param_groups, values_by_kind(1.0))
    for _, parameter in parameters_of(groups):
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for state in optimizer.state.values():
        state["step"] = 1.5
    with pytest.raises(TypeError, match="incompatible function arguments"):
        optimizer.step()


@pytest.mark.parametrize("build", DEEPSPEED)
@pytest.mark.parametrize(
    "step", [lambda index: 10 * index, lambda index: torch.tensor(10 * index + 0.5)], ids=["whole", "tensor"]
)
def test_deepspeed_honours_a_step_from_outside_but_drops_the_fraction_of_a_tensor(build, step):
    def skip_ahead(optimizer, index):
        for state in optimizer.state.values():
            state["step"] = step(index)

    def corrections(betas, index):
        return [1 - beta ** (10 * index + 1) for beta in betas]

    assert largest_difference(build, values_by_kind, corrections, before_step=skip_ahead) < TOLERANCE
