"""`sigmoid_attention`: one function for every layout, mask and bias.

Shape legend: B rows, S and T positions of queries and keys, H query heads, G key-value heads, D head dimension of
queries and keys, E of values, N segments (rows where there are none).
"""

import math
from typing import Literal

import torch
from torch import Tensor

from triptych.kernels.flash_sigmoid.choice import choose_kernel
from triptych.kernels.flash_sigmoid.operator import Kernel, attend
from triptych.kernels.flash_sigmoid.problem import Band, Problem, Segments, Sigmoid, minus_log, minus_log_of_each

Bias = float | Tensor | Literal["-log n", "-log n of each"]
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def sigmoid_attention(
    query_BSHD: Tensor,
    key_BTGD: Tensor,
    value_BTGE: Tensor,
    *,
    bias: Bias = "-log n",
    scale: float | None = None,
    band: Band | None = None,
    segments: Segments | None = None,
    slopes: Tensor | None = None,
    sigmoid: Sigmoid = "accurate",
    kernel: Kernel | None = None,
) -> Tensor:
    """sigma(scale Q K^T + bias - slopes |i - j|) V over the visible keys: [B, S, H, E] in the inputs' dtype.

    Tensors are views of any strides, so positions first (sbhd) and packed sequences (thd: one row, and `segments`) need
    no copy; one whose last dimension is not contiguous is copied. The output lies in memory as the queries do. G
    divides H; query head h reads key-value head h // (H / G). Under autocast the three tensors are cast to its dtype,
    as in scaled_dot_product_attention. A query that sees no key has an output of 0.

    bias: a number; a tensor that broadcasts to [N, H], which may ask for a gradient; "-log n" with n the number of keys
    T, or of the longest segment; "-log n of each", with n a segment's own. Where a model must be the same function at
    other lengths, or on a part of the keys, give it a number. scale: 1/sqrt(D) if None. slopes: ALiBi's, a tensor that
    broadcasts to [N, H], without a gradient. sigmoid: as the kernel computes it. kernel: None is what
    `choice.choose_kernel` takes: triton on CUDA, blocked elsewhere.

    ValueError names an argument that does not fit; gradients of gradients raise it too.
    """
    band = band or Band()
    query_BSHD, key_BTGD, value_BTGE = (_prepared(x) for x in (query_BSHD, key_BTGD, value_BTGE))
    _require_shapes(query_BSHD, key_BTGD, value_BTGE)
    num_rows, num_queries, num_heads, head_dim = query_BSHD.shape
    num_keys = key_BTGD.shape[1]
    if segments is not None and segments.table_N6.device != query_BSHD.device:
        raise ValueError(f"segments are on {segments.table_N6.device}, query on {query_BSHD.device}; move them there")
    if slopes is not None and slopes.requires_grad:
        raise ValueError("slopes ask for a gradient, which is not computed; detach them")
    bias_value, bias_tensor = _resolve_bias(bias, num_keys, segments)
    heads = (num_rows if segments is None else segments.table_N6.shape[0], num_heads)
    problem = Problem(
        scale=1 / math.sqrt(head_dim) if scale is None else _number("scale", scale),
        bias_value=bias_value,
        left=band.left,
        right=band.right,
        shift=num_keys - num_queries if band.alignment == "bottom_right" else 0,
        max_query_length=num_queries if segments is None else segments.max_query_length,
        max_key_length=num_keys if segments is None else segments.max_key_length,
        sigmoid=sigmoid,
        bias_NH=_per_head("bias", bias_tensor, heads, query_BSHD.device),
        slopes_NH=_per_head("slopes", slopes, heads, query_BSHD.device),
        table_N6=None if segments is None else segments.table_N6,
    )
    chosen = choose_kernel(query_BSHD, key_BTGD, value_BTGE, problem, kernel)
    return attend(query_BSHD, key_BTGD, value_BTGE, problem, chosen)


def _prepared(x: Tensor) -> Tensor:
    """In autocast's dtype where that is on, and with a contiguous last dimension."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device) and x.is_floating_point():
        x = x.to(torch.get_autocast_dtype(device))
    return x if x.ndim == 0 or x.stride(-1) == 1 else x.contiguous()


def _resolve_bias(bias: Bias, num_keys: int, segments: Segments | None) -> tuple[float, Tensor | None]:
    """The number and the tensor that add up to the bias."""
    if isinstance(bias, Tensor):
        return 0.0, bias
    if bias == "-log n" or (bias == "-log n of each" and segments is None):
        return minus_log(num_keys if segments is None else segments.max_key_length), None
    if bias == "-log n of each":
        assert segments is not None
        return 0.0, minus_log_of_each(segments)
    if isinstance(bias, str):
        raise ValueError(f'bias is {bias!r}; give a number, a tensor, "-log n" or "-log n of each"')
    return _number("bias", bias), None


def _number(name: str, value: float) -> float:
    if isinstance(value, Tensor) or not math.isfinite(value):
        raise ValueError(f"{name} is {value}; give a finite number")
    return float(value)


def _per_head(name: str, values: Tensor | None, heads: tuple[int, int], device: torch.device) -> Tensor | None:
    """fp32 [N, H]."""
    if values is None:
        return None
    if values.device != device:
        raise ValueError(f"{name} is on {values.device}, query on {device}; move it there")
    fits = values.ndim <= 2 and all(a in (1, b) for a, b in zip(values.shape[::-1], heads[::-1], strict=False))
    if not fits or values.is_complex():
        raise ValueError(
            f"{name} is {values.dtype} {list(values.shape)}, and there are {heads[0]} segments of {heads[1]} heads; "
            f"give a number, or real numbers [{heads[1]}] or [{heads[0]}, {heads[1]}]"
        )
    return values.float().broadcast_to(heads)


def _require_shapes(query: Tensor, key: Tensor, value: Tensor) -> None:
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.ndim != 4:
            raise ValueError(f"{name} has {x.ndim} dimensions; give [rows, positions, heads, head dimension]")
        if x.dtype not in DTYPES:
            raise ValueError(f"{name} is {x.dtype}; cast it to float32, float16 or bfloat16")
        if x.dtype != query.dtype or x.device != query.device:
            raise ValueError(
                f"{name} is {x.dtype} on {x.device}, query {query.dtype} on {query.device}; make them alike"
            )
        if x.shape[2] == 0 or x.shape[3] == 0:
            raise ValueError(f"{name} is {list(x.shape)}; give it a head and a head dimension of at least 1")
    if key.shape[:3] != value.shape[:3]:
        raise ValueError(
            f"key {list(key.shape)} and value {list(value.shape)} differ; give both the same keys and heads"
        )
    if query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise ValueError(
            f"query {list(query.shape)} and key {list(key.shape)} differ; give both the same rows and head dimension"
        )
    if query.shape[2] % key.shape[2]:
        raise ValueError(
            f"query has {query.shape[2]} heads and key {key.shape[2]}; give the query a multiple of the key's"
        )
