"""The batch rule for AdamW, whole and with one piece left out at a time, on a noisy quadratic of 4000 dimensions.

The task is that of a reference check of the rule of arXiv 2602.21472 (AdamW, cosine, loss at each quarter of the data);
its constants are not known, so these are ours. The noise falls to a quarter in the first half of the run, so that a
second moment that remembers for too long is seen; epsilon is as large as the noise at the end, so that it counts.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from matplotlib.figure import Figure

from triptych.trainer.scaling.rules import AdamWValues, SGDValues, scale_adamw, scale_sgd, unscale_beta
from triptych.trainer.scaling.study.noisy_quadratic import NoisyQuadratic, QuadraticConfig
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

NAME = "quadratic_adamw"
KAPPAS = (0.25, 1.0, 4.0, 16.0, 64.0, 256.0)
NUM_SEEDS = 3
T_95 = 4.303  # of Student's distribution, 2 degrees of freedom
BREAKS_AT = 0.05
BASE = QuadraticConfig(
    values=AdamWValues(learning_rate=0.02, betas=(0.9, 0.999), epsilon=4.0, weight_decay=0.05),
    num_batches=8192,
    noise=(16.0, 4.0),
)
FULL = "full rule"
PIECES = (
    FULL,
    "betas as 1 - kappa (1 - beta)",
    "lr not scaled",
    "lr linear",
    "betas not scaled",
    "beta1 not scaled",
    "beta2 not scaled",
    "epsilon not scaled",
    "decay not scaled",
    "nothing scaled",
)
NOT_DRAWN = ("beta1 not scaled", "beta2 not scaled", "betas as 1 - kappa (1 - beta)")
"""In the table alone: each lies on a line that is drawn."""

HIGHEST_DRAWN = 400.0


def scaled_values(piece: str, base: AdamWValues, kappa: float) -> AdamWValues:
    """AdamW at `kappa` times the batch by the rule, or with one piece of it left out. ValueError where the linear form
    of the betas ends.
    """
    full = scale_adamw(base, kappa)
    match piece:
        case "betas as 1 - kappa (1 - beta)":
            return scale_adamw(base, kappa, betas="linear")
        case "lr not scaled":
            return replace(full, learning_rate=base.learning_rate)
        case "lr linear":
            linear = scale_sgd(SGDValues(learning_rate=base.learning_rate), kappa)
            return replace(full, learning_rate=linear.learning_rate)
        case "betas not scaled":
            return replace(full, betas=base.betas)
        case "beta1 not scaled":
            return replace(full, betas=(base.betas[0], full.betas[1]))
        case "beta2 not scaled":
            return replace(full, betas=(full.betas[0], base.betas[1]))
        case "epsilon not scaled":
            return replace(full, epsilon=base.epsilon)
        case "decay not scaled":
            return replace(full, weight_decay=base.weight_decay)
        case "nothing scaled":
            return base
        case _:
            return full


def quarter_losses(config: QuadraticConfig, values: AdamWValues, kappa: float, seed: int) -> list[float]:
    """Losses at 25, 50, 75 and 100 % of the data."""
    run, losses = NoisyQuadratic(config, seed), []
    for _ in range(4):
        run.advance(values, kappa, config.num_batches // 4)
        losses.append(run.loss())
    return losses


def deviations(
    config: QuadraticConfig, piece: str, kappa: float, bases: Sequence[Sequence[float]]
) -> list[list[float]]:
    """Relative to kappa 1, [seed][quarter]; `bases` are the losses at kappa 1, [seed][quarter]."""
    values = scaled_values(piece, config.values, kappa)
    return [
        [loss / base - 1 for loss, base in zip(quarter_losses(config, values, kappa, seed), own, strict=True)]
        for seed, own in enumerate(bases)
    ]


def worst(by_seed: Sequence[Sequence[float]]) -> float:
    """The deviation largest in size over the quarters, each a mean over seeds."""
    return max((statistics.fmean(quarter) for quarter in zip(*by_seed, strict=True)), key=abs)


def half_width(by_seed: Sequence[Sequence[float]]) -> float:
    """Of the 95 % interval of the mean over seeds, the widest of the quarters."""
    widest = max(statistics.stdev(quarter) for quarter in zip(*by_seed, strict=True))
    return T_95 * widest / len(by_seed) ** 0.5


Results = dict[str, dict[float, list[list[float]]]]
"""[piece][kappa][seed][quarter]; a kappa at which a piece has no value is absent."""


def base_losses(config: QuadraticConfig) -> list[list[float]]:
    """At kappa 1, [seed][quarter]."""
    return [quarter_losses(config, config.values, 1.0, seed) for seed in range(NUM_SEEDS)]


def all_pieces(config: QuadraticConfig, bases: Sequence[Sequence[float]]) -> Results:
    """Every piece at every kappa but 1."""
    results: Results = {piece: {} for piece in PIECES}
    for piece in PIECES:
        for kappa in KAPPAS:
            linear_form_ends = "1 - kappa" in piece and kappa * (1 - min(config.values.betas)) >= 1
            if kappa != 1 and not linear_form_ends:
                results[piece][kappa] = deviations(config, piece, kappa, bases)
    return results


def break_settings() -> dict[str, QuadraticConfig]:
    """Changes of the task that tell apart what may end the rule's reach."""
    values, (start, end) = BASE.values, BASE.noise
    return {
        "base": BASE,
        "beta1 0": replace(BASE, values=replace(values, betas=(0.0, 0.999))),
        "lr / 4, 4 x the steps": replace(
            BASE,
            num_batches=4 * BASE.num_batches,
            values=replace(values, learning_rate=values.learning_rate / 4, betas=(0.9, unscale_beta(0.999, 4))),
        ),
        "beta2 0.95": replace(BASE, values=replace(values, betas=(0.9, 0.95))),
        "noise x 2": replace(BASE, noise=(2 * start, 2 * end), values=replace(values, epsilon=2 * values.epsilon)),
    }


