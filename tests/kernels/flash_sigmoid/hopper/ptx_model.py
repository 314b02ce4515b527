"""The few instructions of PTX that sigma is written in, on tensors: which register goes where is read from the text.

Approximate instructions are exact here, up to fp32; what is subnormal becomes 0 (ftz), as there.
"""

import re
import struct

import torch

SMALLEST_NORMAL = 2.0**-126
INSTRUCTIONS = {
    "min.NaN.ftz.f32": torch.minimum,
    "ex2.approx.ftz.f32": torch.exp2,
    "rcp.approx.ftz.f32": torch.reciprocal,
    "tanh.approx.f32": torch.tanh,
    "add.ftz.f32": torch.add,
    "mul.ftz.f32": torch.mul,
    "fma.rn.ftz.f32": lambda a, b, c: (a.double() * b.double() + c.double()).float(),
}


def run_assembly(assembly, num_results, arguments):
    """The results of one block: `$0` and so on are the results, then the arguments (fp32 tensors of one shape)."""
    registers = {f"${num_results + i}": x for i, x in enumerate(arguments)}
    for line in assembly.strip().strip("{}").split(";"):
        opcode, *operands = re.split(r"[\s,]+", line.strip())
        if opcode in ("", ".reg"):
            continue
        target, *sources = operands
        registers[target] = flushed(INSTRUCTIONS[opcode](*(operand(one, registers) for one in sources)))
    return [registers[f"${i}"] for i in range(num_results)]


def operand(name, registers):
    """A register, or a number by its bits, as in 0f3F800000."""
    if name.startswith("0f"):
        return torch.tensor(struct.unpack(">f", bytes.fromhex(name[2:]))[0])
    return registers[name]


def flushed(x):
    return torch.where(x.abs() < SMALLEST_NORMAL, 0.0, x)
