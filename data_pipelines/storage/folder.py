"""What a folder must be able to do so that its files can be read in ranges."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Range(NamedTuple):
    """Bytes start..stop-1 of a file. exact: whether fewer, because the file ends, are an error."""

    name: str
    start: int
    stop: int
    exact: bool = True


class Folder(Protocol):
    """Files of one folder. Threads may share it, and so may processes that are forked or to which it is pickled.

    ranges_at_once: how many one call should ask for; more are read in several calls. max_gap_bytes: up to how many
    unwanted bytes between two ranges are read sooner than a range of their own is begun.
    """

    @property
    def ranges_at_once(self) -> int: ...

    @property
    def max_gap_bytes(self) -> int: ...

    def path(self, name: str) -> str:
        """Where a file is, for messages."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file. FileNotFoundError, or another OSError."""
        ...

    def read_ranges(self, ranges: Sequence[Range]) -> list[bytes | OSError]:
        """The bytes of each range, fewer where the file ends, or what went wrong."""
        ...

    def forget(self, name: str) -> None:
        """Open a file anew for the next read of it."""
        ...
