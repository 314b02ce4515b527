"""What an average is allowed to be, and the laws of how much an update replaces."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.trainer.averages.config import AverageConfig, DecayWarmup, require_distinct, require_weights

REFUSED = {
    "no decay": {},
    "half_life_tokens and decay": {"half_life_tokens": 1e6, "decay": 0.99},
    "which has no decay": {"kind": "uniform", "decay": 0.9},
    "which has no warmup": {"kind": "uniform", "warmup": DecayWarmup()},
    "half_life_tokens 0": {"half_life_tokens": 0.0},
    "half_life_tokens nan": {"half_life_tokens": math.nan},
    "decay 1;": {"decay": 1.0},
    "decay -0.1": {"decay": -0.1},
    "start_tokens -1": {"decay": 0.9, "start_tokens": -1},
    "update_every_tokens -5": {"decay": 0.9, "update_every_tokens": -5},
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_makes_no_average_is_refused_in_one_line(says):
    with pytest.raises(ValueError, match=rf"average slow [^\n]*{says}[^\n]*") as error:
        AverageConfig(name="slow", **REFUSED[says])
    assert "; " in str(error.value)


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a.b", "weights", "Weights", "-a", "a b", "ä", "a" * 65])
def test_a_name_that_is_no_safe_file_name_is_refused(name):
    with pytest.raises(ValueError, match="cannot be named"):
        AverageConfig(name=name, decay=0.9)


@pytest.mark.parametrize("settings", [{"gamma": 0.0}, {"power": -1.0}, {"min_decay": 1.0}])
def test_a_warmup_that_cannot_be_is_refused(settings):
    with pytest.raises(ValueError, match=f"warmup.*{next(iter(settings))}.*; set"):
        DecayWarmup(**settings)


def test_two_of_one_name_are_refused_whatever_the_case():
    with pytest.raises(ValueError, match="two averages have the name slow"):
        require_distinct([AverageConfig(name=name, decay=0.9) for name in ("slow", "fast", "Slow")])


def test_a_wrong_name_of_weights_lists_the_right_ones(tmp_path):
    with pytest.raises(ValueError, match="has no weights 'fats'; use one of: weights, fast, slow"):
        require_weights("fats", ["weights", "exp_avg", "ema/fast", "ema/slow"], tmp_path)


amounts = st.floats(1e-3, 1e3)


@given(amounts, amounts, st.floats(0.0, 0.99999))
def test_decay_over_two_stretches_is_that_over_both(first, second, decay):
    config = AverageConfig(name="slow", decay=decay)
    kept = [1 - config.share(tokens=1, logical_updates=k, averaged=0) for k in (first, second, first + second)]
    assert kept[0] * kept[1] == pytest.approx(kept[2], rel=1e-9, abs=1e-12)


@given(st.floats(1.0, 1e15), st.floats(1e-3, 20))
def test_half_of_it_is_left_after_a_half_life_of_tokens_whatever_the_batch(half_life, number):
    config = AverageConfig(name="slow", half_life_tokens=half_life)
    share = config.share(tokens=number * half_life, logical_updates=1.0, averaged=0)
    assert 1 - share == pytest.approx(0.5**number)


@given(st.lists(amounts, min_size=1, max_size=30))
def test_in_a_uniform_average_every_logical_update_weighs_the_same(kappas):
    config, weights = AverageConfig(name="slow", kind="uniform"), []
    for number, kappa in enumerate(kappas):
        share = config.share(tokens=1, logical_updates=kappa, averaged=sum(kappas[:number]))
        weights = [weight * (1 - share) for weight in weights] + [share]
    assert weights == pytest.approx([kappa / sum(kappas) for kappa in kappas])


@pytest.mark.parametrize(
    ("decay", "updates", "kept"),
    # 1 - (1 + u)^(-2/3) is 1 - 4^(-1/3) at u = 1, 1 - 121^(-1/3) at 10, above 0.99 at 30,000.
    [(0.9999, 0, 0.0), (0.9999, 1, 0.370039), (0.9999, 10, 0.797820), (0.99, 30_000, 0.99), (0.2, 10, 0.3)],
)
def test_the_warmup_bounds_the_decay(decay, updates, kept):
    config = AverageConfig(name="slow", decay=decay, warmup=DecayWarmup(min_decay=0.3 if decay == 0.2 else 0.0))
    assert 1 - config.share(tokens=1, logical_updates=1, averaged=updates) == pytest.approx(kept, abs=1e-6)


@given(st.integers(0, 10**6))
def test_at_power_one_the_warmup_is_the_uniform_average(updates):
    warm = AverageConfig(name="slow", decay=0.999999999, warmup=DecayWarmup(gamma=1.0, power=1.0))
    uniform = AverageConfig(name="slow", kind="uniform")
    shares = [config.share(tokens=1, logical_updates=1, averaged=updates) for config in (warm, uniform)]
    assert shares[0] == pytest.approx(shares[1], rel=1e-9)


def test_the_warmup_is_for_a_logical_update():
    config = AverageConfig(name="slow", half_life_tokens=1e12, warmup=DecayWarmup())
    small, large = (1 - config.share(tokens=100 * k, logical_updates=k, averaged=50) for k in (1, 4))
    assert large == pytest.approx(small**4)


def test_the_decay_of_a_logical_update():
    assert AverageConfig(name="slow", half_life_tokens=300).logical_decay(100) == pytest.approx(0.5 ** (1 / 3))
    assert AverageConfig(name="slow", kind="uniform").logical_decay(100) is None
