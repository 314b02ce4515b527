"""A mixture of sources as a pure function of one counter per source.

The state says nothing of ranks, workers or batch sizes, so a run may change all three and still see every sequence as
planned.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from triptych.data_pipelines.batch import Batch
from triptych.data_pipelines.stream.permutation import permuted
from triptych.data_pipelines.stream.sources import Source, source_id


@dataclass(kw_only=True, slots=True, frozen=True)
class WeightedSource:
    """A source and its share of the tokens that are not padding; shares are relative to each other."""

    source: Source
    weight: float


class Mixture:
    """Batches from weighted sources, shuffled anew each epoch (the Data seam).

    copies: 2 gives every sequence twice in a row, as complement pairs need; else 1.
    """

    def __init__(self, sources: Mapping[str, WeightedSource], *, seed: int, copies: int = 1) -> None:
        for name, entry in sources.items():
            if not len(entry.source):
                raise ValueError(f"source {name} is empty; give it shards, or drop it from the mixture")
            if entry.weight <= 0:
                raise ValueError(
                    f"source {name} has weight {entry.weight}; give it a positive weight, or drop it from the mixture"
                )
        self._sources = dict(sources)
        self._seed = seed
        self._copies = copies
        total = sum(entry.weight for entry in sources.values())
        self._shares = np.array([entry.weight / total for entry in sources.values()])
        self._lengths = np.array([entry.source.num_tokens for entry in sources.values()])

    def batch(self, cursor: Mapping[str, int], size: int, rank: int, num_ranks: int) -> tuple[Batch, dict[str, int]]:
        """Rank `rank`'s rows of the next `size`, and the cursor after all of them. ValueError if `size` does not
        divide.
        """
        if size % (num_ranks * self._copies):
            raise ValueError(
                f"a batch of {size} does not divide into {num_ranks} data-parallel ranks with {self._copies} "
                f"copies each; use a multiple of {num_ranks * self._copies}"
            )
        names = list(self._sources)
        counts = np.array([cursor.get(name, 0) for name in names], np.int64)
        choices, places = self._plan(counts, size // self._copies)
        after = counts + np.bincount(choices, minlength=len(names))
        per_rank = size // num_ranks
        slots = np.arange(rank * per_rank, (rank + 1) * per_rank)
        drawn = slots // self._copies
        batch = self._build(choices[drawn], places[drawn], slots + int(counts.sum()) * self._copies)
        return batch, dict(zip(names, after.tolist(), strict=True))

    def rows(self, name: str, indices: NDArray[np.int64], epoch: int = 0) -> Batch:
        """The given sequences of one source, in order, as one batch: for evaluation, without shuffling."""
        number = list(self._sources).index(name)
        size = len(indices)
        samples = np.stack([np.full(size, source_id(name)), indices, np.full(size, epoch)], axis=1)
        return self._assemble(np.full(size, number), samples, indices * self._copies)

    def num_sequences(self, name: str) -> int:
        """Sequences in one epoch of a source."""
        return len(self._sources[name].source)

    def _plan(self, counts: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source of each of the next `size` sequences, and its place in that source's own order.

        Each goes to the source furthest behind its share of the tokens, so that shares hold at every moment to within a
        sequence.
        """
        counts = counts.copy()
        choices, places = np.empty(size, np.int64), np.empty(size, np.int64)
        for i in range(size):
            seen = counts * self._lengths
            choice = int(np.argmax(self._shares * (seen.sum() + self._lengths.mean()) - seen))
            choices[i], places[i] = choice, counts[choice]
            counts[choice] += 1
        return choices, places

    def _build(
        self,
        choices: NDArray[np.int64],
        places: NDArray[np.int64],
        numbers: NDArray[np.int64],
    ) -> Batch:
        samples = np.empty((len(choices), 3), np.int64)
        for number, (name, entry) in enumerate(self._sources.items()):
            mine = choices == number
            epochs, within = np.divmod(places[mine], len(entry.source))
            samples[mine] = np.stack(
                [np.full(len(epochs), source_id(name)), self._shuffled(name, within, epochs), epochs], axis=1
            )
        return self._assemble(choices, samples, numbers)

    def _shuffled(self, name: str, within: NDArray[np.int64], epochs: NDArray[np.int64]) -> NDArray[np.int64]:
        indices = np.empty_like(within)
        for epoch in np.unique(epochs):
            now = epochs == epoch
            key = (self._seed << 40) ^ (source_id(name) << 16) ^ int(epoch)
            indices[now] = permuted(within[now], len(self._sources[name].source), key & 0xFFFFFFFFFFFFFFFF)
        return indices

    def _assemble(
        self,
        choices: NDArray[np.int64],
        samples: NDArray[np.int64],
        numbers: NDArray[np.int64],
    ) -> Batch:
        sources = [entry.source for entry in self._sources.values()]
        rows = [sources[choice].sequence(int(index)) for choice, index in zip(choices, samples[:, 1], strict=True)]
        return Batch(
            tokens_BS=torch.from_numpy(np.stack([tokens for tokens, _ in rows])),
            roles_BS=torch.from_numpy(np.stack([roles for _, roles in rows])),
            samples_B3=torch.from_numpy(samples),
            copies_B=torch.from_numpy(numbers % self._copies),
            numbers_B=torch.from_numpy(numbers),
        )
