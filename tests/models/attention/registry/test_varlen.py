"""Packed rows through torch's varlen_attn, for which a stand-in of its contract takes the GPU's place."""

import inspect
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import varlen as torch_varlen

from triptych.kernels.flash_sigmoid.problem import Band, Segments
from triptych.models.attention.documents import PackedDocuments
from triptych.models.attention.registry import softmax
from triptych.models.attention.registry.backends import REGISTRY
from triptych.models.attention.registry.request import AttentionCall, AttentionRequest

ON_AMPERE = AttentionRequest(
    function="softmax",
    device="cuda",
    capability=(8, 0),
    dtype=torch.bfloat16,
    head_dims=(64, 64),
    num_heads=4,
    num_groups=2,
    packed=True,
)
REFUSALS = [
    ({"device": "cpu", "capability": None}, "it runs on CUDA, and the tensors are on cpu"),
    ({"packed": False}, "these hold one"),
    ({"capability": (7, 5)}, "needs compute capability 8.0, this GPU has 7.5"),
    ({"dtype": torch.float32}, "takes fp16 and bf16"),
    ({"head_dims": (64, 32)}, "not 64 and 32"),
    ({"head_dims": (20, 20)}, "a multiple of 8"),
    ({"head_dims": (264, 264)}, "up to 256"),
    ({"band": Band(right=0)}, "causal masks"),
    ({"alibi": True}, "ALiBi"),
    ({"context_parallel_size": 2}, "one shard"),
    ({"deterministic": True}, "adds in any order"),
]
S = 16
LENGTHS_BD = torch.tensor([[5, 3, 0], [16, 0, 0], [0, 0, 0], [4, 4, 1]])
ROWS = PackedDocuments(lengths_BD=LENGTHS_BD, longest=16).laid_out(S)


def test_packed_rows_on_a_gpu_are_varlens_and_others_sdpas():
    assert REGISTRY.choose(ON_AMPERE).backend.name == "varlen"
    assert REGISTRY.choose(replace(ON_AMPERE, packed=False)).backend.name == "sdpa"
    assert REGISTRY.choose(replace(ON_AMPERE, dtype=torch.float32)).backend.name == "sdpa"


@pytest.mark.parametrize(("changes", "says"), REFUSALS)
def test_what_it_cannot_do_is_said(changes, says):
    assert says in softmax.varlen_reason(replace(ON_AMPERE, **changes))


class Undefined(torch.autograd.Function):
    """NaN where a kernel writes nothing, in values as in gradients."""

    @staticmethod
    def forward(ctx, x, written):
        ctx.save_for_backward(written)
        return torch.where(written[:, None, None], x, torch.nan)

    @staticmethod
    def backward(ctx, gradient):
        return torch.where(ctx.saved_tensors[0][:, None, None], gradient, torch.nan), None


