"""dQ, dK and dV, from P computed again: dP = dO V^T, dS = P (1 - P) dP, dQ = scale dS K, dK = scale dS^T Q,
dV = P^T dO.

Neither the output, nor a statistic of a row, nor an atomic addition: `query_gradient` has a tile of queries and walks
along the keys, `key_gradient` has a tile of keys and walks along the queries of every head of its group. Each sum has
one order, so gradients are the same bits each time. The price is that S and dP are computed twice (7 products, not 5).

Tiles beyond the end are read as 0, of queries and of dO as well: what meets them is multiplied by 0. dS is 0 wherever P
is. Parts *0 and *1 of a tile are those of `forward`.

dS in fp16 would underflow, as P would. dP is brought below 2 by a power of two, from the largest norms of a row of dO
and of V (`largest_norms`), dS then carries WEIGHT_SCALE as P does and stays below 2^14; it is subnormal where it is
below 2^-29 of the product of those norms.
"""

# A compile-time constant is not what its annotation says, for a checker of Python.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false

import triton
import triton.language as tl

from triptych.kernels.flash_sigmoid.device.sigmoid import sigmoid_of, slope_of
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

_NOT_SPECIALIZED = [
    *NOT_SPECIALIZED,
    *("grad_row", "grad_position", "grad_head"),
    *("dq_row", "dq_position", "dq_head", "dk_row", "dk_position", "dk_head", "dv_row", "dv_position", "dv_head"),
]


@triton.jit
def _inverse_magnitude(norms: tl.tensor, group_of_all: tl.tensor, HAS_NORMS: tl.constexpr) -> tl.tensor:
    """The power of two that brings |dP| below 2: 2^-floor(log2(|dO| |V|)) with the largest norms, or 1."""
    inverse = 1.0
    if HAS_NORMS:
        bound = tl.load(norms + 2 * group_of_all) * tl.load(norms + 2 * group_of_all + 1)
        exponent = (bound.to(tl.int32, bitcast=True) >> 23) - 127
        exponent = tl.minimum(tl.maximum(exponent, -126), 126)
        inverse = ((127 - exponent) << 23).to(tl.float32, bitcast=True)
    return inverse


