"""The stream of this package."""

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from triptych.data_pipelines.batch import Batch
from triptych.data_pipelines.shards.codes import pack_codes
from triptych.data_pipelines.shards.manifest import FILE_NAME, read_manifest, write_manifest
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter, shard_names
from triptych.data_pipelines.stream.benchmark.documents import ROW_LENGTH, ROWS, VOCAB_SIZE, Texts, link
from triptych.data_pipelines.stream.benchmark.peers.protocol import Facts
from triptych.data_pipelines.stream.mixture import Mixture, WeightedSource
from triptych.data_pipelines.stream.sequences import RegionSizes, SequenceLayout
from triptych.data_pipelines.stream.sources import TextSource
from triptych.data_pipelines.stream.windows import ROW_BITS, PackingConfig
from triptych.data_pipelines.vocabulary import Vocabulary


class Triptych:
    """Two workers that each build every second batch."""

    name = "triptych"
    package = None
    format = "tars"
    can_seek = True
    facts = Facts(
        format="plain webdataset tars with a sidecar index",
        shuffle="all blocks of 64 samples by a permutation, samples within windows of 4,096; anew each epoch",
        packing="best-fit, whole documents, planned from lengths; padding counted",
        resume="exact, by one counter per source",
        elastic="any ranks, workers and batch: the same rows in the same order",
    )

    def write(self, folder: Path, texts: Texts) -> None:
        with ShardWriter(folder, ShardConfig(max_shard_samples=texts.per_shard), provenance={}) as writer:
            for number, codes in enumerate(texts):
                writer.write(
                    f"{number:09d}", {"text.npy": pack_codes(codes.astype(np.int64), VOCAB_SIZE)}, {"text": len(codes)}
                )

    def multiply(self, folder: Path, num_shards: int) -> None:
        manifest = read_manifest(folder)
        (shard,) = manifest.shards
        shards = []
        for number in range(num_shards):
            name, index = shard_names(number)
            link(folder, shard.name, name)
            link(folder, shard.index, index)
            shards.append(replace(shard, name=name, index=index))
        (folder / FILE_NAME).unlink()
        write_manifest(folder, replace(manifest, shards=tuple(shards)))

    def batches(self, folder: Path, num_workers: int, samples: int = 0) -> Iterator[int]:
        window = samples // PackingConfig().window_samples
        cursor = {"text": window << ROW_BITS}
        for buffer, kinds in DataLoader(
            _Stream(folder, cursor), batch_size=None, num_workers=num_workers, prefetch_factor=4
        ):
            batch = _unpacked(buffer, kinds)
            assert not batch["lost_BD"].any(), "a document could not be read"
            yield int(batch["lengths_BD"].sum())


_Kinds = list[tuple[str, torch.dtype, tuple[int, ...]]]


class _Stream(IterableDataset):
    def __init__(self, folder: Path, cursor: dict[str, int]) -> None:
        self._folder, self._cursor = folder, cursor

    def __iter__(self) -> Iterator[tuple[torch.Tensor, _Kinds]]:
        worker = get_worker_info()
        assert worker is not None
        data, cursor = mixture(self._folder), self._cursor
        number = 0
        while True:
            if number % worker.num_workers == worker.id:
                batch, cursor = data.batch(cursor, ROWS, 0, 1)
                yield _packed(batch)
            else:
                cursor = data.plan(cursor, ROWS)[1]
            number += 1


def _packed(batch: Batch) -> tuple[torch.Tensor, _Kinds]:
    """All tensors of a batch in one, as the trainer's loader sends them, and what they are; widest elements first."""
    parts = {field.name: getattr(batch, field.name) for field in fields(Batch) if "_B" in field.name}
    parts = dict(sorted(parts.items(), key=lambda part: -part[1].element_size()))
    kinds = [(name, part.dtype, tuple(part.shape)) for name, part in parts.items()]
    return torch.cat([part.reshape(-1).view(torch.uint8) for part in parts.values()]), kinds


def _unpacked(buffer: torch.Tensor, kinds: _Kinds) -> dict[str, torch.Tensor]:
    """Views of what was sent."""
    batch, at = {}, 0
    for name, dtype, shape in kinds:
        size = math.prod(shape) * dtype.itemsize
        batch[name] = buffer[at : at + size].view(dtype).reshape(shape)
        at += size
    return batch


def mixture(folder: Path) -> Mixture:
    """One source of texts."""
    layout = SequenceLayout(
        vocabulary=Vocabulary(text=VOCAB_SIZE, image=1, audio=1),
        sequence_length=ROW_LENGTH,
        regions=RegionSizes(text=1, image=1, audio=1),
    )
    source = TextSource(ShardSet.open(folder), layout, ROW_LENGTH)
    pad = layout.vocabulary.special("pad")
    return Mixture({"text": WeightedSource(source=source, weight=1.0)}, seed=0, row_length=ROW_LENGTH, pad=pad)
