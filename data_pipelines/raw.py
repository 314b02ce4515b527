"""Batches of raw arrays (pixels, log-mel frames) held in memory: what tokenizers are trained on.

Shape legend: B items, L first axis of an item (image rows, frames), padded to the longest of the batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_TENSORS = ("values", "lengths_B", "codes_B", "samples_B3")


@dataclass(kw_only=True, slots=True, frozen=True)
class RawBatch:
    """values: [B, L, ...] in the items' own type, 0 after an item's end. lengths_B: int64, real rows of L.

    codes_B: int64, how many codes each item becomes. samples_B3: int64 (source id, item, epoch).
    """

    values: Tensor
    lengths_B: Tensor
    codes_B: Tensor
    samples_B3: Tensor

    def __len__(self) -> int:
        return self.values.shape[0]

    def rows(self, start: int, stop: int) -> "RawBatch":
        """Items start..stop."""
        return replace(self, **{name: getattr(self, name)[start:stop] for name in _TENSORS})

    def to(self, device: torch.device) -> "RawBatch":
        """The same batch with its tensors on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

    @property
    def num_tokens(self) -> Tensor:
        """0-d int64: codes. This is what a tokenizer run's clock counts."""
        return self.codes_B.sum()


class RawData:
    """Items shuffled anew every epoch; batch after batch without end.

    items: arrays of one type that agree in all axes but the first; any sequence, also one that reads item i when asked.
    num_codes: codes that each item becomes. ValueError if there are no items or the two differ in number.
    """

    CURSOR = "raw"

    def __init__(self, items: Sequence[NDArray], num_codes: Sequence[int], seed: int, source: int = 0) -> None:
        if not len(items) or len(items) != len(num_codes):
            raise ValueError(f"{len(items)} items with {len(num_codes)} code counts; give at least one, a count each")
        self._items, self._num_codes = items, np.asarray(num_codes, dtype=np.int64)
        self._seed, self._source = seed, source

    def batch(self, cursor: Mapping[str, int], size: int, rank: int, num_ranks: int) -> tuple[RawBatch, dict[str, int]]:
        """This rank's items of the next `size`, and the cursor after all of them (a missing cursor counts as 0).

        An epoch's order depends on the seed and the epoch alone. ValueError if `num_ranks` does not divide `size`.
        """
        if size % num_ranks:
            raise ValueError(f"a batch of {size} items does not divide over {num_ranks} ranks; choose a multiple")
        start = cursor.get(self.CURSOR, 0) + rank * size // num_ranks
        positions = np.arange(start, start + size // num_ranks)
        return self._gather(positions), self.advance(cursor, size)

    def advance(self, cursor: Mapping[str, int], size: int) -> dict[str, int]:
        """The cursor after a batch of `size` items."""
        return {**cursor, self.CURSOR: cursor.get(self.CURSOR, 0) + size}

    def describe(self, cursor: Mapping[str, int]) -> dict[str, float]:
        """How often the items have been gone through."""
        return {"data/epoch": cursor.get(self.CURSOR, 0) / len(self._items)}

    def _gather(self, positions: NDArray[np.int64]) -> RawBatch:
        epochs, places = np.divmod(positions, len(self._items))
        orders = {int(epoch): self._order(int(epoch)) for epoch in np.unique(epochs)}
        chosen = np.array([orders[int(epoch)][place] for epoch, place in zip(epochs, places, strict=True)])
        items = [torch.from_numpy(np.ascontiguousarray(self._items[index])) for index in chosen]
        samples = np.stack([np.full_like(chosen, self._source), chosen, epochs], axis=-1)
        return RawBatch(
            values=torch.nn.utils.rnn.pad_sequence(items, batch_first=True),
            lengths_B=torch.tensor([len(item) for item in items]),
            codes_B=torch.from_numpy(self._num_codes[chosen]),
            samples_B3=torch.from_numpy(samples),
        )

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self._items))
