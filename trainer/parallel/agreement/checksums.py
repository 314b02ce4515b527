"""Checksums over the bits of parameters: replicas must be equal to the last one."""

from collections.abc import Iterable

import torch
from torch import Tensor

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def checksums(tensors: Iterable[Tensor]) -> Tensor:
    """int64 [number of tensors], on their device: for each the sum of its elements' bits as integers, a row's weighted
    by its odd number 2 i + 1, modulo 2^64.

    One element changed always changes the sum; the weights make it notice rows that changed places. It reads every
    parameter once and makes nothing of a parameter's size.
    """
    return torch.stack([_checksum(tensor.detach()) for tensor in tensors])


def _checksum(tensor: Tensor) -> Tensor:
    bits = tensor.contiguous().view(_BITS[tensor.element_size()])
    sums = bits.reshape(len(bits) if bits.dim() else 1, -1).sum(1, dtype=torch.int64)
    return (sums * (2 * torch.arange(len(sums), device=sums.device) + 1)).sum()
