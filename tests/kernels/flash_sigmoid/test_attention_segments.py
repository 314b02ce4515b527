"""Packed documents and padded rows: each is what it is alone; what no segment covers is not read, and gets zeros."""

import pytest
import torch
from attention_cases import Case, assert_right, leaves, relative_norm, results
from hypothesis import given
from hypothesis import strategies as st

from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.problem import CAUSAL, Band, Segments

pytest_plugins = ["attention_kernels"]

NAN = float("nan")
LENGTHS = (7, 1, 0, 20, 5)


def cumulative(lengths):
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def packed(queries=LENGTHS, keys=None, **options):
    keys = keys or queries
    return Segments.packed(
        cumulative(queries), cumulative(keys), max_query_length=max(queries), max_key_length=max(keys), **options
    )


def with_gaps(lengths, gap):
    """Segments that have `gap` positions of padding behind each, and where the padding is."""
    offsets = cumulative([length + gap for length in lengths])
    is_padding = torch.ones(int(offsets[-1]), dtype=torch.bool)
    for first, length in zip(offsets.tolist(), lengths, strict=False):
        is_padding[first : first + length] = False
    return packed(lengths, padded_query=offsets, padded_key=offsets), is_padding


def poisoned(x, is_padding):
    """x [1, S, ...] with NaN where the padding is."""
    return x.detach().masked_fill(is_padding[None, :, None, None], NAN).requires_grad_()


@pytest.mark.parametrize("band", [Band(), CAUSAL, Band(left=3, right=2)], ids=["full", "causal", "window"])
def test_documents_are_what_they_are_alone(attention, band):
    """bitwise, with each one's own bias: the function of a document does not depend on its neighbours."""
    case = Case(queries=sum(LENGTHS), heads=2, band=band, bias="-log n of each", segments=packed())
    inputs = case.inputs()

    def one_by_one(*inputs):
        documents = zip(*(x.split(LENGTHS, dim=1) for x in inputs), strict=True)
        return torch.cat([attention(*document, bias="-log n", band=band) for document in documents], dim=1)

    together = results(lambda *qkv: attention(*qkv, **case.options()), inputs)
    alone = results(one_by_one, inputs)
    assert [name for name in alone if not torch.equal(together[name], alone[name])] == []


def test_padded_rows_are_packed_documents(attention):
    lengths = (9, 4, 16)
    rows = Segments.of_lengths(torch.tensor(lengths), torch.tensor(lengths), max_query_length=16, max_key_length=16)
    inputs = Case(rows=3, queries=16, band=CAUSAL).inputs()
    inside = torch.arange(16)[None, :] < torch.tensor(lengths)[:, None]
    bias = torch.tensor([[-1.0, 0.5], [0.0, 0.0], [-2.0, -3.0]])
    padded = results(lambda *qkv: attention(*qkv, bias=bias, band=CAUSAL, segments=rows), inputs)

    def pack(*inputs):
        in_one_row = (x[inside][None] for x in inputs)
        out = attention(*in_one_row, bias=bias, band=CAUSAL, segments=packed(lengths))
        return torch.zeros(3, 16, 2, 16).masked_scatter(inside[:, :, None, None], out)

    expected = results(pack, inputs)
    assert max(relative_norm(padded[name], expected[name]) for name in expected) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_padding_is_not_read_and_gets_zeros(attention, dtype):
    """NaN between the segments reaches nothing; outputs and gradients there are 0, also where dO is NaN."""
    segments, is_padding = with_gaps((7, 0, 12), gap=3)
    case = Case(queries=len(is_padding), dtype=dtype, band=CAUSAL, segments=segments)
    inputs = [poisoned(x, is_padding) for x in case.inputs()]
    out = attention(*inputs, **case.options())
    grad = poisoned(torch.randn(out.shape).to(dtype), is_padding).detach()
    for x in (out, *torch.autograd.grad(out, inputs, grad)):
        assert torch.count_nonzero(x[:, is_padding]) == 0
        assert x.isfinite().all() and torch.count_nonzero(x) > 0


def test_padding_behind_the_last_segment(attention):
    segments = packed((5, 6))
    inputs = Case(queries=20).inputs()
    found = results(lambda *qkv: attention(*qkv, segments=segments), inputs)
    assert all(torch.count_nonzero(x[:, 11:]) == 0 for x in found.values())


def test_gaps_change_nothing(attention):
    lengths = (7, 12)
    segments, is_padding = with_gaps(lengths, gap=3)
    inputs = Case(queries=len(is_padding)).inputs()
    gapped = attention(*inputs, bias=-1.0, band=CAUSAL, segments=segments)
    dense = attention(*(x[:, ~is_padding] for x in inputs), bias=-1.0, band=CAUSAL, segments=packed(lengths))
    assert torch.equal(gapped[:, ~is_padding], dense)


