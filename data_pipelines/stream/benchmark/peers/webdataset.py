"""webdataset over the same tars, with the same decoding."""

import importlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset

from triptych.data_pipelines.shards.codes import unpack_codes
from triptych.data_pipelines.stream.benchmark.documents import Texts
from triptych.data_pipelines.stream.benchmark.packing import Rows, packed
from triptych.data_pipelines.stream.benchmark.peers.protocol import Facts
from triptych.data_pipelines.stream.benchmark.peers.triptych import Triptych

_BUFFER = 4096


class WebDataset:
    """Shards are shuffled and split over the workers; samples go through a buffer."""

    name = "webdataset"
    package = "webdataset"
    format = "tars"
    can_seek = False
    facts = Facts(
        format="plain tars",
        shuffle=f"shards, then a buffer of {_BUFFER:,} samples",
        packing="none; strung together here",
        resume="none: what comes before is read again and thrown away",
        elastic="no: workers and ranks decide which shards a stream has",
    )

    def write(self, folder: Path, texts: Texts) -> None:
        if not (folder / "manifest.json").exists():
            Triptych().write(folder, texts)

    def multiply(self, folder: Path, num_shards: int) -> None:
        Triptych().multiply(folder, num_shards)

    def batches(self, folder: Path, num_workers: int, samples: int = 0) -> Iterator[int]:
        urls = [str(path) for path in sorted(folder.glob("shard-*.tar"))]
        loader = DataLoader(
            _Stream(urls, samples // num_workers), batch_size=None, num_workers=num_workers, prefetch_factor=4
        )
        for batch in loader:
            yield batch["tokens"].numel()


class _Stream(IterableDataset):
    def __init__(self, urls: list[str], skipped: int) -> None:
        self._urls, self._skipped = urls, skipped

    def __iter__(self) -> Iterator[Rows]:
        webdataset = importlib.import_module("webdataset")
        samples = (
            webdataset.WebDataset(
                self._urls, shardshuffle=len(self._urls), seed=0, workersplitter=webdataset.split_by_worker
            )
            .repeat()
            .shuffle(_BUFFER, initial=min(_BUFFER, 1000))
        )
        # What is thrown away is not decoded.
        yield from packed(map(_codes, itertools.islice(samples, self._skipped, None)))


def _codes(sample: dict[str, Any]) -> NDArray[np.int32]:
    return unpack_codes(sample["__key__"], sample["text.npy"])
