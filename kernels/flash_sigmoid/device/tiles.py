"""What the kernels share: which tile a program has, where its segment lies, which tiles of the other side it meets, and
how tiles are read, masked and rounded.

Positions are those within a segment. "Own" is the side of which a program has one tile (queries in the forward pass and
for dQ, keys for dK and dV), "other" the side that it walks along.
"""

# A compile-time constant is not what its annotation says, for a checker of Python.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false

import triton
import triton.language as tl

NOT_SPECIALIZED = (
    *("query_row", "query_position", "query_head", "key_row", "key_position", "key_head"),
    *("value_row", "value_position", "value_head"),
    *("bias_row", "bias_head", "slope_row", "slope_head"),
    *("all_heads", "num_heads", "num_queries", "num_keys", "shift", "left", "right", "num_tiles", "heads_at_once"),
)
"""Numbers that every kernel takes, of which it is compiled once for all values."""


@triton.jit
def place(
    num_heads: tl.tensor, num_tiles: tl.tensor, heads_at_once: tl.tensor, LAST_FIRST: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Head (of all segments) and tile of this program. Programs start in order of their number: all tiles of
    `heads_at_once` heads, whose other side then stays in the L2 cache, tile by tile, so that those with most to do
    begin first; then the next heads. Everything is on the first axis of the grid, the only one that goes beyond 65535.
    """
    program = tl.program_id(0)
    at_once = heads_at_once * num_tiles
    first_head = program // at_once * heads_at_once
    num_here = tl.minimum(heads_at_once, num_heads - first_head)
    rest = program % at_once
    tile = rest // num_here
    if LAST_FIRST:
        tile = num_tiles - 1 - tile
    return first_head + rest % num_here, tile


@triton.jit
def locate(
    table: tl.tensor,
    segment: tl.tensor,
    num_queries: tl.tensor,
    num_keys: tl.tensor,
    shift: tl.tensor,
    HAS_TABLE: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """(row, first query, number of queries, first key, number of keys, shift), int64 where they multiply strides."""
    row = segment.to(tl.int64)
    first_query = row * 0
    first_key = row * 0
    if HAS_TABLE:
        entry = table + row * 6
        row = tl.load(entry).to(tl.int64)
        first_query = tl.load(entry + 1).to(tl.int64)
        num_queries = tl.load(entry + 2)
        first_key = tl.load(entry + 3).to(tl.int64)
        num_keys = tl.load(entry + 4)
        shift = tl.load(entry + 5)
    return row, first_query, num_queries, first_key, num_keys, shift


@triton.jit
def ranges(
    first: tl.tensor,
    last: tl.tensor,
    num_others: tl.tensor,
    left: tl.tensor,
    right: tl.tensor,
    HAS_LEFT: tl.constexpr,
    HAS_RIGHT: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tuple[tl.tensor, ...]:
    """Where the others' tiles begin, where those begin and end of which every pair is visible, and where all end.

    first, last: position of the first and the last own element among the others. An own element at i sees the others
    at i - left .. i + right. Tiles before `full_begin` and from max(full_begin, full_end) on need masks; the latter may
    also reach beyond the others' end.
    """
    begin = num_others * 0
    full_begin = begin
    end = num_others
    full_end = num_others
    if HAS_LEFT:
        begin = tl.maximum(first - left, 0) // BLOCK * BLOCK
        full_begin = (tl.maximum(last - left, 0) + BLOCK - 1) // BLOCK * BLOCK
    if HAS_RIGHT:
        end = tl.maximum(tl.minimum(last + right + 1, num_others), 0)
        full_end = tl.maximum(tl.minimum(first + right + 1, num_others), 0)
    return begin, full_begin, full_end // BLOCK * BLOCK, end


@triton.jit
def load_tile(
    base: tl.tensor,
    stride: tl.tensor,
    first: tl.tensor,
    limit: tl.tensor,
    WIDTH: tl.constexpr,
    FROM: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    CHECKED: tl.constexpr,
    INTERPRETED: tl.constexpr,
) -> tl.tensor:
    """[ROWS, COLUMNS] from row `first` and column FROM on. Rows from `limit` on (CHECKED) and columns from WIDTH on are
    never read, and 0. The offset of the tile is 64-bit, those within it 32-bit.
    """
    rows = tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    pointers = (base + first * stride.to(tl.int64) + FROM) + (rows[:, None] * stride + columns[None, :])
    if CHECKED and FROM + COLUMNS > WIDTH:
        tile = tl.load(pointers, mask=(rows < limit - first)[:, None] & (columns < WIDTH - FROM)[None, :], other=0.0)
    elif CHECKED:
        tile = tl.load(pointers, mask=(rows < limit - first)[:, None], other=0.0)
    elif FROM + COLUMNS > WIDTH:
        tile = tl.load(pointers, mask=(columns < WIDTH - FROM)[None, :], other=0.0)
    else:
        tile = tl.load(pointers)
    # An interpreter multiplies the bits of bf16 as integers; in fp32 its products are those of a tensor core.
    if INTERPRETED:
        tile = tile.to(tl.float32)
    return tile


@triton.jit
def store_tile(
    base: tl.tensor,
    stride: tl.tensor,
    first: tl.tensor,
    limit: tl.tensor,
    tile: tl.tensor,
    WIDTH: tl.constexpr,
    FROM: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    INTERPRETED: tl.constexpr,
) -> None:
    """The counterpart of `load_tile`, from fp32, of rows below `limit`."""
    rows = tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    pointers = (base + first * stride.to(tl.int64) + FROM) + (rows[:, None] * stride + columns[None, :])
    mask = (rows < limit - first)[:, None] & (columns < WIDTH - FROM)[None, :]
    kind: tl.constexpr = base.dtype.element_ty
    tl.store(pointers, rounded(tile, kind, INTERPRETED).to(kind), mask=mask)


@triton.jit
def rounded(x: tl.tensor, KIND: tl.constexpr, INTERPRETED: tl.constexpr) -> tl.tensor:
    """x to KIND, to nearest even; in an interpreter, which truncates to bf16, as fp32 that holds the rounded value."""
    if not INTERPRETED:
        y = x.to(KIND)
    elif KIND == tl.bfloat16:
        bits = x.to(tl.int32, bitcast=True)
        y = ((bits + 0x7FFF + ((bits >> 16) & 1)) & -65536).to(tl.float32, bitcast=True)
    else:
        y = x.to(KIND).to(tl.float32)
    return y


@triton.jit
def visible(
    rows: tl.tensor,
    columns: tl.tensor,
    left: tl.tensor,
    right: tl.tensor,
    HAS_LEFT: tl.constexpr,
    HAS_RIGHT: tl.constexpr,
) -> tl.tensor:
    """Which of [rows, columns] see each other: own positions among the others, and the others' positions."""
    if HAS_LEFT and HAS_RIGHT:
        seen = (columns[None, :] >= rows[:, None] - left) & (columns[None, :] <= rows[:, None] + right)
    elif HAS_LEFT:
        seen = columns[None, :] >= rows[:, None] - left
    else:
        seen = columns[None, :] <= rows[:, None] + right
    return seen


@triton.jit
def distance(rows: tl.tensor, columns: tl.tensor) -> tl.tensor:
    """|rows - columns| in fp32, exact to 2^24: two instructions per pair, one of which the multiplication absorbs."""
    return tl.abs(rows.to(tl.float32)[:, None] - columns.to(tl.float32)[None, :])


@triton.jit
def per_head(
    values: tl.tensor, segment: tl.tensor, head: tl.tensor, segment_stride: tl.tensor, head_stride: tl.tensor
) -> tl.tensor:
    """A bias or a slope."""
    return tl.load(values + segment.to(tl.int64) * segment_stride + head * head_stride)