def stand_in(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, **options):
    """Softmax within each segment, one after the other. What is beyond the bounds is left undefined: so is the whole
    segment here, which is more than a kernel leaves.
    """
    num_keys = key.shape[1]
    assert query.shape[1] == num_keys or options.get("enable_gqa")
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert cu_seq_q[0] == 0 and cu_seq_q[-1] == len(query) and cu_seq_k[-1] == len(key)
    written = torch.ones(len(query), dtype=torch.bool)
    pieces = []
    edges = zip(
        cu_seq_q[:-1].tolist(), cu_seq_q[1:].tolist(), cu_seq_k[:-1].tolist(), cu_seq_k[1:].tolist(), strict=True
    )
    for q0, q1, k0, k1 in edges:
        assert q0 <= q1 and k0 <= k1
        written[q0:q1] = q1 - q0 <= max_q and k1 - k0 <= max_k
        per_head = (x.repeat_interleave(query.shape[1] // num_keys, 1) for x in (key[k0:k1], value[k0:k1]))
        keys, values = per_head
        scores = torch.einsum("qhd,khd->hqk", query[q0:q1], keys) * scale
        pieces.append(torch.einsum("hqk,khe->qhe", scores.softmax(-1), values))
    assert bool((~written).any()) == (max_q < 16), "a segment of a document was beyond the bounds"
    query, value = (Undefined.apply(x, written) for x in (query, value))
    joined = torch.cat(pieces)
    return Undefined.apply(joined, written) + 0 * (query.nan_to_num() + value.sum(1, keepdim=True).nan_to_num())


def drawn():
    draw = torch.Generator().manual_seed(3)
    tensors = [torch.randn(4, S, heads, 8, generator=draw) for heads in (4, 2, 2)]
    for x in tensors:
        x[torch.arange(S) >= LENGTHS_BD.sum(1)[:, None]] = torch.nan  # padding
    return [x.requires_grad_() for x in tensors]


def outcome(attend, rows=ROWS):
    tensors = drawn()
    out = attend(*tensors, AttentionCall(scale=0.3, segments=rows.segments, layout=rows.layout))
    out.sin().sum().backward()
    return [out.detach(), *(x.grad for x in tensors)]


@pytest.mark.parametrize("grouped", [True, False], ids=["enable_gqa", "without enable_gqa, as in torch 2.11"])
def test_values_and_gradients_are_those_of_every_document_by_itself(grouped, monkeypatch):
    """With poisoned padding, rows without a document, and padding that is longer than a document may be."""
    if grouped:
        stand_in.__signature__ = inspect.signature(lambda *a, scale=None, enable_gqa=False: None)
    else:
        stand_in.__signature__ = inspect.signature(lambda *a, scale=None: None)
    monkeypatch.setattr(torch_varlen, "varlen_attn", stand_in)
    for mine, theirs in zip(outcome(softmax.varlen), outcome(softmax.sdpa), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)
        assert not mine.isnan().any()


def test_undefined_padding_reaches_nothing(monkeypatch):
    """Bounds that are the documents' own leave longer padding undefined."""
    lengths_BD = LENGTHS_BD.clamp(max=5)
    rows = PackedDocuments(lengths_BD=lengths_BD, longest=5).laid_out(S)
    stand_in.__signature__ = inspect.signature(lambda *a, scale=None, enable_gqa=False: None)
    monkeypatch.setattr(torch_varlen, "varlen_attn", stand_in)
    for mine, theirs in zip(outcome(softmax.varlen, rows), outcome(softmax.sdpa, rows), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


def test_torch_s_own_operator_takes_the_call():
    """Shapes and gradients' shapes, on a device without values."""
    rows = PackedDocuments(lengths_BD=LENGTHS_BD.to("meta"), longest=16).laid_out(S)
    tensors = [torch.empty(S, 4, n, 16, device="meta", dtype=torch.bfloat16, requires_grad=True) for n in (4, 2, 2)]
    call = AttentionCall(scale=0.3, segments=rows.segments, layout=rows.layout)
    out = softmax.varlen(*(x.transpose(0, 1) for x in tensors), call)
    assert (out.shape, out.dtype) == ((4, S, 4, 16), torch.bfloat16)
    out.sum().backward()
    assert [x.grad.shape for x in tensors] == [x.shape for x in tensors]


def table(*rows):
    return Segments(table_N6=torch.tensor(rows, dtype=torch.int32), max_query_length=S, max_key_length=S)


@pytest.mark.parametrize(
    "segments",
    [table([0, 0, 5, 0, 5, 0], [0, 4, 3, 4, 3, 0]), table([0, 10, 7, 10, 7, 0]), table([4, 0, 1, 0, 1, 0])],
    ids=["overlap", "beyond the row", "no such row"],
)
def test_segments_that_do_not_fit_are_refused_on_a_cpu(segments):
    tensors = [torch.zeros(4, S, heads, 8) for heads in (4, 2, 2)]
    with pytest.raises(ValueError, match="give lengths that fit"):
        softmax.sdpa(*tensors, AttentionCall(segments=segments))
