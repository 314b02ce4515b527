"""A run without engine or data: a small module whose weights somebody moves."""

import torch
from torch import nn

from triptych.trainer.averages.averages import ModelAverages
from triptych.trainer.averages.config import AverageConfig
from triptych.trainer.checkpoint.shards import Box, Held
from triptych.trainer.state import TrainState

STEP_TOKENS = 100


class PlainEngine:
    """What an average asks of an engine that splits nothing."""

    def __init__(self, module):
        self.chunks = [module]
        self.module = module
        self.written = 0

    def held(self):
        return {"weights": {name: whole(parameter.detach()) for name, parameter in self.module.named_parameters()}}

    def weights_written(self):
        self.written += 1


def whole(tensor):
    shape = tuple(tensor.shape)
    return Held(shape=shape, boxes=(Box(offsets=(0,) * len(shape), sizes=shape, tensor=tensor),))


class Layers(nn.Module):
    """Weights, floating buffers that a state_dict has, one that it has not, and an integer one."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 3)
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("table", torch.ones(2), persistent=False)

    def forward(self, rows):
        return self.norm(self.linear(rows))


def start(*configs, module=None):
    """A state that carries the averages of a module, and they."""
    state = TrainState(engine=PlainEngine(module or Layers()))
    averages = ModelAverages(configs, state)
    state.carried |= averages.carried
    return state, averages


def started(**config):
    """As `start`, with one average."""
    return start(AverageConfig(name="slow", **config))


def pass_time(state, *, kappa=1.0):
    """A step that leaves the weights where they are."""
    state.step += 1
    state.logical_updates += kappa
    state.tokens += round(STEP_TOKENS * kappa)


def move(state, draw, *, kappa=1.0):
    """A step: random weights, and buffers from a forward pass over random rows."""
    pass_time(state, kappa=kappa)
    module = state.engine.module
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw))
        module(torch.randn(8, 5, generator=draw))


def average_of(state, name="slow"):
    """Parameter or buffer name to the average of it."""
    (part,) = state.carried[f"ema/{name}"].held().values()
    return {key: held.boxes[0].tensor for key, held in part.items()}
