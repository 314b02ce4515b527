"""Sigmoid attention's backends: one per kernel."""

from collections.abc import Iterator

from torch import Tensor

from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.choice import AUTOMATIC, FACT_REASONS, CallFacts
from triptych.kernels.flash_sigmoid.operator import Kernel
from triptych.models.attention.registry.registry import Backend
from triptych.models.attention.registry.request import AttentionCall, AttentionRequest


def sigmoid_backends() -> Iterator[Backend]:
    """The kernels, the preferred first; none that is not chosen by itself comes before one that is."""
    names: list[Kernel] = [*AUTOMATIC, *(name for name in FACT_REASONS if name not in AUTOMATIC)]
    for name in names:
        yield _backend(name)


def _backend(kernel: Kernel) -> Backend:
    def refusal(request: AttentionRequest) -> str | None:
        return _function_reason(request) or FACT_REASONS[kernel](_facts(request))

    def attend(query_BSHD: Tensor, key_BTGD: Tensor, value_BTGE: Tensor, call: AttentionCall) -> Tensor:
        return sigmoid_attention(
            query_BSHD,
            key_BTGD,
            value_BTGE,
            bias=call.bias,
            scale=call.scale,
            band=call.band,
            segments=call.segments,
            slopes=call.slopes,
            sigmoid=call.sigmoid,
            kernel=kernel,
        )

    return Backend(name=kernel, function="sigmoid", refusal=refusal, attend=attend, automatic=kernel in AUTOMATIC)


def _function_reason(request: AttentionRequest) -> str | None:
    """What no kernel of ours does."""
    if request.dropout and request.training:
        return f"dropout of weights ({request.dropout:g}) is not built"
    if request.softcap:
        return f"softcap ({request.softcap:g}) is not built"
    if request.additive_bias:
        return "a matrix added to the scores is not built; ALiBi and a bias per head are"
    if request.arbitrary_mask:
        return "an arbitrary mask is not built; causal, windows, padding and packed sequences are"
    return None


def _facts(request: AttentionRequest) -> CallFacts:
    return CallFacts(
        device=request.device,
        capability=request.capability,
        dtype=request.dtype,
        head_dims=request.head_dims,
        sigmoid=request.sigmoid,
    )
