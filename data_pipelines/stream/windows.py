"""The order of one source: blocks of consecutive samples shuffled anew each epoch, and rows packed window by window.

A window is some blocks of the shuffled order. Its samples are shuffled among each other and packed into rows, from
their lengths alone, so any window is planned without those before it: a place in a source is the number of a window and
of a row within it. Blocks keep reads together where random access is dear; with blocks of one sample the shuffle is a
permutation of all of them. No memory grows with the data.
"""

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
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
    document a row of its own. window_samples: shuffled among each other and packed together; what pads the last row of
    a window weighs little once a window fills some fifty. block_samples: consecutive ones that stay in one window; no
    more than the window has. ValueError unless all are 1 or more.
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
    """Rows of one source, by window. The last few windows are held.

    fingerprint: 0..2**63-1, of everything that decides which row is where; places in one order say nothing of another.
    """

    def __init__(self, name: str, source: Source, config: PackingConfig, row_length: int, seed: int) -> None:
        self._name, self._source, self._seed = name, source, seed
        self._pack, self._row_length = _PACKERS[config.rows], row_length
        self._block = min(config.block_samples, config.window_samples)
        self._num_blocks = -(-len(source) // self._block)
        self.windows_per_epoch = -(-self._num_blocks // (config.window_samples // self._block))
        sizes = (len(source), source.longest_piece, source.overhead, self._block, config.window_samples, row_length)
        self.fingerprint = _hash("order", seed, source.task, config.rows, *sizes, name) >> 1
        self.window = lru_cache(maxsize=4)(self._plan)

    def epochs(self, place: int) -> float:
        """How often the source has been gone through at a place. It grows with every row, and is a whole number at the
        end of an epoch; within a window it takes the rows of the first for those of any, which is not planned for this.
        """
        number, rows = place >> ROW_BITS, place & ((1 << ROW_BITS) - 1)
        epoch, within = divmod(number, self.windows_per_epoch)
        if rows:
            within += rows / max(self._usual_rows, rows + 1)
        return epoch + within / self.windows_per_epoch

    @cached_property
    def _usual_rows(self) -> int:
        return len(self.window(0))

    def _plan(self, number: int) -> Window:
        """Window `number`, counted on through the epochs. ValueError if it has more documents than can be numbered."""
        epoch, within = divmod(number, self.windows_per_epoch)
        samples_N, sizes_N = self._shuffled(epoch, within)
        counts_N = np.maximum(1, -(-sizes_N // self._source.longest_piece))
        if counts_N.sum() >= 1 << ROW_BITS:
            raise ValueError(
                f"a window of source {self._name} has {counts_N.sum():,} documents; lower data.packing.window_samples"
            )
        of_P, firsts_P, lengths_P = _pieces(sizes_N, counts_N, self._source.longest_piece, self._source.overhead)
        rows_P = self._pack(lengths_P, self._row_length)
        num_rows = int(rows_P.max()) + 1
        rows_P = permuted(rows_P, num_rows, self._key("rows", epoch, within))
        order_P = np.argsort(rows_P, kind="stable")
        lengths_P, rows_P = lengths_P[order_P], rows_P[order_P]
        return Window(
            epoch=epoch,
            samples_P=samples_N[of_P[order_P]],
            firsts_P=firsts_P[order_P],
            lengths_P=lengths_P,
            ends_R=np.cumsum(np.bincount(rows_P, minlength=num_rows)),
            tokens_R=np.bincount(rows_P, weights=lengths_P, minlength=num_rows).astype(np.int64),
        )

    def _shuffled(self, epoch: int, within: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Absolute indices of a window's samples in their order, and their sizes."""
        edges = [self._num_blocks * edge // self.windows_per_epoch for edge in (within, within + 1)]
        numbers = np.sort(permuted(np.arange(*edges), self._num_blocks, self._key("blocks", epoch)))
        blocks = [(first, min(first + self._block, len(self._source))) for first in (numbers * self._block).tolist()]
        samples_N = np.concatenate([np.arange(*block) for block in blocks])
        sizes_N = self._source.sizes(blocks)
        order_N = permuted(np.arange(len(samples_N)), len(samples_N), self._key("samples", epoch, within))
        return samples_N[order_N], sizes_N[order_N]

    def _key(self, purpose: str, *of: int) -> int:
        return _hash(purpose, self._seed, self._name, *of)


def _pieces(
    sizes_N: NDArray[np.int64], counts_N: NDArray[np.int64], longest: int, overhead: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Samples of so many tokens cut into so many pieces of at most `longest`: of each piece its sample's number, where
    in the sample it begins, and its positions, `overhead` more than its tokens.
    """
    of_P = np.repeat(np.arange(len(sizes_N)), counts_N)
    firsts_P = (np.arange(len(of_P)) - np.repeat(np.cumsum(counts_N) - counts_N, counts_N)) * longest
    lengths_P = np.minimum(sizes_N[of_P] - firsts_P, longest) + overhead
    return of_P, firsts_P, lengths_P


def source_id(name: str) -> int:
    """A source's number in the noise's key, 0..2**31-1: from its name, so that other sources may come and go."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def _hash(*of: str | int) -> int:
    """0..2**64-1, as good as random and the same everywhere."""
    text = "/".join(map(str, of))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
