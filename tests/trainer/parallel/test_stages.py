"""The split of layers into stages: against every other split of small models, and each layer in one place."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.stages import chunk_layers, layers_per_chunk, split_layers

COSTS = st.integers(0, 40).map(lambda eighths: eighths / 8)  # exact in binary, so that ties are ties
SIZES = st.integers(1, 11).flatmap(lambda layers: st.tuples(st.just(layers), st.integers(1, min(layers, 5))))


def chunk_costs(numbers, first, last):
    costs = [float(number) for number in numbers]
    costs[0] += first
    costs[-1] += last
    return costs


def every_split(layers, chunks):
    return (split for split in itertools.product(range(1, layers + 1), repeat=chunks) if sum(split) == layers)


@given(SIZES, COSTS, COSTS)
def test_no_split_has_a_cheaper_dearest_chunk_or_is_more_even(sizes, first, last):
    found = split_layers(*sizes, first_cost=first, last_cost=last)
    assert found in set(every_split(*sizes))
    measures = [
        (max(costs), sum(cost * cost for cost in costs))
        for costs in (chunk_costs(split, first, last) for split in every_split(*sizes))
    ]
    costs = chunk_costs(found, first, last)
    assert max(costs) == min(measure[0] for measure in measures)
    assert sum(cost * cost for cost in costs) == min(measure[1] for measure in measures)


def test_of_equal_splits_the_earliest_chunks_have_fewest_layers():
    assert split_layers(10, 4, first_cost=0, last_cost=0) == (2, 2, 3, 3)


def test_heads_worth_two_layers_take_two_from_the_last_chunk():
    assert split_layers(22, 4, first_cost=0, last_cost=2) == (6, 6, 6, 4)


def test_the_heads_alone_may_be_dearest():
    assert split_layers(8, 4, first_cost=0, last_cost=9) == (2, 2, 3, 1)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 12), COSTS, COSTS)
def test_the_chunks_hold_every_layer_once_in_order(pipeline, virtual, extra, first, last):
    layout = ParallelLayout(pipeline=pipeline, virtual=virtual if pipeline > 1 else 1)
    layers = layout.num_chunks + extra
    chunks = [
        chunk_layers(layout, layers, stage, chunk, first_cost=first, last_cost=last)
        for chunk in range(layout.virtual)
        for stage in range(layout.pipeline)
    ]
    assert list(itertools.chain(*chunks)) == list(range(layers))


def test_given_numbers_are_kept_and_interleaved():
    layout = ParallelLayout(pipeline=2, virtual=2, stage_layers=(1, 4, 2, 3))
    assert [chunk_layers(layout, 10, stage, chunk) for stage, chunk in ((0, 0), (0, 1), (1, 0), (1, 1))] == [
        range(1),
        range(5, 7),
        range(1, 5),
        range(7, 10),
    ]


def test_given_numbers_of_another_sum_are_refused():
    with pytest.raises(ValueError, match=r"stage_layers=\[4, 5\] add up to 9, the model has 10 layers; give"):
        layers_per_chunk(ParallelLayout(pipeline=2, stage_layers=(4, 5)), 10)


def test_more_chunks_than_layers_are_refused():
    with pytest.raises(ValueError, match="3 layers do not fill 4 chunks"):
        split_layers(3, 4, first_cost=0, last_cost=0)