def breaks(kappas: Sequence[float]) -> dict[str, dict[float, float]]:
    """[setting][kappa]: the full rule's worst deviation."""
    found = {}
    for name, config in break_settings().items():
        bases = base_losses(config)
        found[name] = {kappa: worst(deviations(config, FULL, kappa, bases)) for kappa in kappas}
    return found


def pieces_table(results: Results, bases: Sequence[Sequence[float]]) -> str:
    """Deviations at the quarters for every piece and kappa."""
    base = " / ".join(f"{statistics.fmean(quarter):.4f}" for quarter in zip(*bases, strict=True))
    rows = [["kappa 1: the losses themselves", "1", base, ""]]
    for piece, by_kappa in results.items():
        for kappa in KAPPAS:
            if kappa in by_kappa:
                quarters = zip(*by_kappa[kappa], strict=True)
                cells = " / ".join(f"{100 * statistics.fmean(quarter):+.1f}" for quarter in quarters)
                rows.append([piece, f"{kappa:g}", cells, f"{100 * half_width(by_kappa[kappa]):.1f}"])
            elif kappa != 1:
                rows.append([piece, f"{kappa:g}", "no such form: 1 - kappa (1 - beta1) is not above 0", ""])
    return markdown_table(("left out", "kappa", "deviation at 25 / 50 / 75 / 100 %, in %", "+/-"), rows)


def breaks_table(found: dict[str, dict[float, float]]) -> str:
    """The full rule's worst deviation per setting, with what might be to blame."""
    rows = []
    for name, by_kappa in found.items():
        config = break_settings()[name]
        run = NoisyQuadratic(config, 0)
        run.advance(config.values, 1.0, config.num_batches)
        for kappa, deviation in by_kappa.items():
            beta1, beta2 = scale_adamw(config.values, kappa).betas
            facts = [f"{config.num_batches / kappa:g}", f"{beta1:.2g}", f"{beta2:.2g}", f"{run.noise_scale():.0f}"]
            rows.append([name, f"{kappa:g}", *facts, f"{100 * deviation:+.1f}"])
    names = ("setting", "kappa", "steps of the run", "beta1^kappa", "beta2^kappa", "noise scale at the end")
    return markdown_table((*names, "worst deviation, %"), rows)


