"""litdata over chunks of its own."""

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


class LitData:
    """`StreamingDataset` over documents. Its TokensLoader, which knows no documents, is another task."""

    name = "litdata"
    package = "litdata"
    format = "chunks"
    can_seek = True
    facts = Facts(
        format="its own (chunks)",
        shuffle="chunks, and samples within a chunk; anew each epoch",
        packing="none; strung together here, so resuming is exact to the document, not to the row",
        resume="exact to the document: order laid out anew, what came before left out",
        elastic="ranks and workers may change: a canonical order of documents is dealt out anew",
    )

    def write(self, folder: Path, texts: Texts) -> None:
        writer = importlib.import_module("litdata.streaming.writer").BinaryWriter(
            str(folder), chunk_size=texts.per_shard
        )
        for number, codes in enumerate(texts):
            writer.add_item(number, codes)
        writer.done()
        writer.merge()

    def multiply(self, folder: Path, num_shards: int) -> None:
        path = folder / "index.json"
        index = json.loads(path.read_text())
        chunk = index["chunks"][0]
        chunks = []
        for number in range(num_shards):
            name = f"chunk-0-{number}.bin"
            link(folder, chunk["filename"], name)
            chunks.append(chunk | {"filename": name})
        path.write_text(json.dumps(index | {"chunks": chunks}))

    def batches(self, folder: Path, num_workers: int, samples: int = 0) -> Iterator[int]:
        inner = importlib.import_module("litdata").StreamingDataset(str(folder), shuffle=True, seed=0)
        inner.set_num_workers(num_workers)
        if samples:
            inner.load_state_dict(inner.state_dict(samples, num_workers, 1))
        for batch in DataLoader(_Stream(inner), batch_size=None, num_workers=num_workers, prefetch_factor=4):
            yield batch["tokens"].numel()


class _Stream(IterableDataset):
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[Rows]:
        yield from packed(self._documents())

    def _documents(self) -> Iterator[NDArray[np.uint16]]:
        while True:
            yield from self._inner
