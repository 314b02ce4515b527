from dataclasses import replace

import numpy as np
import pytest
import torch

from triptych.data_pipelines.raw import RawBatch
from triptych.kernels.philox import Stream
from triptych.models.fsq import FsqOutputs
from triptych.trainer.objectives.reconstruction import Reconstruction, ReconstructionConfig

STREAM = Stream(seed=0)


def _batch(values: torch.Tensor, lengths: list[int]) -> RawBatch:
    number = len(lengths)
    return RawBatch(
        values=values,
        lengths_B=torch.tensor(lengths),
        codes_B=torch.tensor(lengths),
        samples_B3=torch.zeros(number, 3, dtype=torch.int64),
    )


def _outputs(values: torch.Tensor, codes: list[list[int]], lengths: list[int]) -> FsqOutputs:
    codes_BN = torch.tensor(codes)
    mask_BN = torch.arange(codes_BN.shape[1]) < torch.tensor(lengths)[:, None]
    return FsqOutputs(values=values, codes_BN=codes_BN, mask_BN=mask_BN)


def _loss(error, values, lengths, reconstruction, codes):
    objective = Reconstruction(ReconstructionConfig(error=error, code_noise=0.0), num_codes=4)
    _, targets = objective.prepare(_batch(values, lengths), STREAM)
    return objective.loss(_outputs(reconstruction, codes, lengths), targets)


@pytest.mark.parametrize(("error", "expected"), [("absolute", 0.5 * 9), ("square", 0.25 * 9)])
def test_the_loss_is_the_error_over_real_elements(error, expected):
    """Lengths 1 and 2 of 3 features: 9 elements, each off by a half; the padding is poisoned."""
    values = torch.zeros(2, 2, 3)
    reconstruction = torch.full((2, 2, 3), 0.5)
    reconstruction[0, 1] = torch.nan
    terms = _loss(error, values, [1, 2], reconstruction, [[0, 3], [1, 2]])
    assert (float(terms.sum), float(terms.weight)) == (expected, 9.0)


def test_padding_has_no_gradient():
    reconstruction = torch.full((2, 2, 3), 0.5, requires_grad=True)
    _loss("square", torch.zeros(2, 2, 3), [1, 2], reconstruction, [[0, 3], [1, 2]]).sum.backward()
    expected = torch.ones(2, 2, 3)
    expected[0, 1] = 0
    assert torch.equal(reconstruction.grad, expected)


def test_weights_of_micro_batches_add_up():
    objective = Reconstruction(ReconstructionConfig(error="square", code_noise=0.0), num_codes=4)
    batch = _batch(torch.zeros(3, 4, 5), [1, 4, 2])
    weight = objective.prepare(batch, STREAM)[1].weight
    parts = [objective.prepare(batch.rows(start, start + 1), STREAM)[1].weight for start in range(3)]
    assert weight == sum(parts) == 35


def test_bytes_become_minus_one_to_one():
    objective = Reconstruction(ReconstructionConfig(error="square", code_noise=0.0), num_codes=4)
    pixels = torch.from_numpy(np.array([0, 255], np.uint8)).reshape(1, 1, 2, 1)
    inputs, _ = objective.prepare(_batch(pixels, [1]), STREAM)
    assert inputs.values.flatten().tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("codes", "entropy", "usage"),
    [([[0, 0], [1, 1]], 1.0, 0.5), ([[0, 1], [2, 3]], 2.0, 1.0), ([[2, 2], [2, 2]], 0.0, 0.25)],
)
def test_entropy_and_usage_of_the_code_book(codes, entropy, usage):
    metrics = _loss("square", torch.zeros(2, 2, 3), [2, 2], torch.zeros(2, 2, 3), codes).metrics
    means = {name: float(total / weight) for name, (total, weight) in metrics.items()}
    assert means["code_entropy_bits"] == pytest.approx(entropy) and means["code_usage"] == pytest.approx(usage)


def test_codes_of_padding_are_not_counted():
    metrics = _loss("square", torch.zeros(2, 2, 3), [1, 1], torch.zeros(2, 2, 3), [[1, 0], [1, 3]]).metrics
    assert float(metrics["code_entropy_bits"][0]) == 0.0


def _replacements(lengths: list[int], code_noise: float, stream: Stream = STREAM) -> torch.Tensor:
    objective = Reconstruction(ReconstructionConfig(error="square", code_noise=code_noise), num_codes=4)
    batch = _batch(torch.zeros(len(lengths), max(lengths), 3), lengths)
    keys = torch.stack([torch.zeros(len(lengths)), torch.arange(len(lengths)), torch.zeros(len(lengths))], dim=1)
    batch = replace(batch, samples_B3=keys.long())
    return objective.prepare(batch, stream)[0].replacements_BN


def test_code_noise_replaces_its_share_on_average():
    share = float((_replacements([20] * 1000, 0.2) >= 0).double().mean())
    assert abs(share - 0.2) < 0.015  # five standard errors, nearly all from the items' own shares


def test_code_noise_draws_every_code():
    assert _replacements([20] * 100, 0.2).unique().tolist() == [-1, 0, 1, 2, 3]


def test_code_noise_of_a_row_does_not_depend_on_its_neighbours():
    assert torch.equal(_replacements([5, 6], 0.5)[:, :5], _replacements([5, 9], 0.5)[:, :5])


def test_without_code_noise_nothing_is_replaced():
    assert _replacements([5, 6], 0.0) is None


def test_code_noise_above_one_half_is_refused():
    with pytest.raises(ValueError, match="code_noise"):
        ReconstructionConfig(error="square", code_noise=0.6)
