"""Slopes of ALiBi (arXiv 2108.12409, section 3): each head's own, a geometric sequence."""

import math

import torch
from torch import Tensor


def alibi_slopes(num_heads: int, device: torch.device | str | None = None) -> Tensor:
    """fp32 [num_heads]: 2^(-8 i / n) for i = 1 to n, where n is a power of two; for other numbers those of the power
    of two below, and then every second one of the power above.
    """
    below = 2 ** math.floor(math.log2(num_heads))
    slopes = [2.0 ** (-8.0 * i / below) for i in range(1, below + 1)]
    slopes += [2.0 ** (-4.0 * i / below) for i in range(1, 2 * (num_heads - below), 2)]
    return torch.tensor(slopes, dtype=torch.float32, device=device)
