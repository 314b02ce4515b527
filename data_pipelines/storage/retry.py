"""Reading that bears with a store: attempts with growing delays, time limits, and an end to what is hopeless."""

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from triptych.data_pipelines.storage.breaker import Breakers
from triptych.data_pipelines.storage.folder import Folder, Range
from triptych.data_pipelines.storage.watch import Watch

_MISSING = (FileNotFoundError, NotADirectoryError)
_FORBIDDEN = (PermissionError, IsADirectoryError)
_TRUNCATED = "truncated"
_FOR_GOOD = ("missing", "forbidden")
_PASSING = ("timeout", "unreachable")


@dataclass(kw_only=True, slots=True, frozen=True)
class RetryConfig:
    """attempts: of a read, the first included. Before the second comes a delay of `first_delay_seconds`, and each
    further one is `factor` times as long, up to `max_delay_seconds`; each is shortened by up to a half, by a hash of
    what is read. timeout_seconds: for one attempt; None: as long as it takes. max_failures: of a file, or of as many
    files, in a row, before nothing of it, or of the folder, is read for `cool_down_seconds`. ValueError for numbers
    that make no sense.
    """

    attempts: int = 4
    first_delay_seconds: float = 0.5
    factor: float = 2.0
    max_delay_seconds: float = 30.0
    timeout_seconds: float | None = 30.0
    max_failures: int = 3
    cool_down_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("attempts", "max_failures", "factor"):
            if getattr(self, name) < 1:
                raise ValueError(f"retry.{name} is {getattr(self, name)}; set it to 1 or more")
        for name in ("first_delay_seconds", "max_delay_seconds", "cool_down_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"retry.{name} is {getattr(self, name)}; set it to 0 or more")
        if self.timeout_seconds is not None and self.timeout_seconds <= 0:
            raise ValueError(
                f"retry.timeout_seconds is {self.timeout_seconds}; set it above 0, or to null for no limit"
            )

    def delay_seconds(self, attempt: int, what: str) -> float:
        """How long to wait after attempt number `attempt` (1, ...); the same for the same arguments."""
        longest = min(self.max_delay_seconds, self.first_delay_seconds * self.factor ** (attempt - 1))
        return longest * (1 - zlib.crc32(f"{attempt}/{what}".encode()) / 2**33)


@dataclass(kw_only=True, slots=True, frozen=True)
class Clock:
    """Seconds that only grow, and waiting for some."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(kw_only=True, slots=True, frozen=True)
class Unread:
    """Why bytes are not there. reason: "missing", "forbidden", "truncated", "timeout" or "unreachable". detail: names
    the file. attempts: 0 for what was not tried, because what came before it failed.
    """

    reason: str
    detail: str
    attempts: int


class PatientFolder:
    """Reads ranges of a folder's files and does not give up at the first failure."""

    def __init__(self, folder: Folder, config: RetryConfig, clock: Clock) -> None:
        self._folder = folder
        self._config = config
        self._clock = clock
        self._watch = Watch(config.timeout_seconds)
        self._breakers = Breakers(config.max_failures, config.cool_down_seconds, clock.now)

    def path(self, name: str) -> str:
        """Where a file is, for messages."""
        return self._folder.path(name)

    @property
    def max_gap_bytes(self) -> int:
        """As of the folder."""
        return self._folder.max_gap_bytes

    def forget(self, name: str) -> None:
        """Open a file anew for the next read of it."""
        self._folder.forget(name)

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where that cannot be found out; one attempt."""
        (found,) = self._watch.run([partial(self._size, name)])
        return None if isinstance(found, OSError) else found

    def read_ranges(self, ranges: Sequence[Range], attempts: int | None = None) -> list[bytes | Unread]:
        """The bytes of each range, or why they are not there. attempts: in place of the config's, and without regard
        to what failed before.
        """
        allowed = [self._breakers.attempts(asked.name, self._config.attempts) for asked in ranges]
        if attempts is not None:
            allowed = [attempts] * len(ranges)
        found: list[Any] = [
            None if most else self._untried(asked.name) for most, asked in zip(allowed, ranges, strict=True)
        ]
        pending = [place for place, most in enumerate(allowed) if most]
        attempt, looked_twice = 0, set[int]()
        while pending:
            attempt += 1
            again: list[int] = []
            for place, answer in zip(pending, self._attempt([ranges[place] for place in pending]), strict=True):
                found[place] = part = self._judged(ranges[place], answer, attempt)
                if isinstance(part, bytes) or part.reason in _FOR_GOOD or attempt >= allowed[place]:
                    continue
                if part.reason == _TRUNCATED and place in looked_twice:
                    continue
                looked_twice.add(place)
                again.append(place)
            if again:
                for name in {ranges[place].name for place in again}:
                    self._folder.forget(name)
                first = ranges[again[0]]
                self._clock.sleep(self._config.delay_seconds(attempt, f"{first.name}/{first.start}"))
            pending = again
        self._note(ranges, found)
        return found

    def _attempt(self, ranges: Sequence[Range]) -> list[bytes | OSError]:
        """One answer for each. Behind a read that hangs, others of its file are not tried, and behind some of those
        nothing is, so that the time for all of them has a bound.
        """
        step = self._folder.ranges_at_once
        waiting = [(first, ranges[first : first + step]) for first in range(0, len(ranges), step)]
        answers: dict[int, Sequence[bytes | OSError]] = {}
        num_hanging = 0
        while waiting:
            results = self._watch.run([partial(self._read, part) for _, part in waiting])
            for (first, part), result in zip(waiting, results, strict=False):
                answers[first] = [result] * len(part) if isinstance(result, OSError) else result
            done, waiting = waiting[: len(results)], waiting[len(results) :]
            if waiting:  # behind one that hangs
                num_hanging += 1
                names = {asked.name for asked in done[-1][1]}
                late = answers[done[-1][0]][:1]
                hopeless = num_hanging >= self._config.max_failures
                for first, part in waiting:
                    if hopeless or names.issuperset(asked.name for asked in part):
                        answers[first] = [*late] * len(part)
                waiting = [(first, part) for first, part in waiting if first not in answers]
        return [answer for first in sorted(answers) for answer in answers[first]]

    def _read(self, ranges: Sequence[Range]) -> list[bytes | OSError] | OSError:
        try:
            return self._folder.read_ranges(ranges)
        except OSError as error:
            return error

    def _size(self, name: str) -> int | OSError:
        try:
            return self._folder.size(name)
        except OSError as error:
            return error

    def _judged(self, asked: Range, answer: bytes | OSError, attempt: int) -> bytes | Unread:
        """The bytes if they are what was asked for."""
        if isinstance(answer, bytes) and len(answer) == asked.stop - asked.start:
            return answer
        path = self._folder.path(asked.name)
        if isinstance(answer, _MISSING):
            return Unread(reason="missing", detail=f"{path} is missing", attempts=attempt)
        if isinstance(answer, _FORBIDDEN):
            return Unread(reason="forbidden", detail=f"{path} may not be read", attempts=attempt)
        if isinstance(answer, TimeoutError):
            return Unread(reason="timeout", detail=f"{path} is not read: {answer}", attempts=attempt)
        if isinstance(answer, OSError):
            return Unread(reason="unreachable", detail=f"{path} is not read: {_cause(answer)}", attempts=attempt)
        missing = asked.stop - asked.start - len(answer)
        if missing > 0 and not asked.exact:
            return answer
        size = self.size(asked.name) if missing > 0 else None
        if size is not None and size < asked.stop:
            return Unread(reason=_TRUNCATED, detail=f"{path} ends early", attempts=attempt)
        detail = f"{path} is not read: {len(answer)} bytes came for {asked.stop - asked.start}"
        return Unread(reason="unreachable", detail=detail, attempts=attempt)

    def _untried(self, name: str) -> Unread:
        detail = f"{self._folder.path(name)} is left alone for a while: {self._breakers.detail(name)}"
        return Unread(reason="unreachable", detail=detail, attempts=0)

    def _note(self, ranges: Sequence[Range], found: Sequence[bytes | Unread]) -> None:
        """Tell the breakers, once for each file."""
        outcomes: dict[str, Unread | None] = {}
        for asked, part in zip(ranges, found, strict=True):
            if isinstance(part, bytes):
                outcomes[asked.name] = None
            elif part.attempts and part.reason in _PASSING:
                outcomes.setdefault(asked.name, part)
        for name, problem in outcomes.items():
            if problem is None:
                self._breakers.succeeded(name)
            else:
                self._breakers.failed(name, problem.detail)


def _cause(error: OSError) -> str:
    """In one line, without the path, which is said before."""
    return " ".join((error.strerror or str(error) or type(error).__name__).split())
