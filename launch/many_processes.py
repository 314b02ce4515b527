"""`triptych train` as one of many processes: all of them go on, or all of them end, with one cause."""

import contextlib
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, Protocol

import torch.distributed as dist

from triptych.launch.environment import Rendezvous, rendezvous
from triptych.launch.errors import describe
from triptych.launch.signals import ignore_signals, remember_stops
from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.watch.board import Board
from triptych.trainer.parallel.watch.obituary import (
    FAILED,
    INTERRUPTED,
    REFUSED,
    Diverged,
    Obituary,
    is_secondary,
)
from triptych.trainer.parallel.watch.ring import GRACE_SECONDS, Watch, WatchConfig

Reporter = Callable[[StepRecord], None]

START_SECONDS = 300.0  # for rank 0 to open its port
LINGER_SECONDS = GRACE_SECONDS + 3.0  # a rank that serves the store waits this long for the others to read the cause
FLUSH_SECONDS = 1.0


class Processes(Protocol):
    """What a command needs of the processes around it. store: for the process groups; None lets one process do
    without.
    """

    @property
    def store(self) -> dist.Store | None: ...

    @property
    def reporters(self) -> list[Reporter]: ...

    def agree(self, name: str, decide: Callable[[], str]) -> str:
        """What the first process decides, on all of them. decide: must not raise."""
        ...

    def log_to(self, path: Path) -> None:
        """Where this rank's log is, from now on: the cause of an end is added to it."""
        ...

    def failing_together(self) -> AbstractContextManager[None]:
        """An error within ends all processes."""
        ...

    def watched(self, config: WatchConfig) -> AbstractContextManager[None]:
        """A process that dies or hangs within ends all of them. Processes leave together."""
        ...


def all_processes(placement: Placement) -> Processes:
    """This process among its run's. ValueError, with the mend, if they cannot meet."""
    return Alone() if placement.world_size == 1 else Together(placement, rendezvous())


class Alone:
    """One process: its errors are its own."""

    store = None

    @property
    def reporters(self) -> list[Reporter]:
        return []

    def agree(self, name: str, decide: Callable[[], str]) -> str:
        return decide()

    def log_to(self, path: Path) -> None: ...

    def failing_together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def watched(self, config: WatchConfig) -> AbstractContextManager[None]:
        return nullcontext()


