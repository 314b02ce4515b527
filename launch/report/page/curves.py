"""The charts of the training section."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from triptych.launch.report.data import Training
from triptych.launch.report.numbers import percent
from triptych.launch.report.page.charts import Series, line_chart, smoothed

TRAINING_NOTE = (
    "The run's clock is tokens seen, padding not counted. Thin lines: each logged step. Bold: smoothed. "
    "Dots: validation under noise that never changes."
)
_MODALITIES = {"text": "t", "image": "i", "audio": "a"}
_CLOCK = "tokens"


@dataclass(kw_only=True, slots=True, frozen=True)
class Chart:
    """One framed chart. legend: (class of the style sheet, word)."""

    name: str
    unit: str
    svg: Markup
    colour: str = ""
    legend: tuple[tuple[str, str], ...] = ()


def training_charts(training: Training) -> list[Chart]:
    """A chart per modality's loss, then cross-entropy by noise, learning rate and speed; what is absent is left out."""
    known = [name for name in _MODALITIES if name in training.losses or name in training.validation]
    others = sorted((set(training.losses) | set(training.validation)) - set(_MODALITIES))
    charts = [_loss(training, name) for name in (*known, *others)]
    charts.append(_noise_bins(training))
    if training.learning_rate is not None:
        series = [Series(xs=training.learning_rate.tokens, ys=training.learning_rate.values)]
        svg = line_chart(series, title="learning rate over tokens", x_label=_CLOCK, from_zero=True)
        charts.append(Chart(name="Learning rate", unit="as scheduled", svg=svg))
    if training.tokens_per_second is not None:
        curve = training.tokens_per_second
        bold = smoothed(curve)
        series = [Series(xs=curve.tokens, ys=curve.values, style="faint"), Series(xs=bold.tokens, ys=bold.values)]
        svg = line_chart(series, title="tokens per second over tokens", x_label=_CLOCK, from_zero=True)
        charts.append(Chart(name="Speed", unit="tokens per second", svg=svg))
    return [chart for chart in charts if chart.svg]


def _loss(training: Training, name: str) -> Chart:
    colour = name if name in _MODALITIES else "plain"
    series = []
    if name in training.losses:
        raw, bold = training.losses[name], smoothed(training.losses[name])
        series.append(Series(xs=raw.tokens, ys=raw.values, colour=colour, style="faint"))
        series.append(Series(xs=bold.tokens, ys=bold.values, colour=colour))
    if name in training.validation:
        held_out = training.validation[name]
        series.append(Series(xs=held_out.tokens, ys=held_out.values, colour=colour, style="dots", label="validation"))
    svg = line_chart(series, title=f"{name}: nats per token over tokens", x_label=_CLOCK)
    title = f"{name.capitalize()} loss"
    return Chart(name=title, unit="nats per token (NELBO)", svg=svg, colour=_MODALITIES.get(name, ""))


def _noise_bins(training: Training) -> Chart:
    series, legend = [], []
    for name, letter in _MODALITIES.items():
        if name in training.noise_bins:
            bins = training.noise_bins[name]
            edges = np.asarray(bins.edges, np.float64)
            middles = (edges[1:] + edges[:-1]) / 2
            series.append(Series(xs=middles, ys=bins.cross_entropy, colour=name, style="line dots", label=name))
            legend.append((letter, name))
    svg = line_chart(
        series,
        title="cross-entropy by share of tokens masked",
        x_label="share of tokens masked",
        from_zero=True,
        x_range=(0.0, 1.0),
        format_x=lambda share: percent(share, 0),
    )
    return Chart(name="Loss by noise", unit="cross-entropy, nats per masked token", svg=svg, legend=tuple(legend))
