"""Which process this is."""

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True, frozen=True)
class Placement:
    """A process among `world_size`. The default is a run of one process; torchrun's values reach it through launch."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
