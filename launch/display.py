"""What a person sees while a run goes on: stages, a bar, losses, speed and time left.

On a terminal a few lines that renew themselves; elsewhere (a log file, a pipe) one plain line every few seconds,
without control codes. Only rank 0 shows anything.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from triptych.data_pipelines.vocabulary import MODALITIES
from triptych.launch.report.numbers import duration, fixed, short
from triptych.trainer.metrics import StepRecord

_BLOCKS = "▁▂▃▄▅▆▇█"
_STYLES = {"text": "blue", "image": "dark_orange3", "audio": "cyan"}


@dataclass(kw_only=True, slots=True, frozen=True)
class DisplayConfig:
    """num_stages: of the whole program, 0 if not known. num_history: values of a metric in its small curve."""

    num_stages: int = 0
    seconds_between_lines: float = 10.0
    refreshes_per_second: float = 4.0
    num_history: int = 24


@dataclass(kw_only=True, slots=True, frozen=True)
class Speed:
    """tokens_per_second: of the last steps; data_wait_fraction: of their time, what waited for data. FLOP rates are
    None where they are not known, as a CPU's peak is not.
    """

    tokens_per_second: float
    data_wait_fraction: float | None = None
    flops_per_second: float | None = None
    peak_flops_per_second: float | None = None

    @property
    def utilization(self) -> str:
        """MFU as a percentage, or "unknown"."""
        if not self.flops_per_second or not self.peak_flops_per_second:
            return "unknown"
        return f"{100 * self.flops_per_second / self.peak_flops_per_second:.1f} %"

    @property
    def data_wait(self) -> str:
        """As a percentage in words, or nothing where it is not known."""
        return "" if self.data_wait_fraction is None else f"data wait {100 * self.data_wait_fraction:.1f} %"


@dataclass(kw_only=True, slots=True)
class _Progress:
    """The last update of the stage that is under way."""

    tokens: int
    total_tokens: int
    metrics: Mapping[str, float]
    speed: Speed
    history: dict[str, deque[float]] = field(default_factory=dict)

    @property
    def share(self) -> float:
        return min(1.0, self.tokens / self.total_tokens) if self.total_tokens else 1.0

    @property
    def time_left(self) -> str:
        remaining = max(0, self.total_tokens - self.tokens)
        return duration(remaining / self.speed.tokens_per_second) if self.speed.tokens_per_second > 0 else "unknown"


class Display:
    """A context manager; leaving it, also by an exception or Ctrl-C, leaves the terminal as it was found.

    Without a terminal, or before it is entered, it prints lines. On ranks other than 0 every call does nothing.
    """

    def __init__(
        self,
        config: DisplayConfig = DisplayConfig(),
        *,
        rank: int = 0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self._shown = rank == 0
        self._console = console or Console(highlight=False)
        self._clock = clock
        self._live: Live | None = None
        self._stage = ""
        self._num_started = 0
        self._stage_start = clock()
        self._last_line: float | None = None
        self._progress: _Progress | None = None

    def __enter__(self) -> Self:
        if self._shown and self._console.is_terminal:
            rate = self.config.refreshes_per_second
            self._live = Live(
                get_renderable=self._render, console=self._console, refresh_per_second=rate, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """A part of the program, as "1/6 data"; says at its end how long it took."""
        self._num_started += 1
        total = f"/{self.config.num_stages}" if self.config.num_stages else ""
        self._stage, self._progress, self._last_line = f"{self._num_started}{total} {title}", None, None
        self._stage_start = self._clock()
        if self._live is None:
            self._print(Text(f"{self._stage} ..."))
        finished = False
        try:
            yield
            finished = True
        finally:
            line = self._last_words(finished)
            self._stage, self._progress = "", None  # before printing, which draws the lines below anew
            self._print(line)

    def message(self, text: str) -> None:
        """A line that stays, above whatever renews itself. Markup and control codes in it are shown, not obeyed."""
        self._print(Text("".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)))

    def update(self, *, tokens: int, total_tokens: int, metrics: Mapping[str, float], speed: Speed) -> None:
        """How far the run is. metrics: shown in this order; "text", "image" and "audio" have colours of their own."""
        if not self._shown:
            return
        history = self._progress.history if self._progress else {}
        for name, value in metrics.items():
            history.setdefault(name, deque(maxlen=self.config.num_history)).append(value)
        self._progress = _Progress(
            tokens=tokens, total_tokens=total_tokens, metrics=metrics, speed=speed, history=history
        )
        now = self._clock()
        due = self._last_line is None or now - self._last_line >= self.config.seconds_between_lines
        if self._live is None and (due or tokens >= total_tokens):
            self._last_line = now
            self._print(Text(self._line(self._progress)))

    def reporter(
        self,
        *,
        flops_per_token: float | None = None,
        peak_flops_per_second: float | None = None,
        window_steps: int = 20,
    ) -> Callable[[StepRecord], None]:
        """A reporter for the loop: NELBO per modality and speed, each over the last `window_steps` steps."""
        recent: deque[StepRecord] = deque(maxlen=window_steps)

        def report(record: StepRecord) -> None:
            recent.append(record)
            rate = sum(step.batch_tokens for step in recent) / max(sum(step.seconds for step in recent), 1e-9)
            flops = None if flops_per_token is None else flops_per_token * rate
            waited = sum(step.data_wait_fraction * step.seconds for step in recent)
            self.update(
                tokens=record.tokens,
                total_tokens=record.total_tokens,
                metrics=_mean_losses(recent),
                speed=Speed(
                    tokens_per_second=rate,
                    data_wait_fraction=waited / max(sum(step.seconds for step in recent), 1e-9),
                    flops_per_second=flops,
                    peak_flops_per_second=peak_flops_per_second,
                ),
            )

        return report

    def _last_words(self, finished: bool) -> Text:
        """The line that stays of a stage."""
        summary = ""
        if self._progress is not None:
            metrics = (f"{name} {fixed(value, 3)}" for name, value in self._progress.metrics.items())
            summary = "  ".join([f"{short(self._progress.tokens)} tokens", *metrics])
        if self._console.is_terminal:
            mark, style = ("✓", "green") if finished else ("✗", "red")
            words = [(f"{mark} ", style), (self._stage, "bold"), f"  {summary}  ", (self._elapsed(), "dim")]
            return Text.assemble(*words)
        return Text(f"{self._stage}: {'done' if finished else 'stopped'} after {self._elapsed()} {summary}".rstrip())

    def _print(self, line: Text) -> None:
        if self._shown:
            self._console.print(line, soft_wrap=True)

    def _elapsed(self) -> str:
        return duration(self._clock() - self._stage_start)

    def _line(self, progress: _Progress) -> str:
        parts = [
            f"{100 * progress.share:5.1f} %  {short(progress.tokens)}/{short(progress.total_tokens)} tokens",
            "  ".join(f"{name} {fixed(value, 3)}" for name, value in progress.metrics.items()),
            f"{short(progress.speed.tokens_per_second)} tokens/s",
            f"MFU {progress.speed.utilization}",
            progress.speed.data_wait,
            f"{progress.time_left} left",
        ]
        return " | ".join(part for part in parts if part)

    def _render(self) -> RenderableType:
        if not self._stage:
            return Text("")
        head = Text.assemble(("● ", "yellow"), (self._stage, "bold"), "  ", (self._elapsed(), "dim"))
        if self._progress is None:
            return head
        progress = self._progress
        bar = Table.grid(padding=(0, 1), expand=False)
        bar.add_row(
            ProgressBar(total=1.0, completed=progress.share, width=40),
            f"{100 * progress.share:.1f} %",
            Text(f"{progress.time_left} left", style="bold"),
        )
        counts = Text(
            f"{short(progress.tokens)} of {short(progress.total_tokens)} tokens   "
            f"{short(progress.speed.tokens_per_second)} tokens/s   MFU {progress.speed.utilization}   "
            f"{progress.speed.data_wait}",
            style="dim",
        )
        losses = Table.grid(padding=(0, 2), expand=False)
        for name, value in progress.metrics.items():
            style = _STYLES.get(name, "")
            curve = sparkline(list(progress.history[name]))
            losses.add_row(Text(name, style=style), Text(fixed(value, 3), justify="right"), Text(curve, style=style))
        return Group(head, bar, counts, losses)


def _mean_losses(records: Collection[StepRecord]) -> dict[str, float]:
    """Modality to its mean NELBO over the records that have one."""
    names = [f"nelbo/{modality}" for modality in MODALITIES]
    values = {name: [record.metrics[name] for record in records if name in record.metrics] for name in names}
    return {name.removeprefix("nelbo/"): fmean(entries) for name, entries in values.items() if entries}


def sparkline(values: list[float]) -> str:
    """A tiny curve of block letters from the smallest to the largest value; what is not finite is a space."""
    finite = [value for value in values if abs(value) < float("inf")]
    if not finite:
        return " " * len(values)
    low, span = min(finite), max(finite) - min(finite)
    top = len(_BLOCKS) - 1
    levels = (round((value - low) / span * top) if span and value in finite else 0 for value in values)
    return "".join(
        _BLOCKS[level] if abs(value) < float("inf") else " " for value, level in zip(values, levels, strict=True)
    )
