"""Starts torch.distributed and megatron-core's process groups, for one process as for many."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.process_groups_config import ProcessGroupCollection
from torch import Tensor

from triptych.trainer.parallel.placement import Placement


@dataclass(kw_only=True, slots=True, frozen=True)
class Groups:
    """The process groups that models and engine are given, and where tensors live."""

    collection: ProcessGroupCollection
    device: torch.device
    placement: Placement

    @property
    def data_rank(self) -> int:
        return self.collection.dp.rank()

    @property
    def num_data_ranks(self) -> int:
        return self.collection.dp.size()

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks to the terminal."""
        return self.placement.rank == 0

    def sum_over_data(self, values: Tensor) -> Tensor:
        """In-place sum over the data-parallel ranks; returns `values`."""
        if self.num_data_ranks > 1:
            dist.all_reduce(values, group=self.collection.dp)
        return values

    def any_rank(self, flag: bool) -> bool:
        """Whether the flag is set on any process; the same answer everywhere."""
        if self.placement.world_size == 1:
            return flag
        votes = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes)

    def barrier(self) -> None:
        if self.placement.world_size > 1:
            dist.barrier()


@contextmanager
def process_groups(
    placement: Placement, *, store: dist.Store | None = None, timeout_seconds: float = 600.0
) -> Iterator[Groups]:
    """Open the process groups of a run and close them again.

    With one process nothing is listened on (an in-memory store). With several, rendezvous is torchrun's environment unless `store` is
    given. NCCL where CUDA is present, else gloo.
    """
    device = torch.device("cuda", placement.local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if store is None and placement.world_size == 1:
        store = dist.HashStore()
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=placement.rank if store is not None else -1,
        world_size=placement.world_size if store is not None else -1,
        timeout=timedelta(seconds=timeout_seconds),
    )
    try:
        parallel_state.initialize_model_parallel()
        yield Groups(
            collection=ProcessGroupCollection.use_mpu_process_groups(), device=device, placement=placement
        )
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()
