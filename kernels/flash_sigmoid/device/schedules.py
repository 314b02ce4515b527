"""Which tiles a kernel takes: one table, by architecture, direction, head dimension and type. None has run on a GPU
yet: rows were chosen by what the compiler makes of them (Triton 3.9, causal, bf16 unless said), given as registers per
thread / KiB of shared memory. No loop over full tiles touches local memory. What can be said without a GPU:

On sm_90 a full tile of 128 x 64 scores of the forward pass at D = 128 is 1024 clocks of the tensor cores, 640 of the
special function unit (80 of its instructions in each of 2 warps of a scheduler, 16 lanes per clock and multiprocessor)
and 700 of instruction issue (350 in each of 2 warps). One group of warps cannot overlap them by itself: the products
wait at a barrier. With scores_ahead, Q K^T of the next tile and P V of the one before run below sigma, and the
compiler keeps them in flight: one wait per tile, after sigma. At D = 64 the products are 512 clocks, the special
functions still 640: they bound it at 80 % of the tensor cores' rate. 128 registers let two programs share a
multiprocessor there.

dK and dV at D = 128 need 255 registers with 128 keys: up to 320 bytes are kept in local memory around the loop over
full tiles. Triton 3.6 reads three of them per tile, and places dP below sigma better. dP is begun before sigma. With
two accumulators of 256 columns there is no room at all: dV and dK take one pass each, which makes five products of
four, and stays on the tensor cores' fast instructions (tiles of 32 keys do not).
"""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["forward", "query_gradient", "key_gradient"]


@dataclass(kw_only=True, slots=True, frozen=True)
class Schedule:
    """block_queries, block_keys: a tile of scores. num_stages: tiles in flight, the one in use included. scores_ahead:
    in the forward pass, tiles of scores computed while weights are, 0 or 1. num_passes: 2 computes dV and dK one after
    the other, and the scores twice, where accumulators of both leave no registers.
    """

    block_queries: int
    block_keys: int
    num_warps: int
    num_stages: int
    scores_ahead: int = 0
    num_passes: int = 1


def _schedule(block_queries: int, block_keys: int, num_warps: int, num_stages: int, *rest: int) -> Schedule:
    return Schedule(
        block_queries=block_queries,
        block_keys=block_keys,
        num_warps=num_warps,
        num_stages=num_stages,
        **dict(zip(("scores_ahead", "num_passes"), rest, strict=False)),
    )


INTERPRETED = _schedule(32, 32, 4, 1)
"""For Triton's interpreter, where a tile costs as much as its elements."""

_Rows = dict[int, Schedule]
"""By the largest head dimension that a row serves."""

