"""Coins of a given chance for every (row, position, channel), eight to a byte: each a pure function of its address.

Shape legend: B rows, P positions, G groups of 8 channels, C = 8 G channels.
"""

import torch
from torch import Tensor

from triptych.kernels.philox.philox import Words, philox_4x32

GROUP = 8  # channels that share a counter: four words of two halves
RESOLUTION = 1 << 16

# Counters in the works at once. On the CPU half a MiB per operand stays in the cache; the GPU's number, which balances
# its cache against the launches of kernels, was reasoned, not measured.
_AT_ONCE_CPU, _AT_ONCE_GPU = 1 << 16, 1 << 20


def packed_bernoulli(words: Words, positions: range, groups: range, threshold: int) -> Tensor:
    """uint8 [B, P, G]: bit i of a byte is channel 8 g + i, set with probability threshold / 65536.

    words: [B] each, a row's 128-bit address; the first two are its Philox key, the others go into its counters.
    positions, groups: absolute, in 0..2**32-1, steps of 1. threshold: 0..65536. Bits of different addresses (words,
    position, channel) are independent; the same address gives the same bit in every range that holds it.
    """
    assert 0 <= threshold <= RESOLUTION and positions.step == groups.step == 1
    device = words[0].device
    num_rows = len(words[0])
    key0, key1, counter2, counter3 = (word_B.view(-1, 1, 1) for word_B in words)
    group_G = torch.arange(groups.start, groups.stop, device=device)
    packed_BPG = torch.empty(num_rows, len(positions), len(groups), dtype=torch.uint8, device=device)
    at_once = _AT_ONCE_CPU if device.type == "cpu" else _AT_ONCE_GPU
    stride = max(1, at_once // max(1, num_rows * len(groups)))
    for start in range(0, len(positions), stride):
        part = positions[start : start + stride]
        position_P1 = torch.arange(part.start, part.stop, device=device).view(-1, 1)
        drawn = philox_4x32((position_P1, group_G, counter2, counter3), (key0, key1))
        packed_BPG[:, start : start + stride] = _pack(drawn, threshold)
    return packed_BPG


def unpack(packed: Tensor) -> Tensor:
    """bool [..., C] of uint8 [..., G]."""
    bytes_256 = torch.arange(256, device=packed.device)
    bits_256x8 = ((bytes_256[:, None] >> bytes_256[:GROUP]) & 1).to(torch.uint8)
    eight_bools_256 = bits_256x8.view(torch.int64).squeeze(1)  # one look-up per byte writes its eight bools
    return eight_bools_256[packed.to(torch.int32)].view(torch.bool)


def _pack(drawn: Words, threshold: int) -> Tensor:
    """uint8 of the shape of `drawn`: bits 2 w and 2 w + 1 compare the low and the high half of word w."""
    packed = torch.zeros(drawn[0].shape, dtype=torch.uint8, device=drawn[0].device)
    for number, word in enumerate(drawn):
        low = (word & (RESOLUTION - 1)) < threshold
        high = word < threshold * RESOLUTION
        packed.add_(low.view(torch.uint8), alpha=1 << (2 * number))
        packed.add_(high.view(torch.uint8), alpha=2 << (2 * number))
    return packed
