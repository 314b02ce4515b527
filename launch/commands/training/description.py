"""`triptych train RUN --describe`: what a run is, and what each of its processes would hold."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from rich.console import Console

from triptych.configs.tree import to_yaml
from triptych.configs.trimodal import TrimodalRun
from triptych.models.trimodal.counts import parameter_counts, rank_counts
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.memory import memory_estimate
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.plan import Plan
from triptych.trainer.parallel.stages import chunk_layers
from triptych.trainer.scaling.scaling import hyper_parameters, planned_batches, scaling_of

GIB = 2**30


def print_description(run: TrimodalRun, world_size: int, console: Console) -> None:
    """Settings, exact parameter counts per part, tokens, and per pipeline stage of a run on `world_size` processes its
    layers, parameters and memory. The layout must be legal. The model is built without memory for its weights.
    """
    console.print(to_yaml(run), highlight=False)
    with process_groups(Placement()) as groups, torch.device("meta"):
        model = run.build_model(groups)
    counts = parameter_counts(model)
    for part, number in counts.items():
        console.print(f"{part:>12} {number:>16,}", highlight=False)
    console.print(f"{'parameters':>12} {sum(counts.values()):>16,}", highlight=False)
    console.print(f"{'tokens':>12} {run.fit.total_tokens:>16,}\n", highlight=False)
    plan = run.plan(world_size)
    console.print(f"{_layout(run, plan)}\n{_stages(run, plan, model)}", highlight=False, soft_wrap=True)


def _layout(run: TrimodalRun, plan: Plan) -> str:
    layout = plan.layout
    scaling = scaling_of(run.fit, run.facts, layout, plan.data_ranks)
    plans = [replace(plan, batch=batch) for _, batch in planned_batches(run.fit, scaling)]
    rows = ", then ".join(f"{each.rows_per_rank}" for each in plans)
    micro_batches = ", then ".join(f"{each.micro_batches}" for each in plans)
    return (
        f"{plan.world_size} processes = {layout.tensor} tensor x {layout.pipeline} pipeline x {plan.data_ranks} data "
        f"parallel; ZeRO-{plan.zero_stage}, {plan.precision}; {rows} rows of {run.row_length:,} positions per step "
        f"and copy of the model, in {micro_batches} micro-batches"
    )


def _stages(run: TrimodalRun, plan: Plan, model: torch.nn.Module) -> str:
    """One line per pipeline stage; every tensor-parallel rank of a stage holds as much."""
    parts = ("weights", "gradients", "optimizer", "buffers", "sum")
    lines = [
        f"{'each process, activations not counted':>39}{'GiB of':>30}",
        f"{'stage':>5}  {'layers':<22}{'parameters':>14}" + "".join(f"{part:>11}" for part in parts),
    ]
    first_cost, last_cost = run.stage_costs
    groups_of_kinds = hyper_parameters(run.fit, run.facts).kind_groups
    layout, num_layers = plan.layout, run.model.num_layers
    for stage in range(layout.pipeline):
        chunks = [
            chunk_layers(layout, num_layers, stage, chunk, first_cost=first_cost, last_cost=last_cost)
            for chunk in range(layout.virtual)
        ]
        layers = {layer for chunk in chunks for layer in chunk}
        counts = rank_counts(model, num_layers, layers, layout.tensor)
        sizes = [size for kinds in groups_of_kinds if (size := sum(counts.get(kind, 0) for kind in kinds))]
        memory = memory_estimate(
            sizes, zero_stage=plan.zero_stage, precision=plan.precision, data_ranks=plan.data_ranks
        )
        amounts = (memory.parameters, memory.gradients, memory.optimizer, memory.buffers, memory.total)
        gibibytes = "".join(f"{amount / GIB:>11.2f}" for amount in amounts)
        lines.append(f"{stage:>5}  {_named(chunks, num_layers):<22}{sum(sizes):>14,}{gibibytes}")
    return "\n".join(lines)


def _named(chunks: Sequence[range], num_layers: int) -> str:
    """Layers of each chunk, and the ends of the model."""
    names = [f"{chunk[0]}-{chunk[-1]}" if len(chunk) > 1 else f"{chunk[0]}" for chunk in chunks]
    if chunks[0][0] == 0:
        names.insert(0, "embedding")
    if chunks[-1][-1] == num_layers - 1:
        names.append("heads")
    return ", ".join(names)
