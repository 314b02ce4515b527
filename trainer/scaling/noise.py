"""The gradient noise scale and the critical batch (McCandlish et al. 2018, arXiv 1812.06162, section 2.2, appendix A).

A batch's gradient is the mean of its sequences' x_i, of mean G and covariance Sigma: E|G_b|^2 = |G|^2 + S / b with S =
tr Sigma and b in sequences. The *simple* noise scale B_noise = S / |G|^2 is the batch at which noise and signal are
equal. From the halves (of h1 and h2 of the b sequences of a rank) and the whole (B sequences, all ranks) of one batch,

    S = |g1 - g2|^2 / (1/h1 + 1/h2),    |G|^2 = |g|^2 - S / B ,

both unbiased for independent sequences; with equal halves on one rank |G|^2 is g1 . g2. Averaged apart, then divided.

What this is and is not:

* A batch is a sum over sequences, divided by their number times the run's mean weight of one (`LossDivisor`): x_i is
  the sequence's share of the summed loss, so long sequences count for more.
* Sequences of a batch are not quite independent: mixtures and times of corruption are balanced over consecutive ones.
  So halves are consecutive rows, each what a batch of half the size would have been. Every second row would not do: two
  sources that alternate would be parted. What balance is left between the halves makes S a little too large, which
  |G|^2 = |g|^2 - S / B, a small difference far below the noise scale, feels first.
* The gradient is what the optimizer is given, before clipping. Adam divides it by its own scale, and the curvature is
  not looked at: B_noise is the paper's cheap stand-in for B_crit = tr(H Sigma) / (G' H G), equal to it where H is a
  multiple of the identity, and by its experiments good to a small factor.
* `parts` are sets of parameters. Those of a modality's readout get a gradient from that modality's loss alone, so their
  noise scale is exactly that of the modality's loss *on those parameters*. That it stands for the loss on all
  parameters is an assumption: on the demo it was 1.1 to 1.5 times as large wherever both were known to a fifth, and
  ordered the modalities alike within errors (trainer/scaling/results/noise_scale.md).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from triptych.trainer.checkpoint.shards import State
from triptych.trainer.engine.halves import GradientHalves, Squares
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.scaling.config import NoiseScaleConfig
from triptych.trainer.seams import Rows

ALL = "all"
"""The part of all parameters."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Estimate:
    """From one step or of many. signal: |G|^2, negative where noise has it so. noise: S, per sequence."""

    signal: float
    noise: float


def estimate(squares: Squares, *, rows: tuple[int, int], batch: int) -> Estimate:
    """Both, unbiased, from the halves (of `rows` sequences) and a batch of `batch` sequences over all ranks."""
    first, second = rows
    noise = squares.difference / (1 / first + 1 / second)
    return Estimate(signal=squares.whole - noise / batch, noise=noise)


@dataclass(kw_only=True, slots=True)
class Average:
    """Exponential average with a half-life in tokens, each measurement weighed by the tokens since the one before.

    weight: sum of the weights, under 1 as long as little has been seen: what the sums are divided by.
    """

    signal: float = 0.0
    noise: float = 0.0
    weight: float = 0.0
    squared_signal: float = 0.0
    squared_weights: float = 0.0

    def add(self, new: Estimate, decay: float) -> None:
        """Old weights times `decay`; the new one's is 1 - decay."""
        weight = 1 - decay
        self.signal = decay * self.signal + weight * new.signal
        self.noise = decay * self.noise + weight * new.noise
        self.weight = decay * self.weight + weight
        self.squared_signal = decay * self.squared_signal + weight * new.signal**2
        self.squared_weights = decay**2 * self.squared_weights + weight**2

    @property
    def mean(self) -> Estimate | None:
        """None before the first measurement."""
        if self.weight == 0:
            return None
        return Estimate(signal=self.signal / self.weight, noise=self.noise / self.weight)

    @property
    def signal_error(self) -> float | None:
        """Standard error of the signal, as if measurements were independent and |G|^2 did not move; None under two."""
        if self.weight == 0:
            return None
        effective = self.weight**2 / self.squared_weights
        if effective <= 1 + 1e-9:
            return None
        variance = self.squared_signal / self.weight - (self.signal / self.weight) ** 2
        return math.sqrt(max(variance, 0.0) / (effective - 1))


@dataclass(kw_only=True, slots=True, frozen=True)
class Measurement:
    """What a measured step hands to `Engine.forward_backward`, and to `NoiseScale.add` after it."""

    micro_batches: Sequence[Rows]
    halves: GradientHalves


