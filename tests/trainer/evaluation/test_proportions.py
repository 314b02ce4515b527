import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.trainer.evaluation.proportions import NORMAL_QUANTILE, Proportion


@given(trials=st.integers(1, 5000), data=st.data())
def test_the_interval_holds_the_value_and_stays_within_0_and_1(trials, data):
    proportion = Proportion(successes=data.draw(st.integers(0, trials)), trials=trials)
    low, high = proportion.interval
    assert 0 <= low <= proportion.value <= high <= 1
    assert high - low > 0


@given(trials=st.integers(1, 5000), data=st.data())
def test_the_ends_solve_the_score_equation(trials, data):
    proportion = Proportion(successes=data.draw(st.integers(1, trials)), trials=trials)
    low = proportion.interval[0]
    assert (proportion.value - low) ** 2 == pytest.approx(NORMAL_QUANTILE**2 * low * (1 - low) / trials, abs=1e-9)


def test_it_counts_what_is_true():
    assert Proportion.of([1, 0, True, False, 1]) == Proportion(successes=3, trials=5)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 4)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match="give at least one trial"):
        Proportion(successes=successes, trials=trials)
