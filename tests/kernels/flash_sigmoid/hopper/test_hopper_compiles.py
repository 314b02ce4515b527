"""The forward kernel compiled for sm_90 without one: registers, shared memory, and Hopper's own instructions in it."""

import functools
import re

import pytest
import torch

pytest.importorskip("triton")

from triptych.kernels.compilation import SHARED_LIMIT_BYTES, compile_for
from triptych.kernels.flash_sigmoid.hopper.forward import forward_kernel
from triptych.kernels.flash_sigmoid.hopper.launch import OPTIONS, TILES, forward_arguments
from triptych.kernels.flash_sigmoid.problem import Problem

CALLS = {64: (torch.float16, -1, 0), 128: (torch.bfloat16, -1, 0), 256: (torch.bfloat16, -1, -1)}
"""Head dimension to dtype, and how far a query sees to the left and to the right."""
TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16"}


@functools.cache
def compiled(head_dim):
    """What a launch on a GPU would compile, of two rows of 256 positions."""
    dtype, left, right = CALLS[head_dim]
    query, key, value, out = (torch.zeros(2, 256, 4, head_dim, dtype=dtype) for _ in range(4))
    problem = Problem(
        scale=0.125,
        bias_value=-5.0,
        left=left,
        right=right,
        shift=0,
        max_query_length=256,
        max_key_length=256,
        sigmoid="accurate",
    )
    signature, constexprs = {}, {}
    for name, value_of in forward_arguments(query, key, value, out, problem).items():
        if name.isupper() or value_of is None:
            constexprs[name] = value_of
        else:
            signature[name] = type_of(name, value_of, TYPES[dtype])
    whole = ["out_row", "out_position", "out_head"]
    return compile_for(forward_kernel, 90, signature, constexprs, divisible_by_16=whole, **OPTIONS)


def type_of(name, value, dtype):
    if hasattr(value, "block_shape"):
        return f"tensordesc<{dtype}[{', '.join(map(str, value.block_shape))}],{value.layout!r}>"
    if name == "out_ptr":
        return f"*{dtype}"
    return "fp32" if isinstance(value, float) else "i32"


def computing_loops(head_dim):
    """The bodies of the loops over tiles, without those around them: one without a mask in each group, or also one with
    a mask.
    """
    products = {64: 12, 128: 16, 256: 20}[head_dim]  # columns of 16: of D for the scores, of keys for the output
    bodies = [body for body in compiled(head_dim).loops() if has(body, "MUFU.EX2")]
    return [body for body in bodies if sum(one.opcode.startswith("HGMMA") for one in body) == products]


def test_numbers_of_a_call_do_not_ask_for_another_compilation():
    """What is compiled here is then what every launch runs: strides of the output alone are divisible by 16 or not."""
    asked = {one.name for one in forward_kernel.params if not (one.is_constexpr or one.do_not_specialize)}
    strides = {"out_row", "out_position", "out_head"}
    tensors = {"query_desc", "key_desc", "value_desc", "out_ptr", "bias_ptr"}
    assert asked == strides | tensors | {"factor", "offset"}  # of the last two, floats, nothing is asked


@pytest.mark.parametrize("head_dim", CALLS)
def test_a_group_arrives_when_each_of_its_warps_is_there(head_dim):
    """One thread arrives for four warps: right behind a barrier of these, or else a slot is given away that the slowest
    still reads.
    """
    synchronising = re.compile(r"bar(rier)?\.sync|wgmma\.|mbarrier\.|^\s*\$L_*BB")
    lines = [line for line in compiled(head_dim).assembly["ptx"].splitlines() if synchronising.search(line)]
    arrivals = [at for at, line in enumerate(lines) if re.search(r"mbarrier\.arrive\.(?!expect_tx)", line)]
    assert len(arrivals) >= 2 * 6  # of each group: queries, values twice, keys twice, the other's turn
    assert all(re.search(r"bar(rier)?\.sync\s+\d+, 128;", lines[at - 1]) for at in arrivals)


def has(body, opcode):
    return any(one.opcode.startswith(opcode) for one in body)


@pytest.mark.parametrize("head_dim", CALLS)
def test_nothing_is_spilled(head_dim):
    resources = compiled(head_dim)
    assert (resources.spill_bytes, resources.stack_bytes) == (0, 0)


@pytest.mark.parametrize("head_dim", CALLS)
def test_shared_memory_suffices(head_dim):
    assert compiled(head_dim).shared_bytes <= SHARED_LIMIT_BYTES[90]


@pytest.mark.parametrize("head_dim", CALLS)
@pytest.mark.parametrize("opcode", ["HGMMA", "UTMALDG", "USETMAXREG"])
def test_hoppers_own_instructions_are_there(head_dim, opcode):
    assert compiled(head_dim).count(opcode) > 0


@pytest.mark.parametrize("head_dim", CALLS)
def test_four_elements_share_a_reciprocal(head_dim):
    for body in computing_loops(head_dim):
        exponentials, reciprocals = (sum(one.opcode == name for one in body) for name in ("MUFU.EX2", "MUFU.RCP"))
        assert exponentials == 4 * reciprocals == 64 * TILES[head_dim].keys // 128


@pytest.mark.parametrize("head_dim", CALLS)
def test_sigma_stands_between_the_two_waits_for_products(head_dim):
    loops = computing_loops(head_dim)
    assert len(loops) == (2 if CALLS[head_dim][2] < 0 else 4)
    for body in loops:
        opcodes = [one.opcode for one in body]
        first, second = (at for at, name in enumerate(opcodes) if name == "WARPGROUP.DEPBAR.LE")
        special = [at for at, name in enumerate(opcodes) if name.startswith("MUFU")]
        products = [at for at, name in enumerate(opcodes) if name.startswith("HGMMA")]
        assert max(products) < first < min(special)
        assert max(special) < second
