"""Every rank shows a sign of life and looks for its neighbour's, beside whatever its main thread is blocked in."""

import faulthandler
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch.distributed as dist

from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.watch.board import OBITUARY, POLL_SECONDS, SUSPICIONS, Board
from triptych.trainer.parallel.watch.hang import HangLimits, Stance, hang
from triptych.trainer.parallel.watch.obituary import Obituary
from triptych.trainer.parallel.watch.progress import Progress, Whereabouts
from triptych.trainer.parallel.watch.silence import Silence

GRACE_SECONDS = 2.0  # between an obituary and the end: a main thread that fails by itself says so first
LAST_RESORT_SECONDS = 10.0  # past the others' patience, when a process that cannot run Python at all is ended
LEAVING_SECONDS = 5.0  # rank 0 leaves last, as it may serve the store; nobody is waited for longer
PAUSE_SHARE = 0.25  # of the silence that ends a rank: what a pause of the watcher itself may add to it at most
RANKS_PER_SECOND = 1000  # whose signs one store takes; larger worlds show theirs less often

SILENT = "killed, out of memory, or its node lost or stopped"


@dataclass(kw_only=True, slots=True, frozen=True)
class WatchConfig:
    """When a rank counts as dead, as slow or as hung, and how often ranks are compared.

    silence_seconds: without a sign of life, while no connection to the rank has broken; suspicion_seconds: the same
    once one has. join_seconds: for the slowest process to start. parameters_every_steps: between two comparisons of
    parameters that must be equal; 0 never compares them.

    hang_seconds: for which a rank may be in one phase of a step while it shows signs of life, or `hang_steps` median
    steps if that is longer; then the run ends, with every rank's stack in dumps/. 0 never ends it, for a debugger.
    hang_slow_seconds: the same where it may take long: the start and the first step, checkpoints, samples, evaluations.

    straggler_factor, straggler_steps: a rank whose own time, in which it waits for no other, is above so many times the
    median for so many steps on end is named; 0 steps names none.
    """

    silence_seconds: float = 30.0
    suspicion_seconds: float = 5.0
    join_seconds: float = 600.0
    beat_seconds: float = 1.0
    parameters_every_steps: int = 100
    hang_seconds: float = 300.0
    hang_steps: float = 20.0
    hang_slow_seconds: float = 1800.0
    straggler_factor: float = 1.5
    straggler_steps: int = 20

    def __post_init__(self) -> None:
        if not 0 < 2 * self.beat_seconds <= min(self.suspicion_seconds, self.silence_seconds):
            raise ValueError(
                f"watch.beat_seconds {self.beat_seconds} must be above 0 and at most half of suspicion_seconds and "
                "silence_seconds; lower it"
            )
        if self.parameters_every_steps < 0:
            raise ValueError("watch.parameters_every_steps must be 0 or more; raise it")
        if self.hang_seconds < 0 or self.hang_steps < 0 or self.hang_slow_seconds < self.hang_seconds:
            raise ValueError("watch.hang_seconds and hang_steps must be 0 or more, hang_slow_seconds no less; raise it")
        if self.straggler_steps < 0 or not self.straggler_factor > 1:
            raise ValueError("watch.straggler_steps must be 0 or more, and straggler_factor above 1; raise them")

    @property
    def hang_limits(self) -> HangLimits:
        """When a rank counts as not getting on."""
        return HangLimits(seconds=self.hang_seconds, steps=self.hang_steps, slow_seconds=self.hang_slow_seconds)


