"""Memory of a run before it is built: what `trainer/parallel/memory.py` says, in the parts of a record."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist

from triptych.configs.trimodal import TrimodalRun
from triptych.models.trimodal.counts import rank_counts
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.memory import memory_estimate
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.stages import chunk_layers
from triptych.trainer.scaling.scaling import hyper_parameters


def predicted_parts(run: TrimodalRun, group_sizes: Sequence[int], *, data_ranks: int) -> dict[str, int]:
    """`record.MEMORY_PARTS` as predicted, of a process with so many parameters in the optimizer's groups; activations,
    which the estimate leaves out, are missing.
    """
    estimate = memory_estimate(
        group_sizes, zero_stage=run.fit.engine.zero_stage, precision=run.fit.engine.precision, data_ranks=data_ranks
    )
    return {
        "parameters": estimate.parameters,
        "gradients": estimate.gradients,
        "optimizer": estimate.optimizer,
        "buffers": estimate.buffers,
    }


def predicted_bytes(run: TrimodalRun, world_size: int) -> int:
    """Of the process that holds most of a run on so many, activations left out. The layout must be legal, and no
    process group be open: the model is built without memory for its weights.
    """
    with _on_cpu(), process_groups(Placement()) as groups, torch.device("meta"):
        model = run.build_model(groups)
    layout, plan = run.fit.parallel, run.plan(world_size)
    first_cost, last_cost = run.stage_costs
    kinds_of_groups = hyper_parameters(run.fit, run.facts).kind_groups
    largest = 0
    for stage in range(layout.pipeline):
        chunks = [
            chunk_layers(layout, run.model.num_layers, stage, chunk, first_cost=first_cost, last_cost=last_cost)
            for chunk in range(layout.virtual)
        ]
        layers = {layer for chunk in chunks for layer in chunk}
        counts = rank_counts(model, run.model.num_layers, layers, layout.tensor)
        sizes = [size for kinds in kinds_of_groups if (size := sum(counts.get(kind, 0) for kind in kinds))]
        largest = max(largest, sum(predicted_parts(run, sizes, data_ranks=plan.data_ranks).values()))
    return largest


@contextmanager
def _on_cpu() -> Iterator[None]:
    """A default group of this process alone that takes no memory of a device, which others are about to need."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()
