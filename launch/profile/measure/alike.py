"""What one process knows, told to all."""

from dataclasses import dataclass

import torch.distributed as dist

from triptych.trainer.parallel.groups import Groups


@dataclass(kw_only=True, slots=True, frozen=True)
class Held:
    """Memory of one process, bytes. parts: by `record.MEMORY_PARTS`. stage: of the pipeline, and group_sizes its
    parameters in the optimizer's groups, by which memory is predicted.
    """

    peak: int
    parts: dict[str, int]
    stage: int
    group_sizes: list[int]


def fullest(groups: Groups, held: Held) -> Held:
    """The process that held most, on all; the first of equals. Called by all together."""
    if groups.placement.world_size == 1:
        return held
    every: list[Held | None] = [None] * groups.placement.world_size
    dist.all_gather_object(every, held)
    return max((each for each in every if each is not None), key=lambda each: each.peak)


def from_first(groups: Groups, text: str) -> str:
    """The first process's text, on all. Called by all together."""
    if groups.placement.world_size == 1:
        return text
    told = [text]
    dist.broadcast_object_list(told, 0, device=groups.device)
    return told[0]
