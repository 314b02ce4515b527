"""How far a run that was interrupted is from one that was not."""

from dataclasses import asdict, dataclass, replace

import torch
from attempts import Attempt
from layout_comparison import FP32_BOUNDS, largest

from triptych.trainer.checkpoint.disk.folders import complete_checkpoints
from triptych.trainer.checkpoint.disk.reading import read_part, verify_checkpoint


@dataclass(kw_only=True, slots=True, frozen=True)
class Difference:
    """The largest over steps or tensors; 0 means bit-equal. loss: relative. weights: absolute. exp_avg, exp_avg_sq: of
    the tensor's largest element.
    """

    loss: float
    weights: float
    exp_avg: float
    exp_avg_sq: float

    @property
    def is_none(self):
        return not any(asdict(self).values())

    @property
    def is_small(self):
        """Whether it is within the bounds for two layouts."""
        return all(value <= FP32_BOUNDS[name] for name, value in asdict(self).items())


class Uninterrupted:
    """Runs without a stop, one per cell, made when first asked for; they write only their last checkpoint."""

    def __init__(self, folder):
        self._folder = folder
        self._runs = {}

    def of(self, cell):
        if cell not in self._runs:
            attempt = Attempt(run=self._folder / f"uninterrupted{len(self._runs)}", cell=cell, every_tokens=0)
            attempt.finish()
            self._runs[cell] = attempt
        return self._runs[cell]


def loss_difference(curve, reference):
    """Of every step in one curve from the same step of the other; infinite where a step is missing there or its clock
    is another. 0 only if every number of every step is the same: losses, metrics of each modality, gradient norm.
    """
    steps = {record["step"]: record for record in reference}
    found = [0.0]
    for record in curve:
        other = steps.get(record["step"], {"tokens": None})
        if other["tokens"] != record["tokens"]:
            return float("inf")
        if other != record:
            found.append(max(abs(record["loss"] - other["loss"]) / abs(other["loss"]), torch.finfo().tiny))
    return largest(found)


def difference(attempts, reference):
    """Of every step of all the attempts at one run, and of the state at its end, from an uninterrupted run."""
    curves = [attempt.curve for attempt in attempts]
    complete = {record["step"] for curve in curves for record in curve} == {each["step"] for each in reference.curve}
    loss = largest(loss_difference(curve, reference.curve) for curve in curves) if complete else float("inf")
    ends = [complete_checkpoints(each.checkpoints)[-1] for each in (attempts[-1], reference)]
    return Difference(
        loss=loss, **{part: _part_difference(*ends, part) for part in ("weights", "exp_avg", "exp_avg_sq")}
    )


def _part_difference(folder, other, part):
    """Of two checkpoints; infinite if they do not stand at the same place, or know other names."""
    headers = [_place(verify_checkpoint(each).header) for each in (folder, other)]
    tensors, others = read_part(folder, part), read_part(other, part)
    if headers[0] != headers[1] or tensors.keys() != others.keys():
        return float("inf")
    return largest(_tensor_difference(tensors[name], others[name], relative=part != "weights") for name in tensors)


def _place(header):
    """Without what has been measured on the way, as losses are: it differs by roundings from layout to layout."""
    carried = {name: document for name, document in header.carried.items() if name != "health"}
    health = header.carried["health"]
    return replace(header, carried=carried | {"health": {name: health[name] for name in health if name != "windows"}})


def _tensor_difference(tensor, other, *, relative):
    """0 only if every bit is the same, zeros' signs included."""
    if torch.equal(tensor.view(torch.int32), other.view(torch.int32)):
        return 0.0
    found = float((tensor - other).abs().max() / (other.abs().max() if relative else 1.0))
    return found or torch.finfo().tiny
