"""Rotary position angles (Su et al. 2021, arXiv 2104.09864, eq. 14-15) in megatron-core's layout."""

import torch
from torch import Tensor


def rotary_angles(sequence_length: int, head_dim: int, base: float, device: torch.device) -> Tensor:
    """fp32 [S, 1, 1, D]: angle of each position and channel, the two halves of the head paired (megatron's
    non-interleaved form).
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    positions = torch.arange(sequence_length, dtype=torch.float32, device=device)
    angles = torch.outer(positions, base**-exponents)
    return torch.cat([angles, angles], dim=-1)[:, None, None, :]
