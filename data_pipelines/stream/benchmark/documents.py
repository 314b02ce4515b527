"""Made-up texts, the same for every peer, and what a benchmark's set is."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VOCAB_SIZE = 50_000
END = VOCAB_SIZE
ROW_LENGTH = 2048
ROWS = 64
"""Rows of a batch."""
NUM_WORKERS = 2


@dataclass(kw_only=True, slots=True, frozen=True)
class Texts:
    """`number` texts of about `mean_tokens`, log-normal lengths (sigma 0.7), in shards of `per_shard`."""

    number: int
    mean_tokens: int
    per_shard: int

    def __iter__(self) -> Iterator[NDArray[np.uint16]]:
        draws = np.random.default_rng(0)
        center = np.log(self.mean_tokens) - 0.7**2 / 2
        lengths = np.clip(draws.lognormal(center, 0.7, self.number), 4, 16 * self.mean_tokens).astype(np.int64)
        for length in lengths.tolist():
            yield draws.integers(0, VOCAB_SIZE, length, dtype=np.uint16)


def link(folder: Path, target: str, name: str) -> None:
    """One more name for a file of the folder, so that a set has many shards that take no room."""
    if name != target:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
