"""Flat ranges of local parts, said as boxes of the whole parameter."""

import itertools
import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from triptych.models.sharding import Sharding, part_of
from triptych.trainer.checkpoint.boxes import boxes_of_range


@st.composite
def splits(draw):
    """(whole shape, sharding, tensor-parallel ranks, cuts of each rank's flat part)."""
    shape = draw(st.lists(st.integers(1, 4), max_size=4))
    num_ranks = draw(st.integers(1, 3))
    dim = draw(st.sampled_from([None, *range(len(shape))]))
    stride = 1 if dim is None else draw(st.integers(1, 3))
    if dim is not None:
        shape[dim] *= stride * num_ranks
    numel = math.prod(shape) // (1 if dim is None else num_ranks)
    cuts = sorted(draw(st.lists(st.integers(0, numel), max_size=4)))
    return tuple(shape), Sharding(dim=dim, stride=stride), num_ranks, [0, *cuts, numel]


def held(part, sharding, rank, num_ranks, cuts):
    """The boxes of one rank's part, cut into ranges: views of fresh memory."""
    for start, stop in itertools.pairwise(cuts):
        flat = part.flatten()[start:stop].clone()
        yield from boxes_of_range(
            flat, start=start, local_shape=part.shape, sharding=sharding, rank=rank, num_ranks=num_ranks
        )


def window(tensor, box):
    return tensor[tuple(slice(at, at + size) for at, size in zip(box.offsets, box.sizes, strict=True))]


@given(splits())
def test_the_boxes_of_all_ranks_hold_every_element_of_the_whole_in_its_place(split):
    shape, sharding, num_ranks, cuts = split
    whole = torch.arange(math.prod(shape)).view(shape)
    for rank in range(num_ranks):
        for box in held(part_of(whole, sharding, rank, num_ranks), sharding, rank, num_ranks, cuts):
            assert torch.equal(window(whole, box), box.tensor)


@given(splits())
def test_the_boxes_of_all_ranks_tile_the_whole_once(split):
    shape, sharding, num_ranks, cuts = split
    count = torch.zeros(shape, dtype=torch.int)
    for rank in range(num_ranks):
        part = part_of(torch.zeros(shape), sharding, rank, num_ranks)
        for box in held(part, sharding, rank, num_ranks, cuts):
            window(count, box).add_(1)
    expected = num_ranks if sharding.dim is None else 1  # where nothing is split, every rank holds the whole
    assert torch.equal(count, torch.full(shape, expected, dtype=torch.int))


@given(splits())
def test_what_is_written_into_the_boxes_is_the_rank_s_part(split):
    shape, sharding, num_ranks, cuts = split
    whole = torch.arange(math.prod(shape)).view(shape)
    for rank in range(num_ranks):
        part = part_of(whole, sharding, rank, num_ranks)
        memory = torch.full([part.numel()], -1)
        for start, stop in itertools.pairwise(cuts):
            for box in boxes_of_range(
                memory[start:stop],
                start=start,
                local_shape=part.shape,
                sharding=sharding,
                rank=rank,
                num_ranks=num_ranks,
            ):
                box.tensor.copy_(window(whole, box))
        assert torch.equal(memory.view(part.shape), part)


@given(splits())
def test_a_range_is_few_boxes(split):
    """At most two partial pieces per dimension below the last, and once more for each stride block."""
    shape, sharding, num_ranks, cuts = split
    part = part_of(torch.zeros(shape), sharding, 0, num_ranks)
    most = max(1, 2 * len(shape) - 1) * sharding.stride
    for start, stop in itertools.pairwise(cuts):
        found = list(held(part, sharding, 0, num_ranks, [start, stop]))
        assert len(found) <= most


def test_whole_rows_are_one_box():
    (box,) = boxes_of_range(torch.zeros(8), start=4, local_shape=(5, 4), sharding=Sharding(), rank=0, num_ranks=1)
    assert (box.offsets, box.sizes) == ((1, 0), (2, 4))


def test_gate_and_up_rows_of_a_rank_are_two_boxes():
    """Rank 1 of 2 of a [gate; up] matrix of 8 rows holds rows 2, 3 and 6, 7."""
    found = boxes_of_range(
        torch.zeros(12), start=0, local_shape=(4, 3), sharding=Sharding(dim=0, stride=2), rank=1, num_ranks=2
    )
    assert [(box.offsets, box.sizes) for box in found] == [((2, 0), (2, 3)), ((6, 0), (2, 3))]
