"""A kernel of three lines compiled for machines that are not here: what the figures must say about it."""

import pytest

triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402

from triptych.kernels.compilation import SHARED_LIMIT_BYTES, compile_for  # noqa: E402

pytestmark = pytest.mark.skipif(
    triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is set, so nothing is compiled"
)
POINTERS = {"a_ptr": "*bf16", "b_ptr": "*bf16", "out_ptr": "*fp32"}


@triton.jit
def product(a_ptr, b_ptr, out_ptr, size, BLOCK: tl.constexpr):
    """out[BLOCK, BLOCK] = sum of a b over `size` columns."""
    rows, columns = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    total = tl.zeros([BLOCK, BLOCK], tl.float32)
    for start in range(0, size, BLOCK):
        a = tl.load(a_ptr + rows * size + start + columns)
        b = tl.load(b_ptr + (start + rows) * BLOCK + columns)
        total = tl.dot(a, b, total)
    tl.store(out_ptr + rows * BLOCK + columns, tl.exp2(total))


def compiled(arch, **overrides):
    arguments = {"constexprs": {"BLOCK": 64}, "divisible_by_16": ["size"], **overrides}
    return compile_for(product, arch, {**POINTERS, "size": "i32"}, **arguments)


@pytest.mark.parametrize(("arch", "opcode"), [(80, "HMMA"), (90, "HGMMA"), (100, "UTCHMMA")])
def test_each_architecture_gets_its_own_matrix_instruction(arch, opcode):
    assert compiled(arch).count(opcode) > 0


def test_stages_cost_shared_memory():
    two, four = (compiled(90, num_stages=stages).shared_bytes for stages in (2, 4))
    assert 2 * 64 * 64 * 2 <= two < four <= SHARED_LIMIT_BYTES[90]


def test_a_kernel_that_fits_spills_nothing():
    resources = compiled(90)
    assert (resources.spill_bytes, resources.stack_bytes) == (0, 0)
    assert 16 < resources.registers < 255


def test_too_few_registers_are_seen_as_spills():
    resources = compiled(80, constexprs={"BLOCK": 128}, options={"maxnreg": 64})
    assert resources.registers <= 64
    assert resources.spill_bytes > 0
    assert resources.stack_bytes > 0


def test_opcodes_are_counted_with_their_modifiers():
    resources = compiled(90)
    assert resources.instructions["MUFU.EX2"] == resources.count("MUFU") == 64 * 64 // 128


def test_the_loop_holds_the_products():
    products = [sum(one.opcode.startswith("HGMMA") for one in body) for body in compiled(90).loops()]
    assert 4 in products  # 64 columns in steps of 16


@pytest.mark.parametrize(
    ("signature", "constexprs", "message"),
    [
        (POINTERS, {"BLOCK": 64}, "size is in neither"),
        ({**POINTERS, "size": "i32"}, {"BLOCK": 64, "size": 64}, "size is in both"),
        ({**POINTERS, "size": "i32", "length": "i32"}, {"BLOCK": 64}, "has no argument length"),
    ],
)
def test_arguments_must_be_the_kernels(signature, constexprs, message):
    with pytest.raises(ValueError, match=message):
        compile_for(product, 90, signature, constexprs)
