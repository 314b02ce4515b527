"""Sources whose codes follow from their index, so that any number of samples takes no memory, and what is in a row."""

import numpy as np

from triptych.data_pipelines.shards.errors import Failure
from triptych.data_pipelines.stream.mixture import Mixture, WeightedSource
from triptych.data_pipelines.stream.sequences import RegionSizes, SequenceLayout
from triptych.data_pipelines.stream.sources import PairSource, TextSource
from triptych.data_pipelines.stream.windows import PackingConfig
from triptych.data_pipelines.vocabulary import Vocabulary

VOCABULARY = Vocabulary(text=20, image=8, audio=12)
REGIONS = RegionSizes(text=4, image=4, audio=6, condition_multiple=2)
LAYOUT = SequenceLayout(vocabulary=VOCABULARY, sequence_length=16, regions=REGIONS)
ROW_LENGTH = 32
PACKING = PackingConfig(window_samples=12, block_samples=3)


class MadeUpCodes:
    """Samples of 0..longest codes. unreadable: indices of which there are none. spans: blocks that were counted."""

    def __init__(self, size, longest=40, unreadable=()):
        self.size, self.longest, self.unreadable = size, longest, frozenset(unreadable)
        self.blocks = []

    def __len__(self):
        return self.size

    def lengths(self, indices_N):
        mixed_N = np.asarray(indices_N).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return ((mixed_N >> np.uint64(40)) % np.uint64(self.longest + 1)).astype(np.int64)

    def num_codes_of_blocks(self, modality, blocks):
        self.blocks += blocks
        return self.lengths(np.concatenate([np.arange(*block) for block in blocks]))

    def read_codes(self, indices, modalities):
        sizes = self.lengths(np.array(indices, np.int64)).tolist()
        return [
            Failure(sample=index, key="", shard="", reason="checksum", detail="", attempts=1)
            if index in self.unreadable
            else {
                modality: ((index + np.arange(size)) % getattr(VOCABULARY, modality)).astype(np.int32)
                for modality in modalities
            }
            for index, size in zip(indices, sizes, strict=True)
        ]


def source(task, codes, row_length=ROW_LENGTH):
    return TextSource(codes, LAYOUT, row_length // 2) if task == "text" else PairSource(task, codes, LAYOUT)


TASKS = {"prose": ("text", 50), "drawn": ("t2i", 37), "heard": ("s2t", 5)}
"""Name to task and samples."""


def mixture(weights=None, *, unreadable=(), copies=1, seed=3, packing=PACKING, tasks=TASKS):
    """The sources of `weights`, in its order."""
    weights = weights or dict.fromkeys(tasks, 1.0)
    sources = {
        name: WeightedSource(source=source(tasks[name][0], MadeUpCodes(tasks[name][1], 40, unreadable)), weight=weight)
        for name, weight in weights.items()
    }
    return Mixture(
        sources, seed=seed, row_length=ROW_LENGTH, pad=VOCABULARY.special("pad"), packing=packing, copies=copies
    )


def contents(batch):
    """Of every row all that training can see, as something to compare."""
    rows = []
    for row in range(len(batch)):
        held = batch.lengths_BD[row] > 0
        parts = (batch.tokens_BS, batch.roles_BS)
        documents = (batch.lengths_BD, batch.samples_BD3, batch.offsets_BD, batch.numbers_BD, batch.lost_BD)
        rows.append(
            (
                *(part[row].numpy().tobytes() for part in parts),
                *(part[row][held].numpy().tobytes() for part in documents),
                int(batch.copies_B[row]),
            )
        )
    return rows


def documents(batch):
    """(source, sample, epoch, offset) of every document in order."""
    held = batch.lengths_BD > 0
    return [
        (*sample, offset)
        for sample, offset in zip(batch.samples_BD3[held].tolist(), batch.offsets_BD[held].tolist(), strict=True)
    ]
