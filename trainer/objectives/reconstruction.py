"""Reconstruction error of an autoencoder with discrete codes.

Shape legend: B items, L rows or frames, N codes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from triptych.data_pipelines.raw import RawBatch
from triptych.kernels.philox import Purpose, Stream
from triptych.models.fsq import FsqInputs, FsqOutputs
from triptych.trainer.seams import LossTerms


@dataclass(kw_only=True, slots=True, frozen=True)
class ReconstructionConfig:
    """error: what is averaged over elements. code_noise: share of codes that the decoder sees replaced by random ones.

    The share is an average over items; an item's own is uniform in 0..2*code_noise. Our choice: codes become redundant
    with their neighbours, so a model of them has less to learn and the decoder forgives its mistakes (figures in
    models/fsq/README.md).
    """

    error: Literal["absolute", "square"]
    code_noise: float

    def __post_init__(self) -> None:
        if not 0 <= self.code_noise <= 0.5:
            raise ValueError(f"code_noise is {self.code_noise}; choose a number in 0..0.5")


@dataclass(kw_only=True, slots=True, frozen=True)
class ReconstructionTargets:
    """values: float [B, L, ...], the input. mask: bool, broadcasts to it. weight: 0-d float, real elements."""

    values: Tensor
    mask: Tensor
    weight: Tensor


class Reconstruction:
    """Mean error over the real elements of a batch: pixels in -1..1, or log-mel values.

    num_codes: size of the code book, for the metrics.
    """

    def __init__(self, config: ReconstructionConfig, num_codes: int) -> None:
        self.config, self.num_codes = config, num_codes

    def prepare(self, batch: RawBatch, stream: Stream) -> tuple[FsqInputs, ReconstructionTargets]:
        """uint8 values become -1..1, others float32. Code noise is a function of the run's seed and the rows' keys."""
        if batch.values.dtype == torch.uint8:
            values = batch.values.float() / 127.5 - 1
        else:
            values = batch.values.float()
        mask_BL = torch.arange(values.shape[1], device=values.device) < batch.lengths_B[:, None]
        mask = mask_BL.reshape(*mask_BL.shape, *[1] * (values.ndim - 2))
        weight = batch.lengths_B.sum().float() * values[0, 0].numel()
        replacements_BN = self._replacements(batch, stream) if self.config.code_noise else None
        inputs = FsqInputs(values=values, lengths_B=batch.lengths_B, replacements_BN=replacements_BN)
        return inputs, ReconstructionTargets(values=values, mask=mask, weight=weight)

    def _replacements(self, batch: RawBatch, stream: Stream) -> Tensor:
        """int64 [B, N]: a random code where the decoder shall see one, else -1. N: codes of the longest item.

        Draws of one position lie side by side, so that a row's do not depend on the length of its neighbours.
        """
        draws = stream.uniform(Purpose.AUGMENTATION, batch.samples_B3, 1 + 2 * int(batch.codes_B.max()))
        share_B1, chance_BN, choice_BN = draws[:, :1], draws[:, 1::2], draws[:, 2::2]
        codes_BN = (choice_BN * self.num_codes).long()
        return torch.where(chance_BN < share_B1 * 2 * self.config.code_noise, codes_BN, -1)

    def loss(self, outputs: FsqOutputs, targets: ReconstructionTargets) -> LossTerms:
        """Metrics: both errors per element; entropy in bits and used share of the code book, of each micro-batch.

        The last two are averages over micro-batches, so they read low where a micro-batch holds few codes.
        """
        difference = torch.where(targets.mask, outputs.values.float() - targets.values, 0.0)
        absolute, square = difference.abs().sum(), difference.square().sum()
        codes = outputs.codes_BN[outputs.mask_BN]
        num_codes = torch.tensor(float(codes.numel()), device=codes.device)
        counts = torch.bincount(codes, minlength=self.num_codes).float()
        entropy = torch.special.entr(counts / counts.sum()).sum() / torch.log(torch.tensor(2.0))
        used = (counts > 0).float().mean()
        metrics = {
            "absolute_error": (absolute.detach(), targets.weight),
            "square_error": (square.detach(), targets.weight),
            "code_entropy_bits": (entropy * num_codes, num_codes),
            "code_usage": (used * num_codes, num_codes),
        }
        total = absolute if self.config.error == "absolute" else square
        return LossTerms(sum=total, weight=targets.weight, metrics=metrics)
