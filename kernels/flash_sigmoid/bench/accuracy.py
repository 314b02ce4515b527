"""Errors against fp64, of a sample: whole references of long sequences would take the machine's minutes.

Shape legend: B rows, S positions of queries and keys, H heads, D head dimension, R sampled positions, E sampled keys.
"""

import math

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid.bench.cases import Shape
from triptych.kernels.flash_sigmoid.bench.contenders import Contender, draw
from triptych.kernels.flash_sigmoid.problem import minus_log

NUM_SAMPLED = 64
_NUM_POISONED = 4
"""Blocks of a gradient's size: three of them, and dO laid out anew."""
_WEIGHTS_QUERIES, _WEIGHTS_DIM = 128, 128
_SPREAD = 1.5
"""Standard deviation of the logits around the bias, our choice: QK-norm leaves them about there."""


def errors(contender: Contender, shape: Shape, device: torch.device) -> dict[str, float]:
    """Of the output and the gradients of queries, keys and values, for the last head of the last row: |x - ref| / |ref|
    over sampled positions, and the largest absolute difference (`.._max`). ArithmeticError where one is not finite.
    """
    contender.require(shape)
    query, key, value, grad = draw(shape, device, seed=1)
    for x in (query, key, value):
        x.requires_grad_()
    _poison(query)
    out = contender.call(query, key, value, shape)
    _poison(query)
    gradients = torch.autograd.grad(out, (query, key, value), grad)
    positions_R = _sample(shape.length, device)
    got = {"out": out, "dq": gradients[0], "dk": gradients[1], "dv": gradients[2]}
    one_SD, two_SD, three_SD, four_SD = (x[-1, :, -1].detach() for x in (query, key, value, grad))
    want = reference_rows(one_SD, two_SD, three_SD, four_SD, positions_R, shape.causal)
    found: dict[str, float] = {}
    for name, x in got.items():
        if not x.isfinite().all():
            raise ArithmeticError(f"{name} holds NaN or infinity")
        difference = x.detach()[-1, positions_R, -1].double() - want[name]
        found[name] = float(difference.norm() / want[name].norm())
        found[f"{name}_max"] = float(difference.abs().max())
    return found


def reference_rows(
    query_SD: Tensor, key_SD: Tensor, value_SD: Tensor, grad_SD: Tensor, positions_R: Tensor, causal: bool
) -> dict[str, Tensor]:
    """Output and gradients of one head at these positions, [R, D] in fp64: rows of P for the output and the queries,
    columns of it for keys and values.
    """
    query, key, value, grad = (x.double() for x in (query_SD, key_SD, value_SD, grad_SD))
    scale, bias = 1 / math.sqrt(query.shape[1]), minus_log(len(key))
    everywhere = torch.arange(len(key), device=key.device)
    weights_RS = (query[positions_R] @ key.T * scale + bias).sigmoid()
    columns_SR = (query @ key[positions_R].T * scale + bias).sigmoid()
    if causal:
        weights_RS = weights_RS * (everywhere[None] <= positions_R[:, None])
        columns_SR = columns_SR * (positions_R[None] <= everywhere[:, None])
    slope_RS = weights_RS * (1 - weights_RS) * (grad[positions_R] @ value.T)
    slope_SR = columns_SR * (1 - columns_SR) * (grad @ value[positions_R].T)
    return {
        "out": weights_RS @ value,
        "dq": slope_RS @ key * scale,
        "dk": slope_SR.T @ query * scale,
        "dv": columns_SR.T @ grad,
    }


def weight_errors(contender: Contender, num_keys: int, dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    """Errors of single P = sigma(s - log n), relative to fp64: of values that are unit vectors the output is P.

    max, and the signed mean, which adds up over n keys where the rounding of single weights averages out. row_sum: the
    signed mean error of sum P, of values that are all one. negative: share of weights below 0. Values are scaled by a
    power of two, so that half precision holds weights of 1/n; P is still rounded to the dtype before it meets values.
    """
    query_SD, key_SD, unit_SE, at_E = _unit_values(num_keys, device, dtype)
    scale_up = unit_SE[at_E[0], 0].double()
    query, key, value = (x[None, :, None] for x in (query_SD, key_SD, unit_SE))
    scores_RS = query_SD.double() @ key_SD.double().T / math.sqrt(_WEIGHTS_DIM) + minus_log(num_keys)
    want_RS = scores_RS.sigmoid()
    shape = Shape(batch=1, length=num_keys, num_heads=1, head_dim=_WEIGHTS_DIM, dtype=str(dtype).removeprefix("torch."))
    with torch.no_grad():
        got_RE = contender.call(query, key, value, shape)[0, :, 0, : len(at_E)].double() / scale_up
        sums_RE = contender.call(query, key, torch.ones_like(value), shape)[0, :, 0].double()
    if not (got_RE.isfinite().all() and sums_RE.isfinite().all()):
        raise ArithmeticError("weights hold NaN or infinity")
    relative_RE = got_RE / want_RS[:, at_E] - 1
    return {
        "max": float(relative_RE.abs().max()),
        "mean": float(relative_RE.mean()),
        "row_sum": float((sums_RE / want_RS.sum(1, keepdim=True) - 1).mean()),
        "negative": float((got_RE < 0).double().mean()),
    }


def _unit_values(num_keys: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, values of which column e is a power of two near n at one key and 0 elsewhere, and those keys."""
    generator = torch.Generator(device).manual_seed(2)
    query_SD = _SPREAD * torch.randn(_WEIGHTS_QUERIES, _WEIGHTS_DIM, generator=generator, device=device)
    key_SD = torch.randn(num_keys, _WEIGHTS_DIM, generator=generator, device=device)
    at_E = _sample(num_keys, device, _WEIGHTS_DIM)
    value_SE = torch.zeros(num_keys, _WEIGHTS_DIM, device=device)
    value_SE[at_E, torch.arange(len(at_E), device=device)] = 2.0 ** round(math.log2(num_keys))
    return query_SD.to(dtype), key_SD.to(dtype), value_SE.to(dtype), at_E


def _sample(length: int, device: torch.device, number: int = NUM_SAMPLED) -> Tensor:
    """Positions over the whole length, both ends among them, each once."""
    return torch.linspace(0, length - 1, min(number, length), device=device).round().long()


def _poison(like: Tensor) -> None:
    """Leave NaN where the allocator will hand out memory next, so that what a kernel does not write shows."""
    together = [torch.full_like(like, torch.nan) for _ in range(_NUM_POISONED)]  # one by one, they would be one block
    del together
