"""Layouts that cannot run are refused before a process group is opened, and the nearest that can are named."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from triptych.trainer.parallel.nearest import Change, Field, nearest_changes
from triptych.trainer.parallel.plan import Plan


@dataclass(kw_only=True, slots=True, frozen=True)
class Problem:
    """Why a plan cannot run. fields: what to change first, best first."""

    text: str
    fields: tuple[Field, ...]


def require_layout(plan: Plan) -> None:
    """ValueError, in one line, if the plan cannot run: what does not divide, or which settings do not go together, and
    at most three of the nearest settings that can.
    """
    problem = first_problem(plan)
    if problem is not None:
        changes = nearest_changes(plan, problem.fields, is_legal)
        raise ValueError(f"{problem.text}; nearest that can run: {_described(changes, plan)}")


def is_legal(plan: Plan) -> bool:
    """Whether `require_layout` lets it pass."""
    return first_problem(plan) is None


def first_problem(plan: Plan) -> Problem | None:
    """The first reason why a plan cannot run, or None if it can."""
    for check in (_processes, _tensor, _layers, _batch, _engine):
        for problem in check(plan):
            return problem
    return None


def _processes(plan: Plan) -> Iterator[Problem]:
    layout = plan.layout
    if plan.world_size % layout.model_ranks:
        yield Problem(
            text=f"fit.parallel.tensor={layout.tensor} times pipeline={layout.pipeline} does not divide "
            f"{plan.world_size} processes",
            fields=(Field.TENSOR, Field.PIPELINE, Field.WORLD_SIZE),
        )


def _tensor(plan: Plan) -> Iterator[Problem]:
    """megatron-core 0.16.1 cuts heads, query groups, the FFN and the vocabulary; the width itself stays whole."""
    tensor, model = plan.layout.tensor, plan.model
    divided = {
        "attention heads (model.num_attention_heads)": model.num_attention_heads,
        "query groups (model.num_query_groups)": model.num_query_groups,
        "columns of the FFN (model.ffn_hidden_size)": model.ffn_hidden_size,
    }
    for name, size in divided.items():
        if size % tensor:
            yield Problem(text=f"fit.parallel.tensor={tensor} does not divide {size} {name}", fields=(Field.TENSOR,))
    for size in model.vocabulary_sizes:
        if size % tensor:
            yield Problem(
                text=f"fit.parallel.tensor={tensor} does not divide {size} rows of the vocabulary",
                fields=(Field.VOCABULARY_MULTIPLE, Field.TENSOR),
            )
    if plan.layout.sequence and model.row_length % tensor:
        yield Problem(
            text=f"fit.parallel.sequence=true: tensor={tensor} does not divide {model.row_length} positions of a row "
            "(data.packing.row_length, or model.sequence_length)",
            fields=(Field.TENSOR, Field.SEQUENCE),
        )


def _layers(plan: Plan) -> Iterator[Problem]:
    layout, layers = plan.layout, plan.model.num_layers
    if layout.num_chunks > layers:
        yield Problem(
            text=f"fit.parallel.pipeline={layout.pipeline} times virtual={layout.virtual} chunks are more than "
            f"{layers} layers (model.num_layers)",
            fields=(Field.VIRTUAL, Field.PIPELINE) if layout.virtual > 1 else (Field.PIPELINE,),
        )
    elif layout.stage_layers and sum(layout.stage_layers) != layers:
        yield Problem(
            text=f"fit.parallel.stage_layers={list(layout.stage_layers)} add up to {sum(layout.stage_layers)}, the "
            f"model has {layers} layers",
            fields=(Field.STAGE_LAYERS,),
        )


def _batch(plan: Plan) -> Iterator[Problem]:
    """The schedules want micro-batches of one shape, the interleaved one groups of `pipeline` of them (megatron-core
    0.16.1, `forward_backward_pipelining_with_interleaving`).
    """
    layout, rows = plan.layout, plan.rows_per_rank
    if plan.batch % (plan.data_ranks * plan.rows_together):
        together = f" in parts of {plan.rows_together}" if plan.rows_together > 1 else ""
        yield Problem(
            text=f"fit.{plan.batch_setting}={plan.batch} does not divide into {plan.data_ranks} data-parallel "
            f"ranks{together}",
            fields=(Field.BATCH,),
        )
    elif layout.pipeline > 1 and rows > plan.micro_batch and rows % plan.micro_batch:
        yield Problem(
            text=f"fit.micro_batch_per_dp_rank={plan.micro_batch} does not divide {rows} sequences per data-parallel "
            "rank, and a pipeline needs equal micro-batches",
            fields=(Field.MICRO_BATCH, Field.BATCH),
        )
    elif layout.virtual > 1 and plan.micro_batches % layout.pipeline:
        yield Problem(
            text=f"fit.parallel.virtual={layout.virtual} needs micro-batches in groups of pipeline={layout.pipeline}, "
            f"there are {plan.micro_batches} (of fit.micro_batch_per_dp_rank={plan.micro_batch})",
            fields=(Field.MICRO_BATCH, Field.BATCH, Field.VIRTUAL, Field.PIPELINE),
        )


def _engine(plan: Plan) -> Iterator[Problem]:
    """What DeepSpeed 0.19.8 runs, but wrongly: gradients partitioned in the middle of a pipeline's schedule; a gradient
    norm without ZeRO that knows nothing of model parallelism; bf16 without ZeRO, whose master weights are bf16.
    """
    if plan.zero_stage == 2 and plan.layout.pipeline > 1:
        yield Problem(
            text=f"fit.engine.zero_stage=2 partitions gradients, which fit.parallel.pipeline={plan.layout.pipeline} "
            "accumulates",
            fields=(Field.ZERO_STAGE, Field.PIPELINE),
        )
    if plan.zero_stage == 0 and plan.layout.pipeline > 1:
        yield Problem(
            text=f"fit.engine.zero_stage=0 does not go with fit.parallel.pipeline={plan.layout.pipeline}",
            fields=(Field.ZERO_STAGE, Field.PIPELINE),
        )
    if plan.zero_stage == 0 and plan.precision == "bf16":
        yield Problem(
            text="fit.engine.zero_stage=0 has no fp32 master weights for fit.engine.precision=bf16",
            fields=(Field.ZERO_STAGE,),
        )


def _described(changes: list[Change], plan: Plan) -> str:
    """Settings as they are written after --set, values of the same one together."""
    batch = f"fit.{plan.batch_setting}"
    alone: dict[Field, list[Any]] = {}
    together: list[str] = []
    for change in changes:
        if len(change) == 1:
            ((field, value),) = change.items()
            alone.setdefault(field, []).append(value)
        else:
            together.append(" with ".join(f"{_path(field, batch)}={_text(value)}" for field, value in change.items()))
    named = [f"{_path(field, batch)}={' or '.join(map(_text, sorted(values)))}" for field, values in alone.items()]
    return ", ".join(named + together)


def _path(field: Field, batch: str) -> str:
    return batch if field is Field.BATCH else field.value


def _text(value: object) -> str:
    return "[]" if value == () else str(value).lower()
