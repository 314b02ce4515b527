"""Made-up codes with the mix of a run's sequences: tasks, lengths and padding as trained, contents random."""

import numpy as np

from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.shards.codes import Codes
from triptych.data_pipelines.stream.mixture import Mixture, WeightedSource
from triptych.data_pipelines.stream.sequences import SIDES
from triptych.data_pipelines.stream.sources import PairSource, Source, TextSource
from triptych.data_pipelines.vocabulary import Modality, Task

NUM_SAMPLES = 64


def synthetic_mixture(run: TrimodalRun) -> Mixture:
    """The run's training mixture over codes that are drawn here. Captions and recordings fill a quarter of their region
    to all of it, images all of theirs; END fills the rest, so how much is padding depends on the task alone.
    """
    generator = np.random.default_rng(run.fit.seed)
    sources = {
        name: WeightedSource(source=_source(run, entry.task, generator), weight=entry.weight)
        for name, entry in run.data.sources.items()
    }
    copies = 2 if run.objective.pairing == "complement" else 1
    return Mixture(sources, seed=run.fit.seed, copies=copies)


def _source(run: TrimodalRun, task: Task, generator: np.random.Generator) -> Source:
    if task == "text":
        lengths = np.full(NUM_SAMPLES, run.model.sequence_length)
        return TextSource(_codes(run, "text", lengths, generator), run.layout)
    return PairSource(
        task, {side: _codes(run, side, _lengths(run, side, generator), generator) for side in SIDES[task]}, run.layout
    )


def _lengths(run: TrimodalRun, modality: Modality, generator: np.random.Generator) -> np.ndarray:
    region = run.data.regions.of(modality)
    shortest = region if modality == "image" else max(1, region // 4)
    return generator.integers(shortest, region + 1, NUM_SAMPLES)


def _codes(run: TrimodalRun, modality: Modality, lengths: np.ndarray, generator: np.random.Generator) -> Codes:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    num_codes = run.model.vocabulary.num_outputs(modality) - 1
    return Codes(flat=generator.integers(0, num_codes, offsets[-1]).astype(np.int32), offsets=offsets)
