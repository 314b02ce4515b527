"""A small noisy quadratic: the whole rule keeps the losses, and no piece of it can be left out."""

from dataclasses import replace

import pytest
import torch

from triptych.trainer.scaling.rules import scale_adamw
from triptych.trainer.scaling.study.noisy_quadratic import NoisyQuadratic
from triptych.trainer.scaling.study.quadratic_adamw import (
    BASE,
    FULL,
    PIECES,
    deviations,
    quarter_losses,
    scaled_values,
    worst,
)

SMALL = replace(BASE, num_coordinates=1000, num_batches=2048, values=replace(BASE.values, betas=(0.9, 0.996)))
KAPPA = 4.0
BOUND = 0.012
SAME = "betas as 1 - kappa (1 - beta)"
UNSEEN = "beta1 not scaled"


@pytest.fixture(scope="module")
def bases():
    return [quarter_losses(SMALL, SMALL.values, 1.0, seed=0)]


@pytest.mark.parametrize("piece", [FULL, SAME])
def test_the_whole_rule_keeps_the_losses(bases, piece):
    assert abs(worst(deviations(SMALL, piece, KAPPA, bases))) < BOUND


@pytest.mark.parametrize("piece", sorted({*PIECES} - {FULL, SAME, UNSEEN}))
def test_no_piece_can_be_left_out(bases, piece):
    assert abs(worst(deviations(SMALL, piece, KAPPA, bases))) > 2 * BOUND


def test_beta1_shows_where_its_memory_is_a_part_of_the_run():
    slow = replace(SMALL, values=replace(SMALL.values, betas=(0.99, 0.996)))
    bases = [quarter_losses(slow, slow.values, 1.0, seed=0)]
    assert abs(worst(deviations(slow, FULL, KAPPA, bases))) < BOUND / 2
    assert abs(worst(deviations(slow, UNSEEN, KAPPA, bases))) > 1.5 * BOUND


def test_smaller_batches_are_kept_too(bases):
    assert abs(worst(deviations(SMALL, FULL, 0.25, bases))) < BOUND


def test_the_rule_breaks_where_noise_no_longer_dominates(bases):
    assert abs(worst(deviations(SMALL, FULL, 256.0, bases))) > 5 * BOUND


def test_the_linear_form_ends():
    with pytest.raises(ValueError, match="no linear form"):
        scaled_values(SAME, SMALL.values, 16.0)


@pytest.mark.parametrize("kappa", [0.25, 4.0])
def test_runs_of_one_seed_see_one_noise(kappa):
    """With all else still, what the noise of equal data sums to is the same at any batch; its variance is 1 / kappa."""
    one, other = NoisyQuadratic(SMALL, 3), NoisyQuadratic(SMALL, 3)
    size = max(1, round(kappa))
    whole = torch.cat([one._noise(1.0) for _ in range(size)]).sum(0)
    parts = other._noise(kappa)
    assert torch.allclose(parts.sum(0) * kappa**0.5, whole, atol=1e-4)
    assert float(parts.var()) == pytest.approx(1.0, abs=0.1)


def test_nothing_but_the_values_changes_between_runs():
    """kappa 1 through the rule is the base itself, bit by bit."""
    runs = [NoisyQuadratic(SMALL, 0) for _ in range(2)]
    runs[0].advance(SMALL.values, 1.0, 64)
    runs[1].advance(scale_adamw(SMALL.values, 1.0), 1.0, 64)
    assert runs[0].loss() == runs[1].loss()
