"""Where tensors lie and which stretches of them count: strides, segments, gaps full of NaN."""

import pytest
import torch

pytest.importorskip("triton")

from interpreted import launcher
from interpreted_cases import Case, tolerance

from triptych.kernels.flash_sigmoid.device.launch import split, unit_of
from triptych.kernels.flash_sigmoid.problem import CAUSAL, Band, Segments, output_like


def sums(*lengths):
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0).to(torch.int32)


def documents(**overrides):
    """Four documents in a row of 60 queries and 70 keys, one of which has no query, behind each of which is a gap."""
    return Segments.packed(
        sums(20, 7, 0, 18),
        sums(25, 7, 4, 9),
        max_query_length=20,
        max_key_length=25,
        padded_query=sums(24, 8, 0, 20),
        padded_key=sums(28, 8, 6, 20),
        **overrides,
    )


def uncovered(tensors, segments):
    """Masks [rows, positions] of what no segment covers, for queries, keys, values and dO."""
    query, key = (torch.ones(x.shape[:2], dtype=torch.bool) for x in tensors[:2])
    for row, first_query, queries, first_key, keys, _ in segments.table_N6.tolist():
        query[row, first_query : first_query + queries] = False
        key[row, first_key : first_key + keys] = False
    return query, key, key, query


PADDED = {
    "documents": (1, documents()),
    "documents, top left": (1, documents(alignment="top_left")),
    "rows": (
        3,
        Segments.of_lengths(
            torch.tensor([60, 33, 0]), torch.tensor([50, 70, 5]), max_query_length=60, max_key_length=70
        ),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("band", [Band(), CAUSAL, Band(left=6, right=2)], ids=["full", "causal", "window"])
@pytest.mark.parametrize("which", PADDED)
def test_padding_is_never_read_and_gets_zeros(which, band, dtype):
    rows, segments = PADDED[which]
    case = Case(
        rows=rows, queries=60, keys=70, segments=segments, band=band, dtype=dtype, heads=2, groups=1, bias=torch.ones(2)
    )
    tensors = case.tensors()
    masks = uncovered(tensors, segments)
    clean = [x.masked_fill(mask[..., None, None], 0.0) for x, mask in zip(tensors, masks, strict=True)]
    poisoned = [x.masked_fill(mask[..., None, None], torch.nan) for x, mask in zip(tensors, masks, strict=True)]
    results, truth = case.kernels(*poisoned), case.reference(*clean)
    query_mask, key_mask, *_ = masks
    for result, mask in zip(results, (query_mask, query_mask, key_mask, key_mask), strict=False):
        assert not result[mask].any()
    errors = [float((a.double() - b).norm() / b.norm()) for a, b in zip(results, truth, strict=True)]
    assert max(errors) < tolerance(dtype), errors


def test_fp16_bounds_ignore_padding():
    segments = documents()
    case = Case(queries=60, keys=70, segments=segments, dtype=torch.float16)
    tensors = case.tensors()
    masks = uncovered(tensors, segments)
    poisoned = [x.masked_fill(mask[..., None, None], torch.inf) for x, mask in zip(tensors, masks, strict=True)]
    clean = [x.masked_fill(mask[..., None, None], 0.0) for x, mask in zip(tensors, masks, strict=True)]
    for one, other in zip(case.kernels(*poisoned), case.kernels(*clean), strict=True):
        assert torch.equal(one, other)


def test_documents_are_what_they_are_alone():
    segments = documents()
    case = Case(queries=60, keys=70, segments=segments, band=CAUSAL)
    query, key, value, _ = case.tensors()
    together = launcher().forward(query, key, value, case.problem)
    for _, first_query, queries, first_key, keys, _ in segments.table_N6.tolist():
        alone = Case(queries=queries, keys=keys, band=CAUSAL)
        at, of = slice(first_query, first_query + queries), slice(first_key, first_key + keys)
        out = launcher().forward(query[:, at], key[:, of], value[:, of], alone.problem)
        assert torch.equal(together[:, at], out)


def as_positions_first(x):
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def as_heads_first(x):
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def as_part_of_larger(x):
    """Every second head of a tensor whose rows are longer, and of which nothing else may be read."""
    larger = x.new_full((x.shape[0], x.shape[1], 2 * x.shape[2], x.shape[3] + 8), torch.nan)
    larger[:, :, ::2, :-8] = x
    return larger[:, :, ::2, :-8]


def as_unaligned(x):
    larger = x.new_full((*x.shape[:3], x.shape[3] + 3), torch.nan)
    larger[..., 1:-2] = x
    return larger[..., 1:-2]


LAYOUTS = (as_positions_first, as_heads_first, as_part_of_larger, as_unaligned)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_strides_change_nothing(layout):
    case = Case(rows=2, heads=4, groups=2, head_dim=24, dtype=torch.bfloat16)
    tensors = case.tensors()
    given = [layout(x) for x in tensors]
    copies = [x.clone() for x in given]
    for laid_out, plain in zip(case.kernels(*given), case.kernels(*tensors), strict=True):
        assert torch.equal(laid_out, plain)
    for x, copy in zip(given, copies, strict=True):
        assert torch.equal(x, copy)


def test_results_lie_as_promised():
    case = Case(rows=2)
    query, key, value, grad = map(as_positions_first, case.tensors())
    out, dq, dk, dv = case.kernels(query, key, value, grad)
    assert out.stride() == output_like(query, value.shape[3]).stride()
    for gradient, x in ((dq, query), (dk, key), (dv, value)):
        assert gradient.stride() == x.stride()


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 1, 1, 16), (1, 40, 1, 16)], ids=str)
def test_a_gradient_that_is_one_number_expanded(shape):
    case = Case()
    query, key, value, _ = case.tensors()
    grad = torch.randn(shape, generator=torch.Generator().manual_seed(3)).expand(1, 40, 2, 16)
    results = launcher().backward(grad, query, key, value, case.problem)[:3]
    truth = launcher().backward(grad.contiguous(), query, key, value, case.problem)[:3]
    assert all(torch.equal(a, b) for a, b in zip(results, truth, strict=True))


def test_keys_of_all_rows_may_be_one():
    case = Case(rows=2)
    query, key, value, grad = case.tensors()
    shared = [x[:1].expand(2, -1, -1, -1) for x in (key, value)]
    results, truth = case.kernels(query, *shared, grad), case.reference(query, *shared, grad)
    assert all(((a - b).norm() / b.norm()) < 2e-6 for a, b in zip(results, truth, strict=True))


@pytest.mark.parametrize(
    ("width", "parts"),
    [
        *[(8, (16, 0)), (16, (16, 0)), (17, (32, 0)), (40, (32, 16)), (72, (64, 16)), (80, (64, 16)), (96, (64, 32))],
        *[(111, (128, 0)), (128, (128, 0)), (192, (128, 64)), (200, (256, 0)), (256, (256, 0))],
    ],
)
def test_widths_are_cut_into_powers_of_two(width, parts):
    assert split(width) == parts


def test_strides_are_counted_in_sixteen_bytes_where_all_are_multiples():
    x = torch.empty(2, 10, 3, 72, dtype=torch.bfloat16)
    assert unit_of(x, x.transpose(1, 2)) == 8
    assert unit_of(x, as_unaligned(x)) == 1
    assert unit_of(x.float()) == 4
