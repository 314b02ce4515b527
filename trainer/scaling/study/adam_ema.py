"""An average of the weights under Adam: the square-root rule with decay^kappa or a fixed decay, and the linear rule.

A reference check of the rule of arXiv 2307.13813: theta^2 / 2 in 4000 replicas, 32768 samples, lr 1e-4, betas (0.9,
0.999), decay 0.9995, noise-dominated. The noise is not given there; a standard deviation of 10 gives its numbers.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from matplotlib.figure import Figure
from torch import Tensor

from triptych.trainer.scaling.rules import AdamWValues, SGDValues, scale_adamw, scale_ema_decay, scale_sgd
from triptych.trainer.scaling.study.record import (
    COLOURS,
    INK,
    RESULTS,
    label_ends,
    markdown_table,
    panels,
    provenance,
    write,
)

NAME = "adam_ema"
VALUES = AdamWValues(learning_rate=1e-4, betas=(0.9, 0.999), epsilon=1e-8, weight_decay=0.0)
DECAY = 0.9995
NOISE = 10.0
KAPPAS = (2, 4, 8)
NUM_REPLICAS = 4000
NUM_SAMPLES = 32768
RULED, DECAY_FIXED, LINEAR = "sqrt rule, decay^kappa", "sqrt rule, decay fixed", "linear lr, betas fixed, decay^kappa"
EXPECTED: Mapping[str, tuple[float, ...]] = {
    "kappa 1": (0.7359,),
    RULED: (0.7371, 0.7393, 0.7426),
    DECAY_FIXED: (0.7523, 0.7852, 0.8382),
    LINEAR: (0.6494, 0.5451, 0.4254),
}
"""E[average] in the reference, at kappa 2, 4, 8."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Mean:
    """Over replicas, with its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Tensor) -> "Mean":
        """Of a vector of replicas."""
        return cls(mean=float(values.mean()), error=float(values.std()) / math.sqrt(values.numel()))


def average_at_the_end(values: AdamWValues, decay: float, kappa: int, *, num_replicas: int, seed: int) -> Mean:
    """E[zeta] after NUM_SAMPLES samples, kappa a step; theta and zeta start at 1, the average follows the update."""
    generator = torch.Generator().manual_seed(seed)
    parameter = torch.nn.Parameter(torch.ones(num_replicas))
    zeta, noise = torch.ones(num_replicas), torch.empty(num_replicas)
    optimizer = torch.optim.AdamW(
        [parameter],
        lr=values.learning_rate,
        betas=values.betas,
        eps=values.epsilon,
        weight_decay=values.weight_decay,
        fused=True,
    )
    for _ in range(NUM_SAMPLES // kappa):
        noise.normal_(generator=generator)
        parameter.grad = parameter.detach().add(noise, alpha=NOISE / math.sqrt(kappa))
        optimizer.step()
        zeta.lerp_(parameter.detach(), 1 - decay)
    return Mean.of(zeta)


def measure(*, num_replicas: int, seed: int) -> dict[str, list[Mean]]:
    """E[average] of each row of EXPECTED. Every run has noise of its own."""
    results = {name: [] for name in EXPECTED}
    seeds = iter(range(1000 * seed, 1000 * seed + 100))

    def end(values: AdamWValues, decay: float, kappa: int) -> Mean:
        return average_at_the_end(values, decay, kappa, num_replicas=num_replicas, seed=next(seeds))

    results["kappa 1"].append(end(VALUES, DECAY, 1))
    for kappa in KAPPAS:
        scaled, decay = scale_adamw(VALUES, kappa), scale_ema_decay(DECAY, kappa)
        linear = scale_sgd(SGDValues(learning_rate=VALUES.learning_rate), kappa).learning_rate
        results[RULED].append(end(scaled, decay, kappa))
        results[DECAY_FIXED].append(end(scaled, DECAY, kappa))
        results[LINEAR].append(end(replace(VALUES, learning_rate=linear), decay, kappa))
    return results


def table_rows(results: Mapping[str, list[Mean]]) -> list[list[str]]:
    """Measured, expected, and the difference in standard errors of both, which are of one size."""
    rows = []
    for name, means in results.items():
        for kappa, found, expected in zip(KAPPAS if len(means) > 1 else (1,), means, EXPECTED[name], strict=True):
            errors = (found.mean - expected) / (found.error * math.sqrt(2))
            rows.append(
                [
                    name,
                    f"{kappa}",
                    f"{found.mean:.4f} +/- {1.96 * found.error:.4f}",
                    f"{expected:.4f}",
                    f"{errors:+.1f}",
                ]
            )
    return rows


def figure_of(results: Mapping[str, list[Mean]]) -> Figure:
    """E[average] against kappa."""
    figure, (axes,) = panels(1, "Under Adam, only sqrt(kappa) lr with decay^kappa keeps the average", width=8.4)
    (base,) = results["kappa 1"]
    ends = []
    for (name, means), colour in zip(list(results.items())[1:], (INK, COLOURS[3], COLOURS[1]), strict=True):
        points = [base.mean, *(each.mean for each in means)]
        axes.plot([1, *KAPPAS], points, color=colour, marker="o", markersize=4)
        ends.append((KAPPAS[-1], points[-1], name, colour))
    axes.axhline(base.mean, color=INK, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlabel="kappa: batch over logical batch", ylabel="E[average] after 32768 samples (from 1)")
    axes.set_xticks([1, *KAPPAS], ["1", *(f"{kappa}" for kappa in KAPPAS)])
    axes.set_xticks([], minor=True)
    label_ends(axes, ends, gap=0.055)
    return figure


def main() -> None:
    """Write table and figure."""
    torch.set_num_threads(1)
    began = time.process_time()
    results = measure(num_replicas=NUM_REPLICAS, seed=0)
    rows = table_rows(results)
    write(
        RESULTS,
        NAME,
        title="The average of weights under Adam",
        paragraphs=[
            provenance(NAME, time.process_time() - began),
            f"theta^2 / 2, gradient noise {NOISE:g}, {NUM_REPLICAS} replicas of {NUM_SAMPLES} samples, lr "
            f"{VALUES.learning_rate:g}, betas {VALUES.betas}, decay {DECAY}; +/- is 95 % over replicas; the last "
            "column takes the reference's numbers to be as uncertain as ours.",
            markdown_table(("rule", "kappa", "E[average]", "reference", "difference, standard errors"), rows),
        ],
        figures={NAME: figure_of(results)},
    )


if __name__ == "__main__":
    main()
