"""Runs without a model: named tensors split as tensor, pipeline and data parallelism with ZeRO would split them."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import distributed

from triptych.models.sharding import Sharding, part_of
from triptych.trainer.checkpoint.boxes import boxes_of_range
from triptych.trainer.checkpoint.config import CheckpointConfig
from triptych.trainer.checkpoint.shards import Held
from triptych.trainer.checkpoint.store import CheckpointStore
from triptych.trainer.state import TrainState

PARTS = ("weights", "exp_avg", "exp_avg_sq")
SHAPES = {
    "embedding.weight": ((12, 6), Sharding(dim=0)),
    "temperature": ((), Sharding()),
    "0.norm.weight": ((7,), Sharding()),
    "0.linear_fc1.weight": ((16, 5), Sharding(dim=0, stride=2)),
    "0.linear_fc2.weight": ((5, 8), Sharding(dim=1)),
    "kernel": ((4, 3, 2), Sharding(dim=0)),
    "head.weight": ((12, 6), Sharding(dim=0)),
}
NUM_ELEMENTS = sum(math.prod(shape) for shape, _ in SHAPES.values())
IDENTITY = {"model": "fabricated", "tokenizers": {"text": "a"}}


def whole(part, name, version):
    """A parameter's value; every part, name and version has another."""
    shape, _ = SHAPES[name]
    seed = PARTS.index(part) + 10 * list(SHAPES).index(name) + 1000 * version
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Split:
    """Tensor-parallel ranks, pipeline stages and data-parallel ranks of ZeRO."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1


class FabricatedEngine:
    """What a store asks of an engine, on one rank of a split."""

    def __init__(self, split, rank, version=0):
        self.split, self.tensor_rank = split, rank % split.tensor
        data_rank, stage = rank // split.tensor % split.data, rank // (split.tensor * split.data)
        self.names = list(SHAPES)[stage :: split.pipeline]
        numel = sum(self.part(PARTS[0], name, 0).numel() for name in self.names)
        share = -(-numel // split.data)
        self.begin, self.end = min(numel, data_rank * share), min(numel, (data_rank + 1) * share)
        self.memory = {part: torch.full([self.end - self.begin], torch.nan) for part in PARTS}
        self.modules = {name: self.part("weights", name, 0).bfloat16() for name in self.names}
        self.set(version)

    def part(self, part, name, version):
        """This rank's tensor-parallel part of a parameter."""
        return part_of(whole(part, name, version), SHAPES[name][1], self.tensor_rank, self.split.tensor)

    def set(self, version):
        """Take the values of a version, as training would."""
        for part, memory in self.memory.items():
            memory.copy_(self.expected(part, version))
        for name, weight in self.modules.items():
            weight.copy_(self.part("weights", name, version))

    def expected(self, part, version):
        parts = [self.part(part, name, version).flatten() for name in self.names]
        return torch.cat(parts)[self.begin : self.end] if parts else torch.empty(0)

    def is_at(self, version):
        """Whether every element this rank holds is bit-equal to that of a version."""
        return all(torch.equal(memory, self.expected(part, version)) for part, memory in self.memory.items()) and all(
            torch.equal(w, self.part("weights", n, version).bfloat16()) for n, w in self.modules.items()
        )

    def held(self):
        return {part: dict(self._ranges(memory)) for part, memory in self.memory.items()}

    def module_weights(self):
        return {name: self._held(name, weight.view(-1), 0) for name, weight in self.modules.items()}

    def _ranges(self, memory):
        """ZeRO's cut: this rank's range of all parameters in a row."""
        at = 0
        for name in self.names:
            numel = self.modules[name].numel()
            first, last = max(at, self.begin), min(at + numel, self.end)
            if first < last:
                yield name, self._held(name, memory[first - self.begin : last - self.begin], first - at)
            at += numel

    def _held(self, name, flat, start):
        shape, sharding = SHAPES[name]
        boxes = boxes_of_range(
            flat,
            start=start,
            local_shape=self.modules[name].shape,
            sharding=sharding,
            rank=self.tensor_rank,
            num_ranks=self.split.tensor,
        )
        return Held(shape=shape, boxes=boxes)


def open_store(folder, warn=None, identity=IDENTITY, **config):
    """A store of this process's rank; `warn`: a list that takes the warnings."""
    groups = SimpleNamespace(device=torch.device("cpu"))
    return CheckpointStore(
        folder, CheckpointConfig(**config), groups, identity, (warn if warn is not None else []).append
    )


def state_of(split=Split(), version=0):
    """A state whose clock, cursor and tensors all tell its version."""
    state = TrainState(engine=FabricatedEngine(split, distributed.get_rank()))
    advance(state, version)
    return state


def advance(state, version):
    state.engine.set(version)
    state.tokens, state.step, state.cursor = 100 * version, version, {"text": version}
    state.logical_updates, state.batch = 0.5 * version, 4 * version


def is_at(state, version):
    """Whether the whole state is that of a version."""
    clock = (state.tokens, state.step, state.logical_updates, state.batch)
    return (
        clock == (100 * version, version, 0.5 * version, 4 * version)
        and dict(state.cursor) == {"text": version}
        and state.engine.is_at(version)
    )


def folder_at(folder, version):
    return folder / f"tokens-{100 * version:015d}"
