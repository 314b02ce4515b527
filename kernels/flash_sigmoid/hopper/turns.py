"""Which queries and head a program works on next, and which tiles of keys they see."""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false

import triton.experimental.gluon.language as gl
from triton.experimental import gluon

M = gl.constexpr(64)
"""Rows of one wgmma instruction, and queries of one group of warps."""


@gluon.jit
def place(turn: gl.tensor, plan: gl.tuple) -> gl.tuple:
    """First query, row and head of a turn. Heads whose keys and values fit in the L2 cache together are worked on at
    the same time, and the last queries, which have the most keys where the band is causal, first.
    """
    _, num_blocks, num_row_heads, heads_at_once, num_heads, _, _, _, _ = plan
    first_head = turn // (num_blocks * heads_at_once) * heads_at_once
    heads = gl.minimum(heads_at_once, num_row_heads - first_head)
    within = turn - first_head * num_blocks
    block = num_blocks - 1 - within // heads
    row_head = first_head + within % heads
    row = row_head // num_heads
    return block * (2 * M), row, row_head - row * num_heads


@gluon.jit
def visible_tiles(
    first_query: gl.tensor, plan: gl.tuple, N: gl.constexpr, HAS_LEFT: gl.constexpr, HAS_RIGHT: gl.constexpr
) -> gl.tuple:
    """Tiles [begin, end) that some query of 128 sees, at least one, and [full_begin, full_end) without the first of
    them, of which every query sees every key. No negative number is divided: that would round towards 0.
    """
    _, _, _, _, _, num_keys, left, right, shift = plan
    first = first_query + shift
    last = first + 2 * M - 1
    num_tiles = gl.cdiv(num_keys, N)
    begin = 0
    end = num_tiles
    full_begin = 0
    full_end = num_tiles
    if HAS_LEFT:
        begin = gl.minimum(gl.maximum(first - left, 0) // N, num_tiles - 1)
        full_begin = gl.cdiv(gl.maximum(last - left, 0), N)
    if HAS_RIGHT:
        end = gl.minimum(gl.cdiv(gl.maximum(last + right + 1, 0), N), num_tiles)
        full_end = gl.maximum(first + right + 1, 0) // N
    end = gl.maximum(end, begin + 1)
    full_begin = gl.minimum(gl.maximum(full_begin, begin + 1), end)
    full_end = gl.minimum(gl.maximum(full_end, full_begin), end)
    return begin, full_begin, full_end, end
