"""Schedules against their definition: ends, slope, inverse, and the clamp's bias."""

import itertools
import math

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from triptych.models.diffusion.schedules import (
    Cosine,
    CosineMdlm,
    CosineSquared,
    Geometric,
    Linear,
    ModalitySchedules,
    NoiseSchedule,
    Polynomial,
)

SCHEDULES = [
    Linear(),
    Cosine(),
    CosineMdlm(),
    CosineSquared(),
    Polynomial(power=0.75),
    Polynomial(power=3.0),
    Geometric(),
    Geometric(sigma_min=1e-4, sigma_max=20.0),
]
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
TIMES = torch.linspace(0.001, 0.999, 997, dtype=torch.float64)


@each_schedule
def test_runs_from_zero_to_one_and_rises(schedule):
    ends = schedule.level(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([0.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-15)
    assert (schedule.level(TIMES).diff() > 0).all()


@each_schedule
def test_slope_is_the_derivative_of_the_level(schedule):
    times = TIMES.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(schedule.level(times).sum(), times)
    torch.testing.assert_close(schedule.slope(TIMES), derivative, rtol=1e-10, atol=1e-12)


@each_schedule
def test_inverse_undoes_the_level(schedule):
    levels = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(schedule.level(schedule.inverse(levels)), levels, rtol=1e-9, atol=1e-12)


@each_schedule
def test_weights_are_slope_over_probability(schedule):
    m = schedule.mask_probability(TIMES)
    torch.testing.assert_close(schedule.weight(TIMES) * m, schedule.slope(TIMES))
    torch.testing.assert_close(schedule.complement_weight(TIMES) * (1 - m), schedule.slope(TIMES))


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (Linear(), lambda t: 1 / t),
        (Cosine(), lambda t: math.pi / 2 * torch.tan(math.pi / 2 * (1 - t))),
        (CosineMdlm(), lambda t: math.pi / 2 * torch.sin(math.pi * t / 2) / (1 - torch.cos(math.pi * t / 2))),
        (CosineSquared(), lambda t: math.pi / torch.tan(math.pi * t / 2)),
        (Polynomial(power=3.0), lambda t: 3 / t),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_weight_equals_the_closed_form(schedule, formula):
    middle = TIMES[(schedule.level(TIMES) > 1e-3) & (schedule.level(TIMES) < 1 - 1e-3)]
    torch.testing.assert_close(schedule.weight(middle), formula(middle), rtol=1e-9, atol=0)


@each_schedule
def test_clamp_holds_probabilities_inside(schedule):
    m = schedule.mask_probability(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert m.min() == schedule.epsilon
    assert m.max() == 1 - schedule.epsilon


def clamped_bound(schedule, g):
    """E_t[w(t) m(t) g(m(t))] under the clamp, by Gauss-Legendre quadrature between the kinks."""
    kinks = schedule.inverse(torch.tensor([0, schedule.epsilon, 1 - schedule.epsilon, 1], dtype=torch.float64)).numpy()
    nodes, weights = np.polynomial.legendre.leggauss(400)
    total = 0.0
    for low, high in itertools.pairwise(kinks):
        times = torch.tensor(low + (high - low) * (nodes + 1) / 2)
        m = schedule.mask_probability(times)
        total += float((schedule.weight(times) * m * g(m)).numpy() @ weights) * (high - low) / 2
    return total


@pytest.mark.parametrize("kind", [Linear, Cosine, CosineMdlm, CosineSquared, Geometric])
def test_bias_of_the_clamp_is_second_order(kind):
    """With g(m) = 1 + m^2, epsilon^2/2 (g'(0) - g'(1)) is -epsilon^2; the rest of the exact bias is 4/3 epsilon^3."""
    for epsilon in (0.08, 0.04, 0.02):
        bias = clamped_bound(kind(epsilon=epsilon), lambda m: 1 + m**2) - 4 / 3
        assert bias == pytest.approx(-(epsilon**2) + 4 / 3 * epsilon**3, rel=1e-6)


@each_schedule
def test_bias_at_the_default_clamp_is_below_a_millionth(schedule):
    assert abs(clamped_bound(schedule, lambda m: 1 + m**2) - 4 / 3) < 2e-6


def test_validates_from_a_mapping_with_a_kind():
    adapter = TypeAdapter(NoiseSchedule)
    for schedule in SCHEDULES:
        assert adapter.validate_python(adapter.dump_python(schedule)) == schedule
    assert TypeAdapter(ModalitySchedules).validate_python({"image": {"kind": "cosine"}}).of("image") == Cosine()


@pytest.mark.parametrize("value", [{"kind": "sine"}, {"kind": "polynomial"}, {"kind": "linear", "epsilon": 0.5}])
def test_bad_mapping_is_refused(value):
    with pytest.raises(ValidationError):
        TypeAdapter(NoiseSchedule).validate_python(value)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Linear(epsilon=-0.1), "epsilon"),
        (lambda: Polynomial(power=0.5), "power"),
        (lambda: Geometric(sigma_min=2.0, sigma_max=1.0), "sigma_min"),
    ],
)
def test_bad_numbers_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
