"""The drop-in's values and gradients against the oracle, in every format and mask type, with NaN in all padding.

Shape legend: S positions, H heads, G key-value heads, D head dimension of queries and keys, E of values.
"""

import itertools
import math

import pytest
import torch
from einops import rearrange

from triptych.kernels.flash_sigmoid.problem import Band
from triptych.kernels.flash_sigmoid.reference import reference_attention
from triptych.models.attention.transformer_engine.dot_product_attention import SigmoidDotProductAttention
from triptych.models.attention.transformer_engine.formats import Lengths

HEADS, GROUPS, DIM, DIM_V = 4, 2, 8, 6
BIAS = -1.25
QUERIES, KEYS = (5, 9, 0, 7), (7, 9, 4, 3)
"""Lengths of four sequences: more keys than queries, as many, no queries, fewer."""
ALL_QUERIES, ALL_KEYS = 9, 11
"""What dense rows are filled up to."""
TYPES = ("no_mask", "padding", "causal", "padding_causal", "causal_bottom_right", "padding_causal_bottom_right")


def band_by_hand(mask_type, window, diagonal):
    """What Transformer Engine documents of mask types, windows and diagonals."""
    causal = "causal" in mask_type
    bottom = mask_type.endswith("bottom_right") if causal else diagonal is not False
    left, right = window or ((-1, 0) if causal else (-1, -1))
    return Band(left=left, right=right, alignment="bottom_right" if bottom else "top_left")


def drawn(lengths):
    """Queries, keys and values of each sequence alone, fp32 [S, H, D]."""
    draw = torch.Generator().manual_seed(1)
    return [
        [torch.randn(num, heads, dim, generator=draw) for num, heads, dim in zip(each, *SHAPES, strict=True)]
        for each in lengths
    ]


SHAPES = ((HEADS, GROUPS, GROUPS), (DIM, DIM, DIM_V))


def dense(pieces, sizes, layout, side="right"):
    """Layers of [B, S, ...] or [S, B, ...] with the pieces at one side of each row and NaN elsewhere."""
    layers = []
    for kind, size in enumerate(sizes):
        rows = torch.full((len(pieces), size, *pieces[0][kind].shape[1:]), torch.nan)
        for row, piece in zip(rows, pieces, strict=True):
            num = len(piece[kind])
            row[slice(num) if side == "right" else slice(size - num, size)] = piece[kind]
        layers.append((rows if layout == "bshd" else rearrange(rows, "b s h d -> s b h d")).requires_grad_())
    return layers


def packed(pieces, gaps):
    """Layers of thd, with `gaps` rows of NaN behind each sequence, and the running sums with them."""
    layers, starts = [], []
    for kind in range(3):
        sizes = [len(piece[kind]) + gap for piece, gap in zip(pieces, gaps, strict=True)]
        starts.append([0, *itertools.accumulate(sizes)])
        layer = torch.full((sum(sizes), *pieces[0][kind].shape[1:]), torch.nan)
        for piece, start in zip(pieces, starts[-1][:-1], strict=True):
            layer[start : start + len(piece[kind])] = piece[kind]
        layers.append(layer.requires_grad_())
    return layers, starts


def sums(lengths):
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)


def oracle(pieces, band, weight, slopes=None):
    """Output and gradients of each sequence alone, fp64. weight: of the output in the scalar that is differentiated."""
    found = []
    for index, piece in enumerate(pieces):
        leaves = [x.double()[None].requires_grad_() for x in piece]
        out = reference_attention(*leaves, scale=1 / math.sqrt(DIM), bias=BIAS, band=band, slopes=slopes)
        (out * weight(index, out.shape[1])).sum().backward()
        found.append([x[0] for x in (out.detach(), *(leaf.grad for leaf in leaves))])
    return found


def weight(index, num):
    """fp64 [num, H, E], other at each position of each sequence."""
    positions = torch.arange(num * HEADS * DIM_V, dtype=torch.float64).view(num, HEADS, DIM_V)
    return (positions * 0.37 + index).cos()


def assert_agree(ours, theirs):
    torch.testing.assert_close(ours.double(), theirs, atol=2e-5, rtol=2e-5)


