"""Samples that could not be read: agreed on by ranks that hold the same rows, counted, bounded, reported by id.

Shape legend: B rows, D documents of the fullest row.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from triptych.data_pipelines.batch import Lost
from triptych.data_pipelines.stream.windows import source_id
from triptych.trainer.checkpoint.shards import State
from triptych.trainer.loader.config import LoaderConfig
from triptych.trainer.metrics import StepRecord
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.seams import Rows

LOST = "lost"
"""Name of the event of a sample that could not be read."""


@runtime_checkable
class LossyRows(Protocol):
    """Rows of which documents may be lost, as `Batch`. Other rows have lost none."""

    lengths_BD: Tensor
    samples_BD3: Tensor
    offsets_BD: Tensor
    lost_BD: Tensor
    copies_B: Tensor
    lost: tuple[Lost, ...]

    @property
    def num_tokens(self) -> Tensor: ...

    def without(self, lost_BD: Tensor) -> Any: ...


def counts(rows: Rows) -> Tensor:
    """int64 [3]: tokens, samples, and those of the samples that are lost. A long text's pieces count each, the copies
    of a row once.
    """
    if not isinstance(rows, LossyRows):
        tokens = rows.num_tokens
        return torch.stack([tokens, torch.zeros_like(tokens), torch.zeros_like(tokens)])
    originals_B1 = (rows.copies_B == 0)[:, None]
    planned, lost = ((rows.lengths_BD > 0) & originals_B1).sum(), (rows.lost_BD & originals_B1).sum()
    return torch.stack([rows.num_tokens, planned, lost])


def agreed(rows: Any, groups: Groups) -> Any:
    """The rows without what any of the ranks that hold the same rows could not read. Collective over those."""
    if groups.num_model_ranks == 1 or not isinstance(rows, LossyRows):
        return rows
    lost_BD = rows.lost_BD.to(groups.device, torch.uint8, copy=True)
    return rows.without(groups.max_over_model(lost_BD).bool().to(rows.lost_BD.device))


def events(rows: Any) -> list[dict[str, Any]]:
    """What there is to say of each sample that this rank could not read: source, epoch, sample and where in it the
    piece begins, then why.
    """
    if not isinstance(rows, LossyRows) or not rows.lost:
        return []
    reasons = {(source_id(lost.source), lost.failure.sample, lost.epoch): lost for lost in rows.lost}
    found = []
    for row, document in (rows.lost_BD & (rows.copies_B == 0)[:, None]).nonzero().tolist():
        lost = reasons[tuple(rows.samples_BD3[row, document].tolist())]
        failure = lost.failure
        place = {"source": lost.source, "epoch": lost.epoch, "sample": failure.sample}
        place["offset"] = int(rows.offsets_BD[row, document])
        why = {name: getattr(failure, name) for name in ("key", "shard", "reason", "detail", "attempts")}
        found.append(place | why)
    return found


class LossBudget:
    """Lost samples of the whole run against what the run puts up with. `Carried`, so that stopping and going on does
    not forgive.
    """

    def __init__(self, config: LoaderConfig) -> None:
        self._config = config
        self._samples = self._lost = 0

    def add(self, record: StepRecord) -> None:
        """Take a step in. ValueError, the same on every rank, once more is lost than may be."""
        self._samples += record.samples
        self._lost += record.lost_samples
        limit = self._config.max_lost_samples + self._config.max_lost_fraction * self._samples
        if self._lost > limit:
            raise ValueError(
                f"{self._lost:,} of {self._samples:,} samples could not be read, more than the {int(limit):,} that "
                f'the run puts up with; mend the shards that "{LOST}" events in its logs name, or raise '
                "fit.loader.max_lost_samples or fit.loader.max_lost_fraction"
            )

    def held(self) -> State:
        """No tensors."""
        return {}

    def document(self) -> dict[str, Any]:
        """Both counts."""
        return {"samples": self._samples, "lost": self._lost}

    def restore(self, document: Mapping[str, Any] | None) -> None:
        """Go on from a checkpoint's counts; from none, anew."""
        if document is not None:
            self._samples, self._lost = document["samples"], document["lost"]
