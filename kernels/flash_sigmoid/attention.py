"""`sigmoid_attention`: one function for every layout, mask and bias.

Shape legend: B rows, S and T positions of queries and keys, H query heads, G key-value heads, D head dimension of
queries and keys, E of values, N segments (rows where there are none).
"""

import math
from typing import Literal

import torch
from torch import Tensor

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

    Tensors are views of any strides whose last dimension is contiguous, so positions first (sbhd) and packed sequences
    (thd: one row, and `segments`) need no copy. The output lies in memory as the queries do. G divides H; query head h
    reads key-value head h // (H / G).

    bias: a number; a tensor that broadcasts to [N, H], which may ask for a gradient; "-log n" with n the number of keys
    T, or of the longest segment; "-log n of each", with n a segment's own. Where a model must be the same function at
    other lengths, or on a part of the keys, give it a number. scale: 1/sqrt(D) if None. slopes: ALiBi's, fp32, broadcast
    to [N, H]. kernel: None is triton on CUDA and blocked elsewhere. Gradients of gradients are refused.

    ValueError names an argument that does not fit.
    """
    band = band or Band()
    _require_shapes(query_BSHD, key_BTGD, value_BTGE)
    num_rows, num_queries, num_heads, head_dim = query_BSHD.shape
    num_keys = key_BTGD.shape[1]
    num_segments = num_rows if segments is None else segments.table_N6.shape[0]
    bias_value, bias_tensor = _resolve_bias(bias, num_keys, segments)
    problem = Problem(
        scale=1 / math.sqrt(head_dim) if scale is None else scale,
        bias_value=bias_value,
        left=band.left,
        right=band.right,
        shift=num_keys - num_queries if band.alignment == "bottom_right" else 0,
        max_query_length=num_queries if segments is None else segments.max_query_length,
        max_key_length=num_keys if segments is None else segments.max_key_length,
        sigmoid=sigmoid,
        bias_NH=_per_head("bias", bias_tensor, num_segments, num_heads),
        slopes_NH=_per_head("slopes", slopes, num_segments, num_heads),
        table_N6=None if segments is None else segments.table_N6,
    )
    return attend(query_BSHD, key_BTGD, value_BTGE, problem, kernel or _default_kernel(query_BSHD))


def _default_kernel(query: Tensor) -> Kernel:
    return "triton" if query.is_cuda else "blocked"


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
    return float(bias), None


def _per_head(name: str, values: Tensor | None, num_segments: int, num_heads: int) -> Tensor | None:
    """fp32 [N, H]."""
    if values is None:
        return None
    try:
        return values.float().broadcast_to(num_segments, num_heads)
    except RuntimeError:
        raise ValueError(
            f"{name} of shape {list(values.shape)} does not broadcast to {num_segments} segments of {num_heads} heads; "
            f"give [], [{num_heads}] or [{num_segments}, {num_heads}]"
        ) from None


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
    if key.shape[:3] != value.shape[:3]:
        raise ValueError(f"key {list(key.shape)} and value {list(value.shape)} differ before the last dimension")
    if query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise ValueError(f"query {list(query.shape)} and key {list(key.shape)} differ in rows or head dimension")
    if query.shape[2] % key.shape[2]:
        raise ValueError(f"{query.shape[2]} query heads do not divide into {key.shape[2]} key-value heads")
