"""What the processes of a run tell each other outside their collectives: a few keys in a torch.distributed store."""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist

from triptych.trainer.parallel.watch.obituary import Obituary

OBITUARY, SUSPICIONS = "obituary", "suspicions"
POLL_SECONDS = 0.1

_Answer = TypeVar("_Answer")


class Board:
    """The first obituary, and counters on which ranks meet. No call blocks longer than `patience_seconds`: a store
    whose process is stopped never answers, not even after the timeout that torch gives it.
    """

    def __init__(self, store: dist.Store, *, patience_seconds: float = 2.0) -> None:
        self._store = store
        self._patience = patience_seconds

    def post(self, obituary: Obituary) -> Obituary:
        """Make this the run's obituary unless there is one; returns the one that stands, or this if nobody answers."""
        found = self._ask(lambda: self._store.compare_set(OBITUARY, "", obituary.to_json()))
        return Obituary.from_json(found.decode()) if found else obituary

    def suspect(self) -> None:
        """Say that a connection broke: those who watch lose patience sooner."""
        self._ask(lambda: self._store.compare_set(SUSPICIONS, "", "1"))

    def count(self, name: str, amount: int = 1) -> int | None:
        """Add to a counter and return it; None if nobody answers."""
        return self._ask(lambda: self._store.add(name, amount))

    def meet(self, name: str, num_ranks: int, seconds: float) -> bool:
        """Count this rank in, and wait for `num_ranks`; False if they have not come in time."""
        deadline = time.monotonic() + seconds
        number = self.count(name)
        while number is not None and number < num_ranks and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            number = self.count(name, 0)
        return number is not None and number >= num_ranks

    def all_say(self, text: str, num_ranks: int, seconds: float) -> bool:
        """Whether all ranks fail with the same words: what each of them finds wrong by itself is one error."""
        return self.meet(f"say/{hashlib.sha256(text.encode()).hexdigest()}", num_ranks, seconds)

    def _ask(self, question: Callable[[], _Answer]) -> _Answer | None:
        answers: list[_Answer] = []

        def ask() -> None:
            with contextlib.suppress(dist.DistError):  # a store that is gone has no answer
                answers.append(question())

        asking = threading.Thread(target=ask, daemon=True, name="ask the store")
        asking.start()
        asking.join(self._patience)
        return answers[0] if answers else None
