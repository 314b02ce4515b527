"""The tiny tri-modal run with averages, taken step by step on the real engine and store."""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed

_TRAINER = str(Path(__file__).parent.parent)
if _TRAINER not in sys.path:
    sys.path.append(_TRAINER)

import tiny_run  # noqa: E402 - made importable above

from triptych.kernels.philox import Stream  # noqa: E402
from triptych.models.trimodal.model import TrimodalTransformer  # noqa: E402
from triptych.trainer.averages.averages import ModelAverages  # noqa: E402
from triptych.trainer.averages.config import AverageConfig  # noqa: E402
from triptych.trainer.checkpoint.config import CheckpointConfig  # noqa: E402
from triptych.trainer.checkpoint.store import CheckpointStore  # noqa: E402
from triptych.trainer.engine.engine import Engine  # noqa: E402
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig  # noqa: E402
from triptych.trainer.parallel.layout import ParallelLayout  # noqa: E402
from triptych.trainer.scaling.config import RunFacts  # noqa: E402
from triptych.trainer.scaling.physical import BatchSchedule  # noqa: E402
from triptych.trainer.scaling.scaling import scaling_of  # noqa: E402
from triptych.trainer.state import TrainState  # noqa: E402
from triptych.trainer.step import train_step  # noqa: E402

AVERAGES = (
    AverageConfig(name="fast", half_life_tokens=300.0),
    AverageConfig(name="slow", decay=0.9, update_every_tokens=250),
    AverageConfig(name="even", kind="uniform", start_tokens=200),
)


RAMP = BatchSchedule(tokens=(0, 150), sequences=(4, 16))
"""Half the logical batch, then twice."""


class AveragedRun:
    """One rank's run of `tiny_run`'s model with these averages."""

    def __init__(self, groups, configs=AVERAGES, *, zero=1, precision="fp32"):
        self.groups = groups
        settings = tiny_run.config(10**6, zero=zero, precision=precision)
        self.config = replace(settings, parallel=groups.layout, physical_batch=RAMP)
        model = TrimodalTransformer(replace(tiny_run.MODEL, vocabulary_multiple=2), groups.collection)
        model.initialise(seed=3)
        self.state = TrainState(engine=Engine([model], self.config.engine, groups))
        self.averages = ModelAverages(configs, self.state)
        self.state.carried |= self.averages.carried
        self.state.carried["loss_divisor"] = self.state.engine.divisor
        self.scaling = scaling_of(self.config, RunFacts(), groups.layout, groups.num_data_ranks)
        self.objective = MaskedDiffusion(MaskedDiffusionConfig(), tiny_run.VOCABULARY, groups.collection.tp)

    def train(self, num_steps):
        for _ in range(num_steps):
            train_step(
                self.state,
                self.config,
                scaling=self.scaling,
                data=tiny_run.mixture(),
                objective=self.objective,
                stream=Stream(seed=1),
                groups=self.groups,
            )
            self.averages(self.state)
        return self

    def save(self, folder):
        with self._store(folder) as store:
            store.save(self.state)
        return self

    def load(self, folder, warnings=None):
        """warnings: a list that takes them."""
        with self._store(folder, warnings) as store:
            store.load_newest(self.state)
        return self

    def whole(self):
        """(part, name) to the whole tensor, of everything that all ranks hold; they agree where several do."""
        everyones = [None] * distributed.get_world_size()
        distributed.all_gather_object(everyones, self._boxes())
        whole, apart = tiny_run.put_together(everyones)
        assert apart == 0.0
        return {(part, name): tensor for part, tensors in whole.items() for name, tensor in tensors.items()}

    def module(self):
        """Parameter name to what this rank's forward pass reads."""
        return {name: parameter.detach().clone() for name, parameter in self.state.engine.named_parameters()}

    def _store(self, folder, warnings=None):
        warn = (warnings if warnings is not None else []).append
        return CheckpointStore(folder, CheckpointConfig(), self.groups, tiny_run.IDENTITY, warn)

    def _boxes(self):
        parts = dict(self.state.engine.held())
        for carried in self.state.carried.values():
            parts |= carried.held()
        return [
            (part, name, held.shape, [(box.offsets, box.sizes, box.tensor.clone()) for box in held.boxes])
            for part, names in parts.items()
            for name, held in names.items()
        ]


def part(whole, name):
    """One part of what `AveragedRun.whole` gave."""
    return {key[1]: tensor for key, tensor in whole.items() if key[0] == name}


def differing(first, second):
    """Names whose tensors differ in any bit."""
    assert first.keys() == second.keys()
    return [name for name in first if not torch.equal(first[name], second[name])]


TENSOR = ParallelLayout(tensor=2)
