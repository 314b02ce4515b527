"""O = sigma(scale Q K^T + b) V on sm_90: one warp copies, two groups of four warps compute, nobody waits for a row.

A program works on 128 queries of one head at a time, 64 per warp group, and takes up the next 128 when it is done. One
warp copies tiles of K and V into rings in shared memory (TMA) and runs ahead as far as the rings are long; `full`
barriers say that a tile has arrived, `empty` ones that both groups are through with it. The groups follow the schedule
of FlashAttention-3 (arXiv 2407.08608, algorithms 1 and 2), in which tensor cores and special function units work at the
same time, twice over:

* within a group, P_{j-1} V_{j-1} runs while sigma(S_j) is computed: the products S_j = Q K_j^T and O += P_{j-1} V_{j-1}
  are issued together, sigma begins when the first is there, and the second is waited for after sigma;
* between the groups, `turns` lets one issue its products only after the other has issued its own, so that one computes
  sigma while the tensor cores are at the other's products.

What sigma saves of that algorithm: no row maximum, no sum, no rescaling of O between the products, no statistics to
store; the first tile is not special, and the order of tiles does not matter. P goes from registers to the tensor cores.

Keys past the end arrive as zeros, whose values add nothing: no mask. Masked are only tiles that the band's edges cross.

Not run on a GPU yet: see README.md.

Shape legend: M queries of one group (64), N keys of a tile, D head dimension; B, S, H, T, G as in `launch`.
"""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false

import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from triptych.kernels.flash_sigmoid.hopper.turns import M, place, visible_tiles
from triptych.kernels.flash_sigmoid.hopper.weights import WEIGHT_SCALE, offset_of, weights

REGISTERS_TO_SHARE = gl.constexpr(504)
"""Of three groups, per thread: 65536 registers among 384 threads, in eights."""
_NOT_SPECIALIZED = (
    *("bias_row", "bias_head", "num_queries", "num_keys", "num_heads", "heads_per_group"),
    *("num_turns", "num_blocks", "num_row_heads", "heads_at_once", "left", "right", "shift"),
)
"""Numbers of which a launch would otherwise ask whether they are 1 or divisible by 16, and compile for each answer."""
copy_to_shared = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
"""Its name in Triton 3.9, and in 3.6."""


@gluon.jit(do_not_specialize=_NOT_SPECIALIZED)
def forward_kernel(
    query_desc: tma.tensor_descriptor,
    key_desc: tma.tensor_descriptor,
    value_desc: tma.tensor_descriptor,
    out_ptr: gl.tensor,
    out_row: gl.tensor,
    out_position: gl.tensor,
    out_head: gl.tensor,
    bias_ptr: gl.tensor,
    bias_row: gl.tensor,
    bias_head: gl.tensor,
    factor: gl.tensor,
    offset: gl.tensor,
    num_queries: gl.tensor,
    num_keys: gl.tensor,
    num_heads: gl.tensor,
    heads_per_group: gl.tensor,
    num_turns: gl.tensor,
    num_blocks: gl.tensor,
    num_row_heads: gl.tensor,
    heads_at_once: gl.tensor,
    left: gl.tensor,
    right: gl.tensor,
    shift: gl.tensor,
    STAGES: gl.constexpr,
    SIGMOID: gl.constexpr,
    HAS_BIAS: gl.constexpr,
    HAS_LEFT: gl.constexpr,
    HAS_RIGHT: gl.constexpr,
    REGISTERS: gl.constexpr,
) -> None:
    """Descriptors: [B, S, H, D] in blocks [1, M, 1, D], and [B, T, G, D] in blocks [1, N, 1, D]. out_*, bias_*: strides
    in elements. y = factor S + offset is the argument of sigma's instructions. num_turns = num_blocks * num_row_heads:
    pairs of 128 queries and a head, of which programs take every num_programs-th. REGISTERS: of a computing thread.
    """
    SHAPE: gl.constexpr = query_desc.block_type.shape
    TILE: gl.constexpr = key_desc.block_type.shape
    gl.static_assert(SHAPE[1] == M)
    query = gl.allocate_shared_memory(query_desc.dtype, [2, 1, SHAPE[1], 1, SHAPE[3]], query_desc.layout)
    key = gl.allocate_shared_memory(key_desc.dtype, [STAGES, 1, TILE[1], 1, TILE[3]], key_desc.layout)
    value = gl.allocate_shared_memory(value_desc.dtype, [STAGES, 1, TILE[1], 1, TILE[3]], value_desc.layout)
    query_full = barriers(2, 1)
    query_empty = barriers(2, 1)
    key_full = barriers(STAGES, 1)
    key_empty = barriers(STAGES, 2)
    value_full = barriers(STAGES, 1)
    value_empty = barriers(STAGES, 2)
    turns = barriers(2, 1)
    fence_async_shared()
    shared = (query, key, value, query_full, query_empty, key_full, key_empty, value_full, value_empty)
    plan = (num_turns, num_blocks, num_row_heads, heads_at_once, num_heads, num_keys, left, right, shift)
    out = (out_ptr, out_row, out_position, out_head, num_queries)
    bias = (bias_ptr, bias_row, bias_head, factor, offset)
    gl.warp_specialize(
        [
            (attend, (shared, turns, plan, out, bias, 0, STAGES, SIGMOID, HAS_BIAS, HAS_LEFT, HAS_RIGHT)),
            (attend, (shared, turns, plan, out, bias, 1, STAGES, SIGMOID, HAS_BIAS, HAS_LEFT, HAS_RIGHT)),
            (copy, (query_desc, key_desc, value_desc, shared, plan, heads_per_group, STAGES, HAS_LEFT, HAS_RIGHT)),
        ],
        [4, 1],
        [REGISTERS, REGISTERS_TO_SHARE - 2 * REGISTERS],
    )