class Together:
    """One of many. The store is opened before anything is read, so that whatever one rank fails of reaches all."""

    def __init__(self, placement: Placement, meeting: Rendezvous) -> None:
        remember_stops()
        self._placement = placement
        self._store_rank = None if meeting.served_by_launcher else 0
        self._meeting = meeting
        self._connection = _connect(placement, meeting, serves=placement.rank == self._store_rank)
        if meeting.served_by_launcher:
            _require_first_use(placement, self._connection)
        self._board = Board(dist.PrefixStore("board", self._connection))
        self._host = socket.gethostname()
        self._watch: Watch | None = None
        self._wait_for_cause_seconds = 0.0
        self._log: Path | None = None
        self._ending = threading.Lock()

    @property
    def store(self) -> dist.Store:
        return dist.PrefixStore("groups", self._connection)

    @property
    def reporters(self) -> list[Reporter]:
        return [] if self._watch is None else [self._watch.note]

    def agree(self, name: str, decide: Callable[[], str]) -> str:
        store = dist.PrefixStore("decisions", self._connection)
        if self._placement.rank == 0:
            store.set(name, decide())
        return store.get(name).decode()

    def log_to(self, path: Path) -> None:
        self._log = path

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        try:
            yield
        except SystemExit as error:
            if error.code not in (0, None):
                self._fail(error)
            raise
        except BaseException as error:  # noqa: BLE001 - whatever ends one rank must end all
            self._fail(error)

    @contextmanager
    def watched(self, config: WatchConfig) -> Iterator[None]:
        self._wait_for_cause_seconds = config.suspicion_seconds + 3 * config.beat_seconds + GRACE_SECONDS + 3.0
        # A connection of its own: a call of the main thread, which may wait for minutes, locks the one that it uses.
        own_connection = _connect(self._placement, self._meeting, serves=False)
        store = dist.PrefixStore("board", own_connection)
        self._watch = Watch(
            config, store, self._placement, host=self._host, store_rank=self._store_rank, end=self._end_from_watch
        )
        with self._watch:
            yield
            self._watch.leave(self._board)

    def _fail(self, error: BaseException) -> NoReturn:
        ignore_signals()  # torchrun sends SIGTERM to the others as soon as one has died
        if self._watch is not None and is_secondary(error):
            # Most likely another rank died: let the watch find out which, name it, and end this process.
            self._board.suspect()
            time.sleep(self._wait_for_cause_seconds)
        if self._watch is not None:
            self._watch.main_is_ending()
        mine = self._obituary_of(error)
        standing = self._board.post(mine)
        is_no_mistake_of_ours = mine.code != FAILED or mine.rank is None
        if is_no_mistake_of_ours and self._board.all_say(mine.cause, self._placement.world_size, GRACE_SECONDS):
            self._end(Obituary(rank=None, cause=mine.cause, code=mine.code), speaks=self._placement.rank == 0)
        if not is_no_mistake_of_ours or "--traceback" in sys.argv:
            traceback.print_exception(error)
        if standing != mine:
            self._say(mine)
        self._end(standing, speaks=True)

    def _obituary_of(self, error: BaseException) -> Obituary:
        rank, host = self._placement.rank, self._host
        match error:
            case Diverged():
                return Obituary(rank=None, cause=str(error))
            case KeyboardInterrupt():
                return Obituary(
                    rank=rank, host=host, cause="interrupted; nothing half-written is left", code=INTERRUPTED
                )
            case ValueError() | OSError():
                return Obituary(rank=rank, host=host, cause=describe(error), code=REFUSED)
            case _:
                cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
                return Obituary(rank=rank, host=host, cause=cause[:500])

    def _end_from_watch(self, obituary: Obituary) -> None:
        self._end(obituary, speaks=True)

    def _end(self, obituary: Obituary, *, speaks: bool) -> NoReturn:
        """Say why, once, and end this process, whichever thread calls.

        By `os._exit`: the main thread may be blocked for ever in a collective whose peers are gone, an exception
        cannot reach it there, and closing process groups would wait for the same peers.
        """
        self._ending.acquire()  # never released: the other thread, if it comes here too, waits for the end
        if speaks:
            self._say(obituary)
        if self._log is not None:
            from triptych.trainer.logs import append_event

            with contextlib.suppress(OSError):  # the cause has been printed; a full disk must not keep us here
                append_event(self._log, "end", asdict(obituary))
        if self._placement.rank == self._store_rank:
            num_readers = self._placement.world_size - obituary.is_of_the_silent
            self._board.meet("informed", num_readers, LINGER_SECONDS)
        else:
            self._board.count("informed")
        flushing = threading.Thread(target=_flush, daemon=True)  # the main thread may hold a stream's lock
        flushing.start()
        flushing.join(FLUSH_SECONDS)
        os._exit(obituary.code)

    def _say(self, obituary: Obituary) -> None:
        """One line, written at once: neither torn by other ranks nor kept in a buffer."""
        with contextlib.suppress(OSError):
            os.write(sys.stderr.fileno(), f"triptych: error: {obituary}\n".encode())


def _connect(placement: Placement, meeting: Rendezvous, *, serves: bool) -> dist.TCPStore:
    """A connection to the run's store; the process that `serves` it opens it."""
    try:
        return dist.TCPStore(
            meeting.address,
            meeting.port,
            placement.world_size,
            serves,
            timeout=timedelta(seconds=START_SECONDS),
            wait_for_workers=False,  # the watch knows who is missing
        )
    except dist.DistError as error:
        reason = " ".join(str(error).split("\n")[0].split())
        mend = "choose another MASTER_PORT" if serves else "see that rank 0 runs there and that the port is open"
        verb = "cannot be served" if serves else "does not answer"
        raise ValueError(f"rank {placement.rank}: {meeting.address}:{meeting.port} {verb} ({reason}); {mend}") from None


def _require_first_use(placement: Placement, store: dist.Store) -> None:
    """ValueError if processes that ended before these have left their signs in the launcher's store: torchrun keeps it
    over its restarts, and its number of restarts need not be the same on all nodes, so that no prefix would do.
    """
    if store.add(f"arrivals/{placement.rank}", 1) > 1:
        raise ValueError(
            "torchrun has restarted this run on the store of before; set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for it, "
            "or start with python -m triptych.launch.slurm.agent in its place"
        )


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[?25h")  # the cursor, which a live display hides
        sys.stdout.flush()
        sys.stderr.flush()
