"""Sizes of batches: schedules, rounding to what divides, and the automatic choice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.trainer.fit_config import FitConfig
from triptych.trainer.optimizer import AdamWConfig
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.scaling.config import NoiseScaleConfig, RunFacts, ScalingConfig
from triptych.trainer.scaling.noise import why_not
from triptych.trainer.scaling.physical import BatchLimits, BatchSchedule, BatchSizes
from triptych.trainer.scaling.scaling import findings, hyper_parameters, largest_batch, scaling_of
from triptych.trainer.schedules import LearningRateSchedule

LIMITS = BatchLimits(unit=6, whole_micro_batches=24, most=1000)


def sizes(choice, *, logical=96.0, critical=None, limits=LIMITS):
    return BatchSizes(choice, limits, logical=logical, critical=lambda: critical)


def test_a_number_is_that_number():
    assert sizes(42).at(10**9, 42) == 42


def test_the_logical_batch_is_exact_where_it_is_whole():
    assert sizes("logical", logical=97.0).at(0, None) == 97


def test_a_fractional_logical_batch_goes_to_the_nearest_that_divides():
    assert sizes("logical", logical=97.4).at(0, None) == 96
    assert sizes("logical", logical=99.4).at(0, None) == 102


@pytest.mark.parametrize(
    ("between", "expected"),
    [("steps", [12, 12, 48, 48, 96]), ("linear", [12, 30, 48, 72, 96]), ("geometric", [12, 24, 48, 66, 96])],
)
def test_a_schedule_over_tokens(between, expected):
    schedule = BatchSchedule(tokens=(0, 1000, 3000), sequences=(12, 48, 96), between=between)
    assert [sizes(schedule).at(tokens, None) for tokens in (0, 500, 1000, 2000, 10**6)] == expected


@given(tokens=st.integers(0, 5000), first=st.integers(1, 100), second=st.integers(1, 100))
def test_a_scheduled_batch_divides_and_is_never_empty(tokens, first, second):
    schedule = BatchSchedule(tokens=(0, 3000), sequences=(first, second), between="linear")
    batch = sizes(schedule).at(tokens, None)
    assert batch % LIMITS.unit == 0
    assert batch >= LIMITS.unit
    assert batch <= max(first, second, LIMITS.unit)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokens": (), "sequences": ()}, "as many tokens as sequences"),
        ({"tokens": (0, 5), "sequences": (8,)}, "as many tokens as sequences"),
        ({"tokens": (5,), "sequences": (8,)}, "must begin with 0"),
        ({"tokens": (0, 9, 5), "sequences": (8, 8, 8)}, "must begin with 0 and rise"),
        ({"tokens": (0,), "sequences": (0,)}, "must be 1 or more"),
    ],
)
def test_a_schedule_that_is_none_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        BatchSchedule(**fields)


@pytest.mark.parametrize(("critical", "expected"), [(None, 96), (30.0, 24), (100.0, 96), (200.0, 192), (1e9, 768)])
def test_an_automatic_batch_starts_under_its_limits(critical, expected):
    """Powers of two of 24 sequences; without an estimate under the logical batch, and never over the guards' 1000."""
    assert sizes("auto", critical=critical).at(0, None) == expected


@pytest.mark.parametrize(
    ("before", "critical", "expected"),
    [(96, 230.0, 96), (96, 250.0, 192), (96, 80.0, 96), (96, 70.0, 48), (24, 1.0, 24), (768, 1e9, 768)],
)
def test_an_automatic_batch_moves_by_two_and_not_for_a_trifle(before, critical, expected):
    assert sizes("auto", critical=critical).at(0, before) == expected


@pytest.mark.parametrize(("before", "expected"), [(384, 384), (1536, 768)])
def test_an_automatic_batch_without_an_estimate_stays_under_the_guards(before, expected):
    assert sizes("auto", critical=None).at(0, before) == expected


def test_an_automatic_batch_of_another_world_size_is_chosen_anew():
    assert sizes("auto", critical=100.0).at(0, 80) == 96


def automatic(betas=(0.9, 0.95), form="power"):
    return FitConfig(
        seed=0,
        total_tokens=10**6,
        logical_batch=2,
        micro_batch_per_dp_rank=1,
        optimizer=AdamWConfig(peak_learning_rate=1e-3, betas=betas),
        learning_rate=LearningRateSchedule(warmup_tokens=0),
        scaling=ScalingConfig(betas=form),
        physical_batch="auto",
        noise_scale=NoiseScaleConfig(every_tokens=1, half_life_tokens=1),
    )


@pytest.mark.parametrize("layout", [ParallelLayout(), ParallelLayout(pipeline=2, virtual=2)])
@pytest.mark.parametrize("together", [1, 2])
def test_the_smallest_automatic_batch_can_be_measured(layout, together):
    batch = scaling_of(automatic(), RunFacts(rows_together=together), layout, 2).sizes.at(0, None)
    assert why_not(batch // 2, together, pipeline=layout.pipeline, virtual=layout.virtual) is None


@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.3, 0.0)])
@pytest.mark.parametrize("form", ["power", "linear"])
def test_up_to_the_largest_batch_the_guards_say_nothing_and_beyond_it_they_do(betas, form):
    config = automatic(betas, form)
    most = largest_batch(config, RunFacts(), hyper_parameters(config, RunFacts()))
    assert most >= config.logical_batch
    assert findings(config, RunFacts(), int(most)) == []
    assert findings(config, RunFacts(), int(most) + 1) != []
