"""The order of one source: blocks of consecutive samples shuffled anew each epoch, and rows packed window by window.

A window is some blocks of the shuffled order. Its samples are shuffled among each other and packed into rows, from
their lengths alone, so any window is planned without those before it: a place in a source is the number of a window and
of a row within it. Blocks keep reads together where random access is dear; with blocks of one sample the shuffle is a
permutation of all of them. No memory grows with the data.
"""

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.stream.packing import best_fit, one_each
from triptych.data_pipelines.stream.permutation import permuted
from triptych.data_pipelines.stream.sources import Source

ROW_BITS = 24
"""Bits of a place that number the row in its window; the window, counted on through the epochs, is above them."""

_PACKERS = {"best_fit": best_fit, "none": one_each}


@dataclass(kw_only=True, slots=True, frozen=True)
class PackingConfig:
    """How samples become rows. row_length: positions; None: the model's sequence length. rows: "none" gives every
    document a row of its own. window_samples: shuffled among each other and packed together. block_samples: consecutive
    ones that stay in one window. ValueError unless both are 1 or more.
    """

    row_length: int | None = None
    rows: Literal["best_fit", "none"] = "best_fit"
    window_samples: int = 4096
    block_samples: int = 64

    def __post_init__(self) -> None:
        for name in ("row_length", "window_samples", "block_samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"data.packing.{name} is {value}; set it to 1 or more")


@dataclass(kw_only=True, slots=True, frozen=True)
class Window:
    """Rows of one window. samples_P, firsts_P, lengths_P: of each document the absolute sample index, where in the
    sample's own tokens it begins, and its positions; in the order of rows, and within a row as they stand there.
    ends_R: documents up to the end of each row. tokens_R: positions of each row that are not padding.
    """

    epoch: int
    samples_P: NDArray[np.int64]
    firsts_P: NDArray[np.int64]
    lengths_P: NDArray[np.int64]
    ends_R: NDArray[np.int64]
    tokens_R: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.ends_R)

    def documents(self, row: int) -> slice:
        """Which documents a row holds."""
        return slice(int(self.ends_R[row - 1]) if row else 0, int(self.ends_R[row]))


class SourceOrder:
    """Rows of one source, by window."""

    def __init__(self, name: str, source: Source, config: PackingConfig, row_length: int, seed: int) -> None:
        self._source = source
        self._config = config
        self._row_length = row_length
        self._key = (seed << 32) ^ source_id(name)
        self._num_blocks = -(-len(source) // config.block_samples)
        self.windows_per_epoch = -(-self._num_blocks // max(1, config.window_samples // config.block_samples))
        self.window = lru_cache(maxsize=4)(self._plan)

    def _plan(self, number: int) -> Window:
        """Window `number`, counted on through the epochs."""
        epoch, within = divmod(number, self.windows_per_epoch)
        samples_N, sizes_N = self._shuffled(epoch, within)
        of_P, firsts_P, lengths_P = _pieces(sizes_N, self._source.longest_piece, self._source.overhead)
        rows_P = _PACKERS[self._config.rows](lengths_P, self._row_length)
        num_rows = int(rows_P.max()) + 1
        assert num_rows < 1 << ROW_BITS, f"a window of {num_rows} rows; lower data.packing.window_samples"
        rows_P = permuted(rows_P, num_rows, self._key_of(epoch, within, "rows"))
        order_P = np.argsort(rows_P, kind="stable")
        lengths_P, rows_P = lengths_P[order_P], rows_P[order_P]
        ends_R = np.cumsum(np.bincount(rows_P, minlength=num_rows))
        totals_P = np.concatenate([[0], np.cumsum(lengths_P)])
        return Window(
            epoch=epoch,
            samples_P=samples_N[of_P[order_P]],
            firsts_P=firsts_P[order_P],
            lengths_P=lengths_P,
            ends_R=ends_R,
            tokens_R=np.diff(totals_P[ends_R], prepend=0),
        )

    def _shuffled(self, epoch: int, within: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Absolute indices of a window's samples in their order, and their sizes."""
        edges = [self._num_blocks * edge // self.windows_per_epoch for edge in (within, within + 1)]
        blocks = permuted(np.arange(*edges), self._num_blocks, self._key_of(epoch, 0, "blocks"))
        size = self._config.block_samples
        samples, sizes = [], []
        for start in (np.sort(blocks) * size).tolist():  # in their order on disk
            stop = min(start + size, len(self._source))
            samples.append(np.arange(start, stop))
            sizes.append(self._source.sizes(start, stop))
        samples_N, sizes_N = np.concatenate(samples), np.concatenate(sizes)
        order_N = permuted(np.arange(len(samples_N)), len(samples_N), self._key_of(epoch, within, "samples"))
        return samples_N[order_N], sizes_N[order_N]

    def _key_of(self, epoch: int, within: int, purpose: str) -> int:
        text = f"{self._key}/{epoch}/{within}/{purpose}".encode()
        return zlib.crc32(text) << 32 | zlib.crc32(text[::-1])


def _pieces(
    sizes_N: NDArray[np.int64], longest: int, overhead: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Samples of so many tokens cut into pieces of at most `longest`: of each piece its sample's number, where in the
    sample it begins, and its positions, `overhead` more than its tokens.
    """
    counts_N = np.maximum(1, -(-sizes_N // longest))
    of_P = np.repeat(np.arange(len(sizes_N)), counts_N)
    firsts_P = (np.arange(len(of_P)) - np.repeat(np.cumsum(counts_N) - counts_N, counts_N)) * longest
    lengths_P = np.minimum(sizes_N[of_P] - firsts_P, longest) + overhead
    return of_P, firsts_P, lengths_P


def source_id(name: str) -> int:
    """A source's number in the noise's key: from its name, so that other sources may come and go."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF
