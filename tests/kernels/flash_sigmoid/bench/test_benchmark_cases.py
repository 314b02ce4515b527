"""Which measurements a device is given, in which order, and how their operations are counted."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.kernels.flash_sigmoid.bench.cases import GRIDS, Job, Shape
from triptych.kernels.flash_sigmoid.bench.contenders import CONTENDERS

SHAPE = Shape(batch=3, length=7, num_heads=2, head_dim=5)


def visible_pairs(shape):
    pairs = itertools.product(range(shape.length), repeat=2)
    return shape.batch * shape.num_heads * sum(j <= i or not shape.causal for i, j in pairs)


def multiplications_and_additions(shape):
    """One of each for every visible pair and component, of the scores and of the weighted values."""
    return visible_pairs(shape) * 2 * 2 * shape.head_dim


def test_operations_of_full_attention_are_those_of_every_pair():
    assert SHAPE.operations("forward") == multiplications_and_additions(SHAPE)


def test_operations_of_causal_attention_leave_out_half_of_the_diagonal():
    shape = Shape(batch=3, length=7, num_heads=2, head_dim=5, causal=True)
    exact = multiplications_and_additions(shape)
    assert shape.operations("forward") == pytest.approx(exact * shape.length / (shape.length + 1))


def test_the_backward_pass_counts_five_products_for_two():
    assert SHAPE.operations("backward") / SHAPE.operations("forward") == 5 / 2


@pytest.mark.parametrize("device", GRIDS)
def test_the_goals_come_first(device):
    grid = GRIDS[device]
    jobs = grid.jobs()
    assert jobs[0].kind == "ceiling"
    timed = [job for job in jobs if job.kind == "time"]
    at_goal = [job for job in timed if job.shape == grid.goal_shape]
    assert timed[: len(at_goal)] == at_goal


def test_the_goals_shape_on_a_gpu():
    assert GRIDS["cuda"].goal_shape == Shape(batch=1, length=16384, num_heads=16, head_dim=128)


@pytest.mark.parametrize("device", GRIDS)
def test_each_contender_is_timed_at_each_shape_in_both_directions(device):
    grid = GRIDS[device]
    timed = {(job.contender, job.shape, job.direction) for job in grid.jobs() if job.kind == "time"}
    num_shapes = 2 * len(grid.lengths) * len(grid.head_dims)
    assert len(timed) == num_shapes * 2 * len((*grid.ours, *grid.peers))


@pytest.mark.parametrize("device", GRIDS)
def test_no_job_comes_twice(device):
    jobs = GRIDS[device].jobs()
    assert len(jobs) == len(set(jobs))


@pytest.mark.parametrize("device", GRIDS)
def test_the_contenders_of_a_shape_take_turns(device):
    grid = GRIDS[device]
    first = [job for job in grid.jobs() if job.kind == "time"][: len(grid.ours) + len(grid.peers) + 1]
    assert [job.contender for job in first] == [*grid.ours, *grid.peers, grid.ours[0]]


@pytest.mark.parametrize("device", GRIDS)
def test_contenders_are_known(device):
    assert {job.contender for job in GRIDS[device].jobs()} - {""} <= set(CONTENDERS)


def test_a_batch_keeps_its_positions_and_its_width():
    grid = GRIDS["cuda"]
    shapes = {job.shape for job in grid.jobs() if job.shape}
    assert {shape.num_heads * shape.head_dim for shape in shapes} == {2048}
    assert {shape.batch * shape.length for shape in shapes} == {16384, 65536}


def test_compilations_cover_every_head_dimension_and_mask():
    grid = GRIDS["cuda"]
    compiled = {(job.contender, job.shape.head_dim, job.shape.causal) for job in grid.compilations()}
    assert len(compiled) == len(grid.compilations()) == 3 * len(grid.head_dims) * 2


@given(
    st.builds(
        Job,
        kind=st.sampled_from(["time", "error"]),
        contender=st.sampled_from(sorted(CONTENDERS)),
        shape=st.none() | st.just(SHAPE),
        direction=st.sampled_from(["forward", "backward"]),
        round=st.integers(0, 9),
    )
)
def test_a_job_survives_json(job):
    assert Job.of_mapping(job.to_mapping()) == job