class NoiseScale:
    """Averages of signal and noise for each part; `Carried` by a run.

    parts: name to the prefix of parameter names. Equal on every rank.
    """

    def __init__(self, config: NoiseScaleConfig, parts: Mapping[str, str]) -> None:
        self._config = config
        self._parts = dict(parts)
        self._averages = {name: Average() for name in parts}
        self._measured_at: int | None = None

    def cut(self, rows: Rows, micro_batch: int, groups: Groups, *, tokens: int, together: int) -> Measurement | None:
        """This rank's rows in two halves and micro-batches of at most `micro_batch`; None unless a measurement is due
        at `tokens` and possible (`why_not`), the same answer on every rank.
        """
        due = self._measured_at is None or tokens - self._measured_at >= self._config.every_tokens
        layout = groups.layout
        if not due or why_not(len(rows), together, pipeline=layout.pipeline, virtual=layout.virtual):
            return None
        sizes = half_sizes(len(rows), together)
        cuts = [
            [(start + offset, stop + offset) for start, stop in _cuts(size, micro_batch, groups)]
            for size, offset in zip(sizes, (0, sizes[0]), strict=True)
        ]
        halves = GradientHalves(self._parts, rows=sizes, num_first=len(cuts[0]), groups=groups)
        return Measurement(micro_batches=[rows.rows(*cut) for half in cuts for cut in half], halves=halves)

    def add(self, measurement: Measurement, *, tokens: int) -> None:
        """Take in what has been measured. tokens: of the run after the step. What is not finite is left out."""
        halves = measurement.halves
        assert halves.squares is not None, "forward_backward has not seen this measurement"
        decay = 0.5 ** ((tokens - (self._measured_at or 0)) / self._config.half_life_tokens)
        self._measured_at = tokens
        batch = sum(halves.rows) * halves.num_data_ranks
        for name, squares in halves.squares.items():
            new = estimate(squares, rows=halves.rows, batch=batch)
            if math.isfinite(new.signal) and math.isfinite(new.noise):
                self._averages[name].add(new, decay)

    def average(self, part: str = ALL) -> Estimate | None:
        """|G|^2 and S; None before the first measurement."""
        return self._averages[part].mean

    def signal_error(self, part: str = ALL) -> float | None:
        """Standard error of |G|^2; None where there is none yet."""
        return self._averages[part].signal_error

    def noise_scale(self, part: str = ALL) -> float | None:
        """S / |G|^2 in sequences; None while the average of |G|^2 is not positive."""
        mean = self.average(part)
        return None if mean is None or mean.signal <= 0 else mean.noise / mean.signal

    def critical_batch(self, part: str = ALL) -> float | None:
        """What B_crit is at least, in sequences: B_noise, at which a step does half of what one on an endless batch
        would (McCandlish et al., sections 2.2 and 2.3), with |G|^2 two standard errors higher. None before there is an
        error. A batch that goes by the estimate itself would follow its noise.
        """
        mean, error = self.average(part), self.signal_error(part)
        if mean is None or error is None or mean.signal + 2 * error <= 0:
            return None
        return mean.noise / (mean.signal + 2 * error)

    def metrics(self) -> dict[str, float]:
        """For the log: noise_scale/<part> in sequences, gradient_signal/<part> |G|^2, both left out while |G|^2 is not
        positive; critical_batch/<part>, at least, in sequences; gradient_signal_error/<part>; gradient_noise/<part> S.
        """
        found: dict[str, float | None] = {}
        for part in self._parts:
            scale, mean = self.noise_scale(part), self.average(part)
            found[f"noise_scale/{part}"] = scale
            found[f"gradient_signal/{part}"] = None if scale is None or mean is None else mean.signal
            found[f"critical_batch/{part}"] = self.critical_batch(part)
            found[f"gradient_signal_error/{part}"] = self.signal_error(part)
            found[f"gradient_noise/{part}"] = None if mean is None else mean.noise
        return {name: value for name, value in found.items() if value is not None}

    def held(self) -> State:
        """No tensors."""
        return {}

    def document(self) -> dict[str, Any]:
        """The averages' sums and where the last measurement was."""
        return {
            "measured_at_tokens": self._measured_at,
            "averages": {name: asdict(average) for name, average in self._averages.items()},
        }

    def restore(self, document: Mapping[str, Any] | None) -> None:
        """Go on with averages of a checkpoint; parts that it does not know begin anew."""
        if document is None:
            return
        self._measured_at = document["measured_at_tokens"]
        stored = document["averages"]
        self._averages = {name: Average(**stored[name]) if name in stored else Average() for name in self._parts}


def half_sizes(rows: int, together: int) -> tuple[int, int]:
    """Rows of either half, as even as rows that belong together (2: complement pairs) allow."""
    first = rows // together // 2 * together
    return first, rows - first


def why_not(rows: int, together: int, *, pipeline: int, virtual: int) -> str | None:
    """Why a batch with so many rows per data-parallel rank cannot be measured, and what to change; None if it can."""
    sizes = half_sizes(rows, together)
    if min(sizes) == 0:
        return f"{rows} sequences per data-parallel rank have no halves; raise the batch to {2 * together} per rank"
    if virtual > 1 and any(size % pipeline for size in sizes):
        return (
            f"halves of {sizes[0]} and {sizes[1]} sequences do not divide into the {pipeline} micro-batches that "
            f"fit.parallel.virtual={virtual} takes at once; use a multiple of {2 * pipeline} per data-parallel rank"
        )
    return None


def _cuts(rows: int, micro_batch: int, groups: Groups) -> list[tuple[int, int]]:
    """Start and stop of micro-batches; in a pipeline of equal size, and in its groups where it is interleaved."""
    layout = groups.layout
    size = min(micro_batch, rows)
    if layout.pipeline > 1:
        multiple = layout.pipeline if layout.virtual > 1 else 1
        numbers = range(-(-rows // micro_batch), rows + 1)
        size = rows // next(number for number in numbers if rows % number == 0 and number % multiple == 0)
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]
