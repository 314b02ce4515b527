"""The noise scale's formulas against linear regression, where all is known, and what is averaged, kept and refused."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from triptych.trainer.engine.halves import GradientHalves, Squares
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.scaling.config import NoiseScaleConfig
from triptych.trainer.scaling.noise import Estimate, NoiseScale, estimate, half_sizes, why_not

ONE_PROCESS = SimpleNamespace(
    tensor_rank=0,
    num_data_ranks=1,
    device=torch.device("cpu"),
    layout=ParallelLayout(),
    placement=SimpleNamespace(world_size=1),
    collection=SimpleNamespace(mp=SimpleNamespace(size=lambda: 1)),
    sum_over_data=lambda values: values,
)
WEIGHTS = nn.Parameter(torch.tensor([0.6, -0.2, 0.3, 0.1]))
NOISE = 0.5


def regression_batches(number, cut, *, claimed=None):
    """Estimates from batches of 8 rows of y = x w* + NOISE e with x, e normal, at a distance of WEIGHTS from w*."""
    generator = torch.Generator().manual_seed(0)
    x_NBD = torch.randn(number, 8, 4, generator=generator)
    residuals_NB = x_NBD @ WEIGHTS.detach() - NOISE * torch.randn(number, 8, generator=generator)
    found = []
    for rows_BD in x_NBD * residuals_NB[:, :, None] / 8:  # each row's share of the gradient of the mean loss
        halves = GradientHalves({"all": ""}, rows=claimed or cut, num_first=1, groups=ONE_PROCESS)
        halves.look([("w", WEIGHTS, rows_BD[: cut[0]].sum(0))])
        halves.look([("w", WEIGHTS, rows_BD.sum(0))])
        found.append(estimate(halves.squares["all"], rows=halves.rows, batch=8))
    return torch.tensor([(each.signal, each.noise) for each in found], dtype=torch.float64)


def regression_truth():
    """|G|^2 = |d|^2 and S = (D + 1) |d|^2 + D NOISE^2 at distance d in D dimensions."""
    squared = WEIGHTS.detach().double().square().sum().item()
    return torch.tensor([squared, 5 * squared + 4 * NOISE**2], dtype=torch.float64)


def errors_in_sigmas(found):
    return (found.mean(0) - regression_truth()) / (found.std(0) / len(found) ** 0.5)


@pytest.mark.parametrize("cut", [(4, 4), (3, 5)])
def test_linear_regression_is_estimated_without_bias(cut):
    found = regression_batches(3000, cut)
    assert errors_in_sigmas(found).abs().max() < 4
    assert (found.std(0) / len(found) ** 0.5 / regression_truth()).max() < 0.06


def test_halves_weighed_by_wrong_numbers_of_rows_are_noticed():
    assert errors_in_sigmas(regression_batches(3000, (2, 6), claimed=(4, 4))).abs().max() > 6


def test_a_part_is_the_parameters_under_its_prefix():
    halves = GradientHalves({"all": "", "b": "b."}, rows=(1, 1), num_first=1, groups=ONE_PROCESS)
    for first, second in ((1.0, 2.0), (3.0, 8.0)):
        halves.look([("a.w", WEIGHTS, torch.tensor([first])), ("b.w", WEIGHTS, torch.tensor([second]))])
    # Mean gradients of the halves: a 2 and 4, b 4 and 12.
    assert halves.squares == {"all": Squares(whole=73.0, difference=68.0), "b": Squares(whole=64.0, difference=64.0)}


def noise_scale(**config):
    return NoiseScale(
        NoiseScaleConfig(**{"every_tokens": 10, "half_life_tokens": 100, **config}), {"all": "", "p": "p"}
    )


def measured(whole, difference):
    squares = {part: Squares(whole=whole, difference=difference) for part in ("all", "p")}
    return SimpleNamespace(halves=SimpleNamespace(rows=(4, 4), num_data_ranks=2, squares=squares))


def test_one_measurement_is_its_own_average():
    noise = noise_scale()
    noise.add(measured(3.0, 8.0), tokens=50)
    assert noise.average() == Estimate(signal=pytest.approx(2.0), noise=pytest.approx(16.0))  # 8 / (1/4 + 1/4); of 16
    assert noise.noise_scale() == pytest.approx(8.0)


@pytest.mark.parametrize("spread", [0.0, 0.1, 30.0])
def test_a_critical_batch_takes_the_signal_two_errors_higher(spread):
    noise = noise_scale(half_life_tokens=10**9)
    assert noise.critical_batch("p") is None
    for number in range(20):
        noise.add(measured(3.0 + (-1) ** number * spread, 8.0), tokens=100 * (number + 1))
    expected = 16 / (2 + 2 * spread / math.sqrt(19))
    assert noise.critical_batch("p") == pytest.approx(expected, rel=1e-3)
    assert noise.noise_scale("p") == pytest.approx(8.0, rel=1e-3)


def test_signal_and_noise_are_averaged_apart_with_the_half_life():
    noise = noise_scale()
    noise.add(measured(3.0, 8.0), tokens=100)
    noise.add(measured(1.5, 16.0), tokens=200)
    # Signals 2 and -0.5, noises 16 and 32, weights 1/4 and 1/2.
    assert noise.average() == Estimate(signal=pytest.approx(1 / 3), noise=pytest.approx(80 / 3))
    assert noise.noise_scale() == pytest.approx(80.0)


def test_a_scale_without_signal_is_left_out():
    noise = noise_scale()
    assert noise.metrics() == {}
    noise.add(measured(0.5, 8.0), tokens=50)
    assert noise.noise_scale() is None
    assert set(noise.metrics()) == {"gradient_noise/all", "gradient_noise/p"}


def test_gradients_that_are_not_finite_leave_the_averages_alone():
    noise = noise_scale()
    noise.add(measured(3.0, 8.0), tokens=50)
    before = noise.average()
    noise.add(measured(math.inf, 8.0), tokens=100)
    assert noise.average() == before


def test_the_error_of_the_signal_is_that_of_a_mean():
    noise = noise_scale(half_life_tokens=10**9)
    draws = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64).tolist()
    for index, draw in enumerate(draws):
        noise.add(measured(3.0 + draw, 8.0), tokens=100 * (index + 1))
    assert noise.signal_error() == pytest.approx(1 / 20, rel=0.1)
    assert abs(noise.average().signal - 2.0) < 4 / 20


def test_a_resumed_run_goes_on_bit_for_bit():
    whole, first, second = noise_scale(), noise_scale(), noise_scale()
    for number in range(6):
        one = measured(3.0 + 0.1 * number, 8.0 / (number + 1))
        whole.add(one, tokens=37 * (number + 1))
        if number == 3:
            second.restore(json.loads(json.dumps(first.document())))
        (first if number < 3 else second).add(one, tokens=37 * (number + 1))
    assert second.document() == whole.document()
    assert second.metrics() == whole.metrics()


def test_a_part_that_a_checkpoint_lacks_begins_anew():
    old, new = noise_scale(), NoiseScale(NoiseScaleConfig(every_tokens=1, half_life_tokens=1), {"all": "", "q": "q"})
    old.add(measured(3.0, 8.0), tokens=50)
    new.restore(old.document())
    assert (new.average(), new.average("q")) == (old.average(), None)


class Ruler:
    """Rows that know only where they were cut."""

    def __init__(self, start, stop):
        self.span = (start, stop)

    def __len__(self):
        return self.span[1] - self.span[0]

    def rows(self, start, stop):
        return Ruler(start, stop)


def spans(rows, micro_batch, *, together=1, **layout):
    groups = SimpleNamespace(**{**vars(ONE_PROCESS), "layout": ParallelLayout(**layout)})
    cut = noise_scale().cut(Ruler(0, rows), micro_batch, groups, tokens=0, together=together)
    return cut and ([each.span for each in cut.micro_batches], cut.halves.num_first, cut.halves.rows)


def test_a_single_micro_batch_is_cut_in_two():
    assert spans(7, 8) == ([(0, 3), (3, 7)], 1, (3, 4))


def test_pairs_are_not_parted():
    assert spans(6, 8, together=2) == ([(0, 2), (2, 6)], 1, (2, 4))


def test_micro_batches_of_a_pipeline_are_equal():
    assert spans(12, 4, pipeline=2) == ([(0, 3), (3, 6), (6, 9), (9, 12)], 2, (6, 6))


def test_interleaved_micro_batches_come_in_groups_or_not_at_all():
    cuts, num_first, _ = spans(8, 8, pipeline=2, virtual=2)
    assert (cuts, num_first) == ([(0, 2), (2, 4), (4, 6), (6, 8)], 2)
    assert spans(6, 8, pipeline=2, virtual=2) is None


def test_nothing_is_cut_before_it_is_due():
    noise = noise_scale(every_tokens=10)
    noise.add(measured(3.0, 8.0), tokens=50)
    due = [noise.cut(Ruler(0, 4), 4, ONE_PROCESS, tokens=tokens, together=1) is not None for tokens in (59, 60)]
    assert due == [False, True]


@pytest.mark.parametrize(
    ("rows", "together", "virtual", "mend"),
    [
        (1, 1, 1, "raise the batch to 2 per rank"),
        (2, 2, 1, "raise the batch to 4 per rank"),
        (6, 1, 2, "use a multiple of 4 per data-parallel rank"),
    ],
)
def test_what_cannot_be_measured_has_a_reason_with_a_mend(rows, together, virtual, mend):
    reason = why_not(rows, together, pipeline=2, virtual=virtual)
    assert reason is not None
    assert reason.endswith(f"; {mend}")


def test_halves_hold_every_row():
    assert [half_sizes(rows, 2) for rows in (4, 6, 8)] == [(2, 2), (2, 4), (4, 4)]


@pytest.mark.parametrize(("every", "half_life"), [(0, 10), (20, 10)])
def test_a_half_life_without_a_measurement_is_refused(every, half_life):
    with pytest.raises(ValueError, match="half_life_tokens"):
        NoiseScaleConfig(every_tokens=every, half_life_tokens=half_life)
