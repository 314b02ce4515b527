"""The objective against the exact bound: every mask enumerated, the level integrated, on a tiny vocabulary and length.

The denoiser is a table of random logits, one row per corrupted sequence and position: the most general there is.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from document_rows import one_each

from triptych.data_pipelines.batch import Role
from triptych.data_pipelines.vocabulary import Vocabulary
from triptych.kernels.philox import Stream
from triptych.models.diffusion.corruption import ConditionTreatment
from triptych.models.diffusion.schedules import (
    Cosine,
    CosineMdlm,
    CosineSquared,
    Geometric,
    Linear,
    ModalitySchedules,
    Polynomial,
)
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig, ModalityWeights

VOCABULARY = Vocabulary(text=2, image=2, audio=1)
L, V = 3, 3  # positions that may be masked; ids of text and of image, END among them
STATES = list(itertools.product(range(V + 1), repeat=L))  # 0 is [MASK], else 1 + the id within its range
MASKS = [mask for mask in itertools.product((False, True), repeat=L) if any(mask)]
TEXT = ("text",) * L
MIXED = ("text", "image", "image")
CLEAN = (0, 2, 1)
EPSILON = 0.01  # shifts the expectation by a few 1e-5, and lets a standard error of 0.3 % be had in a second
SCHEDULES = [
    Linear(epsilon=EPSILON),
    Cosine(epsilon=EPSILON),
    CosineMdlm(epsilon=EPSILON),
    CosineSquared(epsilon=EPSILON),
    Polynomial(power=0.75, epsilon=EPSILON),
    Polynomial(power=2.0, epsilon=EPSILON),
    Geometric(epsilon=EPSILON),
]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
each_pairing = pytest.mark.parametrize("pairing", ["independent", "complement"])


def random_table():
    """Logits, float64 [states, L, V]."""
    generator = torch.Generator().manual_seed(11)
    return 2 * torch.randn(len(STATES), L, V, generator=generator, dtype=torch.float64)


def cross_entropies(table, mask, clean=CLEAN):
    """-log p(x_i | visible) of every position, [L]."""
    state = tuple(0 if hidden else 1 + token for hidden, token in zip(mask, clean, strict=True))
    return -torch.log_softmax(table[STATES.index(state)], dim=-1)[range(L), clean]


def exact_nelbo(table, schedules, clean=CLEAN):
    """E_t sum over masks and masked i of m_i' * CE_i times the chance of the others' fates; Gauss-Legendre in t."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    times, weights = torch.tensor((nodes + 1) / 2), torch.tensor(weights / 2)
    levels = torch.stack([schedule.level(times) for schedule in schedules])
    slopes = torch.stack([schedule.slope(times) for schedule in schedules])
    total = torch.zeros((), dtype=torch.float64)
    for mask in MASKS:
        fates = torch.stack([levels[i] if mask[i] else 1 - levels[i] for i in range(L)])
        losses = cross_entropies(table, mask, clean)
        for i in itertools.compress(range(L), mask):
            others = fates[[j for j in range(L) if j != i]].prod(0)
            total = total + (weights * slopes[i] * others).sum() * losses[i]
    return total


def make_batch(modalities, num_rows, first, twins):
    """The same clean sequence in every row, after a task token; rows differ in their noise."""
    clean = [VOCABULARY.start(modality) + token for modality, token in zip(modalities, CLEAN, strict=True)]
    rows_B = torch.arange(num_rows)
    copies_B = rows_B % 2 if twins else torch.zeros_like(rows_B)
    return one_each(
        torch.tensor([VOCABULARY.special("task_text"), *clean]).repeat(num_rows, 1),
        torch.tensor([Role.GIVEN, *[Role.TARGET] * L], dtype=torch.uint8).repeat(num_rows, 1),
        torch.stack([torch.zeros_like(rows_B), first + rows_B - copies_B, torch.zeros_like(rows_B)], 1),
        copies_B=copies_B,
        numbers_B=first + rows_B,
    )


def table_outputs(table, modalities, inputs):
    """What a model with that table would return."""
    starts = torch.tensor([VOCABULARY.start(modality) for modality in modalities])
    tokens_BL = inputs.tokens_BS[:, 1:]
    digits_BL = torch.where(tokens_BL == VOCABULARY.mask, 0, 1 + tokens_BL - starts)
    states_B = (digits_BL * torch.tensor([(V + 1) ** (L - 1 - i) for i in range(L)])).sum(1)
    outputs = {}
    for modality, rows_R in inputs.rows.items():
        rows_B, positions = rows_R // (L + 1), (rows_R % (L + 1) - 1).clamp(min=0)
        outputs[modality] = table[states_B[rows_B], positions][:, : VOCABULARY.num_outputs(modality)]
    return outputs


