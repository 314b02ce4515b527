"""Stage 2: of all samples that the rules let pass, which come for the first time. One process, whatever their number.

`decisions/` holds for every part `part-NNNNNN.npy` (uint8 per sample: 1 where it is to be encoded) and one
`summary.json`.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.prepare.config import PrepareConfig
from triptych.data_pipelines.prepare.duplicates.clusters import first_of_each, first_of_each_cluster
from triptych.data_pipelines.prepare.stages.scan import Summary, read_summary, write_summary
from triptych.data_pipelines.prepare.work import WorkFolder
from triptych.data_pipelines.shards.atomic import atomic_folder

EXACT, NEAR = "exact duplicate", "near duplicate"


def deduplicate(work: WorkFolder, num_parts: int, config: PrepareConfig) -> Summary:
    """Decide for every sample. The first of equal ones stays, in the order of the inputs.

    ValueError if nothing is left.
    """
    digests = [np.load(work.scanned(number) / "digests.npy") for number in range(num_parts)]
    sizes = np.array([len(some) for some in digests])
    first = first_of_each(np.concatenate(digests))
    del digests
    summary = Summary(num_samples=len(first))
    summary.left_out[EXACT] = int(len(first) - first.sum())
    if config.kind == "text" and config.deduplication.near_duplicates > 0:
        chosen = np.flatnonzero(first)
        files = _Signatures(work, sizes, chosen)
        alone = first_of_each_cluster(
            len(chosen), files.bands(), files.signatures, config.deduplication.near_duplicates
        )
        first[chosen[~alone]] = False
        summary.left_out[NEAR] = int(len(alone) - alone.sum())
    if not first.any():
        raise ValueError(f"no sample is left to encode: {_why(work, num_parts)}; change the filters with --set")
    with atomic_folder(work.decisions) as partial:
        end = 0
        for number, size in enumerate(sizes):
            kept = np.load(work.scanned(number) / "kept.npy")
            decisions = np.zeros(len(kept), np.uint8)
            decisions[kept] = first[end : end + size]
            np.save(partial / f"part-{number:06d}.npy", decisions)
            end += size
        write_summary(partial, summary)
    return summary


class _Signatures:
    """Files of all parts, of the samples `chosen` among those that the rules let pass."""

    def __init__(self, work: WorkFolder, sizes: NDArray[np.int64], chosen: NDArray[np.int64]) -> None:
        self._folders = [work.scanned(number) for number in range(len(sizes))]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._chosen = chosen
        self._cuts = np.searchsorted(chosen, self._starts)

    def bands(self) -> Iterator[NDArray[np.uint64]]:
        """uint64 [chosen] of one band after the other."""
        for band in range(len(np.load(self._folders[0] / "bands.npy", mmap_mode="r"))):
            values = np.empty(len(self._chosen), np.uint64)
            for number, folder in enumerate(self._folders):
                start, stop = self._cuts[number], self._cuts[number + 1]
                rows = self._chosen[start:stop] - self._starts[number]
                values[start:stop] = np.load(folder / "bands.npy", mmap_mode="r")[band][rows]
            yield values

    def signatures(self, samples: NDArray[np.int64]) -> NDArray[np.uint32]:
        """uint32 [n, permutations]; each part's file is opened once for them."""
        places = self._chosen[samples]
        numbers = np.searchsorted(self._starts, places, side="right") - 1
        found: NDArray[np.uint32] | None = None
        for number in np.unique(numbers):
            table = np.load(self._folders[number] / "signatures.npy", mmap_mode="r")
            if found is None:
                found = np.empty((len(samples), table.shape[1]), np.uint32)
            here = numbers == number
            found[here] = table[places[here] - self._starts[number]]
        assert found is not None, "asked for no sample"
        return found


def _why(work: WorkFolder, num_parts: int) -> str:
    total = Summary()
    for number in range(num_parts):
        part = read_summary(work.scanned(number))
        total.num_samples += part.num_samples
        total.left_out += part.left_out
        total.damaged += part.damaged
    reasons = [*total.left_out.most_common(), *((f"damaged, {name}", n) for name, n in total.damaged.most_common())]
    return f"{total.num_samples} samples" + "".join(f", {number} {reason}" for reason, number in reasons)
