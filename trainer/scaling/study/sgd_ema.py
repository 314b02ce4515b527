"""An average of the weights under SGD: how far decay^kappa lets it drift when the batch is kappa times as large.

On theta^2 / 2 with additive noise of variance 1 / kappa the first two moments of theta and of its average zeta follow
a linear recursion, so nothing is sampled. Both start at 1; an update is SGD's, then the average's. The table is a
reference for the rule of arXiv 2307.13813, to its digits; its lengths are not given: 8 / lr samples, up to a
multiple of 1024, give all of them (one, 1.9e-3, is 0.0018497 here, rounded there in two steps).
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from triptych.trainer.scaling.rules import SGDValues, scale_ema_decay, scale_sgd
from triptych.trainer.scaling.study.record import (
    COLOURS,
    INK,
    MUTED,
    RESULTS,
    label_ends,
    markdown_table,
    panels,
    provenance,
    write,
)

NAME = "sgd_ema"
ROWS = (
    (1e-4, 0.9999, 8),
    (1e-4, 0.9999, 64),
    (1e-4, 0.9999, 512),
    (1e-4, 0.9999, 1024),
    (1e-3, 0.99, 8),
    (1e-3, 0.99, 64),
    (1e-3, 0.99, 512),
    (1e-2, 0.99, 8),
    (1e-2, 0.99, 64),
)
"""Learning rate and decay of the average at kappa 1, and kappa."""

BREAKS_AT = 0.05
"""Drift that we call broken, of an average that starts at 1."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Moments:
    """Of theta and zeta after a step: means, and the variance of zeta."""

    theta: float
    zeta: float
    zeta_variance: float


def recursion(learning_rate: float, decay: float, kappa: float, num_steps: int) -> Iterator[Moments]:
    """Exact moments after 0 .. num_steps steps of a batch with gradient noise of variance 1 / kappa."""
    theta = zeta = 1.0
    variance = covariance = zeta_variance = 0.0
    shrink, new = 1 - learning_rate, 1 - decay
    yield Moments(theta=theta, zeta=zeta, zeta_variance=zeta_variance)
    for _ in range(num_steps):
        theta, variance = shrink * theta, shrink**2 * variance + learning_rate**2 / kappa
        before = shrink * covariance  # of the new theta with the old zeta
        zeta = decay * zeta + new * theta
        zeta_variance = decay**2 * zeta_variance + 2 * decay * new * before + new**2 * variance
        covariance = decay * before + new * variance
        yield Moments(theta=theta, zeta=zeta, zeta_variance=zeta_variance)


@dataclass(kw_only=True, slots=True, frozen=True)
class Drift:
    """Against kappa 1 at equal samples: the largest |E zeta - E zeta|, that of theta, and the ratio of the last
    variances of zeta.
    """

    zeta: float
    theta: float
    variance_ratio: float


def num_samples(learning_rate: float) -> int:
    """8 / lr, up to a multiple of 1024."""
    return 1024 * math.ceil(8 / learning_rate / 1024)


