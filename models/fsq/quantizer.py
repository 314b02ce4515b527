"""Finite scalar quantization (Mentzer, Minnen, Agustsson, Tschannen 2023, arXiv 2309.15505, section 3.1).

Shape legend: `...` any leading shape, D dimensions of a code.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_EPSILON = 1e-3  # keeps tanh's limits strictly inside the outermost rounding cells, as the paper's appendix A.1 does


@dataclass(kw_only=True, slots=True, frozen=True)
class Quantized:
    """values: float [..., D] in -1..1, the grid point, straight-through to the input. codes: int64 [...]."""

    values: Tensor
    codes: Tensor


class FiniteScalarQuantizer(nn.Module):
    """Rounds each dimension to a few levels; the code book is the grid of all combinations and is not learned.

    levels: number of values per dimension, each at least 3. No parameters. ValueError for a smaller level or none.
    """

    levels_D: Tensor
    strides_D: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        if not levels or min(levels) < 3:
            raise ValueError(f"levels {levels} must be a non-empty list of numbers >= 3; choose for example (5, 5, 5)")
        strides = [math.prod(levels[:dimension]) for dimension in range(len(levels))]
        self.register_buffer("levels_D", torch.tensor(levels), persistent=False)
        self.register_buffer("strides_D", torch.tensor(strides), persistent=False)
        self.num_codes = math.prod(levels)

    def bound(self, raw: Tensor) -> Tensor:
        """float [..., D] squashed so that rounding yields exactly `levels` integers per dimension, and 0 stays 0.

        Odd L: -(L-1)/2 .. (L-1)/2. Even L: shifted down by one half, to -L/2 .. L/2-1. Paper: f in section 3.1, code in
        appendix A.1; the shift that sends 0 to 0 is the exact atanh.
        """
        half_D = (self.levels_D - 1).to(raw.dtype) * (1 - _EPSILON) / 2
        offset_D = torch.where(self.levels_D % 2 == 0, 0.5, 0.0).to(raw.dtype)
        return half_D * torch.tanh(raw + torch.atanh(offset_D / half_D)) - offset_D

    def forward(self, raw: Tensor) -> Quantized:
        """raw: float [..., D], unbounded."""
        bounded = self.bound(raw)
        rounded = bounded.round()
        through = bounded + (rounded - bounded).detach()  # straight-through: the gradient skips the rounding
        digits = rounded.detach().long() + self.levels_D // 2
        return Quantized(values=through / (self.levels_D // 2), codes=(digits * self.strides_D).sum(-1))

    def values(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """[..., D] in -1..1: the grid point of each code. codes: int64 [...] in 0..num_codes-1."""
        digits = codes.unsqueeze(-1) // self.strides_D % self.levels_D
        return (digits - self.levels_D // 2).to(dtype) / (self.levels_D // 2)
