"""mosaicml-streaming over shards of its own (MDS)."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset

from triptych.data_pipelines.stream.benchmark.documents import Texts, link
from triptych.data_pipelines.stream.benchmark.packing import Rows, packed
from triptych.data_pipelines.stream.benchmark.peers.protocol import Facts


class Mosaic:
    """`StreamingDataset` with its default shuffle, py1e."""

    name = "mosaicml-streaming"
    package = "mosaicml-streaming"
    format = "mds"
    can_seek = True
    facts = Facts(
        format="its own (MDS)",
        shuffle="py1e: shards, and samples within a range of them; anew each epoch",
        packing="none; strung together here, so resuming is exact to the document, not to the row",
        resume="exact, but every process lays out the epoch's samples in memory: time and memory grow with it",
        elastic="yes, where the numbers of nodes divide",
    )

    def write(self, folder: Path, texts: Texts) -> None:
        streaming = importlib.import_module("streaming")
        size = texts.per_shard * (2 * texts.mean_tokens + 64)
        with streaming.MDSWriter(out=str(folder), columns={"tokens": "ndarray:uint16"}, size_limit=size) as writer:
            for codes in texts:
                writer.write({"tokens": codes})

    def multiply(self, folder: Path, num_shards: int) -> None:
        path = folder / "index.json"
        index = json.loads(path.read_text())
        shard = index["shards"][0]
        target = shard["raw_data"]["basename"]
        shards = []
        for number in range(num_shards):
            name = f"shard.{number:05d}.mds"
            link(folder, target, name)
            shards.append(shard | {"raw_data": shard["raw_data"] | {"basename": name}})
        path.write_text(json.dumps(index | {"shards": shards}))

    def batches(self, folder: Path, num_workers: int, samples: int = 0) -> Iterator[int]:
        streaming = importlib.import_module("streaming")
        streaming.base.util.clean_stale_shared_memory()
        inner = streaming.StreamingDataset(local=str(folder), shuffle=True, shuffle_seed=0, batch_size=64)
        if samples:
            inner.load_state_dict(
                {
                    "epoch": 0,
                    "sample_in_epoch": samples,
                    "num_canonical_nodes": 1,
                    "shuffle_seed": 0,
                    "initial_physical_nodes": 1,
                }
            )
        for batch in DataLoader(_Stream(inner), batch_size=None, num_workers=num_workers, prefetch_factor=4):
            yield batch["tokens"].numel()


class _Stream(IterableDataset):
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[Rows]:
        yield from packed(self._documents())

    def _documents(self) -> Iterator[NDArray[np.uint16]]:
        while True:
            yield from (sample["tokens"] for sample in self._inner)
