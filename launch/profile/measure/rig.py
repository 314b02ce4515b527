"""A run that has been built, to be stepped: the real model, objective, engine and step, its parts looked on."""

import dataclasses
import math
import time
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from triptych.configs.trimodal import TrimodalRun
from triptych.kernels.philox import Stream
from triptych.launch.profile.measure.marks import (
    Listener,
    MarkedData,
    MarkedEngine,
    MarkedObjective,
    Marks,
    mark_passes,
)
from triptych.launch.profile.measure.memory import Memory, storages
from triptych.models.parameterization import kind_of
from triptych.models.sharding import sharding_of, whole_shape
from triptych.trainer.engine.engine import Engine
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.scaling.scaling import scaling_of
from triptych.trainer.seams import Data
from triptych.trainer.state import TrainState
from triptych.trainer.step import train_step


class Rig:
    """group_sizes: parameters of each of the optimizer's groups, on this rank. num_parameters: of one whole model.
    build_seconds: for model and engine.
    """

    def __init__(self, run: TrimodalRun, groups: Groups, data: Data) -> None:
        started = time.perf_counter()
        self.run, self.groups = run, groups
        self.marks = Marks()
        self.memory = Memory(groups.device)
        self._scaling = scaling_of(run.fit, run.facts, groups.layout, groups.num_data_ranks)
        chunks = run.build_chunks(groups)
        kinds = self._scaling.values.kind_groups
        parameters = [parameter for chunk in chunks for parameter in chunk.parameters()]
        sizes = [sum(each.numel() for each in parameters if kind_of(each) in group) for group in kinds]
        self.group_sizes = [size for size in sizes if size]
        self.num_parameters = _num_parameters(chunks, groups)
        several_stages = groups.layout.pipeline > 1
        mark_passes(chunks, self.marks, several_stages=several_stages)
        self.engine = Engine(chunks, run.fit.engine, groups, kinds)
        marked: Any = MarkedEngine(self.engine, self.marks)  # the two methods that a step calls
        self._state = TrainState(engine=marked)
        self.batch = self._scaling.sizes.at(0, None)
        self._data = MarkedData(data, self.marks)
        self._objective = MarkedObjective(run.build_objective(groups=groups), self.marks, several_stages=several_stages)
        self._stream = Stream(seed=run.fit.seed)
        self.wait()
        self.build_seconds = time.perf_counter() - started
        self.losses: list[float] = []

    def step(self) -> None:
        """One training step. Nothing is waited for but what the step itself waits for."""
        record = train_step(
            self._state,
            self.run.fit,
            scaling=self._scaling,
            data=self._data,
            objective=self._objective,
            stream=self._stream,
            groups=self.groups,
        )
        self.losses.append(record.metrics["loss"])

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.groups.device.type == "cuda":
            torch.cuda.synchronize(self.groups.device)

    def listen(self, listener: Listener | None) -> None:
        """To the parts of the steps from now on."""
        self.marks.listen(listener)

    def parameter_storages(self) -> dict[int, int]:
        """Address to bytes, of what the forward pass reads."""
        return storages(parameter.detach() for _, parameter in self.engine.named_parameters())

    def optimizer_storages(self) -> dict[int, int]:
        """Address to bytes, of this rank's fp32 weights and moments."""
        parts = self.engine.held().values()
        return storages(box.tensor for part in parts for held in part.values() for box in held.boxes)

    def state_to_save(self) -> TrainState:
        """Where training stands, with the engine itself."""
        return dataclasses.replace(self._state, engine=self.engine)

    def largest(self, value: int) -> int:
        """Over all processes, of which every one calls."""
        if self.groups.placement.world_size == 1:
            return value
        values = torch.tensor(value, device=self.groups.device)
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return int(values)


def _num_parameters(chunks: Iterable[nn.Module], groups: Groups) -> int:
    """Of one whole model."""
    num_ranks = groups.layout.tensor
    parameters = [parameter for chunk in chunks for parameter in chunk.parameters()]
    sizes = [math.prod(whole_shape(tuple(p.shape), sharding_of(p), num_ranks)) for p in parameters]
    total = torch.tensor(sum(sizes), device=groups.device)
    if groups.layout.pipeline > 1:
        dist.all_reduce(total, group=groups.collection.pp)
    return int(total)