@gluon.jit
def barriers(NUM: gl.constexpr, ARRIVALS: gl.constexpr) -> gl.shared_memory_descriptor:
    """A phase of each ends after that many arrivals."""
    made = gl.allocate_shared_memory(gl.int64, [NUM, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(NUM):
        mbarrier.init(made.index(i), count=ARRIVALS)
    return made


@gluon.jit
def copy(
    query_desc: tma.tensor_descriptor,
    key_desc: tma.tensor_descriptor,
    value_desc: tma.tensor_descriptor,
    shared: gl.tuple,
    plan: gl.tuple,
    heads_per_group: gl.tensor,
    STAGES: gl.constexpr,
    HAS_LEFT: gl.constexpr,
    HAS_RIGHT: gl.constexpr,
) -> None:
    """One warp: every tile that the two groups will ask for, in the order in which they free the slots: a tile's values
    after the next tile's keys.
    """
    query, key, value, query_full, query_empty, key_full, key_empty, value_full, value_empty = shared
    N: gl.constexpr = key_desc.block_type.shape[1]
    num_tiles = 0
    done = 0
    for turn in range(gl.program_id(0), plan[0], gl.num_programs(0)):
        first_query, row, head = place(turn, plan)
        begin, _, _, end = visible_tiles(first_query, plan, N, HAS_LEFT, HAS_RIGHT)
        for i in gl.static_range(2):
            mbarrier.wait(query_empty.index(i), (done & 1) ^ 1)
            mbarrier.expect(query_full.index(i), query_desc.block_type.nbytes)
            copy_to_shared(query_desc, [row, first_query + i * M, head, 0], query_full.index(i), query.index(i))
        done = done + 1
        group = head // heads_per_group
        for tile in range(begin, end):
            copy_tile(key_desc, [row, tile * N, group, 0], key, key_full, key_empty, num_tiles, STAGES)
            if tile > begin:
                at = [row, (tile - 1) * N, group, 0]
                copy_tile(value_desc, at, value, value_full, value_empty, num_tiles - 1, STAGES)
            num_tiles += 1
        at = [row, (end - 1) * N, group, 0]
        copy_tile(value_desc, at, value, value_full, value_empty, num_tiles - 1, STAGES)


@gluon.jit
def copy_tile(
    desc: tma.tensor_descriptor,
    at: gl.tuple,
    ring: gl.shared_memory_descriptor,
    full: gl.shared_memory_descriptor,
    empty: gl.shared_memory_descriptor,
    num_before: gl.tensor,
    STAGES: gl.constexpr,
) -> None:
    """Into the slot that is next after so many tiles, once both groups are through with what was there."""
    slot = num_before % STAGES
    mbarrier.wait(empty.index(slot), ((num_before // STAGES) & 1) ^ 1)
    mbarrier.expect(full.index(slot), desc.block_type.nbytes)
    copy_to_shared(desc, at, full.index(slot), ring.index(slot))


@gluon.jit
def attend(
    shared: gl.tuple,
    turns: gl.shared_memory_descriptor,
    plan: gl.tuple,
    out: gl.tuple,
    bias: gl.tuple,
    GROUP: gl.constexpr,
    STAGES: gl.constexpr,
    SIGMOID: gl.constexpr,
    HAS_BIAS: gl.constexpr,
    HAS_LEFT: gl.constexpr,
    HAS_RIGHT: gl.constexpr,
) -> None:
    """Four warps: 64 queries against all their keys, turn after turn. `band` is what a mask needs: the position of the
    first query among the keys, and how far to both sides it sees.
    """
    query, key, value, query_full, query_empty, _, _, _, value_empty = shared
    N: gl.constexpr = key.shape[2]
    D: gl.constexpr = key.shape[4]
    O_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    rows = query.index(GROUP).reshape([M, D])
    num_tiles = 0
    done = 0
    for turn in range(gl.program_id(0), plan[0], gl.num_programs(0)):
        first_query, row, head = place(turn, plan)
        first_query += GROUP * M
        begin, full_begin, full_end, end = visible_tiles(first_query - GROUP * M, plan, N, HAS_LEFT, HAS_RIGHT)
        line = (bias[3], offset_of(bias, row, head, SIGMOID, HAS_BIAS))
        band = (first_query + plan[8], plan[6], plan[7])
        mbarrier.wait(query_full.index(GROUP), done & 1)
        o = gl.zeros([M, D], gl.float32, O_LAYOUT)
        p = first_weights(rows, shared, line, band, begin, num_tiles, STAGES, SIGMOID, HAS_LEFT, HAS_RIGHT)
        num_tiles += 1
        if HAS_LEFT:
            for tile in range(begin + 1, full_begin):
                o, p = step(
                    o, p, rows, shared, turns, line, band, tile, num_tiles, num_tiles - done - 1,
                    GROUP, STAGES, SIGMOID, HAS_LEFT, HAS_RIGHT,
                )  # fmt: skip
                num_tiles += 1
        for tile in range(full_begin, full_end):
            o, p = step(
                o, p, rows, shared, turns, line, band, tile, num_tiles, num_tiles - done - 1,
                GROUP, STAGES, SIGMOID, False, False,
            )  # fmt: skip
            num_tiles += 1
        if HAS_LEFT or HAS_RIGHT:
            for tile in range(full_end, end):
                o, p = step(
                    o, p, rows, shared, turns, line, band, tile, num_tiles, num_tiles - done - 1,
                    GROUP, STAGES, SIGMOID, HAS_LEFT, HAS_RIGHT,
                )  # fmt: skip
                num_tiles += 1
        mbarrier.arrive(query_empty.index(GROUP), count=1)
        done = done + 1
        slot = (num_tiles - 1) % STAGES
        o = warpgroup_mma(p, value.index(slot).reshape([N, D]), o, is_async=True)
        o, p = warpgroup_mma_wait(0, deps=[o, p])
        mbarrier.arrive(value_empty.index(slot), count=1)
        store(o, out, first_query, row, head, key.dtype)


@gluon.jit
def first_weights(
    rows: gl.shared_memory_descriptor,
    shared: gl.tuple,
    line: gl.tuple,
    band: gl.tuple,
    tile: gl.tensor,
    num_tiles: gl.tensor,
    STAGES: gl.constexpr,
    SIGMOID: gl.constexpr,
    HAS_LEFT: gl.constexpr,
    HAS_RIGHT: gl.constexpr,
) -> gl.tensor:
    """P of the first tile of a turn, with nothing to do meanwhile. Its values have arrived afterwards."""
    _, key, _, _, _, key_full, key_empty, value_full, _ = shared
    slot = num_tiles % STAGES
    phase = (num_tiles // STAGES) & 1
    mbarrier.wait(key_full.index(slot), phase)
    s = warpgroup_mma_wait(0, deps=[scores(rows, key.index(slot))])
    mbarrier.arrive(key_empty.index(slot), count=1)
    p = weights(s, line, band, tile, rows.dtype, key.shape[4], SIGMOID, HAS_LEFT, HAS_RIGHT)
    mbarrier.wait(value_full.index(slot), phase)
    return p


@gluon.jit
def step(
    o: gl.tensor,
    p: gl.tensor,
    rows: gl.shared_memory_descriptor,
    shared: gl.tuple,
    turns: gl.shared_memory_descriptor,
    line: gl.tuple,
    band: gl.tuple,
    tile: gl.tensor,
    num_tiles: gl.tensor,
    num_steps: gl.tensor,
    GROUP: gl.constexpr,
    STAGES: gl.constexpr,
    SIGMOID: gl.constexpr,
    HAS_LEFT: gl.constexpr,
    HAS_RIGHT: gl.constexpr,
) -> gl.tuple:
    """O with the tile before, and P of this one. num_tiles: those before this one, since the kernel began; num_steps:
    the steps before.

    The values of this tile are waited for in this step, between sigma and the wait for the products, and not in the
    next, which needs them. That costs nothing, since copies run ahead, and a wait is a branch: without one the compiler
    moves half of sigma behind the products that it is to overlap (seen in the machine code).
    """
    _, key, value, _, _, key_full, key_empty, value_full, value_empty = shared
    N: gl.constexpr = key.shape[2]
    D: gl.constexpr = key.shape[4]
    slot = num_tiles % STAGES
    phase = (num_tiles // STAGES) & 1
    slot_before = (num_tiles - 1) % STAGES
    mbarrier.wait(key_full.index(slot), phase)
    mbarrier.wait(turns.index(GROUP), (num_steps & 1) ^ (1 - GROUP))
    s = scores(rows, key.index(slot))
    o = warpgroup_mma(p, value.index(slot_before).reshape([N, D]), o, is_async=True)
    mbarrier.arrive(turns.index(1 - GROUP), count=1)
    s = warpgroup_mma_wait(1, deps=[s])
    mbarrier.arrive(key_empty.index(slot), count=1)
    next_p = weights(s, line, band, tile, rows.dtype, D, SIGMOID, HAS_LEFT, HAS_RIGHT)
    mbarrier.wait(value_full.index(slot), phase)
    o, p, next_p = warpgroup_mma_wait(0, deps=[o, p, next_p])
    mbarrier.arrive(value_empty.index(slot_before), count=1)
    return o, next_p


@gluon.jit
def scores(rows: gl.shared_memory_descriptor, keys: gl.shared_memory_descriptor) -> gl.tensor:
    """Q K^T [M, N], issued and not waited for."""
    N: gl.constexpr = keys.shape[1]
    S_LAYOUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, N, 16])
    nothing = gl.zeros([M, N], gl.float32, S_LAYOUT)
    transposed = keys.reshape([N, keys.shape[3]]).permute((1, 0))
    return warpgroup_mma(rows, transposed, nothing, use_acc=False, is_async=True)


@gluon.jit
def store(
    o: gl.tensor, out: gl.tuple, first_query: gl.tensor, row: gl.tensor, head: gl.tensor, DTYPE: gl.constexpr
) -> None:
    """O as it lies in registers, two neighbours per thread: eight of them fill a sector together, and nobody waits."""
    out_ptr, out_row, out_position, out_head, num_queries = out
    if DTYPE == gl.float16:
        o = o * (1 / WEIGHT_SCALE)
    i = first_query + gl.arange(0, o.shape[0], layout=gl.SliceLayout(1, o.type.layout))
    e = gl.arange(0, o.shape[1], layout=gl.SliceLayout(0, o.type.layout))
    at = out_ptr + row.to(gl.int64) * out_row + head.to(gl.int64) * out_head
    pointers = at + gl.expand_dims(i.to(gl.int64) * out_position, 1) + gl.expand_dims(e, 0)
    inside = gl.expand_dims(i < num_queries, 1) & gl.expand_dims(e < o.shape[1], 0)
    gl.store(pointers, o.to(DTYPE), mask=inside)