def pieces_figure(results: Results) -> Figure:
    """Worst deviation, in size, against kappa."""
    figure, (axes,) = panels(1, "Leave out a piece of the rule, and the batch shows in the loss", width=8.4, height=5.0)
    drawn = {piece: by_kappa for piece, by_kappa in results.items() if piece not in NOT_DRAWN}
    ends = []
    for (piece, by_kappa), colour in zip(drawn.items(), (INK, *COLOURS), strict=False):
        points = [(kappa, 100 * abs(worst(by_seed))) for kappa, by_seed in sorted(by_kappa.items())]
        width = 2.6 if piece == FULL else 1.5
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4, linewidth=width)
        end, height = points[-1]
        name = piece if height <= HIGHEST_DRAWN else f"{piece} (diverges)"
        ends.append((end, min(height, HIGHEST_DRAWN), name, colour))
    axes.axhline(100 * BREAKS_AT, color=MUTED, linewidth=1, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="kappa: batch over logical batch")
    axes.set_xticks(KAPPAS, ["1/4", *(f"{kappa:g}" for kappa in KAPPAS[1:])])
    axes.set_xticks([], minor=True)
    axes.set_yticks([0.1, 1, 10, 100], ["0.1 %", "1 %", "10 %", "100 %"])
    axes.set_yticks([], minor=True)
    axes.set_ylim(0.05, HIGHEST_DRAWN)
    axes.set_ylabel("loss against kappa = 1: largest deviation")
    label_ends(axes, ends, gap=0.05)
    return figure


def breaks_figure(found: dict[str, dict[float, float]]) -> Figure:
    """The full rule alone, in changed settings."""
    title = "The rule ends where noise no longer dominates, or beta2^kappa is small"
    figure, (axes,) = panels(1, title, width=9.4, height=4.6)
    ends = []
    for (name, by_kappa), colour in zip(found.items(), (INK, *COLOURS), strict=False):
        points = [(kappa, 100 * abs(deviation)) for kappa, deviation in by_kappa.items()]
        axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=4)
        ends.append((*points[-1], name, colour))
    axes.axhline(100 * BREAKS_AT, color=MUTED, linewidth=1, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="kappa: batch over logical batch, full rule")
    axes.set_xticks(list(found["base"]), [f"{kappa:g}" for kappa in found["base"]])
    axes.set_xticks([], minor=True)
    axes.set_yticks([0.1, 1, 5, 10, 50], ["0.1 %", "1 %", "5 %", "10 %", "50 %"])
    axes.set_yticks([], minor=True)
    axes.set_ylim(0.1, 60)
    axes.set_ylabel("loss against kappa = 1: largest deviation")
    label_ends(axes, ends, gap=0.055)
    return figure


def tiny_epsilon() -> dict[str, float]:
    """Worst deviations at kappa 16 where epsilon is 1e-8, far below any noise: with the full rule, epsilon left out."""
    config = replace(BASE, values=replace(BASE.values, epsilon=1e-8))
    bases = base_losses(config)
    return {piece: worst(deviations(config, piece, 16.0, bases)) for piece in (FULL, "epsilon not scaled")}


def main() -> None:
    """Write table and figures."""
    torch.set_num_threads(1)
    began = time.process_time()
    bases = base_losses(BASE)
    results = all_pieces(BASE, bases)
    found = breaks(tuple(kappa for kappa in KAPPAS if kappa > 1))
    tiny = " against ".join(f"{100 * value:+.3f} % ({name})" for name, value in tiny_epsilon().items())
    values = BASE.values
    task = (
        f"{BASE.num_coordinates} coordinates, curvatures {BASE.curvatures[0]:g} .. {BASE.curvatures[1]:g} (geometric), "
        f"gradient noise {BASE.noise[0]:g} falling to {BASE.noise[1]:g} by the middle, {BASE.num_batches} steps at "
        f"kappa 1, cosine; lr {values.learning_rate:g}, betas {values.betas}, epsilon {values.epsilon:g}, coupled "
        f"decay {values.weight_decay:g}; torch.optim.AdamW. Our constants: those of the check we follow are not given. "
        f"Deviations are from kappa 1 of the same seed, which sees the same noise; means of {NUM_SEEDS} seeds, +/- the "
        "half-width of the 95 % interval (the widest of the four)."
    )
    write(
        RESULTS,
        NAME,
        title="AdamW on a noisy quadratic: the rule, and the rule without each of its pieces",
        paragraphs=[
            provenance(NAME, time.process_time() - began),
            task,
            pieces_table(results, bases),
            f"Epsilon counts where it is of the noise's size. At 1e-8, kappa 16: {tiny}.",
            f"## Where it breaks\n\nThe full rule; over {100 * BREAKS_AT:g} % we call broken. Noise scale: variance of "
            "one logical batch's gradient over its squared mean, in logical batches, after kappa 1.",
            breaks_table(found),
        ],
        figures={NAME: pieces_figure(results), f"{NAME}_break": breaks_figure(found)},
    )


if __name__ == "__main__":
    main()