_SIXTEEN_BITS: dict[int, dict[Direction, _Rows]] = {
    80: {
        "forward": {
            64: _schedule(128, 64, 4, 3),  # 255 / 48
            128: _schedule(128, 64, 8, 3),  # 200 / 96
            256: _schedule(128, 32, 8, 2),  # 255 / 104
        },
        "query_gradient": {
            64: _schedule(128, 64, 8, 2),  # 185 / 48
            128: _schedule(64, 64, 8, 2),  # 128 / 72
            256: _schedule(64, 32, 8, 2),  # 176 / 100
        },
        "key_gradient": {
            64: _schedule(32, 64, 4, 2),  # 174 / 24; 64 x 64 spills
            128: _schedule(32, 64, 8, 2),  # 172 / 52; 64 x 64 spills where a head is cut in two
            256: _schedule(64, 32, 8, 2),  # 183 / 100
        },
    },
    86: {  # as sm_80, with 99 KiB of shared memory
        "forward": {
            64: _schedule(128, 64, 4, 3),
            128: _schedule(128, 32, 8, 3),  # 188 / 64
            256: _schedule(64, 32, 8, 2),  # 255 / 48 at 192
        },
        "query_gradient": {
            64: _schedule(128, 64, 8, 2),
            128: _schedule(64, 64, 8, 2),
            256: _schedule(32, 32, 4, 1),  # 251 / 64
        },
        "key_gradient": {
            64: _schedule(32, 64, 4, 2),
            128: _schedule(32, 64, 8, 2),
            256: _schedule(32, 32, 8, 1),  # 180 / 80
        },
    },
    90: {
        "forward": {
            64: _schedule(128, 64, 8, 3, 1),  # 128 / 72
            128: _schedule(128, 64, 8, 2, 1),  # 248 / 112; 128 x 128 spills
            192: _schedule(128, 64, 8, 2, 1),  # 242 / 136 at 192 and 128
            256: _schedule(128, 64, 8, 2),  # 255 / 192
        },
        "query_gradient": {
            64: _schedule(128, 64, 8, 2),  # 165 / 64
            128: _schedule(128, 64, 8, 2),  # 229 / 128
            256: _schedule(128, 32, 8, 2),  # 222 / 192
        },
        "key_gradient": {
            64: _schedule(64, 128, 8, 2),  # 218 / 64
            128: _schedule(64, 128, 8, 2),  # 255 / 128
            256: _schedule(32, 128, 8, 2, 0, 2),  # 225 / 192; 64 x 64 in one pass keeps 440 bytes in local memory
        },
    },
    100: {
        "forward": {
            64: _schedule(128, 64, 4, 3),  # 158 / 65
            128: _schedule(128, 64, 8, 3),  # 177 / 129; 128 x 128 spills
            256: _schedule(128, 64, 8, 2),  # 205 / 192
        },
        "query_gradient": {
            64: _schedule(128, 64, 8, 2),  # 179 / 73
            128: _schedule(128, 64, 8, 2),  # 201 / 145
            256: _schedule(128, 32, 8, 2),  # 187 / 208
        },
        "key_gradient": {
            64: _schedule(64, 128, 8, 2),  # 128 / 81
            128: _schedule(64, 128, 8, 2),  # 182 / 161
            256: _schedule(32, 128, 8, 2, 0, 2),  # 184 / 208
        },
    },
}
_FP32: dict[Direction, _Rows] = {  # products of fp32 are no tensor core's; figures are those of sm_90
    "forward": {
        64: _schedule(64, 32, 8, 2),  # 86 / 40
        128: _schedule(32, 32, 8, 2),  # 80 / 52
        256: _schedule(32, 16, 8, 2),  # 114 / 66
    },
    "query_gradient": {
        64: _schedule(32, 32, 8, 2),  # 63 / 36
        128: _schedule(32, 16, 8, 2),  # 76 / 50
        256: _schedule(32, 16, 8, 2),  # 114 / 98
    },
    "key_gradient": {
        64: _schedule(32, 32, 8, 2),  # 116 / 36
        128: _schedule(16, 32, 8, 2),  # 90 / 50
        256: _schedule(16, 16, 8, 2, 0, 2),  # 80 / 65
    },
}


def schedule_for(direction: Direction, head_dim: int, num_bytes: int, arch: int) -> Schedule:
    """head_dim: the larger of keys' and values', at most 256. num_bytes: of an element. arch: what `family` gives.

    ValueError: there are no tiles for so large a head.
    """
    rows = _FP32[direction] if num_bytes == 4 else _SIXTEEN_BITS[arch][direction]
    for limit, schedule in sorted(rows.items()):
        if head_dim <= limit:
            return schedule
    raise ValueError(f"a head dimension of {head_dim} is beyond the kernels' {max(rows)}; take kernel='blocked'")


def family(major: int, minor: int) -> int:
    """The architecture whose rows a compute capability takes: GPUs with 99 KiB of shared memory share one."""
    return {(8, 0): 80, (8, 7): 80, (9, 0): 90, (10, 0): 100, (10, 3): 100}.get((major, minor), 86)
