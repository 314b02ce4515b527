import numpy as np

from triptych.launch.report.data import Curve
from triptych.launch.report.history import training_history
from triptych.trainer.metrics import StepRecord


def record(step: int, **metrics: float) -> StepRecord:
    return StepRecord(
        step=step,
        tokens=100 * step,
        total_tokens=10_000,
        batch_tokens=100,
        batch=4,
        kappa=1.0,
        seconds=0.5,
        learning_rate=0.01 * step,
        gradient_norm=1.0,
        metrics={name.replace("__", "/"): value for name, value in metrics.items()},
    )


def test_losses_are_those_of_the_steps_that_have_them():
    training = training_history([record(1, nelbo__text=5.0), record(2), record(3, nelbo__text=3.0)])
    assert set(training.losses) == {"text"}
    np.testing.assert_array_equal(training.losses["text"].tokens, [100, 200, 300])
    np.testing.assert_array_equal(training.losses["text"].values, [5.0, np.nan, 3.0])


def test_learning_rate_and_speed_are_kept():
    training = training_history([record(1), record(2)])
    assert training.learning_rate is not None
    assert training.tokens_per_second is not None
    np.testing.assert_allclose(training.learning_rate.values, [0.01, 0.02])
    np.testing.assert_allclose(training.tokens_per_second.values, [200.0, 200.0])


def test_noise_bins_are_means_of_the_last_steps():
    early = [record(step, ce__image__bin0=9.0, ce__image__bin2=9.0) for step in range(1, 19)]
    late = [record(19, ce__image__bin0=1.0), record(20, ce__image__bin0=2.0, ce__image__bin2=4.0)]
    bins = training_history([*early, *late]).noise_bins["image"]
    np.testing.assert_allclose(bins.edges, [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_array_equal(bins.cross_entropy, [1.5, np.nan, 4.0])


def test_validation_is_passed_on():
    curve = Curve(tokens=np.array([1]), values=np.array([2.0]))
    assert training_history([], {"text": curve}).validation["text"] is curve
