"""Made-up codes with the mix of a run's sequences: tasks, lengths and padding as trained, contents random."""

import numpy as np

from triptych.configs.token_data import build_source
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.shards.codes import Codes
from triptych.data_pipelines.stream.mixture import Mixture, WeightedSource
from triptych.data_pipelines.stream.sequences import SIDES
from triptych.data_pipelines.stream.sources import MemoryCodes
from triptych.data_pipelines.vocabulary import Modality, Task

NUM_SAMPLES = 64


def synthetic_mixture(run: TrimodalRun) -> Mixture:
    """The run's training mixture over codes that are drawn here. Captions and recordings fill a quarter of their region
    to all of it, images all of theirs; END fills the rest, so how much is padding depends on the task alone.
    """
    generator = np.random.default_rng(run.fit.seed)
    sources = {}
    for name, entry in run.data.sources.items():
        source = build_source(entry.task, _made_up(run, entry.task, generator), run.layout, run.row_length)
        sources[name] = WeightedSource(source=source, weight=entry.weight)
    return Mixture(
        sources,
        seed=run.fit.seed,
        row_length=run.row_length,
        pad=run.model.vocabulary.special("pad"),
        packing=run.data.packing,
        copies=2 if run.objective.pairing == "complement" else 1,
    )


def _made_up(run: TrimodalRun, task: Task, generator: np.random.Generator) -> MemoryCodes:
    if task == "text":
        lengths = np.full(NUM_SAMPLES, run.row_length)
        return MemoryCodes({"text": _codes(run, "text", lengths, generator)})
    return MemoryCodes({side: _codes(run, side, _lengths(run, side, generator), generator) for side in SIDES[task]})


def _lengths(run: TrimodalRun, modality: Modality, generator: np.random.Generator) -> np.ndarray:
    region = run.data.regions.of(modality)
    shortest = region if modality == "image" else max(1, region // 4)
    return generator.integers(shortest, region + 1, NUM_SAMPLES)


def _codes(run: TrimodalRun, modality: Modality, lengths: np.ndarray, generator: np.random.Generator) -> Codes:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    num_codes = run.model.vocabulary.num_outputs(modality) - 1
    return Codes(flat=generator.integers(0, num_codes, offsets[-1]).astype(np.int32), offsets=offsets)
