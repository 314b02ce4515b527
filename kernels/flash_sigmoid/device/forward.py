"""O = sigma(scale Q K^T + b) V. A program has one tile of queries of one head and adds up over the tiles of keys that
they see: no maximum, no sum, no rescaling, nothing saved.

Loops run over tiles that need a mask at their left, tiles of which every pair is visible, and tiles that need one at
their right or reach beyond the keys. Keys and values there are read as 0: sigma of them is not 0, but meets a value
that is.

Head dimensions that are no power of two are cut into one and a remainder, a power of two as well: 80 = 64 + 16. X0 and
X1 are the two parts of a tile, *1 = 0 where there is no remainder.
"""

# A compile-time constant is not what its annotation says, for a checker of Python.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false

import triton
import triton.language as tl

from triptych.kernels.flash_sigmoid.device.sigmoid import sigmoid_of
from triptych.kernels.flash_sigmoid.device.tiles import (
    NOT_SPECIALIZED,
    distance,
    load_tile,
    locate,
    per_head,
    place,
    ranges,
    rounded,
    store_tile,
    visible,
)


@triton.jit
def _scores(
    query0: tl.tensor,
    query1: tl.tensor,
    key: tl.tensor,
    key_stride: tl.tensor,
    start: tl.tensor,
    limit: tl.tensor,
    D: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    CHECKED: tl.constexpr,
    INTERPRETED: tl.constexpr,
) -> tl.tensor:
    """Q K^T with the tile of keys from `start` on."""
    key0 = load_tile(key, key_stride, start, limit, D, 0, D0, BLOCK_KEYS, CHECKED, INTERPRETED)
    y = tl.dot(query0, tl.trans(key0), input_precision="ieee")
    if D1 > 0:
        key1 = load_tile(key, key_stride, start, limit, D, D0, D1, BLOCK_KEYS, CHECKED, INTERPRETED)
        y = tl.dot(query1, tl.trans(key1), y, input_precision="ieee")
    return y


