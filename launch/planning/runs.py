"""A run of ours as the model knows it, and what the model says of it."""

import math
from collections.abc import Mapping
from dataclasses import replace

from triptych.configs.layouts import predicted_shares, tokens_of_row, tokens_per_row
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.stream.sequences import SIDES
from triptych.data_pipelines.stream.shares import weight_at
from triptych.data_pipelines.vocabulary import MODALITIES, Modality, Task
from triptych.launch.planning.hardware.devices import named_device
from triptych.launch.planning.model.assumptions import default_assumptions
from triptych.launch.planning.model.memory import rank_memory
from triptych.launch.planning.model.step import step_time
from triptych.launch.planning.model.workload import Head, Layout, Rows, Shape, Workload
from triptych.models.trimodal.config import TrimodalConfig
from triptych.trainer.parallel.plan import Plan
from triptych.trainer.parallel.stages import layers_per_chunk
from triptych.trainer.scaling.scaling import scaling_of

MASKED = 0.5  # mean share of what may be masked, of a linear schedule
_SPREAD = 12**-0.5  # of the share that one document has masked


def workload_of(run: TrimodalRun, world_size: int) -> Workload:
    """A step of the run on so many processes. The layout must be legal.

    Documents of text are taken to fill the sequence length, conditions their region: an upper bound of attention.
    """
    plan, batch = run.plan(world_size), step_batch(run, world_size)
    zero, precision = plan.zero_stage, plan.precision
    # bf16 under ZeRO-1 is another class of DeepSpeed's, which reduces its flat buffers whole.
    whole = zero == 0 or (zero, precision) == (1, "bf16")
    return Workload(
        shape=shape_of(run),
        rows=_rows(run),
        layout=_layout(run, plan),
        batch=batch,
        micro_batch=min(plan.micro_batch, max(1, batch // plan.data_ranks)),
        recompute=run.fit.recompute,
        precision=precision,
        reduction="all_reduce" if whole else "reduce_scatter",
        each_micro_batch=zero == 2,
        overlapped=zero == 2,
    )


def step_batch(run: TrimodalRun, world_size: int) -> int:
    """Sequences of a step on so many processes, half of the run's tokens in: of a schedule a typical one, of an
    automatic batch the one that it begins with.
    """
    layout = run.fit.parallel
    sizes = scaling_of(run.fit, run.facts, layout, world_size // layout.model_ranks).sizes
    return sizes.at(run.fit.total_tokens // 2, None)


def shape_of(run: TrimodalRun) -> Shape:
    """The model. Heads by modality: the mean share of positions that each projects, and the largest."""
    model = run.model
    return Shape(
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        num_heads=model.num_attention_heads,
        num_groups=model.num_query_groups,
        ffn_hidden_size=model.ffn_hidden_size,
        gated=True,
        embedding_rows=model.embedding_rows,
        heads=_heads(run),
        rotary=True,
        qk_norm=model.attention.qk_norm == "rms",
        post_norm=model.post_attention_norm == "rms",
        layer_scale=model.layer_scale is not None,
        dropout=model.dropout > 0,
        learned_positions=0 if model.positions == "rotary" else model.sequence_length,
        softmax=model.attention.function == "softmax",
    )


def predictions(run: TrimodalRun, world_size: int, device_name: str) -> Mapping[str, float]:
    """tokens_per_second over all devices, mfu (operations as run), and peak_bytes that the allocator gives out on the
    fullest rank. device_name: of the planner's table, or as the driver says it. Empty where the device is not known, as
    a CPU is not. The layout must be legal.
    """
    try:
        device = named_device(device_name)
    except ValueError:
        return {}
    assumed = default_assumptions(device)
    work = workload_of(run, world_size)
    time, memory = step_time(work, device, assumed), rank_memory(work, device, assumed)
    return {"tokens_per_second": time.tokens_per_second, "mfu": time.mfu, "peak_bytes": float(memory.allocated)}


def with_counts(work: Workload, *, tokens_share: float, attended: float, heads: tuple[Head, ...]) -> Workload:
    """The workload with numbers that were counted in place of the estimated ones."""
    rows = replace(work.rows, tokens=tokens_share, attended=attended)
    return replace(work, rows=rows, shape=replace(work.shape, heads=heads))


def _layout(run: TrimodalRun, plan: Plan) -> Layout:
    first_cost, last_cost = run.stage_costs
    layout = plan.layout
    layers = layers_per_chunk(layout, run.model.num_layers, first_cost=first_cost, last_cost=last_cost)
    return Layout(
        tensor=layout.tensor,
        pipeline=layout.pipeline,
        virtual=layout.virtual,
        data=plan.data_ranks,
        sequence=layout.sequence,
        zero_stage=plan.zero_stage,
        stage_layers=layers,
    )


def _rows(run: TrimodalRun) -> Rows:
    """Of all sources, by their shares of the tokens at the beginning."""
    length = run.row_length
    if run.data.packing.rows == "none":
        attended = float(length)
    else:
        weights = _source_weights(run)
        attended = sum(weight * run.layout.longest(task) for task, weight in weights) / sum(w for _, w in weights)
    return Rows(length=length, attended=attended, tokens=tokens_per_row(run.layout, run.data) / length, causal=False)


def _source_weights(run: TrimodalRun) -> list[tuple[Task, float]]:
    sources = run.data.sources.values()
    return [(source.task, weight) for source in sources if (weight := weight_at(source.weight, 0)) > 0]


def _heads(run: TrimodalRun) -> tuple[Head, ...]:
    """Rows come in multiples of the capacity, one at least; half of one is taken to be filler on average."""
    model, quantum = run.model, run.objective.head_capacity
    shares = predicted_shares(run.layout, run.data)
    fullest = _fullest(run, model)
    heads = []
    for modality in MODALITIES:
        masked = MASKED * shares[modality]
        share = min(1.0, max(quantum, masked + quantum / 2))
        columns = model.head_columns(modality)
        heads.append(Head(columns=columns, share=share, masked=masked / share, most=max(share, fullest[modality])))
    return tuple(heads)


def _fullest(run: TrimodalRun, model: TrimodalConfig) -> dict[Modality, float]:
    """Share of the positions that each head has where its logits take most: a micro-batch of one task, two standard
    deviations of the documents' mean above half of its targets masked.
    """
    quantum = run.objective.head_capacity
    best: tuple[float, dict[Modality, float]] = (0.0, dict.fromkeys(MODALITIES, quantum))
    for task, _ in _source_weights(run):
        target: Modality = "text" if task == "text" else SIDES[task][1]
        longest = run.layout.longest(task)
        part = 1.0 if task == "text" else run.layout.regions.of(target) / longest
        positions = tokens_of_row(run.layout, run.data, task) / run.row_length
        documents = max(1.0, run.fit.micro_batch_per_dp_rank * run.row_length * positions / longest)
        masked = positions * part * min(1.0, MASKED + 2 * _SPREAD / math.sqrt(documents))
        shares = dict.fromkeys(MODALITIES, quantum)
        shares[target] = min(1.0, quantum * max(1, math.ceil(masked / quantum)))
        size = sum(share * model.head_columns(modality) for modality, share in shares.items())
        best = max(best, (size, shares), key=lambda each: each[0])
    return best[1]
