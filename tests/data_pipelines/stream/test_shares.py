"""Shares of sources: exact integers; schedules at and beyond their ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data_pipelines.stream.shares import SHARE_BITS, Shares, WeightSchedule

ANNEALED = WeightSchedule(tokens=(100, 200), weights=(1.0, 3.0))


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_shares_are_the_weights_to_a_unit_and_sum_exactly(weights):
    shares = Shares(dict(zip(map(str, range(len(weights))), weights, strict=True))).at(0)
    assert sum(shares) == 1 << SHARE_BITS
    wanted = [weight / sum(weights) * (1 << SHARE_BITS) for weight in weights]
    assert all(abs(share - want) <= 1.001 for share, want in zip(shares, wanted, strict=True))


@pytest.mark.parametrize(("tokens", "weight"), [(0, 1.0), (99, 1.0), (100, 1.0), (125, 1.5), (200, 3.0), (10**15, 3.0)])
def test_a_linear_schedule(tokens, weight):
    assert ANNEALED.at(tokens) == weight


@pytest.mark.parametrize(("tokens", "weight"), [(0, 1.0), (100, 1.0), (199, 1.0), (200, 3.0), (10**15, 3.0)])
def test_a_schedule_that_holds(tokens, weight):
    assert WeightSchedule(tokens=(100, 200), weights=(1.0, 3.0), between="hold").at(tokens) == weight


def test_a_schedule_of_one_point_is_constant():
    assert [WeightSchedule(tokens=(7,), weights=(2.0,)).at(tokens) for tokens in (0, 7, 8)] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("tokens", "weights"), [((), ()), ((1, 1), (1.0, 2.0)), ((2, 1), (1.0, 2.0)), ((1,), (1.0, 2.0))]
)
def test_a_schedule_that_does_not_pair_is_refused(tokens, weights):
    with pytest.raises(ValueError, match="tokens rising"):
        WeightSchedule(tokens=tokens, weights=weights)


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match="not a number of 0 or more"):
        WeightSchedule(tokens=(1, 2), weights=(1.0, weight))


@pytest.mark.parametrize("between", ["linear", "hold"])
def test_weights_that_are_all_0_later_are_refused_at_the_start(between):
    first = WeightSchedule(tokens=(0, 50, 90), weights=(1.0, 0.0, 0.0), between=between)
    second = WeightSchedule(tokens=(0, 70), weights=(1.0, 0.0), between=between)
    with pytest.raises(ValueError, match="weight 0 at 70 tokens"):
        Shares({"first": first, "second": second})


def test_a_source_of_weight_0_has_no_share():
    assert Shares({"on": 1 / 3, "off": WeightSchedule(tokens=(1,), weights=(0.0,)), "more": 0.7}).at(5)[1] == 0
