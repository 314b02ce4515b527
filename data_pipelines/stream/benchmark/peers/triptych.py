"""The stream of this package."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from triptych.data_pipelines.shards.codes import pack_codes
from triptych.data_pipelines.shards.manifest import FILE_NAME, read_manifest, write_manifest
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter, shard_names
from triptych.data_pipelines.stream.benchmark.documents import VOCAB_SIZE, Texts, link
from triptych.data_pipelines.stream.benchmark.peers.protocol import Facts
from triptych.data_pipelines.stream.benchmark.workers import streamed
from triptych.data_pipelines.stream.windows import ROW_BITS, PackingConfig


class Triptych:
    """Two workers that each build every second batch."""

    name = "triptych"
    package = None
    format = "tars"
    can_seek = True
    facts = Facts(
        format="plain webdataset tars with a sidecar index",
        shuffle="all blocks of 64 samples by a permutation, samples within windows of 4,096; anew each epoch",
        packing="best-fit, whole documents, planned from lengths; padding not counted",
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
        for batch in streamed(folder, cursor, num_workers):
            assert not batch["lost_BD"].any(), "a document could not be read"
            yield int(batch["lengths_BD"].sum())
