"""P = sigma(S) in registers, ready to be multiplied with V."""

# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false
# pyright: reportGeneralTypeIssues=false

import triton.experimental.gluon.language as gl
from triton.experimental import gluon

from triptych.kernels.flash_sigmoid.device.sigmoid import BATCHED, BATCHED_SCALED, LOG2_E, TANH

WEIGHT_SCALE = gl.constexpr(32768.0)
"""fp16 alone: weights of 1/n are subnormal there, or 0; times 2^15 they are normal numbers down to 2^-29."""


@gluon.jit
def offset_of(
    bias: gl.tuple, row: gl.tensor, head: gl.tensor, SIGMOID: gl.constexpr, HAS_BIAS: gl.constexpr
) -> gl.tensor:
    """What a head's bias adds to y."""
    bias_ptr, bias_row, bias_head, _, offset = bias
    if HAS_BIAS:
        PER_LOGIT: gl.constexpr = 0.5 if SIGMOID == "tanh" else -LOG2_E
        offset += PER_LOGIT * gl.load(bias_ptr + row * bias_row + head * bias_head)
    return offset


@gluon.jit
def weights(
    s: gl.tensor,
    line: gl.tuple,
    band: gl.tuple,
    tile: gl.tensor,
    DTYPE: gl.constexpr,
    D: gl.constexpr,
    SIGMOID: gl.constexpr,
    HAS_LEFT: gl.constexpr,
    HAS_RIGHT: gl.constexpr,
) -> gl.tensor:
    """P [M, N] as the left operand of the product with V, times WEIGHT_SCALE in fp16; 0 outside of the band. The layout
    of an accumulator is that of an operand from registers: nothing moves between threads.
    """
    P_LAYOUT: gl.constexpr = gl.DotOperandLayout(0, gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16]), 2)
    y = gl.fma(s, line[0], line[1])
    FOUR: gl.constexpr = "=f,=f,=f,=f,f,f,f,f"
    if SIGMOID == "tanh":
        p = gl.inline_asm_elementwise(TANH, "=f,f", [y], dtype=gl.float32, is_pure=True, pack=1)
        if DTYPE == gl.float16:
            p = p * WEIGHT_SCALE
    elif DTYPE == gl.float16:
        p = gl.inline_asm_elementwise(BATCHED_SCALED, FOUR, [y], dtype=gl.float32, is_pure=True, pack=4)
    else:
        p = gl.inline_asm_elementwise(BATCHED, FOUR, [y], dtype=gl.float32, is_pure=True, pack=4)
    if HAS_LEFT or HAS_RIGHT:
        first_position, left, right = band
        i = first_position + gl.arange(0, s.shape[0], layout=gl.SliceLayout(1, s.type.layout))
        j = tile * s.shape[1] + gl.arange(0, s.shape[1], layout=gl.SliceLayout(0, s.type.layout))
        after = gl.expand_dims(j, 0) - gl.expand_dims(i, 1)
        if HAS_RIGHT:
            p = gl.where(after <= right, p, 0.0)
        if HAS_LEFT:
            p = gl.where(after >= -left, p, 0.0)
    return gl.convert_layout(p.to(DTYPE), P_LAYOUT, assert_trivial=True)
