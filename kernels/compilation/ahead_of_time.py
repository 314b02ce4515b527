"""`compile_for`: a Triton or Gluon kernel to machine code, on any machine, with the figures that decide its speed.

Triton's wheel carries ptxas, cuobjdump and the whole compiler, and none of them asks for a device. What a GPU would
report when it loads the kernel (registers, local memory, shared memory) stands in the binary, and so does the code.

    resources = compile_for(
        kernel, 90, {"q_ptr": "*bf16", "stride": "i64", "num_keys": "i32"}, {"BLOCK": 64}, num_warps=8
    )
    assert resources.stack_bytes == 0 and resources.shared_bytes <= SHARED_LIMIT_BYTES[90]
    assert resources.count("HGMMA") > 0

Checked with Triton 3.6 and 3.9.
"""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import ASTSource
from triton.experimental.gluon._runtime import GluonASTSource
from triton.runtime.jit import JITFunction

SHARED_LIMIT_BYTES: Mapping[int, int] = {80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10}
"""What one program may take of a multiprocessor's shared memory, by architecture (CUDA C++ programming guide, table of
technical specifications per compute capability).
"""

_INSTRUCTION = re.compile(r"/\*(?P<address>[0-9a-f]{4,})\*/\s+(?P<text>(?:@!?U?P\w+\s+)?(?P<opcode>[A-Z][\w.]*)[^;]*);")
_USAGE = re.compile(r"Function (?P<name>\S+):\s*REG:(?P<registers>\d+) STACK:(?P<stack>\d+)")
_BYTES_OF_WIDTH = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}


@dataclass(kw_only=True, slots=True, frozen=True)
class Instruction:
    """address: bytes from the kernel's entry. opcode: with its modifiers. text: as disassembled, with its predicate."""

    address: int
    opcode: str
    text: str


@dataclass(kw_only=True, slots=True, frozen=True)
class Resources:
    """What a compiled kernel needs, and its code.

    registers: per thread at entry; warp-specialised code moves registers between its warps afterwards. stack_bytes:
    local memory per thread, which holds spilled registers, and is not 0 where an array was indexed by a variable,
    either. spill_bytes: that the code stores there, once per store instruction, as ptxas counts them. shared_bytes: per
    program, in the launch. instructions: how often each opcode stands in the code, with its modifiers ("MUFU.EX2").
    """

    registers: int
    spill_bytes: int
    stack_bytes: int
    shared_bytes: int
    instructions: Counter[str]
    code: tuple[Instruction, ...] = field(repr=False)
    assembly: Mapping[str, Any] = field(repr=False)
    """Every stage, by its suffix: "ttgir", "ptx", "cubin"."""

    def count(self, opcode: str) -> int:
        """Instructions of an opcode, whatever modifiers follow: count("MUFU") includes "MUFU.EX2"."""
        return sum(n for name, n in self.instructions.items() if name == opcode or name.startswith(f"{opcode}."))

    def loops(self) -> list[tuple[Instruction, ...]]:
        """The code from the target of each backward jump to the jump, shortest first: bodies of loops, as they run.
        A jump to itself, where a kernel ends, is not one.
        """
        found = []
        for at, instruction in enumerate(self.code):
            target = re.search(r"\bBRA\S*\s.*?\b0x([0-9a-f]+)", instruction.text)
            if target and int(target[1], 16) < instruction.address:
                body = [one for one in self.code[: at + 1] if one.address >= int(target[1], 16)]
                found.append(tuple(body))
        return sorted(found, key=len)


def compile_for(
    fn: Any,
    arch: int,
    signature: Mapping[str, str],
    constexprs: Mapping[str, Any] | None = None,
    *,
    num_warps: int = 4,
    num_stages: int = 3,
    divisible_by_16: Collection[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Resources:
    """Compiles fn (of `triton.jit` or `gluon.jit`) for sm_<arch>: 80, 90, 100.

    signature: the type of every argument that is no constexpr: "*bf16", "i32", "fp32", or for a host descriptor
    "tensordesc<bf16[64, 128]>" (in Gluon with its layout). Pointers count as divisible by 16, as those of tensors that
    torch allocates are: without it vectors and asynchronous copies vanish from the code. divisible_by_16: integers of
    which a launch would find the same. constexprs: the values of the rest, None for a tensor that is left out.

    ValueError: an argument of the kernel is in neither, or in both, or the process interprets its kernels. Errors of
    the compiler pass through. A second call with the same arguments reads Triton's cache.
    """
    if not isinstance(fn, JITFunction):
        raise ValueError(f"{fn} is not a compiled kernel; compile in a process that has not set TRITON_INTERPRET")
    constexprs = dict(constexprs or {})
    types = _types(fn, signature, constexprs)
    attributes = {
        (fn.arg_names.index(name),): [["tt.divisibility", 16]]
        for name, kind in types.items()
        if kind.startswith("*") or name in divisible_by_16
    }
    source = (GluonASTSource if fn.is_gluon() else ASTSource)(
        fn=fn, signature=types, constexprs={(fn.arg_names.index(name),): value for name, value in constexprs.items()}
    )
    source.attrs = attributes
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", arch, 32),
        options={"num_warps": num_warps, "num_stages": num_stages, **(options or {})},
    )
    return _resources(compiled)


def _types(fn: Any, signature: Mapping[str, str], constexprs: Mapping[str, Any]) -> dict[str, str]:
    """The type of every argument, in the kernel's order, "constexpr" for those that are."""
    for name in fn.arg_names:
        if (name in signature) == (name in constexprs):
            where = "neither signature nor constexprs" if name not in signature else "both signature and constexprs"
            raise ValueError(f"{fn.__name__}: {name} is in {where}; give every argument of the kernel in one of them")
    for name in (*signature, *constexprs):
        if name not in fn.arg_names:
            raise ValueError(f"{fn.__name__} has no argument {name}; it has {', '.join(fn.arg_names)}")
    return {name: signature.get(name, "constexpr") for name in fn.arg_names}


def _resources(compiled: Any) -> Resources:
    usage, listing = _disassemble(compiled.asm["cubin"])
    found = next((match for match in _USAGE.finditer(usage) if match["name"] == compiled.metadata.name), None)
    assert found is not None, usage
    code = tuple(
        Instruction(address=int(match["address"], 16), opcode=match["opcode"], text=match["text"].strip())
        for match in _INSTRUCTION.finditer(listing)
    )
    instructions = Counter(instruction.opcode for instruction in code)
    return Resources(
        registers=int(found["registers"]),
        spill_bytes=sum(n * _stored_bytes(opcode) for opcode, n in instructions.items()),
        stack_bytes=int(found["stack"]),
        shared_bytes=compiled.metadata.shared,
        instructions=instructions,
        code=code,
        assembly=compiled.asm,
    )


def _stored_bytes(opcode: str) -> int:
    """Bytes that one instruction stores to local memory: 0 unless it is STL."""
    name, *modifiers = opcode.split(".")
    if name != "STL":
        return 0
    return next((_BYTES_OF_WIDTH[modifier] for modifier in modifiers if modifier in _BYTES_OF_WIDTH), 4)


def _disassemble(cubin: bytes) -> tuple[str, str]:
    """cuobjdump's table of what the kernels use, and their code."""
    cuobjdump = knobs.nvidia.cuobjdump.path
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage, code = (
            subprocess.run([cuobjdump, option, str(path)], check=True, capture_output=True, text=True).stdout
            for option in ("-res-usage", "-sass")
        )
    return usage, code
