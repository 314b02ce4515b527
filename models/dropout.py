"""Dropout of activations whose mask is a pure function of what is dropped: no generator, no state.

An element is dropped by (run's seed, name of the dropout's site, its row's sample key and copy, its position in the
sequence, its channel). So the mask is the same on CPU and GPU, under tensor, sequence, pipeline and data parallelism,
in every micro-batch, when activations are recomputed, and after a resume.

Shape legend: S positions of this rank, B rows, H channels of this rank, G groups of 8 channels.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from triptych.kernels.philox import Purpose, Stream
from triptych.kernels.philox.bernoulli import GROUP, RESOLUTION, packed_bernoulli, unpack
from triptych.kernels.philox.philox import Words


@dataclass(kw_only=True, slots=True, frozen=True)
class DropoutKeys:
    """Where a micro-batch's activations stand in the run: what all dropouts of a model share. Made by `of`.

    row_words: four int64 [B], from the rows' keys. first_position: that of this rank's part of the sequence; a site
    that sees the whole sequence takes `dataclasses.replace(keys, first_position=0)`.
    """

    stream: Stream
    row_words: Words
    first_position: int = 0

    @classmethod
    def of(cls, stream: Stream, samples_B3: Tensor, copies_B: Tensor, first_position: int = 0) -> Self:
        """samples_B3: int64 (source id, absolute sample index, epoch); copies_B: int64; both on the activations'
        device. Copies of a sample have masks of their own.
        """
        row_words = stream.row_words(Purpose.DROPOUT, samples_B3, copies_B)
        return cls(stream=stream, row_words=row_words, first_position=first_position)


class StreamDropout(nn.Module):
    """Zeroes elements with probability `rate` in training and scales the others, so that the mean is kept.

    name: the site's, unique in the whole model and the same in every layout, such as "layers.3.mlp" with the layer's
    number in the whole model. rate: in [0, 1), rounded to a multiple of 1/65536 and at most 65535/65536 (our choice:
    16 random bits per element); the scale is of the rounded rate, so the mean is exact. first_channel: of this rank's
    part, where channels are split. ValueError if the rate is not in [0, 1).

    Srivastava et al. 2014, in the inverted form. Saved for the backward pass is one bit per element: 1/16 of the bf16
    activation, where drawing the mask again would cost as much as in the forward pass.
    """

    def __init__(self, name: str, rate: float, first_channel: int = 0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout rate {rate} of {name} is not in [0, 1); give a fraction such as 0.1, or 0")
        self.name = name
        self.rate = rate
        self.first_channel = first_channel
        self._threshold = min(round(rate * RESOLUTION), RESOLUTION - 1)

    def forward(self, hidden_SBH: Tensor, keys: DropoutKeys | None) -> Tensor:
        """Same shape and dtype. Returns its argument in eval mode and at rate 0, where `keys` may be None."""
        if not self.training or self._threshold == 0:
            return hidden_SBH
        assert keys is not None, f"dropout {self.name} needs keys in training"
        scale = RESOLUTION / (RESOLUTION - self._threshold)
        packed_SBG = self._packed(hidden_SBH, keys)
        return _ZeroAndScale.apply(hidden_SBH, packed_SBG, self.first_channel % GROUP, scale)

    def extra_repr(self) -> str:
        return f"name={self.name!r}, rate={self.rate}"

    def _packed(self, hidden_SBH: Tensor, keys: DropoutKeys) -> Tensor:
        """uint8 [S, B, G], a bit set where dropped; groups that lie partly in this rank's channels are whole."""
        num_positions, num_rows, num_channels = hidden_SBH.shape
        key0, key1 = keys.stream.key_of(self.name)
        word0, word1, word2, word3 = keys.row_words
        assert len(word0) == num_rows, f"{num_rows} rows of activations, keys of {len(word0)}"
        end_channel = self.first_channel + num_channels
        packed_BSG = packed_bernoulli(
            # For a given row the names differ in the key, for a given name the rows differ in key or counter.
            (word0 ^ key0, word1 ^ key1, word2, word3),
            positions=range(keys.first_position, keys.first_position + num_positions),
            groups=range(self.first_channel // GROUP, -(-end_channel // GROUP)),
            threshold=self._threshold,
        )
        return packed_BSG.transpose(0, 1).contiguous()


class _ZeroAndScale(torch.autograd.Function):
    """0 where a bit is set, hidden * scale elsewhere: linear, so that its backward pass is the same function."""

    @staticmethod
    def forward(ctx: Any, hidden_SBH: Tensor, packed_SBG: Tensor, skipped_bits: int, scale: float) -> Tensor:
        ctx.save_for_backward(packed_SBG)
        ctx.skipped_bits, ctx.scale = skipped_bits, scale
        return _zero_and_scale(hidden_SBH, packed_SBG, skipped_bits, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (packed_SBG,) = ctx.saved_tensors
        return _zero_and_scale(gradients[0], packed_SBG, ctx.skipped_bits, ctx.scale), None, None, None


def _zero_and_scale(hidden_SBH: Tensor, packed_SBG: Tensor, skipped_bits: int, scale: float) -> Tensor:
    dropped_SBH = unpack(packed_SBG)[..., skipped_bits : skipped_bits + hidden_SBH.shape[-1]]
    # The scale is a Python number: in bf16 it multiplies at fp32, where 1/0.9 would lose 0.2 % as bf16.
    return (hidden_SBH * scale).masked_fill_(dropped_SBH, 0)