class Watch:
    """Two daemon threads. One talks to the store: it shows this rank's sign and reads its neighbour's (the ranks are a
    ring, so the store's load is a few messages per rank and second whatever the world's size) and the obituary. The
    other judges, also when the first gets no answer because the store's own process is dead or stopped.

    Neither uses a collective: those would have to be called by all ranks in one order. Should the main thread be
    blocked while it holds Python's lock, neither runs; then a timer of faulthandler's, which needs no lock, prints
    where it is and ends the process.

    store: a connection of its own. store_rank: the rank that serves the store, None if a launcher does. end: called at
    most once, from the judging thread, with what must end this process; must not return.
    """

    def __init__(
        self,
        config: WatchConfig,
        store: dist.Store,
        placement: Placement,
        *,
        host: str,
        store_rank: int | None,
        end: Callable[[Obituary], None],
    ) -> None:
        self._config, self._store, self._placement, self._host = config, store, placement, host
        self._store_rank, self._end = store_rank, end
        self._beat = max(config.beat_seconds, placement.world_size / RANKS_PER_SECOND)
        self._neighbour = (placement.rank + 1) % placement.world_size
        self._silence = Silence(config.silence_seconds * PAUSE_SHARE)
        self._signs: dict[int, str] = {}
        self._progress = Progress(config.silence_seconds * PAUSE_SHARE)
        self._obituary: Obituary | None = None
        self._lost = False
        self._rounds = 0
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()
        self._main_is_ending = threading.Event()

    def note(self, record: StepRecord) -> None:
        """Where this rank is; a reporter of the loop."""
        self._progress.note(record)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._talk, self._judge)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        # A thread that is inside torch when Python ends takes the process down with it.
        for thread in self._threads:
            thread.join(LEAVING_SECONDS)
        faulthandler.cancel_dump_traceback_later()

    def main_is_ending(self) -> None:
        """The main thread has failed with a cause of its own and will end the process."""
        self._main_is_ending.set()

    def leave(self, board: Board) -> None:
        """Wait, watching, until all ranks are done; afterwards a rank that falls silent is none of ours."""
        done = self._placement.world_size
        number = board.count("done")
        while number is not None and number < done:
            time.sleep(POLL_SECONDS)
            number = board.count("done", 0)
        if number is None:  # the judging thread knows why, and ends this process
            time.sleep(self._config.silence_seconds + 2 * GRACE_SECONDS)
        self._closed.set()  # before rank 0 closes the store
        if self._placement.rank == 0:
            board.meet("left", done, LEAVING_SECONDS)
        else:
            board.count("left")

    def _talk(self) -> None:
        keys = [OBITUARY, SUSPICIONS, self._sign_key(self._neighbour), self._sign_key(0)]
        try:
            for key in keys:
                self._store.compare_set(key, "", "")  # multi_get would wait for a key that is not there
            self._round(keys)
            while not self._closed.wait(self._beat):
                self._round(keys)
        except dist.DistError:
            self._lost = True

    def _round(self, keys: list[str]) -> None:
        """Show, read, look: three messages."""
        here, still = self._progress.look()
        done = f"after step {self._progress.step}, {self._progress.tokens:,} tokens" if self._progress.step else ""
        place = f"{done or 'before its first step'}, in {here.place or 'no code of ours'}"
        sign = {"round": self._rounds, "host": self._host, "place": place, "step": self._progress.step}
        sign |= {"phase": here.phase, "function": here.place, "meets": here.meets, "still": still}
        self._store.set(self._sign_key(self._placement.rank), json.dumps(sign))
        obituary, suspicions, neighbour, first = (value.decode() for value in self._store.multi_get(keys))
        self._signs = {0: first, self._neighbour: neighbour}
        found = self._silent_neighbour(neighbour, suspected=bool(suspicions))
        if found is None and still > self._config.hang_limits.of(here.phase, self._progress.step_seconds):
            found = self._hang()
        if found is not None and not obituary:
            obituary = self._store.compare_set(OBITUARY, "", found.to_json()).decode()
        if obituary:
            self._obituary = Obituary.from_json(obituary)
        self._rounds += 1

    def _hang(self) -> Obituary | None:
        """Who lets the others wait, if nobody gets on. Only now does a rank read what all others show."""
        ranks = range(self._placement.world_size)
        keys = [self._sign_key(rank) for rank in ranks]
        for key in keys:
            self._store.compare_set(key, "", "")
        signs = [json.loads(value.decode() or "{}") for value in self._store.multi_get(keys)]
        if not all(signs):
            return None
        stances = {rank: _stance(sign) for rank, sign in zip(ranks, signs, strict=True)}
        return hang(stances, self._config.hang_limits, self._progress.step_seconds)

    def _silent_neighbour(self, sign: str, *, suspected: bool) -> Obituary | None:
        """Its obituary, if it has been silent for too long."""
        silent = self._silence.look(sign, time.monotonic())
        if not sign:
            if silent < self._config.join_seconds:
                return None
            cause = f"has not joined within {silent:.0f} s: it did not start, or cannot reach the others"
            return Obituary(rank=self._neighbour, host="host unknown", cause=cause)
        limit = self._config.suspicion_seconds if suspected else self._config.silence_seconds
        if silent < limit:
            return None
        broken = ", and a connection broke" if suspected else ""
        return self._dead(self._neighbour, f"no sign of life for {silent:.0f} s{broken}: {SILENT}")

    def _judge(self) -> None:
        """End this process once there is an obituary, or once the store is lost or silent."""
        answers = Silence(self._config.silence_seconds * PAUSE_SHARE)
        found, since = None, 0.0
        before, longest_pause = time.monotonic(), 0.0
        while not self._closed.wait(POLL_SECONDS):
            faulthandler.dump_traceback_later(
                self._config.silence_seconds + GRACE_SECONDS + LAST_RESORT_SECONDS, exit=True
            )
            before, paused = time.monotonic(), time.monotonic() - before
            longest_pause = max(longest_pause, paused)
            silent = answers.look(self._rounds, before)
            if found is None:
                found, since = self._obituary or self._store_is_gone(silent), before
            grace = GRACE_SECONDS + (self._config.silence_seconds if self._main_is_ending.is_set() else 0)
            if found is not None and before - since >= grace and not self._closed.is_set():
                self._end(self._stopped(longest_pause) or found)
                return

    def _stopped(self, seconds: float) -> Obituary | None:
        """The cause, if it is this process that was silent: to it the others seem to have gone first."""
        if seconds < self._config.silence_seconds:
            return None
        cause = f"was stopped for {seconds:.0f} s, and the others have ended without it"
        return Obituary(rank=self._placement.rank, host=self._host, cause=cause)

    def _store_is_gone(self, silent: float) -> Obituary | None:
        if self._lost:
            cause = f"its connections closed: {SILENT}"
        elif silent >= self._config.silence_seconds:
            cause = f"no answer from its store for {silent:.0f} s: {SILENT}"
        else:
            return None
        if self._store_rank is None:
            return Obituary(rank=None, cause=f"the launcher that serves the store is gone, or its node ({cause})")
        return self._dead(self._store_rank, cause)

    def _dead(self, rank: int, cause: str) -> Obituary:
        sign = json.loads(self._signs.get(rank) or "{}")
        return Obituary(
            rank=rank, host=sign.get("host", "host unknown"), cause=cause, place=sign.get("place", "nowhere")
        )

    @staticmethod
    def _sign_key(rank: int) -> str:
        return f"sign/{rank}"


def _stance(sign: dict[str, Any]) -> Stance:
    here = Whereabouts(phase=sign["phase"], place=sign["function"], meets=sign["meets"])
    return Stance(host=sign["host"], step=sign["step"], here=here, still_seconds=sign["still"])
