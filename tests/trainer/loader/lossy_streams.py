"""A stream for the tiny run's model, with what a test wants to go wrong; all of it can be sent to a worker, which need
not import the trainer for it.
"""

import os
import time
from dataclasses import fields

import numpy as np
import torch

from triptych.data_pipelines.shards.codes import Codes
from triptych.data_pipelines.shards.errors import Failure
from triptych.data_pipelines.stream.mixture import Mixture, WeightedSource
from triptych.data_pipelines.stream.sequences import RegionSizes, SequenceLayout
from triptych.data_pipelines.stream.sources import MemoryCodes, PairSource, TextSource
from triptych.data_pipelines.stream.windows import PackingConfig, SourceOrder
from triptych.data_pipelines.vocabulary import Vocabulary
from triptych.trainer.loader.stream_data import StreamData

VOCABULARY = Vocabulary(text=40, image=12, audio=20)
LAYOUT = SequenceLayout(vocabulary=VOCABULARY, sequence_length=16, regions=RegionSizes(text=4, image=4, audio=6))
ROW_LENGTH = 48
PACKING = PackingConfig(window_samples=8, block_samples=2)
WEIGHTS = {"text": 1.0, "t2i": 2.0}


class LossyCodes(MemoryCodes):
    """Codes of which some samples cannot be read."""

    def __init__(self, codes, unreadable):
        super().__init__(codes)
        self._unreadable = frozenset(unreadable)

    def read_codes(self, indices, modalities):
        found = super().read_codes(indices, modalities)
        return [
            Failure(sample=index, key=f"k{index}", shard="shard-000000.tar", reason="checksum", detail="x", attempts=3)
            if index in self._unreadable
            else codes
            for index, codes in zip(indices, found, strict=True)
        ]


def codes(number, low, high, size, seed):
    draw = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(draw.integers(low, high + 1, number))]).astype(np.int64)
    return Codes(flat=draw.integers(0, size, offsets[-1]).astype(np.int32), offsets=offsets)


def sources(unreadable=()):
    text, image = codes(30, 2, 4, 40, 1), codes(30, 4, 4, 12, 2)
    return {
        "text": TextSource(MemoryCodes({"text": codes(20, 5, 30, 40, 0)}), LAYOUT, 16),
        "t2i": PairSource("t2i", LossyCodes({"text": text, "image": image}, unreadable), LAYOUT),
    }


def mixture(unreadable=(), copies=1):
    """Rows of three documents of "t2i", or pieces of texts; the samples of "t2i" given cannot be read."""
    return Mixture(
        {name: WeightedSource(source=source, weight=WEIGHTS[name]) for name, source in sources(unreadable).items()},
        seed=5,
        row_length=ROW_LENGTH,
        pad=VOCABULARY.special("pad"),
        packing=PACKING,
        copies=copies,
    )


def orders():
    return {name: SourceOrder(name, source, PACKING, ROW_LENGTH, 5) for name, source in sources().items()}


class Troubled(StreamData):
    """Raises, sleeps or hangs before it builds a batch; the first of a run excepted, but for sleep."""

    def __init__(self, build, trouble, copies=1):
        super().__init__(build, copies)
        self._trouble = trouble

    def batch(self, cursor, size, rank, num_ranks):
        match self._trouble:
            case ("raise", error) if cursor:
                raise error
            case ("sleep", seconds):
                time.sleep(seconds)
            case ("hang", path) if cursor:
                path.write_text(str(os.getpid()))
                time.sleep(3600)
        return super().batch(cursor, size, rank, num_ranks)

    def __reduce__(self):
        return Troubled, (self._build, self._trouble, self._copies)


class Wayward(StreamData):
    """Plans another cursor than it builds."""

    def advance(self, cursor, size):
        return super().advance(cursor, size // 2)


class Unmakeable:
    """Raises where a worker makes it."""

    def __reduce__(self):
        return _raise, ()


def _raise():
    raise ValueError("planted at birth")


def equal(first, second):
    """Whether two batches are the same in every bit, and in what they say of losses."""
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, torch.Tensor):
            if one.dtype != other.dtype or not torch.equal(one, other):
                return False
        elif one != other:
            return False
    return True
