"""From a run's log to the curves of its report."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from triptych.data_pipelines.vocabulary import MODALITIES
from triptych.launch.report.data import Curve, NoiseBins, Training
from triptych.trainer.metrics import StepRecord

FINAL_SHARE = 0.1  # of the steps: what the chart of the loss by noise averages over


def training_history(records: Sequence[StepRecord], validation: Mapping[str, Curve] | None = None) -> Training:
    """Losses from the metrics "nelbo/<modality>", noise bins from "ce/<modality>/bin<k>" over the last steps.

    Bin k of N spans mask probabilities k/N to (k+1)/N. A bin that no step filled is not-a-number. validation: modality
    to curve.
    """
    tokens_N = np.array([record.tokens for record in records])
    losses = {name: values_N for name in MODALITIES if len(values_N := _metric(records, f"nelbo/{name}"))}
    final = records[-max(1, round(FINAL_SHARE * len(records))) :]
    bins = {name: found for name in MODALITIES if (found := _noise_bins(final, name)) is not None}
    return Training(
        losses={name: Curve(tokens=tokens_N, values=values_N) for name, values_N in losses.items()},
        validation=dict(validation or {}),
        noise_bins=bins,
        learning_rate=Curve(tokens=tokens_N, values=np.array([record.learning_rate for record in records])),
        tokens_per_second=Curve(tokens=tokens_N, values=np.array([record.tokens_per_second for record in records])),
    )


def _metric(records: Sequence[StepRecord], name: str) -> NDArray[np.float64]:
    """One value per record, not-a-number where a record lacks it; empty if all do."""
    values = np.array([record.metrics.get(name, np.nan) for record in records], np.float64)
    return values if np.isfinite(values).any() else values[:0]


def _noise_bins(records: Sequence[StepRecord], modality: str) -> NoiseBins | None:
    prefix = f"ce/{modality}/bin"
    names = {name for record in records for name in record.metrics if name.startswith(prefix)}
    numbers = {int(name.removeprefix(prefix)) for name in names}
    if not numbers:
        return None
    columns = [_metric(records, f"{prefix}{number}") for number in range(max(numbers) + 1)]
    means = [float(np.nanmean(values)) if len(values) else np.nan for values in columns]
    return NoiseBins(edges=np.linspace(0, 1, len(means) + 1), cross_entropy=np.array(means))