def assert_padding_is_zero(layers, expected):
    """Each layer equals its pieces, laid out again with 0 for padding."""
    for ours, theirs in zip(layers, expected, strict=True):
        assert not ours.isnan().any()
        assert_agree(ours, theirs)


def laid_out(found, sizes, layout, side):
    """The oracle's output and gradients where the drop-in has them, 0 in all padding."""
    rows = []
    for kind, size in enumerate(sizes):
        whole = torch.zeros(len(found), size, *found[0][kind].shape[1:], dtype=torch.float64)
        for row, piece in zip(whole, found, strict=True):
            num = len(piece[kind])
            row[slice(num) if side == "right" else slice(size - num, size)] = piece[kind]
        rows.append(whole if layout == "bshd" else rearrange(whole, "b s h d -> s b h d"))
    return rows


def run_dense(mask_type, layout, lengths, *, side="right", window=None, diagonal=None, **call):
    """Output and gradients of the drop-in and of the oracle, in the layout of the call."""
    pieces = drawn([(q, k, k) for q, k in lengths])
    sizes = (ALL_QUERIES, ALL_KEYS, ALL_KEYS)
    layers = dense(pieces, sizes, layout, side)
    module = SigmoidDotProductAttention(
        HEADS, (DIM, DIM_V), GROUPS, attention_type="cross", qkv_format=layout, bias=BIAS
    )
    out = module(
        *layers, **call, attn_mask_type=mask_type, window_size=window, bottom_right_diagonal=diagonal
    ).unflatten(-1, (HEADS, DIM_V))
    weights = laid_out([[weight(i, q)] for i, (q, _) in enumerate(lengths)], sizes[:1], layout, side)[0]
    torch.where(weights != 0, out * weights, 0.0).sum().backward()
    found = oracle(pieces, band_by_hand(mask_type, window, diagonal), weight, call.get("alibi_slopes"))
    ours = [out.detach(), *(layer.grad for layer in layers)]
    return ours, laid_out(found, (ALL_QUERIES, *sizes), layout, side)


def masks_of(lengths, side="right"):
    """A pair of masks of padding, True where padded."""
    masks = []
    for column, size in enumerate((ALL_QUERIES, ALL_KEYS)):
        num = torch.tensor([each[column] for each in lengths])[:, None]
        place = torch.arange(size)
        padded = place >= num if side == "right" else place < size - num
        masks.append(padded[:, None, None, :])
    return tuple(masks)


WHOLE = [(ALL_QUERIES, ALL_KEYS)] * 2
RAGGED = list(zip(QUERIES, KEYS, strict=True))


@pytest.mark.parametrize("layout", ["sbhd", "bshd"])
@pytest.mark.parametrize("mask_type", TYPES)
def test_dense_formats(layout, mask_type):
    padding = {"attention_mask": masks_of(RAGGED)} if "padding" in mask_type else {}
    assert_padding_is_zero(*run_dense(mask_type, layout, RAGGED if padding else WHOLE, **padding))


@pytest.mark.parametrize("mask_type", [name for name in TYPES if "padding" in name])
def test_running_sums_say_what_masks_say(mask_type):
    running = {"cu_seqlens_q": sums(QUERIES), "cu_seqlens_kv": sums(KEYS)}
    assert_padding_is_zero(*run_dense(mask_type, "bshd", RAGGED, **running))


def test_running_sums_come_before_masks():
    running = {"cu_seqlens_q": sums(QUERIES), "cu_seqlens_kv": sums(KEYS), "attention_mask": masks_of(WHOLE * 2)}
    assert_padding_is_zero(*run_dense("padding", "bshd", RAGGED, **running))


@pytest.mark.parametrize("mask_type", ["padding", "padding_causal_bottom_right"])
def test_padding_on_the_left(mask_type):
    masks = masks_of(RAGGED, side="left")
    assert_padding_is_zero(*run_dense(mask_type, "bshd", RAGGED, side="left", attention_mask=masks))


@pytest.mark.parametrize("mask_type", ["no_mask", "causal"])
def test_masks_are_not_looked_at_without_padding(mask_type):
    assert_padding_is_zero(*run_dense(mask_type, "bshd", WHOLE, attention_mask=masks_of(RAGGED)))


