"""A run of one process that ends: said and written down as the ends of many are."""

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from triptych.launch.errors import describe
from triptych.trainer.health.judge import ROLLED_BACK, SKIPPED, STRAGGLER
from triptych.trainer.logs import append_event
from triptych.trainer.parallel.watch.obituary import FAILED, INTERRUPTED, REFUSED, Obituary

Note = Callable[[str, Mapping[str, Any]], None]


@contextmanager
def last_words(log: Path, has_begun: Callable[[], bool]) -> Iterator[None]:
    """Add the cause of an end to the log of a run of one process, unless it was refused before it began."""
    try:
        yield
    except BaseException as error:
        if has_begun():
            with contextlib.suppress(OSError):  # the disk may be the cause
                append_event(log, "end", asdict(_obituary(error)))
        raise


def end_alone(log: Path, obituary: Obituary) -> NoReturn:
    """End this process from a thread that watches it: the main thread hangs, and no exception can reach it."""
    with contextlib.suppress(OSError):
        append_event(log, "end", asdict(obituary))
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"triptych: error: {obituary}\n".encode())
    os._exit(obituary.code)


def told(note: Note, *, speaks: bool) -> Note:
    """The same, and said on the terminal where somebody should look."""

    def tell(event: str, facts: Mapping[str, Any]) -> None:
        note(event, facts)
        if speaks and (line := _line(event, facts)):
            print(f"triptych: warning: {line}", file=sys.stderr)

    return tell


def _line(event: str, facts: Mapping[str, Any]) -> str:
    if event == SKIPPED:
        return f"{facts['cause']}; the optimizer's step is left out, the samples are in the logs"
    if event == ROLLED_BACK:
        return f"{facts['cause']}; going back to a checkpoint, the samples are in the logs"
    if event == STRAGGLER:
        seconds, usual = facts["seconds"], facts["median_seconds"]
        return f"{facts['who']} is slow by itself: {seconds:.3g} s a step where the median is {usual:.3g} s"
    return ""


def _obituary(error: BaseException) -> Obituary:
    host = socket.gethostname()
    if isinstance(error, KeyboardInterrupt):
        return Obituary(rank=0, host=host, cause="interrupted", code=INTERRUPTED)
    if isinstance(error, (ValueError, OSError)):
        return Obituary(rank=0, host=host, cause=describe(error), code=REFUSED)
    text = " ".join(str(error).split())
    return Obituary(rank=0, host=host, cause=f"{type(error).__name__}: {text}"[:500], code=FAILED)