@triton.jit
def _add_to_query(
    dq0: tl.tensor,
    dq1: tl.tensor,
    dbias: tl.tensor,
    query0: tl.tensor,
    query1: tl.tensor,
    grad0: tl.tensor,
    grad1: tl.tensor,
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
    inverse: tl.tensor,
    D: tl.constexpr,
    E: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    E0: tl.constexpr,
    E1: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    HAS_LEFT: tl.constexpr,
    HAS_RIGHT: tl.constexpr,
    HAS_SLOPES: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    SUMS_BIAS: tl.constexpr,
    SIGMOID: tl.constexpr,
    WEIGHT_SCALE: tl.constexpr,
    INTERPRETED: tl.constexpr,
    PARTIAL: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """dq + dS K over the keys begin .. end; dbias [queries] + the sums of dS."""
    kind: tl.constexpr = key.dtype.element_ty
    for start in tl.range(begin, end, BLOCK_KEYS):
        key0 = load_tile(key, key_stride, start, num_keys, D, 0, D0, BLOCK_KEYS, PARTIAL, INTERPRETED)
        y = tl.dot(query0, tl.trans(key0), input_precision="ieee")
        if D1 > 0:
            key1 = load_tile(key, key_stride, start, num_keys, D, D0, D1, BLOCK_KEYS, PARTIAL, INTERPRETED)
            y = tl.dot(query1, tl.trans(key1), y, input_precision="ieee")
        value0 = load_tile(value, value_stride, start, num_keys, E, 0, E0, BLOCK_KEYS, PARTIAL, INTERPRETED)
        dp = tl.dot(grad0, tl.trans(value0), input_precision="ieee")
        if E1 > 0:
            value1 = load_tile(value, value_stride, start, num_keys, E, E0, E1, BLOCK_KEYS, PARTIAL, INTERPRETED)
            dp = tl.dot(grad1, tl.trans(value1), dp, input_precision="ieee")
        y = tl.fma(y, factor, offset)
        columns = start + tl.arange(0, BLOCK_KEYS)
        if HAS_SLOPES:
            y = tl.fma(distance(positions, columns), slope, y)
        p = sigmoid_of(y, SIGMOID, WEIGHT_SCALE, INTERPRETED)
        if PARTIAL and (HAS_LEFT or HAS_RIGHT):
            p = tl.where(visible(positions, columns, left, right, HAS_LEFT, HAS_RIGHT), p, 0.0)
        if HAS_NORMS:
            dp = dp * inverse
        ds = slope_of(p, WEIGHT_SCALE) * dp
        if SUMS_BIAS:
            dbias += tl.sum(ds, 1)
        ds = rounded(ds, kind, INTERPRETED)
        dq0 = tl.dot(ds, key0, dq0, input_precision="ieee")
        if D1 > 0:
            dq1 = tl.dot(ds, key1, dq1, input_precision="ieee")
    return dq0, dq1, dbias


@triton.jit(do_not_specialize=_NOT_SPECIALIZED)
def query_gradient(
    grad: tl.tensor,
    query: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    dq: tl.tensor,
    partial_dbias: tl.tensor,
    norms: tl.tensor,
    table: tl.tensor,
    bias: tl.tensor,
    slopes: tl.tensor,
    grad_row: tl.tensor,
    grad_position: tl.tensor,
    grad_head: tl.tensor,
    query_row: tl.tensor,
    query_position: tl.tensor,
    query_head: tl.tensor,
    key_row: tl.tensor,
    key_position: tl.tensor,
    key_head: tl.tensor,
    value_row: tl.tensor,
    value_position: tl.tensor,
    value_head: tl.tensor,
    dq_row: tl.tensor,
    dq_position: tl.tensor,
    dq_head: tl.tensor,
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
    UNIT: tl.constexpr,
    HEADS_PER_GROUP: tl.constexpr,
    HAS_TABLE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_SLOPES: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    HAS_LEFT: tl.constexpr,
    HAS_RIGHT: tl.constexpr,
    SIGMOID: tl.constexpr,
    LOGIT: tl.constexpr,
    WEIGHT_SCALE: tl.constexpr,
    INTERPRETED: tl.constexpr,
) -> None:
    """dQ, and with a bias one sum of dS per program: partial_dbias fp32 [all heads, num_tiles]."""
    head_of_all, tile = place(all_heads, num_tiles, heads_at_once, HAS_RIGHT and not HAS_LEFT)
    segment, head = head_of_all // num_heads, head_of_all % num_heads
    group = head // HEADS_PER_GROUP
    row, first_query, num_queries, first_key, num_keys, shift = locate(
        table, segment, num_queries, num_keys, shift, HAS_TABLE
    )
    start = tile * BLOCK_QUERIES
    if start >= num_queries:
        return
    grad += (row * grad_row + first_query * grad_position + head.to(tl.int64) * grad_head) * UNIT
    query += (row * query_row + first_query * query_position + head.to(tl.int64) * query_head) * UNIT
    key += (row * key_row + first_key * key_position + group.to(tl.int64) * key_head) * UNIT
    value += (row * value_row + first_key * value_position + group.to(tl.int64) * value_head) * UNIT
    dq += (row * dq_row + first_query * dq_position + head.to(tl.int64) * dq_head) * UNIT
    offset = bias_value
    if HAS_BIAS:
        offset += per_head(bias, segment, head, bias_row, bias_head)
    slope = 0.0
    if HAS_SLOPES:
        slope = -LOGIT * per_head(slopes, segment, head, slope_row, slope_head)
    factor, offset = scale * LOGIT, offset * LOGIT
    inverse = _inverse_magnitude(norms, segment * (num_heads // HEADS_PER_GROUP) + group, HAS_NORMS)

    query0 = load_tile(query, query_position * UNIT, start, num_queries, D, 0, D0, BLOCK_QUERIES, True, INTERPRETED)
    grad0 = load_tile(grad, grad_position * UNIT, start, num_queries, E, 0, E0, BLOCK_QUERIES, True, INTERPRETED)
    query1, grad1 = query0, grad0
    dq0 = tl.full([BLOCK_QUERIES, D0], 0.0, tl.float32)
    dq1 = dq0
    if D1 > 0:
        query1 = load_tile(
            query, query_position * UNIT, start, num_queries, D, D0, D1, BLOCK_QUERIES, True, INTERPRETED
        )
        dq1 = tl.full([BLOCK_QUERIES, D1], 0.0, tl.float32)
    if E1 > 0:
        grad1 = load_tile(grad, grad_position * UNIT, start, num_queries, E, E0, E1, BLOCK_QUERIES, True, INTERPRETED)
    dbias = tl.full([BLOCK_QUERIES], 0.0, tl.float32)
    first = start + shift
    last = tl.minimum(start + BLOCK_QUERIES, num_queries) - 1 + shift
    positions = first + tl.arange(0, BLOCK_QUERIES)
    begin, full_begin, full_end, end = ranges(first, last, num_keys, left, right, HAS_LEFT, HAS_RIGHT, BLOCK_KEYS)
    if HAS_LEFT:
        dq0, dq1, dbias = _add_to_query(
            dq0, dq1, dbias, query0, query1, grad0, grad1, key, value, key_position * UNIT, value_position * UNIT,
            begin, tl.minimum(full_begin, end), num_keys, positions, left, right, factor, offset, slope, inverse,
            D, E, D0, D1, E0, E1, BLOCK_KEYS, HAS_LEFT, HAS_RIGHT, HAS_SLOPES, HAS_NORMS, HAS_BIAS,
            SIGMOID, WEIGHT_SCALE, INTERPRETED, True,
        )  # fmt: skip
    dq0, dq1, dbias = _add_to_query(
        dq0, dq1, dbias, query0, query1, grad0, grad1, key, value, key_position * UNIT, value_position * UNIT,
        full_begin, full_end, num_keys, positions, left, right, factor, offset, slope, inverse,
        D, E, D0, D1, E0, E1, BLOCK_KEYS, HAS_LEFT, HAS_RIGHT, HAS_SLOPES, HAS_NORMS, HAS_BIAS,
        SIGMOID, WEIGHT_SCALE, INTERPRETED, False,
    )  # fmt: skip
    dq0, dq1, dbias = _add_to_query(
        dq0, dq1, dbias, query0, query1, grad0, grad1, key, value, key_position * UNIT, value_position * UNIT,
        tl.maximum(full_begin, full_end), end, num_keys, positions, left, right, factor, offset, slope, inverse,
        D, E, D0, D1, E0, E1, BLOCK_KEYS, HAS_LEFT, HAS_RIGHT, HAS_SLOPES, HAS_NORMS, HAS_BIAS,
        SIGMOID, WEIGHT_SCALE, INTERPRETED, True,
    )  # fmt: skip
    unscale = 1.0 / (WEIGHT_SCALE * inverse)
    store_tile(
        dq, dq_position * UNIT, start, num_queries, dq0 * (scale * unscale), D, 0, D0, BLOCK_QUERIES, INTERPRETED
    )
    if D1 > 0:
        rest = dq1 * (scale * unscale)
        store_tile(dq, dq_position * UNIT, start, num_queries, rest, D, D0, D1, BLOCK_QUERIES, INTERPRETED)
    if HAS_BIAS:
        at = head_of_all.to(tl.int64) * num_tiles + tile
        tl.store(partial_dbias + at, tl.sum(dbias, 0) * unscale)


@triton.jit
def _add_to_keys(
    dk0: tl.tensor,
    dk1: tl.tensor,
    dv0: tl.tensor,
    dv1: tl.tensor,
    key0: tl.tensor,
    key1: tl.tensor,
    value0: tl.tensor,
    value1: tl.tensor,
    query: tl.tensor,
    grad: tl.tensor,
    query_stride: tl.tensor,
    grad_stride: tl.tensor,
    begin: tl.tensor,
    end: tl.tensor,
    num_queries: tl.tensor,
    positions: tl.tensor,
    left: tl.tensor,
    right: tl.tensor,
    factor: tl.tensor,
    offset: tl.tensor,
    slope: tl.tensor,
    inverse: tl.tensor,
    D: tl.constexpr,
    E: tl.constexpr,
    D0: tl.constexpr,
    D1: tl.constexpr,
    E0: tl.constexpr,
    E1: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    HAS_LEFT: tl.constexpr,
    HAS_RIGHT: tl.constexpr,
    HAS_SLOPES: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    HAS_DK: tl.constexpr,
    HAS_DV: tl.constexpr,
    SIGMOID: tl.constexpr,
    WEIGHT_SCALE: tl.constexpr,
    INTERPRETED: tl.constexpr,
    PARTIAL: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """dk + dS^T Q and dv + P^T dO over the queries begin .. end. Scores are transposed, [keys, queries], so that P^T
    and dS^T are left operands, which stay in registers. left, right: as the keys see the queries.
    """
    kind: tl.constexpr = query.dtype.element_ty
    for start in tl.range(begin, end, BLOCK_QUERIES):
        query0 = load_tile(query, query_stride, start, num_queries, D, 0, D0, BLOCK_QUERIES, PARTIAL, INTERPRETED)
        y = tl.dot(key0, tl.trans(query0), input_precision="ieee")
        if D1 > 0:
            query1 = load_tile(query, query_stride, start, num_queries, D, D0, D1, BLOCK_QUERIES, PARTIAL, INTERPRETED)
            y = tl.dot(key1, tl.trans(query1), y, input_precision="ieee")
        grad0 = load_tile(grad, grad_stride, start, num_queries, E, 0, E0, BLOCK_QUERIES, PARTIAL, INTERPRETED)
        if E1 > 0:
            grad1 = load_tile(grad, grad_stride, start, num_queries, E, E0, E1, BLOCK_QUERIES, PARTIAL, INTERPRETED)
        if HAS_DK:  # before sigma, so that the tensor cores work meanwhile
            dp = tl.dot(value0, tl.trans(grad0), input_precision="ieee")
            if E1 > 0:
                dp = tl.dot(value1, tl.trans(grad1), dp, input_precision="ieee")
        y = tl.fma(y, factor, offset)
        columns = start + tl.arange(0, BLOCK_QUERIES)
        if HAS_SLOPES:
            y = tl.fma(distance(positions, columns), slope, y)
        p = sigmoid_of(y, SIGMOID, WEIGHT_SCALE, INTERPRETED)
        if PARTIAL and (HAS_LEFT or HAS_RIGHT):
            p = tl.where(visible(positions, columns, left, right, HAS_LEFT, HAS_RIGHT), p, 0.0)
        if HAS_DV:
            weights = rounded(p, kind, INTERPRETED)
            dv0 = tl.dot(weights, grad0, dv0, input_precision="ieee")
            if E1 > 0:
                dv1 = tl.dot(weights, grad1, dv1, input_precision="ieee")
        if HAS_DK:
            if HAS_NORMS:
                dp = dp * inverse
            ds = rounded(slope_of(p, WEIGHT_SCALE) * dp, kind, INTERPRETED)
            dk0 = tl.dot(ds, query0, dk0, input_precision="ieee")
            if D1 > 0:
                dk1 = tl.dot(ds, query1, dk1, input_precision="ieee")
    return dk0, dk1, dv0, dv1


@triton.jit(do_not_specialize=_NOT_SPECIALIZED)
def key_gradient(
    grad: tl.tensor,
    query: tl.tensor,
    key: tl.tensor,
    value: tl.tensor,
    dk: tl.tensor,
    dv: tl.tensor,
    norms: tl.tensor,
    table: tl.tensor,
    bias: tl.tensor,
    slopes: tl.tensor,
    grad_row: tl.tensor,
    grad_position: tl.tensor,
    grad_head: tl.tensor,
    query_row: tl.tensor,
    query_position: tl.tensor,
    query_head: tl.tensor,
    key_row: tl.tensor,
    key_position: tl.tensor,
    key_head: tl.tensor,
    value_row: tl.tensor,
    value_position: tl.tensor,
    value_head: tl.tensor,
    dk_row: tl.tensor,
    dk_position: tl.tensor,
    dk_head: tl.tensor,
    dv_row: tl.tensor,
    dv_position: tl.tensor,
    dv_head: tl.tensor,
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
    UNIT: tl.constexpr,
    HEADS_PER_GROUP: tl.constexpr,
    HAS_TABLE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_SLOPES: tl.constexpr,
    HAS_NORMS: tl.constexpr,
    HAS_DK: tl.constexpr,
    HAS_DV: tl.constexpr,
    HAS_LEFT: tl.constexpr,
    HAS_RIGHT: tl.constexpr,
    SIGMOID: tl.constexpr,
    LOGIT: tl.constexpr,
    WEIGHT_SCALE: tl.constexpr,
    INTERPRETED: tl.constexpr,
) -> None:
    """dK and dV, or one of them. all_heads and a program's head are of keys; it loops over the queries of its group."""
    num_groups = num_heads // HEADS_PER_GROUP
    group_of_all, tile = place(all_heads, num_tiles, heads_at_once, HAS_LEFT and not HAS_RIGHT)
    segment, group = group_of_all // num_groups, group_of_all % num_groups
    row, first_query, num_queries, first_key, num_keys, shift = locate(
        table, segment, num_queries, num_keys, shift, HAS_TABLE
    )
    start = tile * BLOCK_KEYS
    if start >= num_keys:
        return
    key += (row * key_row + first_key * key_position + group.to(tl.int64) * key_head) * UNIT
    value += (row * value_row + first_key * value_position + group.to(tl.int64) * value_head) * UNIT
    dk += (row * dk_row + first_key * dk_position + group.to(tl.int64) * dk_head) * UNIT
    dv += (row * dv_row + first_key * dv_position + group.to(tl.int64) * dv_head) * UNIT
    inverse = _inverse_magnitude(norms, group_of_all, HAS_NORMS)

    key0 = load_tile(key, key_position * UNIT, start, num_keys, D, 0, D0, BLOCK_KEYS, True, INTERPRETED)
    value0 = load_tile(value, value_position * UNIT, start, num_keys, E, 0, E0, BLOCK_KEYS, True, INTERPRETED)
    key1, value1 = key0, value0
    dk0 = tl.full([BLOCK_KEYS, D0], 0.0, tl.float32)
    dv0 = tl.full([BLOCK_KEYS, E0], 0.0, tl.float32)
    dk1, dv1 = dk0, dv0
    if D1 > 0:
        key1 = load_tile(key, key_position * UNIT, start, num_keys, D, D0, D1, BLOCK_KEYS, True, INTERPRETED)
        dk1 = tl.full([BLOCK_KEYS, D1], 0.0, tl.float32)
    if E1 > 0:
        value1 = load_tile(value, value_position * UNIT, start, num_keys, E, E0, E1, BLOCK_KEYS, True, INTERPRETED)
        dv1 = tl.full([BLOCK_KEYS, E1], 0.0, tl.float32)
    # A query at i sees keys i + shift - left .. i + shift + right, so a key at j the queries j - shift - right .. j -
    # shift + left.
    first = start - shift
    last = tl.minimum(start + BLOCK_KEYS, num_keys) - 1 - shift
    positions = first + tl.arange(0, BLOCK_KEYS)
    begin, full_begin, full_end, end = ranges(first, last, num_queries, right, left, HAS_RIGHT, HAS_LEFT, BLOCK_QUERIES)
    for head_of_group in range(HEADS_PER_GROUP):
        head = group * HEADS_PER_GROUP + head_of_group
        query_base = query + (row * query_row + first_query * query_position + head.to(tl.int64) * query_head) * UNIT
        grad_base = grad + (row * grad_row + first_query * grad_position + head.to(tl.int64) * grad_head) * UNIT
        offset = bias_value
        if HAS_BIAS:
            offset += per_head(bias, segment, head, bias_row, bias_head)
        slope = 0.0
        if HAS_SLOPES:
            slope = -LOGIT * per_head(slopes, segment, head, slope_row, slope_head)
        factor, offset = scale * LOGIT, offset * LOGIT
        if HAS_RIGHT:
            dk0, dk1, dv0, dv1 = _add_to_keys(
                dk0, dk1, dv0, dv1, key0, key1, value0, value1, query_base, grad_base, query_position * UNIT,
                grad_position * UNIT, begin, tl.minimum(full_begin, end), num_queries, positions, right, left,
                factor, offset, slope, inverse, D, E, D0, D1, E0, E1, BLOCK_QUERIES, HAS_RIGHT, HAS_LEFT, HAS_SLOPES,
                HAS_NORMS, HAS_DK, HAS_DV, SIGMOID, WEIGHT_SCALE, INTERPRETED, True,
            )  # fmt: skip
        dk0, dk1, dv0, dv1 = _add_to_keys(
            dk0, dk1, dv0, dv1, key0, key1, value0, value1, query_base, grad_base, query_position * UNIT,
            grad_position * UNIT, full_begin, full_end, num_queries, positions, right, left,
            factor, offset, slope, inverse, D, E, D0, D1, E0, E1, BLOCK_QUERIES, HAS_RIGHT, HAS_LEFT, HAS_SLOPES,
            HAS_NORMS, HAS_DK, HAS_DV, SIGMOID, WEIGHT_SCALE, INTERPRETED, False,
        )  # fmt: skip
        dk0, dk1, dv0, dv1 = _add_to_keys(
            dk0, dk1, dv0, dv1, key0, key1, value0, value1, query_base, grad_base, query_position * UNIT,
            grad_position * UNIT, tl.maximum(full_begin, full_end), end, num_queries, positions, right, left,
            factor, offset, slope, inverse, D, E, D0, D1, E0, E1, BLOCK_QUERIES, HAS_RIGHT, HAS_LEFT, HAS_SLOPES,
            HAS_NORMS, HAS_DK, HAS_DV, SIGMOID, WEIGHT_SCALE, INTERPRETED, True,
        )  # fmt: skip
    if HAS_DK:
        by = scale / (WEIGHT_SCALE * inverse)
        store_tile(dk, dk_position * UNIT, start, num_keys, dk0 * by, D, 0, D0, BLOCK_KEYS, INTERPRETED)
        if D1 > 0:
            store_tile(dk, dk_position * UNIT, start, num_keys, dk1 * by, D, D0, D1, BLOCK_KEYS, INTERPRETED)
    if HAS_DV:
        by_value: tl.constexpr = 1.0 / WEIGHT_SCALE
        store_tile(dv, dv_position * UNIT, start, num_keys, dv0 * by_value, E, 0, E0, BLOCK_KEYS, INTERPRETED)
        if E1 > 0:
            store_tile(dv, dv_position * UNIT, start, num_keys, dv1 * by_value, E, E0, E1, BLOCK_KEYS, INTERPRETED)