@pytest.mark.parametrize(
    ("mask_type", "window"),
    [
        ("no_mask", (2, 1)),
        ("no_mask", (0, 0)),
        ("causal", (3, 0)),
        ("causal_bottom_right", (3, 0)),
        ("padding", (2, 3)),
    ],
)
@pytest.mark.parametrize("diagonal", [None, False, True])
def test_windows_and_their_diagonal(mask_type, window, diagonal):
    padding = {"attention_mask": masks_of(RAGGED)} if "padding" in mask_type else {}
    lengths = RAGGED if padding else WHOLE
    assert_padding_is_zero(*run_dense(mask_type, "bshd", lengths, window=window, diagonal=diagonal, **padding))


@pytest.mark.parametrize("mask_type", ["no_mask", "causal", "padding_causal"])
def test_alibi(mask_type):
    padding = {"attention_mask": masks_of(RAGGED)} if "padding" in mask_type else {}
    lengths = RAGGED if padding else WHOLE
    slopes = torch.tensor([0.5, 0.25, 0.125, 0.0625])
    alibi = {"core_attention_bias_type": "alibi", "alibi_slopes": slopes}
    assert_padding_is_zero(*run_dense(mask_type, "bshd", lengths, **padding, **alibi))


def run_thd(mask_type, gaps, **call):
    pieces = drawn([(q, k, k) for q, k in RAGGED])
    layers, starts = packed(pieces, gaps)
    module = SigmoidDotProductAttention(HEADS, (DIM, DIM_V), GROUPS, qkv_format="thd", bias=BIAS)
    if any(gaps):
        padded = [torch.tensor(each, dtype=torch.int32) for each in starts[:2]]
        call |= {"cu_seqlens_q_padded": padded[0], "cu_seqlens_kv_padded": padded[1]}
    out = module(
        *layers, cu_seqlens_q=sums(QUERIES), cu_seqlens_kv=sums(KEYS), attn_mask_type=mask_type, **call
    ).unflatten(-1, (HEADS, DIM_V))
    found = oracle(pieces, band_by_hand(mask_type, None, None), weight)
    found_starts = [starts[0], *starts]
    expected = []
    for kind, (like, start) in enumerate(zip([out, *layers], found_starts, strict=True)):
        whole = torch.zeros(like.shape, dtype=torch.float64)
        for piece, at in zip(found, start[:-1], strict=True):
            whole[at : at + len(piece[kind])] = piece[kind]
        expected.append(whole)
    weights = torch.zeros(out.shape, dtype=torch.float64)
    for i, (num, at) in enumerate(zip(QUERIES, starts[0][:-1], strict=True)):
        weights[at : at + num] = weight(i, num)
    torch.where(weights != 0, out * weights, 0.0).sum().backward()
    return [out.detach(), *(layer.grad for layer in layers)], expected


@pytest.mark.parametrize("gaps", [(0, 0, 0, 0), (2, 0, 3, 4), (0, 0, 0, 5)], ids=["dense", "gaps", "tail"])
@pytest.mark.parametrize("mask_type", [name for name in TYPES if "padding" in name])
def test_packed_sequences(mask_type, gaps):
    assert_padding_is_zero(*run_thd(mask_type, gaps))


def test_packed_sequences_with_their_lengths_given():
    lengths = {"max_seqlen_q": 9, "max_seqlen_kv": 9, "pad_between_seqs": True}
    assert_padding_is_zero(*run_thd("padding_causal", (1, 2, 3, 0), **lengths))


@pytest.mark.parametrize("lengths", [{}, {"max_seqlen_q": 9, "max_seqlen_kv": 9}], ids=["found", "given"])
def test_n_of_packed_sequences_is_that_of_the_longest(lengths):
    pieces = drawn([(q, k, k) for q, k in RAGGED])
    layers, _ = packed(pieces, (1, 0, 2, 0))
    running = {"cu_seqlens_q": sums(QUERIES), "cu_seqlens_kv": sums(KEYS)}
    running |= {f"{name}_padded": value + sums((1, 0, 2, 0)) for name, value in running.items()}
    modules = [
        SigmoidDotProductAttention(HEADS, (DIM, DIM_V), GROUPS, qkv_format="thd", attn_mask_type="padding", bias=bias)
        for bias in ("-log n", -math.log(max(KEYS)))
    ]
    outs = [module(*layers, **running, **lengths) for module in modules]
    assert torch.equal(*outs)