def test_bounds_may_be_larger_than_the_lengths(attention):
    cu_seqlens = cumulative((7, 12))
    wide = Segments.packed(cu_seqlens, cu_seqlens, max_query_length=64, max_key_length=50)
    inputs = Case(queries=19).inputs()
    tight = attention(*inputs, bias=-1.0, segments=packed((7, 12)))
    assert torch.equal(attention(*inputs, bias=-1.0, segments=wide), tight)


@pytest.mark.parametrize("lengths", [(0, 0), (0, 5), (5, 0, 0)])
def test_empty_documents(attention, lengths):
    """cu_seqlens that end in equal entries, or have no position at all between them."""
    case = Case(queries=6, segments=packed(lengths), bias=torch.zeros(len(lengths), 2))
    found = results(lambda *qkv: attention(*qkv, **case.options()), case.inputs())
    assert all(torch.count_nonzero(x[:, sum(lengths) :]) == 0 and x.isfinite().all() for x in found.values())


def test_rows_of_documents_some_of_which_hold_fewer_or_none(attention):
    """As training packs them: a table of all rows' places, those that no document takes at the end of a row's last."""
    lengths = torch.tensor([[5, 4, 3], [9, 0, 0], [0, 0, 0], [2, 7, 0]])
    starts, rows = lengths.cumsum(1) - lengths, torch.arange(4)[:, None].expand(4, 3)
    columns = torch.stack([rows, starts, lengths, starts, lengths, 0 * lengths], dim=-1)
    segments = Segments(table_N6=columns.reshape(-1, 6).int(), max_query_length=12, max_key_length=12)
    is_padding = torch.arange(12) >= lengths.sum(1, keepdim=True)
    case = Case(rows=4, queries=12, heads=4, groups=2, segments=segments, bias=-2.0)
    inputs = [x.detach().masked_fill(is_padding[:, :, None, None], NAN).requires_grad_() for x in case.inputs()]
    found = results(lambda *qkv: attention(*qkv, **case.options()), inputs)
    truth = results(case.oracle, leaves(*case.inputs()))
    assert all(torch.count_nonzero(x[is_padding]) == 0 for x in found.values())
    assert max(relative_norm(found[name], truth[name]) for name in truth) < 2e-6


@pytest.mark.parametrize("alignment", ["top_left", "bottom_right"])
@pytest.mark.parametrize("band", [Band(), CAUSAL, Band(left=4, right=1)], ids=["full", "causal", "window"])
def test_documents_with_other_numbers_of_keys(alignment, band):
    segments = packed((7, 30, 0, 11), (30, 7, 4, 11), alignment=alignment)
    assert_right(Case(queries=48, keys=52, heads=4, groups=2, band=band, segments=segments, slopes=torch.rand(4, 4)))


@pytest.mark.parametrize("band", [CAUSAL, Band(left=6, right=0), Band()], ids=["causal", "window", "full"])
def test_stretches_of_the_queries_are_the_whole(attention, band):
    """A rank of context parallelism: some queries, all keys, and where the queries begin among them."""
    case = Case(rows=2, queries=24, band=band)
    inputs = case.inputs()

    def in_stretches(query, key, value):
        outputs = []
        for first in (0, 6, 12, 18):
            segments = Segments.shifted(first, num_rows=2, num_queries=6, num_keys=24, device="cpu")
            outputs.append(attention(query[:, first : first + 6], key, value, bias=-2.0, band=band, segments=segments))
        return torch.cat(outputs, dim=1)

    whole = results(lambda *qkv: attention(*qkv, **case.options()), inputs)
    parts = results(in_stretches, inputs)
    assert max(relative_norm(parts[name], whole[name]) for name in whole) < 1e-6


def test_minus_log_n_is_of_the_longest_segment():
    inputs = Case(queries=sum(LENGTHS)).inputs()
    fixed = sigmoid_attention(*inputs, bias=-torch.tensor(20.0).log().item(), segments=packed())
    assert relative_norm(sigmoid_attention(*inputs, segments=packed()), fixed) < 1e-6


lengths_of_documents = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5)


@given(lengths=lengths_of_documents, gap=st.integers(0, 3), causal=st.booleans(), heads=st.sampled_from([1, 2, 4]))
def test_any_segments(lengths, gap, causal, heads):
    """Against the oracle, which reads the same table; NaN in the gaps."""
    queries, keys = zip(*lengths, strict=True)
    segments = packed(
        queries,
        keys,
        padded_query=cumulative([length + gap for length in queries]),
        padded_key=cumulative([length + gap for length in keys]),
    )
    case = Case(
        queries=sum(queries) + gap * len(lengths) + 1,
        keys=sum(keys) + gap * len(lengths) + 1,
        heads=heads,
        groups=1,
        head_dim=4,
        band=CAUSAL if causal else Band(),
        segments=segments,
    )
    inputs = leaves(*case.inputs())
    ours = results(lambda *qkv: sigmoid_attention(*qkv, **case.options()), inputs)
    truth = results(case.oracle, inputs)
    assert all(torch.allclose(ours[name].double(), truth[name].double(), atol=1e-5) for name in truth)
