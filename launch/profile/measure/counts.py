"""What the batches of the timed steps hold, counted on the loop's seams, and the operations that it comes to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from triptych.data_pipelines.batch import Batch
from triptych.data_pipelines.vocabulary import MODALITIES, Modality
from triptych.models.trimodal.config import TrimodalConfig
from triptych.models.trimodal.execution import Recompute
from triptych.models.trimodal.flops import Flops, forward_flops, recomputed_flops, training_flops, with_dense_head
from triptych.trainer.objectives.masked_diffusion import NO_LABEL, DiffusionTargets
from triptych.trainer.parallel.groups import Groups


@dataclass(slots=True)
class Counts:
    """Of this rank. batches: lengths of the documents of each, and the shape of its rows; projected: rows that the
    heads compute; masked: those of them that are no filler. Tensors stay where they are: the step must not wait for a
    count.
    """

    batches: list[tuple[Tensor, tuple[int, int]]] = field(default_factory=list)
    projected: dict[Modality, int] = field(default_factory=dict)
    masked: dict[Modality, Tensor] = field(default_factory=dict)

    def add_batch(self, batch: Batch) -> None:
        """One rank's rows of a batch."""
        num_rows, row_length = batch.tokens_BS.shape
        self.batches.append((batch.lengths_BD, (num_rows, row_length)))

    @property
    def lengths(self) -> list[int]:
        """Of all documents."""
        return [length for lengths_BD, _ in self.batches for length in lengths_BD.flatten().tolist() if length > 0]

    @property
    def attended(self) -> list[int]:
        """Lengths within which attention is computed: where every row is one document, padding is, too."""
        found = []
        for lengths_BD, (num_rows, row_length) in self.batches:
            several = lengths_BD.shape[1] > 1
            found += [n for n in lengths_BD.flatten().tolist() if n > 0] if several else [row_length] * num_rows
        return found

    @property
    def positions(self) -> int:
        """Of all rows, padding too."""
        return sum(num_rows * row_length for _, (num_rows, row_length) in self.batches)

    def add_targets(self, targets: DiffusionTargets) -> None:
        """One micro-batch's labels."""
        for modality, labels_R in targets.labels.items():
            self.projected[modality] = self.projected.get(modality, 0) + len(labels_R)
            self.masked[modality] = self.masked.get(modality, 0) + (labels_R != NO_LABEL).sum()


@dataclass(kw_only=True, slots=True, frozen=True)
class Work:
    """What all ranks did together in the counted steps. flops: `record.COUNTS`; computed: the last of them by part."""

    tokens: int
    positions: int
    attended_pairs: int
    projected: dict[str, int]
    masked: dict[str, int]
    flops: dict[str, float]
    computed: Flops


def work(counts: Counts, model: TrimodalConfig, recompute: Recompute, groups: Groups) -> Work:
    """Sum over the data-parallel ranks; called by all of them together."""
    masked: dict[Modality, int] = {modality: int(number) for modality, number in counts.masked.items()}
    asked = forward_flops(model, counts.lengths, masked)
    dense = with_dense_head(model, asked, sum(counts.lengths))
    done = forward_flops(model, counts.attended, counts.projected, num_positions=counts.positions)
    computed = training_flops(done) + recomputed_flops(done, recompute)
    pairs = sum(length * length for length in counts.attended)
    rows = [number.get(modality, 0) for number in (counts.projected, masked) for modality in MODALITIES]
    mine = [sum(counts.lengths), counts.positions, pairs, training_flops(asked).total, training_flops(dense).total]
    mine += [computed.dense, computed.attention, computed.heads, *rows]
    tokens, positions, pairs, as_run, dense_head, *rest = _over_data_ranks(groups, mine)
    by_part, rows = [int(number) for number in rest[:3]], [int(number) for number in rest[3:]]
    whole = Flops(dense=by_part[0], attention=by_part[1], heads=by_part[2])
    return Work(
        tokens=int(tokens),
        positions=int(positions),
        attended_pairs=int(pairs),
        projected=_named(rows[: len(MODALITIES)]),
        masked=_named(rows[len(MODALITIES) :]),
        flops={"as_run": as_run, "dense_head": dense_head, "computed": float(whole.total)},
        computed=whole,
    )


def _named(numbers: Sequence[int]) -> dict[str, int]:
    return {str(modality): number for modality, number in zip(MODALITIES, numbers, strict=True)}


def _over_data_ranks(groups: Groups, values: Sequence[float]) -> list[float]:
    return groups.sum_over_data(torch.tensor(values, dtype=torch.float64, device=groups.device)).tolist()


def per_step(numbers: Mapping[str, float], num_steps: int) -> dict[str, float]:
    """Means over the steps."""
    return {name: number / num_steps for name, number in numbers.items()}
