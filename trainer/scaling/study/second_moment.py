"""The batch changes in the middle of a run: what should become of Adam's state?

Noise-dominated, Adam's second moment is the variance of one batch's gradient, 1 / kappa; it remembers 1 / (1 - beta2)
steps of the batch before. Treatments of it at the change: kept; times kappa_old / kappa_new (the variance's ratio);
times the ratio of 1 + noise scale / batch, which is that of the mean square of the gradient (McCandlish et al. 2018,
arXiv 1812.06162), with the true noise scale. Then whether the first moment must follow, and what Adam's bias correction
1 - beta^n must count: batches of the present size (as many as the data seen so far makes) or steps done.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from triptych.trainer.scaling.rules import AdamWValues, scale_adamw
from triptych.trainer.scaling.study.noisy_quadratic import NoisyQuadratic, QuadraticConfig
from triptych.trainer.scaling.study.record import COLOURS, INK, RESULTS, markdown_table, panels, provenance, write

NAME = "second_moment"
NUM_SEEDS = 3
CHANGES = (1 / 16, 1 / 4, 4.0, 16.0)
NUM_READINGS = 16
"""Of the loss, at equal distances between the change and the end."""

NOISY = QuadraticConfig(
    values=AdamWValues(learning_rate=0.02, betas=(0.9, 0.999), epsilon=1e-8, weight_decay=0.05),
    num_batches=4096,
    noise=(4.0, 4.0),
)
CLEAN = QuadraticConfig(
    values=AdamWValues(learning_rate=0.0003, betas=(0.9, 0.999), epsilon=1e-8, weight_decay=0.05),
    num_batches=4096,
    noise=(0.02, 0.02),
)
REGIMES = {"noise-dominated": NOISY, "signal-dominated": CLEAN}


@dataclass(kw_only=True, slots=True, frozen=True)
class Treatment:
    """What happens to Adam's state when the batch becomes kappa times what it was. second, first: factors on the
    moments, of kappa and the noise scale in batches of before. recounted: the bias correction counts present batches.
    """

    second: Callable[[float, float], float]
    first: Callable[[float], float] = lambda kappa: 1.0
    recounted: bool = True

    def apply(self, run: NoisyQuadratic, kappa: float) -> None:
        """To the state of a run, in place."""
        run.state["exp_avg_sq"].mul_(self.second(kappa, run.noise_scale()))
        run.state["exp_avg"].mul_(self.first(kappa))
        if self.recounted:
            run.state["step"].fill_(run.num_batches_seen / kappa)


def by_variance(kappa: float, noise_scale: float) -> float:
    """kappa_old / kappa_new."""
    return 1 / kappa


def by_mean_square(kappa: float, noise_scale: float) -> float:
    """(1 + noise scale / B_new) / (1 + noise scale / B_old)."""
    return (1 + noise_scale / kappa) / (1 + noise_scale)


TREATMENTS = {
    "kept": Treatment(second=lambda kappa, noise_scale: 1.0),
    "x B_old / B_new": Treatment(second=by_variance),
    "x (1 + noise scale / B) ratio": Treatment(second=by_mean_square),
    "x B_old / B_new, first moment x its root": Treatment(second=by_variance, first=lambda kappa: kappa**-0.5),
    "x B_old / B_new, first moment emptied": Treatment(second=by_variance, first=lambda kappa: 0.0),
    "x B_old / B_new, steps not recounted": Treatment(second=by_variance, recounted=False),
}


def second_half(config: QuadraticConfig, kappa: float, treatment: Treatment | None, seed: int) -> list[float]:
    """Losses after the middle, at which the batch becomes kappa times the logical one."""
    run = NoisyQuadratic(config, seed)
    run.advance(config.values, 1.0, config.num_batches // 2)
    if treatment is not None:
        treatment.apply(run, kappa)
    values, losses = scale_adamw(config.values, kappa), []
    for _ in range(NUM_READINGS):
        run.advance(values, kappa, config.num_batches // 2 // NUM_READINGS)
        losses.append(run.loss())
    return losses


Curve = list[float]
Results = dict[str, dict[float, dict[str, list[Curve]]]]
"""[regime][kappa][treatment][seed][reading]: loss over that of the unchanged run, less 1."""


def measure() -> Results:
    """Everything."""
    results: Results = {}
    for regime, config in REGIMES.items():
        unchanged = [second_half(config, 1.0, None, seed) for seed in range(NUM_SEEDS)]
        results[regime] = {
            kappa: {
                name: [
                    [a / b - 1 for a, b in zip(second_half(config, kappa, treatment, seed), base, strict=True)]
                    for seed, base in enumerate(unchanged)
                ]
                for name, treatment in TREATMENTS.items()
            }
            for kappa in CHANGES
        }
    return results


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Over seeds."""
    return [statistics.fmean(reading) for reading in zip(*curves, strict=True)]


