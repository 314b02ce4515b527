"""A mixture of sources as data that workers can make for themselves, and that says where it stands."""

from collections.abc import Callable, Mapping

from triptych.data_pipelines.batch import Batch
from triptych.data_pipelines.stream.cursor import places_of, total_tokens
from triptych.data_pipelines.stream.mixture import Mixture


class StreamData:
    """The Data seam over a mixture. Only `build`, which must pickle, and `copies` travel to a worker.

    build: makes the mixture. copies: as the mixture has them.
    """

    def __init__(self, build: Callable[[], Mixture], copies: int = 1) -> None:
        self._build, self._copies = build, copies
        self._mixture = build()

    def batch(self, cursor: Mapping[str, int], size: int, rank: int, num_ranks: int) -> tuple[Batch, dict[str, int]]:
        """As `Mixture.batch`."""
        return self._mixture.batch(cursor, size, rank, num_ranks)

    def advance(self, cursor: Mapping[str, int], size: int) -> dict[str, int]:
        """The cursor after a batch, without reading it."""
        return self._mixture.plan(cursor, size // self._copies)[1]

    def describe(self, cursor: Mapping[str, int]) -> dict[str, float]:
        """Of each source: how often it has been gone through, and its share of all tokens so far."""
        epochs, total = self._mixture.epochs(cursor), max(1, total_tokens(cursor))
        shares = {name: place.tokens / total for name, place in places_of(cursor, epochs).items()}
        return {f"data/epoch/{name}": number for name, number in epochs.items()} | {
            f"data/share/{name}": share for name, share in shares.items()
        }

    def __reduce__(self) -> tuple[type["StreamData"], tuple[Callable[[], Mixture], int]]:
        return type(self), (self._build, self._copies)
