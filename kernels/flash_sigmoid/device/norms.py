"""The largest norm of a row, per head: what bounds dP, so that dS can be brought into the range of fp16."""

# A compile-time constant is not what its annotation says, for a checker of Python.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false

import triton
import triton.language as tl

from triptych.kernels.flash_sigmoid.device.tiles import load_tile


@triton.jit(do_not_specialize=["x_row", "x_position", "x_head", "num_heads", "num_positions", "num_tiles"])
def largest_norms(
    x: tl.tensor,
    norms: tl.tensor,
    table: tl.tensor,
    x_row: tl.tensor,
    x_position: tl.tensor,
    x_head: tl.tensor,
    num_heads: tl.tensor,
    num_positions: tl.tensor,
    num_tiles: tl.tensor,
    WIDTH: tl.constexpr,
    W0: tl.constexpr,
    W1: tl.constexpr,
    BLOCK: tl.constexpr,
    UNIT: tl.constexpr,
    HEADS_PER_GROUP: tl.constexpr,
    TABLE_ENTRY: tl.constexpr,
    HAS_TABLE: tl.constexpr,
    INTERPRETED: tl.constexpr,
) -> None:
    """norms [all groups, 2], of which x points to one column: the largest Euclidean norm of the rows of each group, as
    the bits of fp32, whose order is that of integers where nothing is negative. Which program is first does not matter.

    TABLE_ENTRY: 1 where x lies by queries, 3 by keys.
    """
    program = tl.program_id(0)
    head_of_all, tile = program // num_tiles, program % num_tiles
    segment, head = head_of_all // num_heads, head_of_all % num_heads
    row = segment.to(tl.int64)
    first = row * 0
    if HAS_TABLE:
        entry = table + row * 6
        row = tl.load(entry).to(tl.int64)
        first = tl.load(entry + TABLE_ENTRY).to(tl.int64)
        num_positions = tl.load(entry + TABLE_ENTRY + 1)
    start = tile * BLOCK
    if start >= num_positions:
        return
    x += (row * x_row + first * x_position + head.to(tl.int64) * x_head) * UNIT
    x0 = load_tile(x, x_position * UNIT, start, num_positions, WIDTH, 0, W0, BLOCK, True, INTERPRETED).to(tl.float32)
    squares = tl.sum(x0 * x0, 1)
    if W1 > 0:
        x1 = load_tile(x, x_position * UNIT, start, num_positions, WIDTH, W0, W1, BLOCK, True, INTERPRETED)
        x1 = x1.to(tl.float32)
        squares += tl.sum(x1 * x1, 1)
    largest = tl.max(tl.sqrt(squares).to(tl.int32, bitcast=True), 0)
    tl.atomic_max(norms + 2 * (head_of_all // HEADS_PER_GROUP), largest)
