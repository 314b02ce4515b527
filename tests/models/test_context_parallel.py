"""A sequence over 2 and 4 ranks equals one, in values and every gradient; planted mistakes do not."""

from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist
from gloo_processes import Processes

from triptych.kernels.flash_sigmoid.problem import CAUSAL, Band, minus_log
from triptych.kernels.flash_sigmoid.reference import reference_attention
from triptych.models.attention import context_parallel
from triptych.models.attention.context_parallel import chunks_of, context_parallel_attention, part_of_rank

ROWS, TOTAL, HEADS, GROUPS, HEAD_DIM, VALUE_DIM = 2, 24, 4, 2, 8, 6


@dataclass(kw_only=True, slots=True, frozen=True)
class Case:
    """bias: "-log n", a number, or one per head that learns. alibi: with slopes."""

    band: Band = field(default_factory=Band)
    order: str = "dual_chunk_swap"
    bias: float | str = "-log n"
    alibi: bool = False
    dtype: torch.dtype = torch.float32

    def __str__(self):
        parts = [self.order, f"{self.band.left},{self.band.right}", str(self.bias), str(self.dtype).split(".")[-1]]
        return " ".join([*parts, "alibi"] if self.alibi else parts)


CASES = (
    Case(),
    Case(order="contiguous", bias=-1.5),
    Case(band=CAUSAL, bias="per head", alibi=True),
    Case(band=CAUSAL, order="contiguous"),
    Case(band=Band(left=5, right=0)),
    Case(band=Band(left=3, right=4), bias="per head"),
    Case(band=Band(right=2), order="contiguous", alibi=True),
    Case(band=CAUSAL, dtype=torch.bfloat16),
)
BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 1e-2}
"""Of the largest element. Of bf16: rounding of the result, 2^-9, and of what goes between ranks not at all."""

NAMES = ("output", "query", "key", "value", "bias")


def inputs(case):
    """The whole sequence, its output's gradient, bias per head and slopes."""
    generator = torch.Generator().manual_seed(5)
    sizes = ((HEADS, HEAD_DIM), (GROUPS, HEAD_DIM), (GROUPS, VALUE_DIM), (HEADS, VALUE_DIM))
    tensors = [torch.randn(ROWS, TOTAL, *size, generator=generator).to(case.dtype) for size in sizes]
    bias_H = torch.linspace(-3.0, 1.0, HEADS)
    return *tensors, bias_H, torch.tensor([0.5, 0.25, 0.1, 0.0]) if case.alibi else None


def of_the_oracle(case):
    """Output and gradients in fp64."""
    query, key, value, grad, bias_H, slopes = inputs(case)
    leaves = [x.double().requires_grad_() for x in (query, key, value, bias_H)]
    bias = {"-log n": minus_log(TOTAL), "per head": leaves[3]}.get(case.bias, case.bias)
    output = reference_attention(*leaves[:3], scale=HEAD_DIM**-0.5, bias=bias, band=case.band, slopes=slopes)
    output.backward(grad.double())
    return dict(zip(NAMES, [output.detach(), *(x.grad for x in leaves)], strict=True))


def of_the_ranks(case):
    """The same, put together from every rank's part; on every rank."""
    query, key, value, grad, bias_H, slopes = inputs(case)
    rank, number = dist.get_rank(), dist.get_world_size()
    parts = [part_of_rank(x, rank, number, order=case.order, dim=1) for x in (query, key, value, grad)]
    leaves = [x.clone().requires_grad_() for x in parts[:3]]
    bias_H.requires_grad_()
    output = context_parallel_attention(
        *leaves,
        dist.group.WORLD,
        order=case.order,
        bias=bias_H if case.bias == "per head" else case.bias,
        band=case.band,
        slopes=slopes,
    )
    output.backward(parts[3])
    found = [output.detach(), *(x.grad for x in leaves)]
    wholes = dict(zip(NAMES, [together(x, case.order) for x in found], strict=False))
    if bias_H.grad is not None:
        dist.all_reduce(bias_H.grad)
    return {**wholes, "bias": bias_H.grad}


