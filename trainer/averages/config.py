"""What an average is, and how much of it one update replaces."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from triptych.trainer.scaling.rules import ema_decay, scale_ema_decay

WEIGHTS = "weights"
"""The weights themselves, where an average's name could be."""

_PREFIX = "ema/"
"""Averages are the parts of a checkpoint that begin so."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(kw_only=True, slots=True, frozen=True)
class DecayWarmup:
    """Keeps the decay of a logical update below 1 - (1 + u / gamma)^-power after u of them, and above `min_decay`, as
    timm's ModelEmaV3 does. At gamma 1 and power 1 the upper bound alone is the uniform average.

    A step of several logical updates takes the bound at its beginning: a larger batch forgets the first weights sooner.
    """

    gamma: float = 1.0
    power: float = 2 / 3
    min_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.gamma <= 0 or self.power <= 0:
            raise ValueError(f"warmup has gamma {self.gamma:g} and power {self.power:g}; set both above 0")
        if not 0 <= self.min_decay < 1:
            raise ValueError(f"warmup.min_decay is {self.min_decay:g}; set it to 0 or more and below 1")

    def bound(self, logical_updates: float) -> float:
        """The largest decay of one logical update after so many."""
        return 1 - (1 + logical_updates / self.gamma) ** -self.power


@dataclass(kw_only=True, slots=True, frozen=True)
class AverageConfig:
    """One average of the weights.

    name: of letters, digits, "-" and "_". kind: "exponential" has exactly one of `half_life_tokens` and `decay`, the
    latter for one logical update (an optimizer step at the logical batch; kappa of them make decay^kappa); in "uniform"
    every logical update since `start_tokens` weighs the same. Until `start_tokens` the average is the weights.

    update_every_tokens: the average takes in the weights of the first step at or past each multiple; 0: of every step.
    What has passed since the last update is what it decays by, so that the half-life stays. What an interval of k steps
    changes: where weights move by a steady v per step, the average is ahead by (1 - decay) k (k - 1) / 2 v, to first
    order in 1 - decay; and noise that is new in every step is averaged over k times fewer samples.

    buffers: of floating point and persistent. "copy" takes the model's at each update, "average" averages them, too,
    "none" leaves them out; integer ones are always the model's own. Every rank is taken to have the same.

    device: "cpu" keeps the average in host memory: no memory of the accelerator's, for a copy over the bus per update.
    """

    name: str
    kind: Literal["exponential", "uniform"] = "exponential"
    half_life_tokens: float | None = None
    decay: float | None = None
    start_tokens: int = 0
    update_every_tokens: int = 0
    warmup: DecayWarmup | None = None
    buffers: Literal["copy", "average", "none"] = "copy"
    device: Literal["model", "cpu"] = "model"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name.casefold() == WEIGHTS:
            raise ValueError(
                f"an average cannot be named {self.name!r}; use up to 64 letters, digits, - and _, but not {WEIGHTS!r}"
            )
        given = [name for name in ("half_life_tokens", "decay") if getattr(self, name) is not None]
        if self.kind == "uniform" and (given or self.warmup is not None):
            named = ", ".join([*given, *(["warmup"] if self.warmup is not None else [])])
            raise ValueError(f"average {self.name} is uniform, which has no {named}; leave that out, or the kind")
        if self.kind == "exponential" and len(given) != 1:
            raise ValueError(
                f"average {self.name} has {' and '.join(given) or 'no decay'}; set one of half_life_tokens and decay"
            )
        if self.half_life_tokens is not None and not self.half_life_tokens > 0:
            raise ValueError(f"average {self.name} has half_life_tokens {self.half_life_tokens:g}; set it above 0")
        if self.decay is not None and not 0 <= self.decay < 1:
            raise ValueError(f"average {self.name} has decay {self.decay:g}; set it to 0 or more and below 1")
        if min(self.start_tokens, self.update_every_tokens) < 0:
            raise ValueError(
                f"average {self.name} has start_tokens {self.start_tokens} and update_every_tokens "
                f"{self.update_every_tokens}; set both to 0 or more"
            )

    @property
    def part(self) -> str:
        """Its name in a checkpoint and among what a run carries."""
        return part_of_weights(self.name)

    def share(self, *, tokens: float, logical_updates: float, averaged: float) -> float:
        """How much of the average an update replaces by the weights, in [0, 1].

        tokens, logical_updates: since the last update. averaged: logical updates that the average has taken in so far.
        """
        if self.kind == "uniform":
            return logical_updates / (averaged + logical_updates)
        if self.half_life_tokens is not None:
            decay = ema_decay(self.half_life_tokens, tokens)
        else:
            assert self.decay is not None
            decay = scale_ema_decay(self.decay, logical_updates)
        if self.warmup is not None:
            decay = min(decay, scale_ema_decay(self.warmup.bound(averaged), logical_updates))
            decay = max(decay, scale_ema_decay(self.warmup.min_decay, logical_updates))
        return 1 - decay

    def logical_decay(self, batch_tokens: float) -> float | None:
        """The decay of one logical update of so many tokens; None if it is uniform."""
        if self.half_life_tokens is not None:
            return ema_decay(self.half_life_tokens, batch_tokens)
        return self.decay


def part_of_weights(name: str) -> str:
    """The part of a checkpoint that holds the average of that name, or the weights."""
    return WEIGHTS if name == WEIGHTS else f"{_PREFIX}{name}"


def require_weights(name: str, parts: Iterable[str], checkpoint: Path) -> None:
    """ValueError, with those that there are, if none of a checkpoint's parts holds what is asked for."""
    if part_of_weights(name) not in set(parts):
        averages = [part.removeprefix(_PREFIX) for part in parts if part.startswith(_PREFIX)]
        raise ValueError(
            f"{checkpoint} has no weights {name!r}; use one of: {', '.join([WEIGHTS, *averages])} (fit.averages)"
        )


def require_distinct(averages: Sequence[AverageConfig]) -> None:
    """ValueError if two averages would have the same files, also where a disk does not tell letters' cases apart."""
    names = [average.name.casefold() for average in averages]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two averages have the name {twice} (letters' case does not count); give each its own")
