"""What the benchmark asks of a loader."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from triptych.data_pipelines.stream.benchmark.documents import Texts


@dataclass(kw_only=True, slots=True, frozen=True)
class Facts:
    """What a loader does and does not do, a phrase each."""

    format: str
    shuffle: str
    packing: str
    resume: str
    elastic: str


class Peer(Protocol):
    """A loader. package: its name in the package index, None for this one. format: peers of one format share a folder.
    can_seek: whether it can be told to go on behind so many samples.
    """

    @property
    def name(self) -> str: ...

    @property
    def package(self) -> str | None: ...

    @property
    def format(self) -> str: ...

    @property
    def can_seek(self) -> bool: ...

    @property
    def facts(self) -> Facts: ...

    def write(self, folder: Path, texts: Texts) -> None:
        """The set in the loader's own format; what a peer of the same format has written stays."""
        ...

    def multiply(self, folder: Path, num_shards: int) -> None:
        """A set of one shard becomes one of `num_shards` names for it."""
        ...

    def batches(self, folder: Path, num_workers: int, samples: int = 0) -> Iterator[int]:
        """Tokens of one batch of packed rows after the other, without end, made by worker processes, shuffled. samples:
        go on behind so many.
        """
        ...
