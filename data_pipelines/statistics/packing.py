"""What packing would make of a source: rows planned from the lengths in the index, as the stream plans them."""

from dataclasses import asdict, dataclass

import numpy as np

from triptych.data_pipelines.stream.sources import Source
from triptych.data_pipelines.stream.windows import PackingConfig, SourceOrder

MAX_WINDOWS = 32


@dataclass(kw_only=True, slots=True, frozen=True)
class PackingStatistics:
    """Of `num_windows` windows of an epoch's `windows_per_epoch`. padding: share of the positions, 0..1."""

    row_length: int
    windows_per_epoch: int
    num_windows: int
    num_samples: int
    num_documents: int
    num_rows: int
    num_tokens: int

    @property
    def padding(self) -> float:
        return 1 - self.num_tokens / (self.num_rows * self.row_length)

    @property
    def documents_per_row(self) -> float:
        return self.num_documents / self.num_rows

    def as_json(self) -> dict[str, int | float]:
        """The fields and what follows from them."""
        return {**asdict(self), "padding": self.padding, "documents_per_row": self.documents_per_row}


def packing_statistics(
    name: str, source: Source, config: PackingConfig, row_length: int, *, seed: int = 0, max_windows: int = MAX_WINDOWS
) -> PackingStatistics:
    """Plan the first epoch's windows, evenly spread ones if there are more than `max_windows`.

    ValueError if the source has no samples.
    """
    if not len(source):
        raise ValueError(f"{name} has no samples; nothing can be packed")
    order = SourceOrder(name, source, config, row_length, seed)
    number = min(max_windows, order.windows_per_epoch)
    windows = [order.window(order.windows_per_epoch * index // number) for index in range(number)]
    return PackingStatistics(
        row_length=row_length,
        windows_per_epoch=order.windows_per_epoch,
        num_windows=number,
        num_samples=sum(len(np.unique(window.samples_P)) for window in windows),
        num_documents=sum(len(window.samples_P) for window in windows),
        num_rows=sum(len(window) for window in windows),
        num_tokens=sum(int(window.tokens_R.sum()) for window in windows),
    )
