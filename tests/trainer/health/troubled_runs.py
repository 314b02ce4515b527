"""The tiny model on data of which single samples are bad: their loss is not-a-number, or far too large."""

import json
from dataclasses import replace

import tiny_run
import torch

from triptych.data_pipelines.stream.windows import source_id
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.averages.config import AverageConfig
from triptych.trainer.fit import fit
from triptych.trainer.health.config import HealthConfig
from triptych.trainer.logs import JsonLines
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.seams import LossTerms

WORSE, NOT_A_NUMBER = ("s2t", 12), ("s2t", 5)
SKIP = HealthConfig(gradient_spike="skip", spike_deviations=100.0, window_steps=8)


class Weighed(tuple):
    """Targets that know their weight."""

    @property
    def weight(self):
        return self[0].weight


class Troubled:
    """The objective, by which a batch with a bad sample has a bad loss. bad: (source, sample) to a factor."""

    def __init__(self, groups, bad):
        config = MaskedDiffusionConfig()
        self._inner = MaskedDiffusion(config, tiny_run.VOCABULARY, groups.collection.tp)
        self._bad = {(source_id(source), sample): factor for (source, sample), factor in bad.items()}

    def prepare(self, batch, stream):
        inputs, targets = self._inner.prepare(batch, stream)
        keys = {(source, sample) for source, sample, epoch in batch.samples_BD3.view(-1, 3).tolist() if epoch == 0}
        factor = 1.0
        for key in keys & self._bad.keys():
            factor *= self._bad[key]
        return inputs, Weighed((targets, factor))

    def loss(self, outputs, targets):
        targets, factor = targets
        terms = self._inner.loss(outputs, targets)
        return LossTerms(sum=terms.sum * factor, weight=terms.weight, metrics=terms.metrics)


def config(*, zero=1, precision="fp32", health=SKIP, every_tokens=0, tokens=1400):
    averages = (AverageConfig(name="ema", half_life_tokens=300),)
    settings = tiny_run.config(tokens, zero=zero, precision=precision, every_tokens=every_tokens, micro=4)
    return replace(settings, health=health, averages=averages)


class Observed:
    """A run's records, events, and the state that this rank held after each step."""

    def __init__(self):
        self.records, self.held, self.state = [], [], None

    def remember(self, state):
        self.state = state

    def look(self, record):
        self.records.append(record)
        if self.state is not None:
            parts = dict(self.state.engine.held())
            for carried in self.state.carried.values():
                parts |= carried.held()
            self.held.append([box.tensor.clone() for part in parts.values() for h in part.values() for box in h.boxes])

    def unmoved(self, step):
        """Whether every bit of weights, moments and averages was after `step` as it was before it."""
        before, after = (self.held[len(self.held) - len(self.records) + step - back] for back in (2, 1))
        return all(torch.equal(one, other) for one, other in zip(before, after, strict=True))

    @property
    def skipped(self):
        return [record.step for record in self.records if not record.is_updated]


class Crash(Exception):
    """Nothing that a run prepares for."""


def run(groups, settings, bad, *, log=None, checkpoints=None, resume=False, stop_after=None, crash_after=None):
    """Train; what was observed, and the events of this rank's log. stop_after, crash_after: so many steps."""
    model = TrimodalTransformer(replace(tiny_run.MODEL, vocabulary_multiple=2), groups.collection)
    model.initialise(seed=3)
    seen = Observed()

    def crash(record):
        if len(seen.records) == crash_after:
            raise Crash

    with JsonLines(log) as lines:
        fit(
            replace(settings, parallel=groups.layout),
            chunks=[model],
            objective=Troubled(groups, bad),
            data=tiny_run.mixture(),
            groups=groups,
            checkpoints=checkpoints,
            identity=tiny_run.IDENTITY,
            resume=resume,
            after_step=[seen.remember],
            reporters=[lines, seen.look, crash],
            note=lines.note,
            stop_requested=lambda: len(seen.records) == stop_after,
        )
    return seen


def events(log):
    return [document for line in log.read_text().splitlines() if "event" in (document := json.loads(line))]


def records(log):
    """Of steps, in the order in which they were done."""
    return [document for line in log.read_text().splitlines() if "event" not in (document := json.loads(line))]
