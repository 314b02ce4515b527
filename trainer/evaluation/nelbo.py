"""The negative evidence lower bound of held-out data, under noise that never changes.

Comparable between two points of a run, two runs and two machines: the noise depends on the stream's seed and on the
sequences alone.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from triptych.data_pipelines.batch import Batch
from triptych.kernels.philox import Stream
from triptych.trainer.seams import Objective

LAST_EPOCH = 2**16 - 1
DOCUMENTS_PER_DRAW = 2**50  # beyond all windows of an evaluation's sources, so draws share no shift of the time grid
MAX_DRAWS = 256


@dataclass(kw_only=True, slots=True, frozen=True)
class Estimate:
    """A metric's mean over all draws.

    standard_error: of the mean, from the spread between draws: how much the noise matters, not how much the choice of
    sequences does; None after a single draw. weight: what the metric's sum was divided by (tokens, as a rule), over all
    draws.
    """

    mean: float
    standard_error: float | None
    weight: float


def redraw(batch: Batch, draw: int) -> Batch:
    """The same sequences under noise number `draw` (0..MAX_DRAWS-1).

    The epoch of each document's sample key becomes LAST_EPOCH - draw: training counts epochs up from zero and never
    gets there, so evaluation noise is independent of all training noise under the same seed, even on training
    sequences. The documents' numbers move by DOCUMENTS_PER_DRAW, so that the stratified time grid is shifted anew as
    well: otherwise a document would keep its time in every draw.
    """
    samples_BD3 = batch.samples_BD3.clone()
    samples_BD3[..., 2] = LAST_EPOCH - draw
    return replace(batch, samples_BD3=samples_BD3, numbers_BD=batch.numbers_BD + draw * DOCUMENTS_PER_DRAW)


def fixed_noise_metrics(
    model: nn.Module,
    objective: Objective,
    batches: Callable[[], Iterable[Batch]],
    stream: Stream,
    *,
    num_draws: int = 4,
    reduce: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> dict[str, Estimate]:
    """Every metric of the objective as sum of sums over sum of weights; "loss" is the objective's own.

    batches: called once per draw, gives the same batches every time. reduce: adds a float64 tensor over the ranks that
    hold other sequences. Runs in eval mode without gradients and puts the model's mode back. A metric whose weight is
    zero throughout is left out. ValueError if there is no sequence, or `num_draws` is not 1..MAX_DRAWS.
    """
    if not 1 <= num_draws <= MAX_DRAWS:
        raise ValueError(f"num_draws={num_draws} noise draws; give 1 to {MAX_DRAWS}")
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            draws = [_one_draw(model, objective, batches(), stream, draw) for draw in range(num_draws)]
    finally:
        model.train(was_training)
    if not draws[0]:
        raise ValueError("no sequence to evaluate; give a validation split with at least one batch")
    return _estimates(draws, reduce)


def _one_draw(
    model: Callable[[Any], Any], objective: Objective, batches: Iterable[Batch], stream: Stream, draw: int
) -> dict[str, Tensor]:
    """Name to float64 [2] on the CPU: sum and weight."""
    totals: dict[str, Tensor] = {}
    for batch in batches:
        inputs, targets = objective.prepare(redraw(batch, draw), stream)
        terms = objective.loss(model(inputs), targets)
        for name, pair in {**terms.metrics, "loss": (terms.sum, terms.weight)}.items():
            both = torch.stack([torch.as_tensor(part).detach().double().cpu() for part in pair])
            totals[name] = totals.get(name, torch.zeros(2, dtype=torch.float64)) + both
    return totals


def _estimates(draws: list[dict[str, Tensor]], reduce: Callable[[Tensor], Tensor]) -> dict[str, Estimate]:
    names = sorted(draws[0])
    sums_DN2 = reduce(torch.stack([torch.stack([draw[name] for name in names]) for draw in draws]))
    estimates = {}
    for index, name in enumerate(names):
        sums_D, weights_D = sums_DN2[:, index, 0], sums_DN2[:, index, 1]
        if bool((weights_D > 0).any()):
            used = weights_D > 0
            means_D = sums_D[used] / weights_D[used]
            error = float(means_D.std()) / math.sqrt(len(means_D)) if len(means_D) > 1 else None
            mean = float(sums_D.sum() / weights_D.sum())
            estimates[name] = Estimate(mean=mean, standard_error=error, weight=float(weights_D.sum()))
    return estimates


def means(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Name to mean."""
    return {name: estimate.mean for name, estimate in estimates.items()}
