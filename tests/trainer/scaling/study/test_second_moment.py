"""A change of batch in a small run: what keeps the losses, and that what does not is seen."""

from dataclasses import replace

import pytest

from triptych.trainer.scaling.study.second_moment import NOISY, TREATMENTS, second_half

SMALL = replace(NOISY, num_coordinates=1000, num_batches=1024, values=replace(NOISY.values, betas=(0.9, 0.996)))
BOUND = 0.01


@pytest.fixture(scope="module")
def unchanged():
    return second_half(SMALL, 1.0, None, seed=0)


def largest_deviation(name, kappa, unchanged):
    changed = second_half(SMALL, kappa, TREATMENTS[name], seed=0)
    return max(abs(a / b - 1) for a, b in zip(changed, unchanged, strict=True))


@pytest.mark.parametrize("kappa", [0.25, 4.0])
@pytest.mark.parametrize("name", ["x B_old / B_new", "x (1 + noise scale / B) ratio"])
def test_rescaled_by_the_noise_the_losses_stay(unchanged, name, kappa):
    assert largest_deviation(name, kappa, unchanged) < BOUND


@pytest.mark.parametrize("kappa", [0.25, 4.0])
def test_kept_it_moves_them(unchanged, kappa):
    assert largest_deviation("kept", kappa, unchanged) > 2 * BOUND


def test_steps_that_are_not_recounted_move_them(unchanged):
    assert largest_deviation("x B_old / B_new, steps not recounted", 1 / 16, unchanged) > 2 * BOUND
