"""Which tiles a kernel takes: one table, by architecture, direction, head dimension and type."""

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


def schedule_for(direction: Direction, head_dim: int, num_bytes: int, arch: int) -> Schedule:
    """head_dim: the larger of keys' and values'. num_bytes: of an element. arch: 80, 90, 100."""
    return Schedule(block_queries=64, block_keys=64, num_warps=4, num_stages=2)


def family(major: int, minor: int) -> int:
    """The column of the table for a compute capability."""
    return {8: 80, 9: 90, 10: 100}.get(major, 80)