@triton.jit
def _add_tiles(
    out0: tl.tensor,
    out1: tl.tensor,
    query0: tl.tensor,
    query1: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    key_stride: tl.tensor,
    value_stride: tl.tensor,
    begin: tl.tensor,
    end: tl.tensor,
    num_keys: tl.tensor,
    positions: tl.tensor,
    left: tl.tensor,
    right: tl.tensor,
    factor: tl.tensor,
    offset: tl.tensor,
    slope: tl.tensor,
    D: tl.constexpr,
    E: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    E0: tl.constexpr,
    E1: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    HAS_LEFT: tl.constexpr,
    HAS_RIGHT: tl.constexpr,
    HAS_SLOPES: tl.constexpr,
    SIGMOID: tl.constexpr,
    WEIGHT_SCALE: tl.constexpr,
    INTERPRETED: tl.constexpr,
    PARTIAL: tl.constexpr,
    AHEAD: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """out + P V over the keys begin .. end. PARTIAL: some pairs may be invisible, and keys beyond the last be met.
    AHEAD: the scores of a tile are computed while the weights of the one before are, of the last tile twice.
    """
    kind: tl.constexpr = value.dtype.element_ty
    y = tl.full([BLOCK_QUERIES, BLOCK_KEYS], 0.0, tl.float32)
    if AHEAD:
        y = _scores(query0, query1, key, key_stride, begin, end, D, D0, D1, BLOCK_KEYS, True, INTERPRETED)
    for start in tl.range(begin, end, BLOCK_KEYS):
        if AHEAD:
            ahead = tl.minimum(start + BLOCK_KEYS, end - BLOCK_KEYS)
            following = _scores(
                query0, query1, key, key_stride, ahead, num_keys, D, D0, D1, BLOCK_KEYS, False, INTERPRETED
            )
        else:
            y = _scores(query0, query1, key, key_stride, start, num_keys, D, D0, D1, BLOCK_KEYS, PARTIAL, INTERPRETED)
        y = tl.fma(y, factor, offset)
        columns = start + tl.arange(0, BLOCK_KEYS)
        if HAS_SLOPES:
            y = tl.fma(distance(positions, columns), slope, y)
        p = sigmoid_of(y, SIGMOID, WEIGHT_SCALE, INTERPRETED)
        if PARTIAL and (HAS_LEFT or HAS_RIGHT):
            p = tl.where(visible(positions, columns, left, right, HAS_LEFT, HAS_RIGHT), p, 0.0)
        p = rounded(p, kind, INTERPRETED)
        value0 = load_tile(value, value_stride, start, num_keys, E, 0, E0, BLOCK_KEYS, PARTIAL, INTERPRETED)
        out0 = tl.dot(p, value0, out0, input_precision="ieee")
        if E1 > 0:
            value1 = load_tile(value, value_stride, start, num_keys, E, E0, E1, BLOCK_KEYS, PARTIAL, INTERPRETED)
            out1 = tl.dot(p, value1, out1, input_precision="ieee")
        if AHEAD:
            y = following
    return out0, out1


_NOT_SPECIALIZED = [*NOT_SPECIALIZED, "out_row", "out_position", "out_head"]


@triton.jit(do_not_specialize=_NOT_SPECIALIZED)
def forward_kernel(
    query: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    out: tl.tensor,
    table: tl.tensor,
    bias: tl.tensor,
    slopes: tl.tensor,
    query_row: tl.tensor,
    query_position: tl.tensor,
    query_head: tl.tensor,
    key_row: tl.tensor,
    key_position: tl.tensor,
    key_head: tl.tensor,
    value_row: tl.tensor,
    value_position: tl.tensor,
    value_head: tl.tensor,
    out_row: tl.tensor,
    out_position: tl.tensor,
    out_head: tl.tensor,
    bias_row: tl.tensor,
    bias_head: tl.tensor,
    slope_row: tl.tensor,
    slope_head: tl.tensor,
    all_heads: tl.tensor,
    num_heads: tl.tensor,
    num_queries: tl.tensor,
    num_keys: tl.tensor,
    shift: tl.tensor,
    left: tl.tensor,
    right: tl.tensor,
    num_tiles: tl.tensor,
    heads_at_once: tl.tensor,
    scale: tl.tensor,
    bias_value: tl.tensor,
    D: tl.constexpr,
    E: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    E0: tl.constexpr,
    E1: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    SCORES_AHEAD: tl.constexpr,
    UNIT: tl.constexpr,
    HEADS_PER_GROUP: tl.constexpr,
    HAS_TABLE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_SLOPES: tl.constexpr,
    HAS_LEFT: tl.constexpr,
    HAS_RIGHT: tl.constexpr,
    SIGMOID: tl.constexpr,
    LOGIT: tl.constexpr,
    WEIGHT_SCALE: tl.constexpr,
    INTERPRETED: tl.constexpr,
) -> None:
    """Strides of the large tensors count UNIT elements. scale, bias_value: of the logits; LOGIT: what sigma wants them
    multiplied by.
    """
    head_of_all, tile = place(all_heads, num_tiles, heads_at_once, HAS_RIGHT and not HAS_LEFT)
    segment = head_of_all // num_heads
    head = head_of_all % num_heads
    row, first_query, num_queries, first_key, num_keys, shift = locate(
        table, segment, num_queries, num_keys, shift, HAS_TABLE
    )
    start = tile * BLOCK_QUERIES
    if start >= num_queries:
        return
    group = head // HEADS_PER_GROUP
    query += (row * query_row + first_query * query_position + head.to(tl.int64) * query_head) * UNIT
    key += (row * key_row + first_key * key_position + group.to(tl.int64) * key_head) * UNIT
    value += (row * value_row + first_key * value_position + group.to(tl.int64) * value_head) * UNIT
    out += (row * out_row + first_query * out_position + head.to(tl.int64) * out_head) * UNIT

    offset = bias_value
    if HAS_BIAS:
        offset += per_head(bias, segment, head, bias_row, bias_head)
    slope = 0.0
    if HAS_SLOPES:
        slope = -LOGIT * per_head(slopes, segment, head, slope_row, slope_head)
    factor = scale * LOGIT
    offset = offset * LOGIT

    stride = query_position * UNIT
    query0 = load_tile(query, stride, start, num_queries, D, 0, D0, BLOCK_QUERIES, True, INTERPRETED)
    query1 = query0
    if D1 > 0:
        query1 = load_tile(query, stride, start, num_queries, D, D0, D1, BLOCK_QUERIES, True, INTERPRETED)
    out0 = tl.full([BLOCK_QUERIES, E0], 0.0, tl.float32)
    out1 = out0
    if E1 > 0:
        out1 = tl.full([BLOCK_QUERIES, E1], 0.0, tl.float32)
    first = start + shift
    last = tl.minimum(start + BLOCK_QUERIES, num_queries) - 1 + shift
    positions = first + tl.arange(0, BLOCK_QUERIES)
    begin, full_begin, full_end, end = ranges(first, last, num_keys, left, right, HAS_LEFT, HAS_RIGHT, BLOCK_KEYS)
    key_stride = key_position * UNIT
    value_stride = value_position * UNIT
    if HAS_LEFT:
        out0, out1 = _add_tiles(
            out0, out1, query0, query1, key, value, key_stride, value_stride, begin, tl.minimum(full_begin, end),
            num_keys, positions, left, right, factor, offset, slope, D, E, D0, D1, E0, E1, BLOCK_QUERIES, BLOCK_KEYS,
            HAS_LEFT, HAS_RIGHT, HAS_SLOPES, SIGMOID, WEIGHT_SCALE, INTERPRETED, True, False,
        )  # fmt: skip
    out0, out1 = _add_tiles(
        out0, out1, query0, query1, key, value, key_stride, value_stride, full_begin, full_end,
        num_keys, positions, left, right, factor, offset, slope, D, E, D0, D1, E0, E1, BLOCK_QUERIES, BLOCK_KEYS,
        HAS_LEFT, HAS_RIGHT, HAS_SLOPES, SIGMOID, WEIGHT_SCALE, INTERPRETED, False, SCORES_AHEAD > 0,
    )  # fmt: skip
    out0, out1 = _add_tiles(
        out0, out1, query0, query1, key, value, key_stride, value_stride, tl.maximum(full_begin, full_end), end,
        num_keys, positions, left, right, factor, offset, slope, D, E, D0, D1, E0, E1, BLOCK_QUERIES, BLOCK_KEYS,
        HAS_LEFT, HAS_RIGHT, HAS_SLOPES, SIGMOID, WEIGHT_SCALE, INTERPRETED, True, False,
    )  # fmt: skip
    stride = out_position * UNIT
    unscale: tl.constexpr = 1.0 / WEIGHT_SCALE
    store_tile(out, stride, start, num_queries, out0 * unscale, E, 0, E0, BLOCK_QUERIES, INTERPRETED)
    if E1 > 0:
        store_tile(out, stride, start, num_queries, out1 * unscale, E, E0, E1, BLOCK_QUERIES, INTERPRETED)