def together(part, order):
    """The whole of all ranks' parts, found without the order's inverse: each chunk is put where it belongs."""
    number = dist.get_world_size()
    everyones = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(number)]
    dist.all_gather(everyones, part.contiguous())
    chunks = chunks_of(order, number)
    pieces = [piece for whole in everyones for piece in whole.chunk(len(chunks) // number, 1)]
    return torch.cat([pieces[chunks.index(i)] for i in range(len(chunks))], 1)


@contextmanager
def as_it_is():
    yield


@contextmanager
def with_the_local_n():
    original = context_parallel.minus_log
    with patch.object(context_parallel, "minus_log", lambda n: original(n // dist.get_world_size())):
        yield


@contextmanager
def with_gathered_chunks_in_the_ranks_order():
    with patch.object(context_parallel, "_places", lambda chunks: list(range(len(chunks)))):
        yield


@contextmanager
def with_scattered_gradients_in_the_keys_order():
    original, chunks = context_parallel._ordered, chunks_of("dual_chunk_swap", dist.get_world_size())
    with patch.object(context_parallel, "_ordered", lambda x, places: x if places == chunks else original(x, places)):
        yield


@contextmanager
def with_queries_at_the_ranks_own_positions():
    original = context_parallel.Segments.shifted
    with patch.object(context_parallel.Segments, "shifted", lambda first, **sizes: original(0, **sizes)):
        yield


@contextmanager
def with_gradients_of_keys_not_summed():
    def own_part(output, by_rank, group):
        output.copy_(by_rank.chunk(group.size())[group.rank()])

    with patch.object(context_parallel.dist, "reduce_scatter_tensor", own_part):
        yield


FAULTS = {
    "the local n": (with_the_local_n, Case()),
    "chunks in the order of the ranks": (with_gathered_chunks_in_the_ranks_order, Case(band=CAUSAL)),
    "gradients scattered in the order of the keys": (with_scattered_gradients_in_the_keys_order, Case()),
    "queries at the rank's own positions": (with_queries_at_the_ranks_own_positions, Case(band=CAUSAL)),
    "gradients of keys not summed": (with_gradients_of_keys_not_summed, Case()),
}


def run_all():
    """Every case, and every fault's case with the fault planted."""
    right = [(case, as_it_is) for case in CASES]
    found = []
    for case, plant in [*right, *((case, plant) for plant, case in FAULTS.values())]:
        with plant():
            found.append(of_the_ranks(case))
    return found if dist.get_rank() == 0 else None


@pytest.fixture(scope="module", params=[2, 4])
def found(request, tmp_path_factory):
    outcomes = Processes(tmp_path_factory.mktemp("ranks"))(run_all, request.param)[0]
    return dict(zip([*CASES, *FAULTS], outcomes, strict=True))


def worst(found, wanted):
    """The largest difference, of the largest element, over output and gradients."""
    present = [name for name in NAMES if wanted[name] is not None]
    return max(((found[name] - wanted[name]).abs().max() / wanted[name].abs().max()).item() for name in present)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_split_sequence_equals_the_whole(found, case):
    assert worst(found[case], of_the_oracle(case)) < BOUNDS[case.dtype]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(found, fault):
    assert worst(found[fault], of_the_oracle(FAULTS[fault][1])) > 100 * BOUNDS[torch.float32]


def test_the_swapped_order_is_megatrons():
    assert chunks_of("dual_chunk_swap", 4) == [0, 7, 1, 6, 2, 5, 3, 4]


@pytest.fixture
def alone():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


REFUSED = {
    "order": ({"order": "zigzag"}, "order is 'zigzag'; take one of contiguous, dual_chunk_swap"),
    "odd": ({}, "7 positions of a rank do not divide into 2 chunks; pad the sequence to a multiple of 2"),
    "bias": ({"order": "contiguous", "bias": "-log n of each"}, 'give a number, a tensor or "-log n"'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_split_is_refused_with_a_mend(alone, name):
    options, message = REFUSED[name]
    x = torch.zeros(1, 7, 2, 4)
    with pytest.raises(ValueError, match=message):
        context_parallel_attention(x, x, x, alone, **options)


def test_keys_of_another_length_are_refused(alone):
    with pytest.raises(ValueError, match="this rank has 4 queries and 6 keys"):
        context_parallel_attention(*(torch.zeros(1, n, 2, 4) for n in (4, 6, 6)), alone)
