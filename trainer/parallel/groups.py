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
def process_groups(placement: Placement, *, timeout_seconds: float = 600.0) -> Iterator[Groups]:
    """Open the process groups of a run and close them again; a default group that is open already is used and left
    open.

    With one process nothing is listened on (an in-memory store). With several, rendezvous is torchrun's environment.
    NCCL where CUDA is present, else gloo.
    """
    device = torch.device("cuda", placement.local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    owns_default_group = not dist.is_initialized()
    if owns_default_group:
        _join(placement, "nccl" if device.type == "cuda" else "gloo", timedelta(seconds=timeout_seconds))
    try:
        parallel_state.initialize_model_parallel()
        yield Groups(collection=ProcessGroupCollection.use_mpu_process_groups(), device=device, placement=placement)
    finally:
        parallel_state.destroy_model_parallel()
        if owns_default_group:
            dist.destroy_process_group()


def _join(placement: Placement, backend: str, timeout: timedelta) -> None:
    if placement.world_size == 1:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)
    else:
        dist.init_process_group(backend, timeout=timeout)
