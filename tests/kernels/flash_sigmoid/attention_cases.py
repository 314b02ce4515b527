"""One call of the attention beside the oracle: what is asked, what both give, and how far apart they may be."""

import math
from dataclasses import dataclass

import torch

from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.problem import Band, minus_log, minus_log_of_each
from triptych.kernels.flash_sigmoid.reference import reference_attention

FULL = Band()
NORM_TOLERANCE = {torch.float32: 2e-6, torch.float16: 1.5 * 2.0**-11, torch.bfloat16: 1.5 * 2.0**-8}
"""Of the Frobenius norm of an error, relative: half a unit in the last place of every result, and of P and dS where a
kernel rounds them for its products.
"""


@dataclass(kw_only=True, frozen=True)
class Case:
    """keys, groups and value_dim are those of the queries where they are None. slopes: as the argument."""

    rows: int = 1
    queries: int = 20
    keys: int | None = None
    heads: int = 2
    groups: int | None = None
    head_dim: int = 16
    value_dim: int | None = None
    dtype: torch.dtype = torch.float32
    band: Band = FULL
    bias: object = -2.0
    slopes: torch.Tensor | None = None
    segments: object = None
    scale: float | None = None

    def inputs(self, seed=0):
        """query, key, value: normal samples that ask for gradients."""
        generator = torch.Generator().manual_seed(seed)
        keys, groups = self.keys or self.queries, self.groups or self.heads
        shapes = (
            (self.queries, self.heads, self.head_dim),
            (keys, groups, self.head_dim),
            (keys, groups, self.value_dim or self.head_dim),
        )
        return [torch.randn(self.rows, *shape, generator=generator).to(self.dtype).requires_grad_() for shape in shapes]

    def options(self):
        names = ("band", "bias", "slopes", "segments", "scale")
        return {name: getattr(self, name) for name in names}

    def resolved_bias(self):
        keys = (self.keys or self.queries) if self.segments is None else self.segments.max_key_length
        if self.bias == "-log n of each" and self.segments is not None:
            return minus_log_of_each(self.segments)
        return minus_log(keys) if isinstance(self.bias, str) else self.bias

    def oracle(self, query, key, value, dtype=torch.float64, bias=None):
        return reference_attention(
            query,
            key,
            value,
            scale=1 / math.sqrt(query.shape[3]) if self.scale is None else self.scale,
            bias=self.resolved_bias() if bias is None else bias,
            band=self.band,
            segments=self.segments,
            slopes=self.slopes,
            dtype=dtype,
        )


def results(function, inputs, bias=None, seed=1):
    """{"out", "dq", "dk", "dv", and "db" where the bias asks for a gradient}, for a normal sample of dO."""
    asking = [*inputs, *([bias] if isinstance(bias, torch.Tensor) and bias.requires_grad else [])]
    out = function(*inputs)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).to(inputs[0].dtype)
    grads = torch.autograd.grad(out, asking, grad.to(out.dtype))
    return dict(zip(("out", "dq", "dk", "dv", "db"), (out.detach(), *grads), strict=False))


def compared(case, attention=sigmoid_attention, seed=0):
    """Of each result: (ours, the oracle's, what the oracle's operations give in the case's own dtype)."""
    inputs = case.inputs(seed)
    bias = case.bias
    if isinstance(bias, torch.Tensor):
        bias = bias.detach().clone().requires_grad_()
    tensor = bias if isinstance(bias, torch.Tensor) else None
    ours = results(lambda *qkv: attention(*qkv, **case.options() | {"bias": bias}), inputs, bias)
    truth = results(lambda *qkv: case.oracle(*qkv, bias=tensor), inputs, bias)
    unfused = results(lambda *qkv: case.oracle(*qkv, bias=tensor, dtype=case.dtype), inputs, bias)
    return {name: (ours[name], truth[name], unfused[name]) for name in truth}


def relative_norm(x, truth):
    x, truth = x.detach().double(), truth.detach().double()
    return float((x - truth).norm() / truth.norm().clamp(min=1e-30))


def worst_allowed(truth, unfused, dtype):
    """The criterion of flash-attention 3's tests: twice the error of what is not fused, and twice the rounding of the
    result in its own dtype. In fp32 an error is mostly the order of a sum, of which the unfused is but one: there the
    tolerance of the norm holds for the worst element too, beside the largest.
    """
    rounded = truth.to(dtype)
    floor = 2 * (rounded + 0.3 - 0.3 - rounded).abs().max().double()
    if dtype == torch.float32:
        floor = torch.maximum(floor, NORM_TOLERANCE[dtype] * truth.abs().max())
    return 2 * (unfused.double() - truth.double()).abs().max() + floor


def norm_allowed(truth, unfused, dtype):
    """Where P is next to 1, fp32 itself does not hold 1 - P: twice the unfused error is allowed there."""
    own = 2 * relative_norm(unfused, truth) if dtype == torch.float32 else 0.0
    return max(NORM_TOLERANCE[dtype], own)


def assert_right(case, attention=sigmoid_attention, seed=0):
    """Each result within both criteria: in norm, and in its worst element."""
    for name, (ours, truth, unfused) in compared(case, attention, seed).items():
        error, allowed = relative_norm(ours, truth), norm_allowed(truth, unfused, case.dtype)
        assert error < allowed, f"{name}: relative error {error:.2e}, allowed {allowed:.2e}"
        worst, allowed = (ours.double() - truth).abs().max(), worst_allowed(truth, unfused, case.dtype)
        assert worst <= allowed, f"{name}: worst error {worst:.2e}, allowed {allowed:.2e}"


def leaves(*inputs):
    """Fresh tensors of the same values that ask for gradients."""
    return [x.detach().clone().requires_grad_() for x in inputs]
