"""The settings nearest to ones that cannot run."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

from triptych.trainer.parallel.plan import Plan

MOST_NAMED = 3


class Field(Enum):
    """A setting that can be changed; its value is its path on the command line, or what it is called."""

    WORLD_SIZE = "processes"
    TENSOR = "fit.parallel.tensor"
    PIPELINE = "fit.parallel.pipeline"
    VIRTUAL = "fit.parallel.virtual"
    SEQUENCE = "fit.parallel.sequence"
    STAGE_LAYERS = "fit.parallel.stage_layers"
    ZERO_STAGE = "fit.engine.zero_stage"
    VOCABULARY_MULTIPLE = "model.vocabulary_multiple"
    BATCH = "the batch"
    MICRO_BATCH = "fit.micro_batch_per_dp_rank"


Change = Mapping[Field, Any]
"""New values of some fields."""

_LAYOUT = (Field.TENSOR, Field.PIPELINE, Field.VIRTUAL, Field.SEQUENCE, Field.STAGE_LAYERS)
_PLAIN = {Field.TENSOR: 1, Field.PIPELINE: 1, Field.VIRTUAL: 1, Field.SEQUENCE: False, Field.STAGE_LAYERS: ()}


def nearest_changes(plan: Plan, fields: Sequence[Field], is_legal: Callable[[Plan], bool]) -> list[Change]:
    """At most three changes that make the plan legal: one value each of `fields`, then the next nearest of each. If
    none of them can alone, one change of one of them and any other setting. Else all that keeps the plan from being
    data parallelism alone, which is legal with a batch that divides.
    """
    alone: list[list[Change]] = [
        [{field: value} for value in _values(plan, field) if _legal(plan, {field: value}, is_legal)] for field in fields
    ]
    in_turn: list[Change] = [change for turn in itertools.zip_longest(*alone) for change in turn if change is not None]
    if in_turn:
        return in_turn[:MOST_NAMED]
    for field, other in itertools.product(fields, Field):
        if other in fields or other is Field.WORLD_SIZE:
            continue
        for change in _pairs(plan, field, other):
            if _legal(plan, change, is_legal):
                return [change]
    return [_plain(plan, is_legal)]


def changed(plan: Plan, change: Change) -> Plan:
    """The plan with a change made. ValueError if its layout is none at all."""
    of_layout = {field.name.lower(): value for field, value in change.items() if field in _LAYOUT}
    rest = {field.name.lower(): value for field, value in change.items() if field not in _LAYOUT}
    multiple = rest.pop("vocabulary_multiple", 1)
    sizes = tuple(math.ceil(size / multiple) * multiple for size in plan.model.vocabulary_sizes)
    model = replace(plan.model, vocabulary_sizes=sizes)
    return replace(plan, layout=replace(plan.layout, **of_layout), model=model, **rest)


def _legal(plan: Plan, change: Change, is_legal: Callable[[Plan], bool]) -> bool:
    try:
        return is_legal(changed(plan, change))
    except ValueError:
        return False


def _pairs(plan: Plan, field: Field, other: Field) -> Iterable[Change]:
    """Changes of both; the values of the second follow from the first, since what a batch must divide into does."""
    for value in _values(plan, field):
        try:
            halfway = changed(plan, {field: value})
        except ValueError:  # half of a change may be no layout: sequence parallelism without tensor parallelism
            halfway = plan
        for second in _values(halfway, other):
            yield {field: value, other: second}


def _plain(plan: Plan, is_legal: Callable[[Plan], bool]) -> Change:
    """To the layout of data parallelism alone, with ZeRO 1 and the nearest batch where they are needed."""
    current = plan.layout
    change: dict[Field, Any] = {
        field: value for field, value in _PLAIN.items() if getattr(current, field.name.lower()) != value
    }
    if not _legal(plan, change, is_legal) and plan.zero_stage == 0:
        change[Field.ZERO_STAGE] = 1
    if not _legal(plan, change, is_legal):
        change[Field.BATCH] = next(iter(_values(changed(plan, change), Field.BATCH)))
    assert _legal(plan, change, is_legal), (plan, change)
    return change


def _values(plan: Plan, field: Field) -> list[Any]:
    """Other values of a field that may help, nearest first, the smaller of two that are as near."""
    now = _current(plan, field)
    values = [value for value in _candidates(plan, field) if value != now]
    return sorted(values, key=lambda value: (abs(value - now), value)) if isinstance(now, int) else values


def _current(plan: Plan, field: Field) -> Any:
    if field is Field.VOCABULARY_MULTIPLE:
        return 1
    return getattr(plan.layout if field in _LAYOUT else plan, field.name.lower())


def _candidates(plan: Plan, field: Field) -> Iterable[Any]:
    if field in (Field.BATCH, Field.MICRO_BATCH) and plan.data_ranks == 0:
        return ()
    match field:
        case Field.WORLD_SIZE:
            copies = plan.world_size // plan.layout.model_ranks
            return [plan.layout.model_ranks * number for number in range(1, 2 * copies + 3)]
        case Field.TENSOR | Field.PIPELINE:
            return _divisors(plan.world_size)
        case Field.VIRTUAL:
            return range(1, plan.model.num_layers // plan.layout.pipeline + 1)
        case Field.SEQUENCE:
            return (not plan.layout.sequence,)
        case Field.STAGE_LAYERS:
            return ((),)
        case Field.ZERO_STAGE:
            return (1, 2, 0)
        case Field.VOCABULARY_MULTIPLE:
            return (math.lcm(plan.layout.tensor, 2),)
        case Field.BATCH:
            return _batches(plan)
        case Field.MICRO_BATCH:
            return _divisors(max(1, plan.rows_per_rank))


def _batches(plan: Plan) -> Iterable[int]:
    """Multiples, near the plan's batch, of what it must divide into."""
    unit = plan.batch_unit
    near = plan.batch // unit
    return [unit * number for number in range(max(1, near - 1), near + 4)]


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
