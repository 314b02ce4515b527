"""Which layouts are let pass, against the rules written out a second time; and that every mend mends."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.nearest import Field, changed, nearest_changes
from triptych.trainer.parallel.plan import ModelSizes, Plan
from triptych.trainer.parallel.refusal import first_problem, is_legal, require_layout

MODEL = ModelSizes(
    num_layers=8,
    num_attention_heads=8,
    num_query_groups=4,
    ffn_hidden_size=96,
    row_length=32,
    vocabulary_sizes=(128, 64, 256),
)
PLAN = Plan(
    layout=ParallelLayout(),
    world_size=8,
    zero_stage=1,
    precision="bf16",
    batch=64,
    micro_batch=2,
    model=MODEL,
)


@st.composite
def layouts(draw):
    tensor, pipeline = draw(st.sampled_from([1, 1, 2, 3, 4, 8])), draw(st.sampled_from([1, 1, 2, 3, 4]))
    virtual = draw(st.integers(1, 3)) if pipeline > 1 else 1
    chunks = pipeline * virtual
    return ParallelLayout(
        tensor=tensor,
        pipeline=pipeline,
        virtual=virtual,
        sequence=tensor > 1 and draw(st.booleans()),
        stage_layers=draw(st.sampled_from([(), (), (2,) * chunks, (1,) * (chunks - 1) + (3,)])),
    )


SIZES = st.builds(
    ModelSizes,
    num_layers=st.integers(1, 12),
    num_attention_heads=st.sampled_from([4, 6, 8, 24]),
    num_query_groups=st.sampled_from([1, 2, 8]),
    ffn_hidden_size=st.sampled_from([96, 344, 50]),
    row_length=st.sampled_from([28, 32, 11]),
    vocabulary_sizes=st.sampled_from([(128, 64), (1171, 65), (24, 12)]),
)
PLANS = st.builds(
    Plan,
    layout=layouts(),
    world_size=st.sampled_from([1, 2, 4, 6, 8, 12, 16, 48]),
    zero_stage=st.sampled_from([0, 1, 1, 1, 2]),
    precision=st.sampled_from(["fp32", "bf16"]),
    batch=st.integers(1, 6).flatmap(lambda k: st.sampled_from([k, 8 * k, 48 * k, 96])),
    micro_batch=st.sampled_from([1, 2, 3, 8]),
    model=SIZES,
    rows_together=st.sampled_from([1, 2]),
)


def may_run(plan):
    """The rules in other words."""
    layout, model = plan.layout, plan.model
    tensor, pipeline, virtual = layout.tensor, layout.pipeline, layout.virtual
    copies = plan.world_size / (tensor * pipeline)
    split = [model.num_attention_heads, model.num_query_groups, model.ffn_hidden_size, *model.vocabulary_sizes]
    split += [model.row_length] if layout.sequence else []
    rows = plan.batch / copies
    cut = [min(plan.micro_batch, rows - start) for start in range(0, math.ceil(rows), plan.micro_batch)]
    stages = layout.stage_layers or (1,) * (pipeline * virtual)
    return (
        copies == int(copies)
        and all(size == tensor * (size // tensor) for size in split)
        and (sum(stages) == model.num_layers if layout.stage_layers else sum(stages) <= model.num_layers)
        and rows % plan.rows_together == 0
        and (pipeline == 1 or len(set(cut)) == 1)
        and (virtual == 1 or len(cut) % pipeline == 0)
        and not (pipeline > 1 and plan.zero_stage != 1)
        and not (plan.precision == "bf16" and plan.zero_stage == 0)
    )


@settings(max_examples=1000)
@given(PLANS)
def test_what_passes_is_what_the_rules_allow(plan):
    assert is_legal(plan) == may_run(plan)


@settings(max_examples=400)
@given(PLANS.filter(lambda plan: not may_run(plan)))
def test_every_change_that_is_named_can_run(plan):
    changes = nearest_changes(plan, first_problem(plan).fields, is_legal)
    assert 1 <= len(changes) <= 3
    assert all(may_run(changed(plan, change)) for change in changes)


@given(PLANS.filter(lambda plan: not may_run(plan)))
def test_a_refusal_is_one_line_with_a_mend(plan):
    with pytest.raises(ValueError, match=r"^[^\n;]*; nearest that can run: [a-z][^\n;]*$"):
        require_layout(plan)


def test_no_nearer_value_of_the_field_would_do():
    plan = dataclasses.replace(PLAN, layout=ParallelLayout(tensor=3), world_size=24, batch=24)
    near = nearest_changes(plan, (Field.TENSOR,), is_legal)[0][Field.TENSOR]
    assert near == min((t for t in (1, 2, 4, 8) if may_run(changed(plan, {Field.TENSOR: t}))), key=lambda t: abs(t - 3))


REFUSALS = {
    "heads": ({"tensor": 3}, {"world_size": 24, "batch": 48}, r"tensor=3 does not divide 8 attention heads"),
    "groups": ({"tensor": 8}, {}, r"tensor=8 does not divide 4 query groups \(.*\); nearest.*tensor=1 or 2 or 4$"),
    "processes": ({"tensor": 4, "pipeline": 4}, {}, r"tensor=4 times pipeline=4 does not divide 8 processes"),
    "layers": ({"pipeline": 4, "virtual": 3}, {}, r"4 times virtual=3 chunks are more than 8 layers .*virtual=1 or 2"),
    "stages": ({"pipeline": 2, "stage_layers": (4, 5)}, {}, r"\[4, 5\] add up to 9, .* 8 layers; .*stage_layers=\[\]$"),
    "batch": ({}, {"batch": 60}, r"logical_batch=60 does not .* 8 data-parallel ranks; .*=48 or 56 or 64$"),
    "pairs": (
        {},
        {"rows_together": 2, "batch": 56},
        r"8 data-parallel ranks in parts of 2; .*=32 or 48 or 64$",
    ),
    "micro": ({"pipeline": 2}, {"micro_batch": 3}, r"dp_rank=3 does not divide 16 sequences .*dp_rank=2 or 4,"),
    "groups of micro-batches": (
        {"pipeline": 4, "virtual": 2},
        {"micro_batch": 16},
        r"micro-batches in groups of pipeline=4, there are 2 .*micro_batch_per_dp_rank=8,",
    ),
    "positions": ({"tensor": 4, "sequence": True}, {"model": 30}, r"tensor=4 does not divide 30 positions"),
    "gradients": (
        {"pipeline": 2},
        {"zero_stage": 2},
        r"zero_stage=2 partitions gradients.*zero_stage=1, .*pipeline=1$",
    ),
    "no ZeRO": ({}, {"zero_stage": 0}, r"no fp32 master weights for fit.engine.precision=bf16; .*zero_stage=1 or 2$"),
    "no ZeRO in a pipeline": (
        {"pipeline": 2},
        {"zero_stage": 0, "precision": "fp32"},
        r"zero_stage=0 does not go with",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_refusal_names_what_does_not_fit_and_what_would(case):
    layout, rest, message = REFUSALS[case]
    rest = {**rest, "model": dataclasses.replace(MODEL, row_length=rest["model"])} if "model" in rest else rest
    with pytest.raises(ValueError, match=message):
        require_layout(dataclasses.replace(PLAN, layout=ParallelLayout(**layout), **rest))


def test_a_vocabulary_that_does_not_divide_can_be_filled_up():
    model = dataclasses.replace(MODEL, vocabulary_sizes=(1171, 65))
    with pytest.raises(
        ValueError, match=r"1171 rows of the vocabulary; .*vocabulary_multiple=4, fit.parallel.tensor=1"
    ):
        require_layout(dataclasses.replace(PLAN, layout=ParallelLayout(tensor=4), model=model))


def test_two_mistakes_are_mended_together():
    plan = dataclasses.replace(PLAN, layout=ParallelLayout(tensor=8), zero_stage=0)
    with pytest.raises(ValueError, match=r"run: fit.parallel.tensor=4 with fit.engine.zero_stage=1$"):
        require_layout(plan)
