"""The loader: the Data seam, with batches made ready before they are asked for."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, cast, runtime_checkable

from triptych.trainer.loader.config import LoaderConfig
from triptych.trainer.loader.device import Arriving, copies_to
from triptych.trainer.loader.losses import LOST, agreed, events
from triptych.trainer.loader.waiting import Aside, Asked, GivenUp
from triptych.trainer.loader.worker import PlannedData, Request
from triptych.trainer.loader.workers import Workers
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.seams import Data

Note = Callable[[str, Mapping[str, Any]], None]
"""Where an event goes: its name, and what there is to say of it."""


@runtime_checkable
class _Describing(Protocol):
    def describe(self, cursor: Mapping[str, int]) -> dict[str, float]: ...


class _Ahead(NamedTuple):
    """A batch that is on its way to the device before the step asks for it."""

    request: Request
    arriving: Arriving
    events: list[dict[str, Any]]
    after: dict[str, int]


class Loader:
    """What the loop reads from: the same rows and cursors as `data` gives, whatever the number of workers; a context
    manager.

    note: is told of every sample that this rank could not read, once its batch is given out. ValueError if there are to
    be workers and the data cannot be planned without being read, or cannot be sent.
    """

    def __init__(self, data: Data, config: LoaderConfig, groups: Groups, note: Note) -> None:
        if config.num_workers and not hasattr(data, "advance"):
            raise ValueError("this run's data cannot be planned without being read; set fit.loader.num_workers=0")
        self._data, self._config, self._groups, self._note = data, config, groups, note
        self._copies = copies_to(groups.device)
        self._workers: Workers | None = None
        self._ahead: _Ahead | None = None
        self._aside = Aside()
        self._ready: tuple[Request, Any, dict[str, int]] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._config.num_workers:
            pinned = self._groups.device.type == "cuda"
            workers = Workers(cast(PlannedData, self._data), self._config, pinned=pinned)
            self._workers = self._stack.enter_context(workers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def wait(self, cursor: Mapping[str, int], size: int, give_up: Asked) -> bool:
        """Have this rank's part of the batch ready for `batch`; False if `give_up` says so before it is, and then the
        loader is of no more use. Not collective: a rank that waits keeps none from being asked whether to stop.
        """
        request = Request(dict(cursor), size, self._groups.data_rank, self._groups.num_data_ranks)
        if self._is_ready(request):
            return True
        self._ahead = self._ready = None
        try:
            self._ready = (request, *self._made(request, give_up))
        except GivenUp:
            return False
        return True

    def batch(self, cursor: Mapping[str, int], size: int, rank: int, num_ranks: int) -> tuple[Any, dict[str, int]]:
        """This rank's rows on its device, without what any rank that holds the same rows could not read, and the cursor
        after all of them. Collective over the ranks that hold the same rows.
        """
        request = Request(dict(cursor), size, rank, num_ranks)
        ahead, self._ahead = self._ahead, None
        ready, self._ready = self._ready, None
        if self._copies is not None and ahead is not None and ahead.request == request:
            rows, lost, after = self._copies.end(ahead.arriving), ahead.events, ahead.after
        else:
            made = ready[1:] if ready is not None and ready[0] == request else self._made(request, _never)
            rows, after = made
            lost = events(rows)
            rows = rows.to(self._groups.device)
        for facts in lost:
            self._note(LOST, facts)
        rows = agreed(rows, self._groups)
        self._send_ahead(request._replace(cursor=after))
        return rows, after

    def describe(self, cursor: Mapping[str, int]) -> dict[str, float]:
        """Metrics of a place in the data; none if the data has nothing to say."""
        return self._data.describe(cursor) if isinstance(self._data, _Describing) else {}

    def _is_ready(self, request: Request) -> bool:
        ready = self._ready is not None and self._ready[0] == request
        return ready or (self._ahead is not None and self._ahead.request == request)

    def _made(self, request: Request, give_up: Asked) -> tuple[Any, dict[str, int]]:
        if self._workers is None:
            return self._aside(lambda: self._data.batch(*request), give_up)
        return self._workers.take(request, give_up)

    def _send_ahead(self, request: Request) -> None:
        """Begin to copy the batch that most likely comes next, if it is there already."""
        if self._copies is None or self._workers is None or not self._workers.is_ready(request):
            return
        try:
            rows, after = self._workers.take(request)
        except (ValueError, OSError, RuntimeError):
            return  # it comes again when the step asks for this batch
        self._ahead = _Ahead(request, self._copies.begin(rows), events(rows), after)


def _never() -> bool:
    return False