def estimates(table, modalities, config, num_batches=100, num_rows=1024):
    """Loss per sequence of each of many logical batches [N], and its gradients [N, table.numel()]."""
    objective, losses, gradients = MaskedDiffusion(config, VOCABULARY), [], []
    for k in range(num_batches):
        batch = make_batch(modalities, num_rows, k * num_rows, config.pairing == "complement")
        inputs, targets = objective.prepare(batch, Stream(seed=3))
        terms = objective.loss(table_outputs(table, modalities, inputs), targets)
        loss = L * terms.sum / terms.weight
        losses.append(loss.detach().double())
        gradients.append(torch.autograd.grad(loss, table)[0].flatten())
    return torch.stack(losses), torch.stack(gradients)


def standard_score(samples_N, exact):
    return ((samples_N.mean() - exact) / (samples_N.std() / math.sqrt(len(samples_N)))).item()


def assert_unbiased(losses_N, gradients_NP, exact, exact_gradient_P):
    """The loss, and the gradient along its own and eight random directions, within 4.5 standard errors (p = 7e-6)."""
    assert abs(standard_score(losses_N, exact)) < 4.5
    assert losses_N.std() / math.sqrt(len(losses_N)) < 0.01 * exact  # the test can see an error of a few per cent
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(8, exact_gradient_P.numel(), generator=generator, dtype=torch.float64)
    for direction_P in (exact_gradient_P, *directions):
        assert abs(standard_score(gradients_NP @ direction_P, exact_gradient_P @ direction_P)) < 4.5


@each_pairing
@each_schedule
def test_loss_and_gradient_are_unbiased(schedule, pairing):
    table = random_table().requires_grad_()
    exact = exact_nelbo(table, [schedule] * L)
    (exact_gradient,) = torch.autograd.grad(exact, table)
    config = MaskedDiffusionConfig(schedules=ModalitySchedules(text=schedule), pairing=pairing)
    losses_N, gradients_NP = estimates(table, TEXT, config)
    assert_unbiased(losses_N, gradients_NP, exact.detach(), exact_gradient.flatten())


def test_loss_is_unbiased_where_modalities_have_their_own_schedules():
    schedules = ModalitySchedules(text=Linear(epsilon=EPSILON), image=CosineMdlm(epsilon=EPSILON))
    table = random_table().requires_grad_()
    exact = exact_nelbo(table, [schedules.of(modality) for modality in MIXED])
    (exact_gradient,) = torch.autograd.grad(exact, table)
    losses_N, gradients_NP = estimates(table, MIXED, MaskedDiffusionConfig(schedules=schedules))
    assert_unbiased(losses_N, gradients_NP, exact.detach(), exact_gradient.flatten())


class Reversed:
    """The schedule 1 - m(1-t), which a twin follows."""

    def __init__(self, schedule):
        self.schedule = schedule

    def level(self, t):
        return 1 - self.schedule.level(1 - t)

    def slope(self, t):
        return self.schedule.slope(1 - t)


def test_twins_with_their_own_schedules_follow_the_reversed_path():
    schedules = ModalitySchedules(text=Linear(epsilon=EPSILON), image=CosineMdlm(epsilon=EPSILON))
    each = [schedules.of(modality) for modality in MIXED]
    table = random_table().requires_grad_()
    exact = (exact_nelbo(table, each) + exact_nelbo(table, [Reversed(schedule) for schedule in each])) / 2
    (exact_gradient,) = torch.autograd.grad(exact, table)
    config = MaskedDiffusionConfig(schedules=schedules, pairing="complement")
    losses_N, gradients_NP = estimates(table, MIXED, config)
    assert_unbiased(losses_N, gradients_NP, exact.detach(), exact_gradient.flatten())


def test_a_row_and_its_twin_are_negatively_correlated():
    """Where every cross-entropy is 1 a row's loss is k/m and its twin's (L-k)/(1-m), k of L masked: covariance -L.

    The variance is L times the integral of (1-m)/m, ln(1/epsilon) - 1 and a little more at the clamp.
    """
    config = MaskedDiffusionConfig(schedules=ModalitySchedules(text=Linear(epsilon=EPSILON)), pairing="complement")
    batch = make_batch(TEXT, 40_000, 0, True)
    inputs, targets = MaskedDiffusion(config, VOCABULARY).prepare(batch, Stream(seed=3))
    rows_R, weights_R = inputs.rows["text"] // (L + 1), targets.row_weights["text"].double()
    losses_B = torch.zeros(len(batch), dtype=torch.float64).index_add(0, rows_R, weights_R)
    correlation = torch.corrcoef(torch.stack([losses_B[0::2], losses_B[1::2]]))[0, 1].item()
    assert correlation == pytest.approx(-1 / math.log(1 / EPSILON), abs=0.06)


