"""Starts torch.distributed and megatron-core's process groups, for one process as for many."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.process_groups_config import ProcessGroupCollection
from torch import Tensor

from triptych.trainer.parallel.cpu import run_megatron_on_cpu
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.placement import Placement


@dataclass(kw_only=True, slots=True, frozen=True)
class Groups:
    """The process groups that models and engine are given, and where tensors live."""

    collection: ProcessGroupCollection
    device: torch.device
    placement: Placement
    layout: ParallelLayout

    @property
    def data_rank(self) -> int:
        return self.collection.dp.rank()

    @property
    def num_data_ranks(self) -> int:
        return self.collection.dp.size()

    @property
    def stage(self) -> int:
        """This process's place in the pipeline, from 0."""
        return self.collection.pp.rank()

    @property
    def tensor_rank(self) -> int:
        return self.collection.tp.rank()

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks to the terminal."""
        return self.placement.rank == 0

    def sum_over_data(self, values: Tensor) -> Tensor:
        """In-place sum over the data-parallel ranks; returns `values`."""
        if self.num_data_ranks > 1:
            dist.all_reduce(values, group=self.collection.dp)
        return values

    @property
    def num_model_ranks(self) -> int:
        """Processes that the model is split over, which all hold the same rows."""
        return self.collection.mp.size()

    def max_over_model(self, values: Tensor) -> Tensor:
        """In-place maximum over the processes that the model is split over; returns `values`."""
        if self.num_model_ranks > 1:
            dist.all_reduce(values, op=dist.ReduceOp.MAX, group=self.collection.mp)
        return values

    def from_last_stage(self, values: Mapping[str, float]) -> dict[str, float]:
        """The last pipeline stage's numbers, on every stage. Others may pass what they like."""
        if self.layout.pipeline == 1:
            return dict(values)
        source = dist.get_global_rank(self.collection.pp, self.layout.pipeline - 1)
        # JSON keeps the names, which only the last stage knows, and every bit of the numbers.
        text = torch.frombuffer(bytearray(json.dumps(dict(values)), "utf-8"), dtype=torch.uint8).to(self.device)
        size = torch.tensor(text.numel(), device=self.device)
        dist.broadcast(size, source, group=self.collection.pp)
        if self.stage != self.layout.pipeline - 1:
            text = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        dist.broadcast(text, source, group=self.collection.pp)
        return json.loads(bytes(text.tolist()))

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
    placement: Placement,
    layout: ParallelLayout | None = None,
    *,
    store: dist.Store | None = None,
    timeout_seconds: float = 600.0,
) -> Iterator[Groups]:
    """Open the process groups of a run and close them again; a default group that is open already is used and left
    open.

    With one process nothing is listened on (an in-memory store). Several meet in `store`; without one, rendezvous is
    torchrun's environment.
    NCCL where CUDA is present, else gloo. Neighbours in rank are tensor parallel, then data parallel, then pipeline
    stages, so that the most talkative groups share a node. layout: none is data parallel alone.
    """
    layout = layout or ParallelLayout()
    owns_default_group = not dist.is_initialized()
    on_cuda = torch.cuda.is_available() if owns_default_group else dist.get_backend() == "nccl"
    device = torch.device("cuda", placement.local_rank) if on_cuda else torch.device("cpu")
    if on_cuda:
        torch.cuda.set_device(device)
    else:
        run_megatron_on_cpu()
    if owns_default_group:
        _join(placement, store, "nccl" if device.type == "cuda" else "gloo", timedelta(seconds=timeout_seconds))
    opened: list[Any] = []
    try:
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=layout.tensor,
            pipeline_model_parallel_size=layout.pipeline,
            virtual_pipeline_model_parallel_size=layout.virtual if layout.virtual > 1 else None,
            create_gloo_process_groups=False,  # twins of NCCL's, of which only megatron's own optimizer makes use
        )
        collection = ProcessGroupCollection.use_mpu_process_groups()
        opened = [*vars(collection).values(), parallel_state.get_tensor_and_data_parallel_group()]
        yield Groups(collection=collection, device=device, placement=placement, layout=layout)
    finally:
        parallel_state.destroy_model_parallel()
        if owns_default_group:
            dist.destroy_process_group()
        else:
            _close(opened)


def _close(opened: Iterable[Any]) -> None:
    """megatron-core forgets its groups without closing them, and each of gloo's has threads that go on waking."""
    groups = {id(group): group for group in opened if isinstance(group, dist.ProcessGroup)}
    for group in groups.values():
        if group is not dist.group.WORLD:
            dist.destroy_process_group(group)


def _join(placement: Placement, store: dist.Store | None, backend: str, timeout: timedelta) -> None:
    if placement.world_size == 1:
        store = dist.HashStore()
    if store is None:
        dist.init_process_group(backend, timeout=timeout)
    else:
        rank, world_size = placement.rank, placement.world_size
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
