"""The learning rate over tokens: its ends, its middle, and that it never leaves 0..1."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.trainer.schedules import LearningRateSchedule

KINDS = ("cosine", "linear", "constant")


@pytest.mark.parametrize("kind", KINDS)
def test_warmup_is_linear(kind):
    schedule = LearningRateSchedule(kind=kind, warmup_tokens=100)
    assert [schedule.factor(tokens, 1000) for tokens in (0, 25, 100)] == [0.0, 0.25, 1.0]


@pytest.mark.parametrize(("kind", "middle", "end"), [("cosine", 0.55, 0.1), ("linear", 0.55, 0.1), ("constant", 1, 1)])
def test_middle_and_end(kind, middle, end):
    schedule = LearningRateSchedule(kind=kind, warmup_tokens=100, final_fraction=0.1)
    assert schedule.factor(550, 1000) == pytest.approx(middle)
    assert schedule.factor(1000, 1000) == schedule.factor(5000, 1000) == pytest.approx(end)


def test_cosine_is_above_linear_at_first_and_below_at_last():
    cosine, linear = (LearningRateSchedule(kind=kind, warmup_tokens=0) for kind in ("cosine", "linear"))
    assert cosine.factor(250, 1000) > linear.factor(250, 1000)
    assert cosine.factor(750, 1000) < linear.factor(750, 1000)


@given(st.sampled_from(KINDS), st.integers(0, 999), st.floats(0, 1), st.lists(st.integers(0, 2000), min_size=2))
def test_rises_then_falls_within_its_bounds(kind, warmup, final, places):
    schedule = LearningRateSchedule(kind=kind, warmup_tokens=warmup, final_fraction=final)
    after = [schedule.factor(place, 1000) for place in sorted(places) if place >= warmup]
    assert all(0 <= schedule.factor(place, 1000) <= 1 + 1e-12 for place in places)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(after))