class TwinWeightedLikeItsOriginal(CosineSquared):
    """A planted fault."""

    def complement_weight(self, t):
        return self.weight(t)


class WeightOfTheLinearSchedule(CosineSquared):
    """A planted fault."""

    def weight(self, t):
        return 1 / t


@pytest.mark.parametrize(
    ("fault", "pairing"),
    [(TwinWeightedLikeItsOriginal(), "complement"), (WeightOfTheLinearSchedule(), "independent")],
    ids=lambda value: type(value).__name__,
)
def test_the_comparison_sees_a_wrong_weight(fault, pairing):
    table = random_table().requires_grad_()
    config = MaskedDiffusionConfig(schedules=ModalitySchedules(text=fault), pairing=pairing)
    losses_N, _ = estimates(table, TEXT, config)
    assert abs(standard_score(losses_N, exact_nelbo(table.detach(), [CosineSquared()] * L))) > 8


def test_loss_is_unbiased_at_the_default_clamp():
    table = random_table().requires_grad_()
    losses_N, _ = estimates(table, TEXT, MaskedDiffusionConfig(), num_batches=40, num_rows=16384)
    assert abs(standard_score(losses_N, exact_nelbo(table.detach(), [Linear()] * L))) < 4.5


@each_schedule
def test_the_exact_bound_has_no_schedule_in_it(schedule):
    """The quadrature in t equals the closed form: masks of k of L tokens have integral B(k, L-k+1) over dm/m."""
    table = random_table()
    closed = sum(
        math.factorial(sum(mask) - 1)
        * math.factorial(L - sum(mask))
        / math.factorial(L)
        * cross_entropies(table, mask)[list(mask)].sum()
        for mask in MASKS
    )
    torch.testing.assert_close(exact_nelbo(table, [schedule] * L), closed, rtol=1e-4, atol=0)


def order_log_likelihoods(table, clean=CLEAN):
    """log of the product of conditionals along each of the L! orders."""
    totals = []
    for order in itertools.permutations(range(L)):
        hidden, total = [True] * L, torch.zeros((), dtype=torch.float64)
        for i in order:
            total = total - cross_entropies(table, tuple(hidden), clean)[i]
            hidden[i] = False
        totals.append(total)
    return torch.stack(totals)


def test_bound_is_the_mean_over_orders_and_above_the_likelihood():
    table = random_table()
    along_orders = order_log_likelihoods(table)
    nelbo = exact_nelbo(table, [Cosine()] * L)
    torch.testing.assert_close(nelbo, -along_orders.mean())
    negative_log_likelihood = -(torch.logsumexp(along_orders, 0) - math.log(len(along_orders)))
    assert nelbo > negative_log_likelihood + 0.01


@pytest.mark.parametrize("clean", list(itertools.product(range(V), repeat=L))[::5])
def test_bound_is_tight_for_the_conditionals_of_a_joint(clean):
    joint = torch.softmax(
        torch.randn(V, V, V, generator=torch.Generator().manual_seed(2), dtype=torch.float64).flatten(), 0
    )
    table = torch.zeros(len(STATES), L, V, dtype=torch.float64)
    cube = joint.reshape(V, V, V)
    for number, state in enumerate(STATES):
        visible = cube[tuple(slice(None) if digit == 0 else slice(digit - 1, digit) for digit in state)]
        for i in itertools.compress(range(L), [digit == 0 for digit in state]):
            table[number, i] = torch.log(visible.sum([j for j in range(L) if j != i]))
    torch.testing.assert_close(exact_nelbo(table, [CosineSquared()] * L, clean), -torch.log(cube[clean]))


def test_modality_weights_scale_both_sum_and_weight():
    table = random_table().requires_grad_()
    weights = ModalityWeights(text=0.0, image=2.5)
    batch = make_batch(MIXED, 64, 0, False)
    terms = {}
    for name, loss_weights in (("plain", ModalityWeights()), ("weighted", weights)):
        config = MaskedDiffusionConfig(loss_weights=loss_weights, condition=ConditionTreatment(dropout=0.0))
        objective = MaskedDiffusion(config, VOCABULARY)
        inputs, targets = objective.prepare(batch, Stream(seed=3))
        terms[name] = objective.loss(table_outputs(table, MIXED, inputs), targets)
    image_sum, image_weight = terms["plain"].metrics["nelbo/image"]
    torch.testing.assert_close(terms["weighted"].sum, 2.5 * image_sum)
    torch.testing.assert_close(terms["weighted"].weight, 2.5 * image_weight)
    assert terms["weighted"].metrics["nelbo/image"] == terms["plain"].metrics["nelbo/image"]
