"""Gluon's operations on Hopper as the forward kernel uses them, executable without a GPU, as unkind as hardware may be.

Shared memory is NaN until a copy has arrived, and NaN again from the moment at which the next copy to the same place is
issued. A product reads its operands from shared memory when it is issued and again when it is waited for: where the two
differ, the result is NaN. The result of a product that was not waited for raises when it is touched. Barriers have
phases, counts and bytes to come; too many arrivals raise. Integers divide as C's do, towards 0.

`load` executes the kernel's own source against this. Faults are planted by replacing lines of that source.
"""

import builtins
import math
from pathlib import Path
from types import SimpleNamespace

import torch
from machine_model import Fault, Machine
from ptx_model import run_assembly

import triptych.kernels.flash_sigmoid.device.sigmoid as assembly
import triptych.kernels.flash_sigmoid.hopper.forward as forward
import triptych.kernels.flash_sigmoid.hopper.turns as turns
import triptych.kernels.flash_sigmoid.hopper.weights as weights

SOURCES = (turns, weights, forward)
"""In the order in which they import each other."""
NUM_ASSEMBLY_INPUTS = {"=f,f": 1, "=f,=f,=f,=f,f,f,f,f": 4}


class Int(int):
    """An int32 of the kernel."""

    def __floordiv__(self, other):
        return Int(int(self / other) if abs(self) < 1 << 50 else self // int(other))

    def __mod__(self, other):
        return Int(self - (self // other) * other)

    def to(self, dtype):
        return self

    def __eq__(self, other):
        return int(self) == other

    __hash__ = int.__hash__


def _wrapped(name):
    plain = getattr(int, name)

    def method(self, other):
        result = plain(self, other)
        return Int(result) if isinstance(result, int) else result

    return method


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "and", "xor"):
    setattr(Int, f"__{_name}__", _wrapped(f"__{_name}__"))
Int.__neg__ = lambda self: Int(-int(self))


class Value:
    """A tensor in registers."""

    def __init__(self, data, layout):
        self.data, self.layout = data, layout

    shape = property(lambda self: list(self.data.shape))
    dtype = property(lambda self: self.data.dtype)
    type = property(lambda self: SimpleNamespace(layout=self.layout))

    def to(self, dtype):
        return Value(self.data.to(dtype), self.layout)

    def combine(self, other, operation):
        if isinstance(other, Value) and other.layout is None:
            raise Fault("an operand without a layout")
        plain = other.data if isinstance(other, Value) else other
        return Value(operation(self.data, plain), self.layout)


for _name in ("add", "radd", "sub", "mul", "rmul", "and", "lt", "le", "ge"):
    _method = getattr(torch.Tensor, f"__{_name}__")
    setattr(Value, f"__{_name}__", lambda self, other, _method=_method: self.combine(other, _method))


class Pointer:
    """An address, or a tensor of them."""

    def __init__(self, memory, offset=0):
        self.memory, self.offset = memory, offset

    def __add__(self, other):
        return Pointer(self.memory, self.offset + (other.data if isinstance(other, Value) else other))


class Barrier:
    """An mbarrier: a phase ends when all have arrived and no bytes are to come."""

    def __init__(self):
        self.count = None
        self.completed = self.bytes = 0

    def init(self, count):
        self.count = self.missing = count

    def arrive(self, count, num_bytes=0):
        if self.count is None:
            raise Fault("a barrier was used before it was made")
        self.missing -= count
        self.bytes += num_bytes
        if self.missing < 0:
            raise Fault("more arrivals than a phase has")
        if self.missing == 0 and self.bytes == 0:
            self.completed += 1
            self.missing = self.count

    def has_ended(self, parity):
        """Whether the last phase of this parity is over: the one under way has the other."""
        return self.completed % 2 != parity


class Shared:
    """A view of shared memory, or of barriers there."""

    def __init__(self, data):
        self.data = data

    shape = property(lambda self: list(self.data.shape))
    dtype = property(lambda self: self.data.dtype)

    def index(self, i):
        part = self.data[i]
        return part[0] if isinstance(part, list) else Shared(part)

    def reshape(self, shape):
        return Shared(self.data.view(shape))

    def permute(self, order):
        return Shared(self.data.permute(order))


class Descriptor:
    """A tensor as the copy engine sees it: outside of it there are zeros."""

    def __init__(self, descriptor):
        self.tensor = torch.as_strided(descriptor.base, descriptor.shape, descriptor.strides)
        self.dtype, self.layout = descriptor.base.dtype, descriptor.layout
        block = list(descriptor.block_shape)
        self.block_type = SimpleNamespace(shape=block, nbytes=math.prod(block) * descriptor.base.element_size())

    def read(self, at):
        box = torch.zeros(self.block_type.shape, dtype=self.dtype)
        spans = [
            (start, min(start + size, limit))
            for start, size, limit in zip(at, box.shape, self.tensor.shape, strict=True)
        ]
        if all(start < stop for start, stop in spans):
            inside = self.tensor[tuple(slice(*span) for span in spans)]
            box[tuple(slice(size) for size in inside.shape)] = inside
        return box


class Product:
    """acc + a b, under way until it is retired. As an operand of anything but a wait it raises."""

    def __init__(self, a, b, acc, use_acc):
        if not isinstance(acc, Value):
            raise Fault("a product accumulates to one that was not waited for")
        self.a, self.b, self.acc, self.use_acc = a, b, acc, use_acc
        self.seen = self._operands()
        self.result = None

    def _operands(self):
        return [operand.data.float().clone() for operand in (self.a, self.b)]

    def retire(self):
        a, b = (torch.where(now == then, now, torch.nan) for now, then in zip(self._operands(), self.seen, strict=True))
        product = a @ b
        self.result = Value(self.acc.data + product if self.use_acc else product, self.acc.layout)

    def __getattr__(self, name):
        raise Fault(f"{name} of a product that was not waited for")


class Model:
    """The namespaces `gl`, `mbarrier`, `tma` and the functions of Hopper, for one program of a launch."""

    def __init__(self, seed, late_copies, program, num_programs):
        self.machine = Machine(seed, late_copies)
        self.gl = self._language(program, num_programs)
        self.hopper = SimpleNamespace(
            fence_async_shared=lambda: None,
            mbarrier=SimpleNamespace(
                MBarrierLayout=lambda: "barriers",
                init=lambda barrier, count: barrier.init(count),
                arrive=self._arrive,
                expect=lambda barrier, num_bytes: barrier.arrive(1, num_bytes),
                wait=lambda barrier, phase: self.machine.give_way(lambda: barrier.has_ended(phase)),
            ),
            tma=SimpleNamespace(async_load=self._copy, tensor_descriptor=Descriptor),
            warpgroup_mma=self._multiply,
            warpgroup_mma_wait=self._wait,
        )

    def _language(self, program, num_programs):
        return SimpleNamespace(
            constexpr=lambda value: value,
            tensor=Value,
            tuple=tuple,
            shared_memory_descriptor=Shared,
            static_range=range,
            static_assert=_require,
            float16=torch.float16,
            float32=torch.float32,
            int64=torch.int64,
            program_id=lambda axis: Int(program),
            num_programs=lambda axis: Int(num_programs),
            NVMMADistributedLayout=lambda *arguments: ("products", *map(tuple, arguments)),
            DotOperandLayout=lambda *arguments: ("operand", *arguments),
            SliceLayout=lambda axis, parent: ("slice", axis, parent),
            allocate_shared_memory=_allocate,
            warp_specialize=self._specialize,
            minimum=lambda a, b: Int(min(a, b)),
            maximum=lambda a, b: Int(max(a, b)),
            cdiv=lambda a, b: Int((a + b - 1) // b),
            zeros=lambda shape, dtype, layout: Value(torch.zeros(shape, dtype=dtype), layout),
            arange=lambda start, end, layout: Value(torch.arange(start, end), layout),
            expand_dims=lambda x, axis: Value(x.data.unsqueeze(axis), x.layout[2]),
            fma=lambda x, a, b: Value(x.data * a + b, x.layout),
            where=lambda condition, x, other: Value(torch.where(condition.data, x.data, other), x.layout),
            convert_layout=lambda x, layout, assert_trivial: Value(x.data, layout),
            inline_asm_elementwise=_inline_assembly,
            load=lambda pointer: float(pointer.memory[int(pointer.offset)]),
            store=_store,
        )

    def _specialize(self, roles, num_warps, registers):
        _require(len(num_warps) == len(registers) == len(roles) - 1)
        bodies = [
            (f"{body.__name__} {i}", lambda body=body, arguments=arguments: body(*arguments))
            for i, (body, arguments) in enumerate(roles)
        ]
        self.machine.run(bodies)

    def _arrive(self, barrier, count):
        barrier.arrive(count)
        self.machine.give_way()

    def _copy(self, descriptor, at, barrier, target):
        target.data.fill_(torch.nan)

        def arrive():
            target.data.copy_(descriptor.read(at))
            barrier.arrive(0, -descriptor.block_type.nbytes)

        self.machine.copies.append(arrive)
        self.machine.give_way()

    def _multiply(self, a, b, acc, use_acc=True, is_async=False):
        _require(is_async)
        product = Product(a, b, acc, use_acc)
        self.machine.current.pending.append(product)
        self.machine.give_way()
        return product

    def _wait(self, num_outstanding, deps):
        pending = self.machine.current.pending
        while len(pending) > num_outstanding:
            pending.pop(0).retire()
        results = [_finished(one) if isinstance(one, Product) else one for one in deps]
        return results[0] if len(results) == 1 else tuple(results)


def _finished(product):
    """Its result, or itself, if it is under way still."""
    return product if product.result is None else product.result


def _require(condition):
    if not condition:
        raise Fault("an assumption of the kernel does not hold")


def _allocate(dtype, shape, layout):
    if layout == "barriers":
        return Shared([[Barrier()] for _ in range(shape[0])])
    return Shared(torch.full(shape, torch.nan, dtype=dtype))


def _inline_assembly(text, constraints, arguments, dtype, is_pure, pack):
    (x,) = arguments
    _require(NUM_ASSEMBLY_INPUTS[constraints] == pack)
    results = run_assembly(text, pack, x.data.float().flatten().view(-1, pack).unbind(1))
    return Value(torch.stack(results, 1).view(x.data.shape).to(dtype), x.layout)


def _store(pointer, value, mask):
    inside = mask.data.broadcast_to(value.data.shape)
    pointer.memory[pointer.offset.broadcast_to(value.data.shape)[inside]] = value.data[inside]


def load(model, faults):
    """The kernel's sources, executed against a model. faults: pieces of a source, and what they become."""
    sources = {module.__name__: Path(module.__file__).read_text() for module in SOURCES}
    for piece, replacement in faults.items():
        holders = [name for name, source in sources.items() if source.count(piece) == 1]
        if len(holders) != 1:
            raise LookupError(f"{piece!r} does not stand exactly once in the kernel")
        sources[holders[0]] = sources[holders[0]].replace(piece, replacement)
    gluon = SimpleNamespace(jit=_jit, language=model.gl)
    constants = {name: getattr(value, "value", value) for name, value in vars(assembly).items()}
    modules = {
        "triton.experimental.gluon.language": SimpleNamespace(experimental=SimpleNamespace(gluon=gluon)),
        "triton.experimental": SimpleNamespace(gluon=gluon),
        "triton.experimental.gluon.language.nvidia.hopper": model.hopper,
        assembly.__name__: SimpleNamespace(**constants),
    }
    built_in = {**vars(builtins), "__import__": lambda name, *_: modules[name]}
    for module in SOURCES:
        namespace = {"__builtins__": built_in, "__name__": module.__name__}
        exec(compile(sources[module.__name__], module.__file__, "exec"), namespace)
        modules[module.__name__] = SimpleNamespace(**namespace)
    return modules[forward.__name__].forward_kernel


def _jit(function=None, **options):
    return function or (lambda decorated: decorated)


def launch(arguments, num_programs, seed, late_copies, faults):
    """Runs every program of a launch. arguments: as for the kernel on a GPU."""
    for program in range(num_programs):
        model = Model(seed + program, late_copies, program, num_programs)
        load(model, faults)(**{name: _argument(value) for name, value in arguments.items()})


def _argument(value):
    if isinstance(value, torch.Tensor):
        memory = torch.as_strided(value, [value.untyped_storage().size() // value.element_size()], [1], 0)
        return Pointer(memory, value.storage_offset())
    if hasattr(value, "block_shape"):
        return Descriptor(value)
    return Int(value) if isinstance(value, int) and not isinstance(value, bool) else value
