"""What the backends of softmax and of sigmoid attention say they cannot do, and what they compute."""

from dataclasses import replace

import pytest
import torch
from einops import einsum, repeat

from triptych.kernels.flash_sigmoid.problem import CAUSAL, Band, Segments
from triptych.kernels.flash_sigmoid.reference import reference_attention
from triptych.models.attention.registry.backends import REGISTRY
from triptych.models.attention.registry.request import AttentionCall, AttentionRequest

ON_CPU = {
    function: AttentionRequest(
        function=function, device="cpu", dtype=torch.float32, head_dims=(8, 8), num_heads=4, num_groups=2
    )
    for function in ("softmax", "sigmoid")
}
ON_HOPPER = {
    name: replace(request, device="cuda", capability=(9, 0), dtype=torch.bfloat16) for name, request in ON_CPU.items()
}

NEITHER = [
    ({"dropout": 0.1}, "dropout of weights (0.1)"),
    ({"softcap": 30.0}, "softcap (30)"),
    ({"additive_bias": True}, "a matrix added to the scores"),
    ({"arbitrary_mask": True}, "mask"),
]


@pytest.mark.parametrize("function", ["softmax", "sigmoid"])
@pytest.mark.parametrize(("changes", "says"), NEITHER)
def test_what_no_backend_does_is_said_by_all(function, changes, says):
    reasons = REGISTRY.reasons(replace(ON_CPU[function], **changes)).values()
    assert all(says in reason for reason in reasons)


@pytest.mark.parametrize("function", ["softmax", "sigmoid"])
def test_dropout_is_nothing_without_training(function):
    assert REGISTRY.choose(replace(ON_CPU[function], dropout=0.1, training=False)).backend


def test_sigmoid_on_hopper_is_tritons_and_gluon_waits_to_be_asked():
    pytest.importorskip("triton")
    choice = REGISTRY.choose(ON_HOPPER["sigmoid"])
    assert choice.backend.name == "triton"
    assert choice.reasons["gluon"] == "it can, but only if it is asked for"


def test_the_fast_sigmoid_is_not_the_blocked_kernels():
    assert 'sigmoid="tanh"' in REGISTRY.reasons(replace(ON_CPU["sigmoid"], sigmoid="tanh"))["blocked"]


def test_softmax_sees_no_other_shard():
    assert "one shard" in REGISTRY.reasons(replace(ON_CPU["softmax"], context_parallel_size=2))["sdpa"]
    assert REGISTRY.reasons(replace(ON_CPU["sigmoid"], context_parallel_size=2))["blocked"] is None


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"deterministic": True}, True),
        ({"deterministic": True, "training": False}, False),
        ({"deterministic": True, "device": "cpu"}, False),
        ({}, False),
    ],
)
def test_softmax_on_a_gpu_is_not_deterministic_by_itself(changes, refused):
    reason = REGISTRY.reasons(replace(ON_HOPPER["softmax"], **changes))["sdpa"]
    assert (reason is not None) == refused


PACKED = Segments(
    table_N6=torch.tensor([[0, 0, 5, 0, 4, -1], [0, 6, 3, 5, 6, 3], [1, 2, 0, 0, 3, 3], [1, 1, 9, 4, 7, -2]]).int(),
    max_query_length=9,
    max_key_length=7,
)
CALLS = {
    "full": {},
    "causal": {"band": CAUSAL},
    "top left": {"band": Band(right=0, alignment="top_left")},
    "window": {"band": Band(left=2, right=1)},
    "packed": {"segments": PACKED, "band": CAUSAL},
    "alibi": {"slopes": torch.tensor([0.5, 0.25, 0.1, 0.0]), "segments": PACKED},
}
NUM_QUERIES, NUM_KEYS = 10, 11


def softmax_reference(query_SHD, key_SGD, value_SGE, *, scale, band, shift, slopes_H):
    """softmax(scale Q K^T - slopes |i - j|) V of one segment, fp64; 0 where a query sees nothing."""
    key, value = (repeat(x, "s g d -> s (g r) d", r=query_SHD.shape[1] // x.shape[1]) for x in (key_SGD, value_SGE))
    i = torch.arange(query_SHD.shape[0])[:, None] + shift
    j = torch.arange(key_SGD.shape[0])[None]
    scores = einsum(query_SHD, key, "i h d, j h d -> h i j") * scale - slopes_H[:, None, None] * (i - j).abs()
    visible = torch.ones_like(i == j)
    if band.left >= 0:
        visible &= j >= i - band.left
    if band.right >= 0:
        visible &= j <= i + band.right
    weights = torch.where(visible, scores, -torch.inf).softmax(-1).nan_to_num(0.0)
    return einsum(weights, value, "h i j, j h e -> i h e")


def drawn(fill):
    """Queries, keys and values fp32; outside of PACKED's segments they hold `fill`."""
    draw = torch.Generator().manual_seed(3)
    tensors = [
        torch.randn(2, length, heads, 8, generator=draw)
        for length, heads in ((NUM_QUERIES, 4), (NUM_KEYS, 2), (NUM_KEYS, 2))
    ]
    if fill is not None:
        for x, column in zip(tensors, (1, 3, 3), strict=True):
            covered = torch.zeros(x.shape[:2], dtype=torch.bool)
            for row in PACKED.table_N6.tolist():
                covered[row[0], row[column] : row[column] + row[column + 1]] = True
            x[~covered] = fill
    return [x.requires_grad_() for x in tensors]


def sums_and_gradients(out, tensors):
    out.double().sin().sum().backward()
    gradients = [x.grad.double() for x in tensors]
    return [out.detach().double(), *gradients]


@pytest.mark.parametrize("name", CALLS)
def test_softmax_is_softmax(name):
    call = AttentionCall(scale=0.3, **CALLS[name])
    fill = torch.nan if call.segments else None
    tensors = drawn(fill)
    ours = sums_and_gradients(REGISTRY.choose(ON_CPU["softmax"]).backend.attend(*tensors, call), tensors)
    exact = [x.detach().double().nan_to_num(0.0).requires_grad_() for x in tensors]
    slopes = torch.zeros(4) if call.slopes is None else call.slopes
    out = torch.zeros(2, NUM_QUERIES, 4, 8, dtype=torch.float64)
    shift = 1 if call.band.alignment == "bottom_right" else 0
    table = [[row, 0, NUM_QUERIES, 0, NUM_KEYS, shift] for row in range(2)]
    for row, q0, num_q, k0, num_k, shift in call.segments.table_N6.tolist() if call.segments else table:
        query, key, value = (
            x[row, p : p + n] for x, p, n in zip(exact, (q0, k0, k0), (num_q, num_k, num_k), strict=True)
        )
        out[row, q0 : q0 + num_q] = softmax_reference(
            query, key, value, scale=0.3, band=call.band, shift=shift, slopes_H=slopes
        )
    for mine, theirs in zip(ours, sums_and_gradients(out, exact), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_a_sigmoid_backend_passes_everything_on():
    call = AttentionCall(
        scale=0.3, band=Band(left=3, right=0), segments=PACKED, slopes=CALLS["alibi"]["slopes"], bias=-1.5
    )
    tensors = [x.detach() for x in drawn(torch.nan)]
    out = REGISTRY.choose(ON_CPU["sigmoid"], "blocked").backend.attend(*tensors, call)
    exact = reference_attention(*tensors, scale=0.3, bias=-1.5, band=call.band, segments=PACKED, slopes=call.slopes)
    torch.testing.assert_close(out.double(), exact, atol=1e-5, rtol=1e-5)
