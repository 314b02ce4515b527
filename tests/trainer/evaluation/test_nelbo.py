import pytest
import torch
from document_rows import one_each
from torch import nn

from triptych.data_pipelines.batch import Role
from triptych.kernels.philox import Purpose, Stream
from triptych.trainer.evaluation.nelbo import MAX_DRAWS, fixed_noise_metrics, redraw
from triptych.trainer.seams import LossTerms

STREAM = Stream(seed=7)


class Noisy:
    """An objective that measures the noise itself, and takes its time from the number of a document."""

    def __init__(self):
        self.seen = []

    def prepare(self, batch, stream):
        noise_BS = stream.uniform(Purpose.CORRUPTION, batch.samples_BD3[:, 0], batch.tokens_BS.shape[1])
        time = stream.at(Purpose.TIME_SHIFT, batch.numbers_BD[:1, 0])
        self.seen.append((noise_BS, time))
        return batch.tokens_BS.float(), noise_BS

    def loss(self, outputs, targets):
        weight = torch.tensor(float(targets.numel()))
        metrics = {"noise": (targets.sum(), weight), "absent": (torch.tensor(0.0), torch.tensor(0.0))}
        return LossTerms(sum=outputs.sum(), weight=weight, metrics=metrics)


class Echo(nn.Module):
    def forward(self, inputs):
        assert not self.training
        assert not torch.is_grad_enabled()
        return inputs


def make_batch(start, size):
    index = torch.arange(start, start + size)
    return one_each(
        index[:, None].expand(size, 4),
        torch.full((size, 4), Role.TARGET, dtype=torch.uint8),
        torch.stack([torch.zeros_like(index), index, torch.zeros_like(index)], dim=1),
        numbers_B=index,
    )


def evaluate(*sizes: int, num_draws: int = 3, objective=None):
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    batches = [make_batch(start, size) for start, size in zip(starts, sizes, strict=True)]
    return fixed_noise_metrics(Echo(), objective or Noisy(), lambda: batches, STREAM, num_draws=num_draws)


def test_sums_are_divided_by_the_sum_of_weights():
    assert evaluate(1, 3)["loss"].mean == pytest.approx((0 + 1 + 2 + 3) / 4)
    assert evaluate(1, 3)["loss"].weight == 3 * 16


def test_how_the_sequences_are_batched_does_not_matter():
    assert evaluate(5)["noise"].mean == pytest.approx(evaluate(1, 3, 1)["noise"].mean, rel=1e-12)


def test_every_draw_has_noise_and_time_of_its_own():
    objective = Noisy()
    evaluate(2, num_draws=4, objective=objective)
    values = torch.cat([torch.cat([noise.flatten(), time]) for noise, time in objective.seen])
    assert len(values.unique()) == len(values) == 4 * 9


def test_evaluation_noise_is_not_that_of_training():
    batch = make_batch(0, 2)
    epochs = {int(epoch) for draw in range(MAX_DRAWS) for epoch in redraw(batch, draw).samples_BD3[:, 0, 2]}
    assert min(epochs) == 2**16 - MAX_DRAWS
    assert int(batch.samples_BD3[..., 2].max()) == 0


def test_the_standard_error_shrinks_with_draws():
    few, many = evaluate(4, num_draws=4)["noise"], evaluate(4, num_draws=64)["noise"]
    assert few.standard_error is not None
    assert many.standard_error is not None
    assert 0 < many.standard_error < few.standard_error
    assert evaluate(4, num_draws=1)["noise"].standard_error is None


def test_a_metric_without_weight_is_left_out():
    assert set(evaluate(2)) == {"loss", "noise"}


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_put_back(training):
    model = Echo().train(training)
    fixed_noise_metrics(model, Noisy(), lambda: [make_batch(0, 1)], STREAM, num_draws=1)
    assert model.training is training


def test_ranks_are_added_before_dividing():
    batches = [make_batch(0, 2)]
    doubled = fixed_noise_metrics(Echo(), Noisy(), lambda: batches, STREAM, num_draws=2, reduce=lambda sums: 2 * sums)
    assert doubled["loss"].weight == 2 * 16
    assert doubled["loss"].mean == pytest.approx(0.5)


def test_no_sequences_are_refused():
    with pytest.raises(ValueError, match="at least one batch"):
        evaluate()


@pytest.mark.parametrize("num_draws", [0, MAX_DRAWS + 1])
def test_an_impossible_number_of_draws_is_refused(num_draws):
    with pytest.raises(ValueError, match="noise draws"):
        evaluate(1, num_draws=num_draws)