def test_bounds_of_lengths_are_the_longest_ones():
    segments = Lengths(
        attention_mask=None,
        cu_seqlens_q=sums(QUERIES),
        cu_seqlens_kv=sums((7, 12, 4, 3)),
        cu_seqlens_q_padded=None,
        cu_seqlens_kv_padded=None,
        max_seqlen_q=None,
        max_seqlen_kv=None,
        pad_between_seqs=None,
    ).packed("top_left")
    assert (segments.max_query_length, segments.max_key_length) == (9, 12)


@pytest.mark.parametrize("dim", [-3, -2])
@pytest.mark.parametrize("layout", ["sbhd", "bshd", "thd"])
def test_packed_layers_are_their_parts(layout, dim):
    module = SigmoidDotProductAttention(4, 8, qkv_format=layout, attn_mask_type="padding_causal")
    shape = (10, 4, 8) if layout == "thd" else (5, 2, 4, 8)
    rows = {"sbhd": 2, "bshd": 5, "thd": 2}[layout]
    length = {"sbhd": 5, "bshd": 2, "thd": 5}[layout]
    running = {f"cu_seqlens_{side}": sums([length] * rows) for side in ("q", "kv")}
    draw = torch.Generator().manual_seed(2)
    parts = [torch.randn(shape, generator=draw) for _ in range(3)]
    alone = module(*parts, **running)
    interleaved = {"qkv_interleave_dim": dim, **running}
    assert torch.equal(module(qkv_layer=torch.stack(parts, dim), **interleaved), alone)
    assert torch.equal(module(parts[0], kv_layer=torch.stack(parts[1:], dim), **interleaved), alone)


@pytest.mark.parametrize("layout", ["sbhd", "bshd"])
def test_outputs_need_no_copy(layout):
    """Heads are flattened without moving anything: the output is laid out as the queries are."""
    query = torch.randn(6, 3, 4, 8)
    module = SigmoidDotProductAttention(4, 8, qkv_format=layout)
    out = module(query, query, query)
    assert out.shape == (6, 3, 32)
    assert out.is_contiguous()


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("padding,causal", "padding_causal"),
        ("causal,padding", "padding_causal"),
        ("padding,causal_bottom_right", "padding_causal_bottom_right"),
    ],
)
def test_names_of_one_mask_type(name, canonical):
    layers = [torch.randn(2, 5, 4, 8) for _ in range(3)]
    module = SigmoidDotProductAttention(4, 8, qkv_format="bshd")
    mask = torch.arange(5).ge(torch.tensor([[3], [5]]))[:, None, None, :]
    outs = [module(*layers, mask, attn_mask_type=each) for each in (name, canonical)]
    assert torch.equal(*outs)


@pytest.mark.parametrize(
    ("mask_type", "window", "taken"),
    [
        ("causal", (-1, -1), (-1, 0)),
        ("causal", (2, 3), (2, 0)),
        ("padding_causal_bottom_right", (2, -1), (2, 0)),
        ("no_mask", (-1, 0), (-1, -1)),
    ],
)
def test_windows_that_do_not_fit_are_coerced_with_a_warning(mask_type, window, taken):
    with pytest.warns(UserWarning, match=r"window_size \(") as caught:
        SigmoidDotProductAttention(4, 8, attn_mask_type=mask_type, window_size=window)
    assert str(taken) in str(caught[0].message)


def test_a_window_is_coerced_once_and_for_all_calls():
    """As in Transformer Engine, whose constructor keeps the coerced one."""
    query = torch.randn(6, 1, 4, 8)
    with pytest.warns(UserWarning, match=r"taken as \(2, 0\)"):
        module = SigmoidDotProductAttention(4, 8, attn_mask_type="causal", window_size=(2, 3))
    layers = (query, query, query)
    found = module(*layers, attn_mask_type="no_mask")
    torch.testing.assert_close(found, module(*layers, attn_mask_type="no_mask", window_size=(2, 0)))