def table(results: Results) -> str:
    """Largest deviation after the change, and the spread of the seeds'."""
    rows = []
    for regime, by_kappa in results.items():
        for name in TREATMENTS:
            cells = []
            for kappa in CHANGES:
                largest = [max(curve, key=abs) for curve in by_kappa[kappa][name]]
                cells.append(f"{100 * statistics.fmean(largest):+.1f} ({100 * (max(largest) - min(largest)):.1f})")
            rows.append([regime, name, *cells])
    return markdown_table(("regime", "second moment", "B / 16", "B / 4", "B x 4", "B x 16"), rows)


def figure_of(results: Results) -> Figure:
    """Loss against the unchanged run, over the data, per regime and change (the outermost two)."""
    title = "After a change of batch, the second moment times B_old / B_new stays closest to the unchanged run"
    figure, axes = panels(4, title, width=15.0, height=4.3)
    shown = {"kept": COLOURS[1], "x (1 + noise scale / B) ratio": COLOURS[3], "x B_old / B_new": INK}
    cases = [(regime, kappa) for regime in REGIMES for kappa in (CHANGES[0], CHANGES[-1])]
    data = [50 + 50 * (reading + 1) / NUM_READINGS for reading in range(NUM_READINGS)]
    for each, (regime, kappa) in zip(axes, cases, strict=True):
        each.axhline(0, color=INK, linewidth=0.8, linestyle=":")
        for name, colour in shown.items():
            style = {"linewidth": 1.8, "linestyle": "--" if "ratio" in name else "-"}
            curve = mean_curve(results[regime][kappa][name])
            each.plot(
                [50, *data],
                [0, *(100 * value for value in curve)],
                color=colour,
                label=name,
                zorder=3 + ("ratio" in name),
                **style,
            )
        factor = f"x {kappa:g}" if kappa > 1 else f"/ {1 / kappa:g}"
        each.set_title(f"{regime}, batch {factor}", fontsize=10, color=INK, loc="left")
        each.set(xlabel="data seen, %", ylim=(-45, 45))
    axes[0].set_ylabel("loss against the unchanged run, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def noise_scales() -> str:
    """True ones at the change, in batches of before."""
    words = []
    for name, config in REGIMES.items():
        run = NoisyQuadratic(config, 0)
        run.advance(config.values, 1.0, config.num_batches // 2)
        words.append(
            f"{name}: noise scale {run.noise_scale():.3g} batches at the change (noise {config.noise[0]:g}, lr "
            f"{config.values.learning_rate:g})"
        )
    return "; ".join(words)


def main() -> None:
    """Write table and figure."""
    torch.set_num_threads(1)
    began = time.process_time()
    results = measure()
    write(
        RESULTS,
        NAME,
        title="Adam's state when the batch changes in the middle of a run",
        paragraphs=[
            provenance(NAME, time.process_time() - began),
            f"{NOISY.num_coordinates} coordinates, curvatures {NOISY.curvatures[0]:g} .. {NOISY.curvatures[1]:g}, "
            f"{NOISY.num_batches} logical batches, cosine, betas {NOISY.values.betas}, epsilon "
            f"{NOISY.values.epsilon:g}, decay {NOISY.values.weight_decay:g}; the batch changes at 50 %, and lr, betas, "
            f"epsilon and decay follow the rule. {noise_scales()}. Constants are our choice.",
            f"Largest deviation of the loss from the unchanged run after the change, in % (mean of {NUM_SEEDS} seeds; "
            "in brackets their range; each seed sees the same noise in all rows):",
            table(results),
        ],
        figures={NAME: figure_of(results)},
    )


if __name__ == "__main__":
    main()
