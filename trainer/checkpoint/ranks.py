"""What the ranks of a run say to each other about a checkpoint, over a group of their own."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")

_PATIENCE = timedelta(minutes=30)
"""A rank waits so long for the slowest to write its files. One that has died is noticed at once: its connection
closes.
"""


class Ranks:
    """Every rank of the run, on a gloo group that nothing else uses: a save may talk in the background while the
    training talks on its own groups. All ranks construct, use and close it together.
    """

    def __init__(self) -> None:
        group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        assert isinstance(group, dist.ProcessGroup), "every rank of the run is in it"
        self.group = group
        self.number = dist.get_rank(self.group)
        self.count = dist.get_world_size(self.group)

    @property
    def is_first(self) -> bool:
        return self.number == 0

    def from_first(self, function: Callable[[], T]) -> T:
        """What `function` returns on rank 0, or the error that it raises there, on every rank."""
        outcome: list[Any] = [None, None]
        if self.is_first:
            try:
                outcome[0] = function()
            except Exception as error:  # noqa: BLE001 - raised below, on every rank
                outcome[1] = error
        dist.broadcast_object_list(outcome, group=self.group, group_src=0)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank, on every rank."""
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self.group)
        return values

    def close(self) -> None:
        dist.destroy_process_group(self.group)