def drift(base: list[Moments], learning_rate: float, decay: float, kappa: int) -> Drift:
    """Of a run at `kappa`; base: `recursion` at 1, after every sample."""
    steps = list(recursion(learning_rate, decay, kappa, (len(base) - 1) // kappa))
    pairs = [(step, base[kappa * index]) for index, step in enumerate(steps)]
    return Drift(
        zeta=max(abs(step.zeta - unit.zeta) for step, unit in pairs),
        theta=max(abs(step.theta - unit.theta) for step, unit in pairs),
        variance_ratio=pairs[-1][0].zeta_variance / pairs[-1][1].zeta_variance,
    )


def with_and_without(learning_rate: float, decay: float, kappa: int) -> tuple[Drift, Drift]:
    """SGD by the linear rule, and the average by its rule or with its decay fixed."""
    base = list(recursion(learning_rate, decay, 1, num_samples(learning_rate)))
    scaled = scale_sgd(SGDValues(learning_rate=learning_rate), kappa).learning_rate
    return drift(base, scaled, scale_ema_decay(decay, kappa), kappa), drift(base, scaled, decay, kappa)


def table_rows() -> list[list[str]]:
    """As in the reference, with the drift of theta besides."""
    rows = []
    for learning_rate, decay, kappa in ROWS:
        ruled, fixed = with_and_without(learning_rate, decay, kappa)
        rows.append(
            [
                f"{learning_rate:g}, {decay:g}",
                f"{kappa}",
                f"{scale_ema_decay(decay, kappa):.5f}",
                f"{ruled.zeta:.1e}" if ruled.zeta < 0.1 else f"{ruled.zeta:.3f}",
                f"{ruled.variance_ratio:.3f}",
                f"{fixed.zeta:.3f}",
                f"{fixed.variance_ratio:.3f}",
                f"{ruled.theta:.1e}",
            ]
        )
    return rows


def figure_of() -> Figure:
    """Drift against kappa lr, with the rule and with the decay fixed."""
    figure, (axes,) = panels(
        1, f"decay^kappa keeps the average to {BREAKS_AT:g} while kappa lr is under 0.1", width=8.6, height=4.6
    )
    ends = []
    pairs = sorted({(learning_rate, decay) for learning_rate, decay, _ in ROWS})
    for (learning_rate, decay), colour in zip(pairs, COLOURS, strict=False):
        kappas = [2**power for power in range(1, 14) if 2**power * learning_rate < 0.7]
        drifts = [with_and_without(learning_rate, decay, kappa) for kappa in kappas]
        reached = [kappa * learning_rate for kappa in kappas]
        axes.plot(reached, [ruled.zeta for ruled, _ in drifts], color=colour, marker="o", markersize=3.5)
        axes.plot(reached, [fixed.zeta for _, fixed in drifts], color=colour, linestyle="--", linewidth=1.2)
        ends.append((reached[-1], drifts[-1][0].zeta, f"lr {learning_rate:g}, decay {decay:g}", colour))
    axes.set(xscale="log", yscale="log", xlabel="kappa lr: the step against the time scale of the loss")
    axes.set_ylabel("largest drift of E[average], which starts at 1")
    axes.set_ylim(top=3)
    axes.axhline(BREAKS_AT, color=MUTED, linewidth=0.8, linestyle=":")
    axes.text(0.01, 0.97, "dashed: decay not scaled", transform=axes.transAxes, color=INK, fontsize=9, va="top")
    axes.text(0.45, 0.2, "solid: decay^kappa", transform=axes.transAxes, color=INK, fontsize=9)
    label_ends(axes, ends, gap=0.055)
    return figure


def main() -> None:
    """Write table and figure."""
    began = time.process_time()
    names = ("lr, decay", "kappa", "decay^kappa", "drift with the rule", "variance ratio", "drift, decay fixed")
    rows, figure = table_rows(), figure_of()
    write(
        RESULTS,
        NAME,
        title="The average of weights under SGD: exact drift",
        paragraphs=[
            provenance(NAME, time.process_time() - began),
            "theta^2 / 2, additive gradient noise of variance 1 / kappa, theta and its average from 1, linear rule for "
            "the learning rate. Drift: the largest difference of the average's expectation from that at kappa 1, at "
            "equal samples; ratio: of its last variance. Exact recursion of moments, nothing is sampled.",
            markdown_table((*names, "variance ratio", "drift of theta itself"), rows),
            "Drift with the rule is first order in kappa lr, and mostly that of the linear rule itself: it passes "
            f"{BREAKS_AT:g} where kappa lr is between 0.12 and 0.18, whatever decay^kappa is there (0.30 or 0.83).",
        ],
        figures={NAME: figure},
    )


if __name__ == "__main__":
    main()
