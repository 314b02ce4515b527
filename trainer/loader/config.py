"""Settings of the loader."""

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True, frozen=True)
class LoaderConfig:
    """How batches are made ready, and how much of the data may be unreadable.

    num_workers: processes beside each rank; 0 makes each batch within its step. prefetch_batches: that each of them
    holds ready; it makes one more meanwhile. timeout_seconds: without a batch from a worker that is asked for one; then
    it counts as hung. 300 is half of what ranks wait for each other, so that the worker is named and not a collective.

    The run ends once more than max_lost_samples + max_lost_fraction * (samples planned so far) could not be read. Bad
    sectors and uploads cut short stay far below one in a thousand, and so much less data moves a loss by less than
    another seed; a source that has gone passes the 100 within a few steps. Both are our choice. ValueError for settings
    out of range.
    """

    num_workers: int = 0
    prefetch_batches: int = 2
    timeout_seconds: float = 300.0
    max_lost_samples: int = 100
    max_lost_fraction: float = 0.001

    def __post_init__(self) -> None:
        for name, least in (("num_workers", 0), ("prefetch_batches", 1), ("max_lost_samples", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"fit.loader.{name} is {getattr(self, name)}; set it to {least} or more")
        if self.prefetch_batches > 64:
            raise ValueError(f"fit.loader.prefetch_batches is {self.prefetch_batches}; set it to 64 or less")
        if not self.timeout_seconds > 0:
            raise ValueError(f"fit.loader.timeout_seconds is {self.timeout_seconds}; set it above 0")
        if not 0 <= self.max_lost_fraction <= 1:
            raise ValueError(f"fit.loader.max_lost_fraction is {self.max_lost_fraction}; set it to 0..1")
