"""Reconstruction error of an autoencoder with discrete codes.

Shape legend: B items, L rows or frames, N codes.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from triptych.data_pipelines.raw import RawBatch
from triptych.kernels.philox import Stream
from triptych.models.fsq import FsqInputs, FsqOutputs
from triptych.trainer.seams import LossTerms


@dataclass(kw_only=True, slots=True, frozen=True)
class ReconstructionConfig:
    """error: what is averaged over elements."""

    error: Literal["absolute", "square"]


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
        """uint8 values become -1..1, others float32. `stream` is not used: nothing here is random."""
        if batch.values.dtype == torch.uint8:
            values = batch.values.float() / 127.5 - 1
        else:
            values = batch.values.float()
        mask_BL = torch.arange(values.shape[1], device=values.device) < batch.lengths_B[:, None]
        mask = mask_BL.reshape(*mask_BL.shape, *[1] * (values.ndim - 2))
        weight = batch.lengths_B.sum().float() * values[0, 0].numel()
        inputs = FsqInputs(values=values, lengths_B=batch.lengths_B)
        return inputs, ReconstructionTargets(values=values, mask=mask, weight=weight)

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
