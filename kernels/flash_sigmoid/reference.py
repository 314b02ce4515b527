"""The oracle: sigmoid attention in fp64 with the whole matrix of weights, differentiable, written to be read.

O = P V,  P = M * sigma(scale Q K^T + b - slope |i + shift - j|)                         (arXiv 2409.04431, eq. 3)

Shape legend: B rows, S positions, H query heads, G key-value heads, D head dimension of queries and keys, E of values,
N segments.
"""

import torch
from einops import einsum, repeat
from torch import Tensor

from triptych.kernels.flash_sigmoid.problem import Band, Segments


def reference_weights(
    query_SHD: Tensor,
    key_SGD: Tensor,
    *,
    scale: float,
    band: Band,
    shift: int,
    bias_H: Tensor,
    slopes_H: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """P [H, S, S'] of one segment. bias_H: [H] or [1]."""
    num_heads = query_SHD.shape[1]
    key_SHD = repeat(key_SGD.to(dtype), "s g d -> s (g r) d", r=num_heads // key_SGD.shape[1])
    scores = einsum(query_SHD.to(dtype), key_SHD, "i h d, j h d -> h i j") * scale + bias_H.to(dtype)[:, None, None]
    i = torch.arange(query_SHD.shape[0], device=scores.device)[:, None] + shift
    j = torch.arange(key_SGD.shape[0], device=scores.device)[None, :]
    if slopes_H is not None:
        scores = scores - slopes_H.to(dtype)[:, None, None] * (i - j).abs()
    visible = torch.ones_like(i == j)
    if band.left >= 0:
        visible &= j >= i - band.left
    if band.right >= 0:
        visible &= j <= i + band.right
    return torch.where(visible, scores.sigmoid(), 0.0)


def reference_attention(
    query_BSHD: Tensor,
    key_BSGD: Tensor,
    value_BSGE: Tensor,
    *,
    scale: float,
    bias: float | Tensor,
    band: Band,
    segments: Segments | None = None,
    slopes: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """O [B, S, H, E]. bias: a number, or a tensor that broadcasts to [N, H]; slopes: one that does. dtype: of every
    operation; another than fp64 shows what rounding costs where nothing is fused.
    """
    num_rows, num_queries, num_heads, _ = query_BSHD.shape
    table = _whole_rows(query_BSHD, key_BSGD, band) if segments is None else segments.table_N6.tolist()
    bias_NH = torch.as_tensor(bias, dtype=dtype, device=query_BSHD.device).broadcast_to(len(table), num_heads)
    slopes_NH = None if slopes is None else slopes.broadcast_to(len(table), num_heads)
    out = torch.zeros(num_rows, num_queries, num_heads, value_BSGE.shape[3], dtype=dtype).to(query_BSHD.device)
    for n, (row, first_query, queries, first_key, keys, shift) in enumerate(table):
        at_queries = (row, slice(first_query, first_query + queries))
        at_keys = (row, slice(first_key, first_key + keys))
        weights = reference_weights(
            query_BSHD[at_queries],
            key_BSGD[at_keys],
            scale=scale,
            band=band,
            shift=shift,
            bias_H=bias_NH[n],
            slopes_H=None if slopes_NH is None else slopes_NH[n],
            dtype=dtype,
        )
        value_SHE = repeat(value_BSGE[at_keys].to(dtype), "s g e -> s (g r) e", r=num_heads // value_BSGE.shape[2])
        out[at_queries] = einsum(weights, value_SHE, "h i j, j h e -> i h e")
    return out


def _whole_rows(query_BSHD: Tensor, key_BSGD: Tensor, band: Band) -> list[list[int]]:
    queries, keys = query_BSHD.shape[1], key_BSGD.shape[1]
    shift = keys - queries if band.alignment == "bottom_right" else 0
    return [[row, 0, queries, 0, keys, shift] for row in range(query_BSHD.shape[0])]
