"""Weights & Biases, where it is installed: what TensorBoard gets, sent elsewhere or kept for sending."""

import html
import importlib
import importlib.util
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from triptych.configs.watching import WatchingConfig
from triptych.trainer.logs import Gauge, scalars_of
from triptych.trainer.metrics import StepRecord


def require_wandb(config: WatchingConfig) -> None:
    """ValueError, with the mend, if a run is to be shown there and the package is missing."""
    if config.wandb == "off":
        return
    if importlib.util.find_spec("wandb") is None:
        raise ValueError(
            f"watch.wandb={config.wandb} takes the package wandb, which is not installed; install triptych[wandb], or "
            "set watch.wandb=off"
        )


class WeightsAndBiases:
    """A reporter and a place for media; a context manager. Everything is keyed on tokens, as in TensorBoard.

    folder: of the run; a resumed run goes on under the same id there. settings: what is shown as the run's config.
    """

    def __init__(
        self,
        config: WatchingConfig,
        folder: Path,
        name: str,
        settings: Mapping[str, Any],
        every_tokens: int,
        gauges: Sequence[Gauge] = (),
    ) -> None:
        self._config, self._folder, self._name, self._settings = config, folder, name, dict(settings)
        self._every, self._gauges = every_tokens, list(gauges)
        self._run: Any = None
        self._last: int | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = _wandb().init(
            project=self._config.wandb_project,
            name=self._name,
            dir=str(self._folder),
            mode=self._config.wandb,
            config=self._settings,
            id=self._identity(),
            resume="allow",
        )
        self._run.define_metric("*", step_metric="tokens")
        return self

    def __exit__(self, *exception: object) -> None:
        self._run.finish(exit_code=0 if exception[0] is None else 1)

    def __call__(self, record: StepRecord) -> None:
        """Send a step if one is due."""
        if self._last is not None and 0 <= record.tokens - self._last < self._every:
            return
        self._last = record.tokens
        scalars = scalars_of(record)
        for gauge in self._gauges:
            scalars |= gauge(record)
        self._run.log({"tokens": record.tokens, **scalars})

    def image(self, name: str, pixels: NDArray[np.uint8], tokens: int) -> None:
        """uint8 [height, width] or [height, width, 3]."""
        self._run.log({"tokens": tokens, name: _wandb().Image(pixels)})

    def audio(self, name: str, samples: NDArray[np.floating[Any]], tokens: int, sample_rate_hertz: int) -> None:
        """Float [samples] in -1..1."""
        self._run.log({"tokens": tokens, name: _wandb().Audio(samples, sample_rate=sample_rate_hertz)})

    def text(self, name: str, text: str, tokens: int) -> None:
        """As it is: what a model writes is no markup."""
        self._run.log({"tokens": tokens, name: _wandb().Html(f"<pre>{html.escape(text)}</pre>", inject=False)})

    def _identity(self) -> str:
        """Of this run there, kept in its folder."""
        path = self._folder / "wandb-id"
        if path.exists():
            return path.read_text(encoding="utf-8").strip()
        identity = secrets.token_hex(4)
        path.write_text(identity, encoding="utf-8")
        return identity


def _wandb() -> Any:
    """The package, which is optional and brings no types."""
    return importlib.import_module("wandb")
