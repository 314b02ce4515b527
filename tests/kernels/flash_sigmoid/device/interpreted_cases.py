"""One call of the interpreted kernels beside the reference: what was asked, what both gave."""

import math
from dataclasses import dataclass

import torch
from interpreted import launcher

from triptych.kernels.flash_sigmoid.problem import Band, Problem
from triptych.kernels.flash_sigmoid.reference import reference_attention

ROUNDING = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""Half the distance of neighbours, relative: what one rounding costs at most."""


EVERYTHING = Band()


@dataclass(kw_only=True)
class Case:
    """A call. blocks: queries and keys of a tile, and what else the launcher takes."""

    queries: int = 40
    keys: int = 40
    heads: int = 2
    groups: int = 2
    head_dim: int = 16
    value_dim: int = 16
    rows: int = 1
    dtype: torch.dtype = torch.float32
    band: Band = EVERYTHING
    bias: object = -2.0
    slopes: torch.Tensor | None = None
    segments: object = None
    scale: float = 0.3
    sigmoid: str = "accurate"
    blocks: tuple[int, ...] = (32, 32)

    def tensors(self, seed=0):
        """query, key, value and the gradient of the output, each a normal sample."""
        generator = torch.Generator().manual_seed(seed)
        shapes = (
            (self.queries, self.heads, self.head_dim),
            (self.keys, self.groups, self.head_dim),
            (self.keys, self.groups, self.value_dim),
            (self.queries, self.heads, self.value_dim),
        )
        return [torch.randn(self.rows, *shape, generator=generator).to(self.dtype) for shape in shapes]

    @property
    def problem(self):
        table = None if self.segments is None else self.segments.table_N6
        num_segments = self.rows if table is None else len(table)
        bias = self.bias if isinstance(self.bias, torch.Tensor) else None
        expanded = [None if x is None else x.float().expand(num_segments, self.heads) for x in (bias, self.slopes)]
        return Problem(
            scale=self.scale,
            bias_value=0.0 if bias is not None else self.bias,
            left=self.band.left,
            right=self.band.right,
            shift=self.keys - self.queries if self.band.alignment == "bottom_right" else 0,
            max_query_length=self.queries if self.segments is None else self.segments.max_query_length,
            max_key_length=self.keys if self.segments is None else self.segments.max_key_length,
            sigmoid=self.sigmoid,
            bias_NH=expanded[0],
            slopes_NH=expanded[1],
            table_N6=table,
        )

    def kernels(self, query, key, value, grad):
        """O, dQ, dK, dV, and dbias where the bias is a tensor."""
        run = launcher(*self.blocks)
        out = run.forward(query, key, value, self.problem)
        gradients = run.backward(grad, query, key, value, self.problem)
        return [out, *(x for x in gradients if x is not None)]

    def reference(self, query, key, value, grad):
        """The same in fp64. dbias is that of each segment and head."""
        inputs = [x.double().requires_grad_() for x in (query, key, value)]
        bias = self.problem.bias_NH
        if bias is not None:
            bias = bias.double().clone().requires_grad_()
            inputs.append(bias)
        out = reference_attention(
            *inputs[:3],
            scale=self.scale,
            bias=self.bias if bias is None else bias,
            band=self.band,
            segments=self.segments,
            slopes=self.slopes,
        )
        return [out.detach(), *torch.autograd.grad(out, inputs, grad.double())]

    def errors(self, tensors=None):
        """Of each result, the Frobenius norm of the error relative to that of the reference, by name."""
        tensors = tensors or self.tensors()
        names = ("out", "dq", "dk", "dv", "dbias")
        pairs = zip(self.kernels(*tensors), self.reference(*tensors), strict=True)
        return {
            name: float((ours.double() - truth).norm() / truth.norm().clamp(min=1e-30))
            for name, (ours, truth) in zip(names, pairs, strict=False)
        }


def tolerance(dtype):
    """Of the relative Frobenius norm: P, dS and the results are rounded once each; inputs are exact, sums fp32's."""
    return 2e-6 if dtype == torch.float32 else 1.5 * ROUNDING[dtype]


def minus_log(length):
    return -math.log(length)
