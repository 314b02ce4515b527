"""P = sigma(x) within kernels, accurate where x is far below 0, which is where a bias of -log n puts it.

P is computed as 1 / (1 + 2^y) with y = -x log2(e): an absolute error in y of 1e-6 is a relative one in P, however small
P is. The hardware's tanh, in sigma(x) = (1 + tanh(x / 2)) / 2, has a relative error of 1e-5 where it is near -1, which
is an absolute one of P: as much as P itself at n = 131072. The price is a second operation of the special function
unit, of which an H100 does 16 per clock against 2048 multiplications of the tensor cores. So four elements share one
reciprocal ("batched"): with d = 1 + 2^y, 1 / d0 = d1 (d2 d3) / (d0 d1 d2 d3). 1.25 operations per element instead of 2,
relative error about 1e-6.

y is clamped at 30 so that the product of four stays finite: P is at least 2^-30, below what 16-bit weights resolve, and
a masked element must be made 0 afterwards. The minimum is the one that lets NaN through: it reaches the four elements
of its group.
"""

# A compile-time constant is not what its annotation says, for a checker of Python.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportOperatorIssue=false, reportIndexIssue=false

import triton
import triton.language as tl

LARGEST_EXPONENT = tl.constexpr(30.0)
LOG2_E = tl.constexpr(1.4426950408889634)

_BATCHED = """
{
    .reg .f32 e0, e1, e2, e3, d0, d2, a, b, r;
    min.NaN.ftz.f32 e0, $4, 0f41F00000;
    min.NaN.ftz.f32 e1, $5, 0f41F00000;
    min.NaN.ftz.f32 e2, $6, 0f41F00000;
    min.NaN.ftz.f32 e3, $7, 0f41F00000;
    ex2.approx.ftz.f32 e0, e0;
    ex2.approx.ftz.f32 e1, e1;
    ex2.approx.ftz.f32 e2, e2;
    ex2.approx.ftz.f32 e3, e3;
    add.ftz.f32 d0, e0, 0f3F800000;
    add.ftz.f32 d2, e2, 0f3F800000;
    fma.rn.ftz.f32 a, e1, d0, d0;
    fma.rn.ftz.f32 b, e3, d2, d2;
    mul.ftz.f32 r, a, b;
    rcp.approx.ftz.f32 r, r;
    SCALED
    mul.ftz.f32 b, b, r;
    mul.ftz.f32 a, a, r;
    fma.rn.ftz.f32 $0, b, e1, b;
    mul.ftz.f32 $1, b, d0;
    fma.rn.ftz.f32 $2, a, e3, a;
    mul.ftz.f32 $3, a, d2;
}
"""
BATCHED = tl.constexpr(_BATCHED.replace("SCALED", ""))
"""a = d0 d1, b = d2 d3; then b and a are 1 / (d0 d1) and 1 / (d2 d3). d1 and d3 exist in products only. Five
instructions of the arithmetic pipes per element, and 1.25 of the special function unit.
"""
BATCHED_SCALED = tl.constexpr(_BATCHED.replace("SCALED", "mul.ftz.f32 r, r, 0f47000000;"))
"""The same, times 2^15."""
EXACT = tl.constexpr("""
{
    .reg .f32 d;
    ex2.approx.ftz.f32 d, $1;
    add.ftz.f32 d, d, 0f3F800000;
    rcp.approx.ftz.f32 $0, d;
}
""")
TANH = tl.constexpr("""
{
    .reg .f32 t;
    tanh.approx.f32 t, $1;
    fma.rn.ftz.f32 $0, t, 0f3F000000, 0f3F000000;
}
""")


@triton.jit
def sigmoid_of(y: tl.tensor, SIGMOID: tl.constexpr, SCALE: tl.constexpr, INTERPRETED: tl.constexpr) -> tl.tensor:
    """SCALE sigma, fp32. SIGMOID: "batched" or "exact", where y = -x log2(e); "tanh", where y = x / 2. SCALE is 1, or
    2^15, which is folded into the shared reciprocal. An interpreter has no assembly and takes the plain formula.
    """
    if INTERPRETED:
        if SIGMOID == "tanh":
            p = 1 / (1 + tl.exp2(y * (-2 * LOG2_E)))
        elif SIGMOID == "exact":
            p = 1 / (1 + tl.exp2(y))
        else:
            p = 1 / (1 + tl.exp2(tl.minimum(y, LARGEST_EXPONENT, propagate_nan=tl.PropagateNan.ALL)))
        if SCALE != 1:
            p = p * SCALE
    elif SIGMOID == "batched":
        asm: tl.constexpr = BATCHED if SCALE == 1 else BATCHED_SCALED
        four: tl.constexpr = "=f,=f,=f,=f,f,f,f,f"
        p = tl.inline_asm_elementwise(asm, four, [y], dtype=tl.float32, is_pure=True, pack=4)
    else:
        asm: tl.constexpr = TANH if SIGMOID == "tanh" else EXACT
        p = tl.inline_asm_elementwise(asm, "=f,f", [y], dtype=tl.float32, is_pure=True, pack=1)
        if SCALE != 1:
            p = p * SCALE
    return p


@triton.jit
def slope_of(p: tl.tensor, SCALE: tl.constexpr) -> tl.tensor:
    """The derivative P (1 - P), of p = SCALE P, times SCALE."""
    return tl.fma(p * (-1.0 / SCALE), p, p)
