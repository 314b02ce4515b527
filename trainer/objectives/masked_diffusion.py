"""Masked diffusion over the tokens of all modalities: a stochastic bound on the negative log-likelihood, per token.

A document's t gives every modality its own level through its own schedule. The bound for positions i with schedules m_i
is

    NELBO = E_t E_mask [ sum_{masked i} m_i'(t)/m_i(t) * -log p(x_i | x_t) ]    (MDLM, arXiv 2406.07524, eq. 10)

**Complement pairs** ("anti-masking" in the tri-modal paper, arXiv 2602.21472, whose algorithm is not known to us; this
one is our choice). The twin masks exactly the maskable positions that its original shows, so each is masked with
probability v_i = 1 - m_i, independently, and every position is predicted once per pair. With G_i(v) the expected
cross-entropy of i when masked, at levels v of the others, and the weight m_i'/(1 - m_i), the twin's expectation is

    E_t sum_i m_i'/(1-m_i) * (1-m_i) * G_i(1-m(t)) = integral_0^1 sum_i m_i'(t) G_i(1-m(t)) dt ,

the bound of the schedules 1 - m_i(1-t). Where all schedules are one, that is integral_0^1 sum_i G_i(v) dv, the same
number as the original's; where they differ it is the bound along another path, as good a bound. So a row and its twin
are two unbiased estimates, negatively correlated as far as cross-entropies are alike: where all are 1, the losses k/m
and (L-k)/(1-m) of a row with k of L tokens masked have covariance -L at every m.

Shape legend: B sequences, S positions, R rows (masked positions), V ids of one modality, N noise bins.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from triptych.data_pipelines.batch import Batch
from triptych.data_pipelines.vocabulary import MODALITIES, Modality, Vocabulary
from triptych.kernels.philox import Stream
from triptych.models.attention.documents import PackedDocuments
from triptych.models.cross_entropy import vocabulary_parallel_cross_entropy
from triptych.models.diffusion.corruption import (
    ConditionTreatment,
    Corruption,
    corrupt,
    stratified_times,
)
from triptych.models.diffusion.inputs import DiffusionInputs, RowKeys
from triptych.models.diffusion.schedules import ModalitySchedules
from triptych.trainer.seams import LossTerms

NO_LABEL = -100
"""The label of a padding row: no loss, no gradient, no count."""


@dataclass(kw_only=True, slots=True, frozen=True)
class ModalityWeights:
    """What a token of each modality counts for in the loss. ValueError unless finite and not negative."""

    text: float = 1.0
    image: float = 1.0
    audio: float = 1.0

    def __post_init__(self) -> None:
        for modality in MODALITIES:
            if not 0 <= self.of(modality) < math.inf:
                raise ValueError(f"loss weight {modality}={self.of(modality)} is not a number of 0 or more; 1 is usual")

    def of(self, modality: Modality) -> float:
        return getattr(self, modality)


@dataclass(kw_only=True, slots=True, frozen=True)
class MaskedDiffusionConfig:
    """Settings of the objective.

    pairing: "complement" where the data yields each row twice, the second time as copy 1; then the two share
    their times. head_capacity: the head's rows come in multiples of this fraction of a micro-batch's positions, per
    modality and at least one, so that shapes repeat; more masked tokens take more multiples, none is dropped.
    num_noise_bins: of the metrics, equal parts of the mask probability. num_time_strata: over how many documents of a
    source, in its order, t is stratified. ValueError for a fraction outside (0, 1], no bin or no stratum.
    """

    schedules: ModalitySchedules = field(default_factory=ModalitySchedules)
    condition: ConditionTreatment = field(default_factory=ConditionTreatment)
    loss_weights: ModalityWeights = field(default_factory=ModalityWeights)
    pairing: Literal["independent", "complement"] = "independent"
    head_capacity: float = 0.125
    num_noise_bins: int = 5
    num_time_strata: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.head_capacity <= 1:
            raise ValueError(f"head_capacity {self.head_capacity} is outside (0, 1]; 0.125 is usual")
        if self.num_noise_bins < 1:
            raise ValueError(f"num_noise_bins {self.num_noise_bins} is below 1; 5 is usual")
        if self.num_time_strata < 1:
            raise ValueError(f"num_time_strata {self.num_time_strata} is below 1; 256 is usual")


@dataclass(kw_only=True, slots=True, frozen=True)
class DiffusionTargets:
    """What the loss of a micro-batch needs besides the logits.

    labels: int64 [R] per modality, counted from the modality's first id; NO_LABEL on padding rows. row_weights:
    float32 [R], m'/m, 0 on padding rows. bins: int64 [R], noise bin. num_maskable: 0-d float32. weight: 0-d float32,
    maskable positions, each times its modality's loss weight: what the loss is divided by, whatever the masks turned
    out to be.
    """

    labels: Mapping[Modality, Tensor]
    row_weights: Mapping[Modality, Tensor]
    bins: Mapping[Modality, Tensor]
    num_maskable: Mapping[Modality, Tensor]
    weight: Tensor


class MaskedDiffusion:
    """The `Objective` of masked diffusion; see the module's docstring.

    tensor_group: the ranks that the logits are split over; none where the model returns them whole.
    """

    def __init__(
        self, config: MaskedDiffusionConfig, vocabulary: Vocabulary, tensor_group: ProcessGroup | None = None
    ) -> None:
        self.config = config
        self.vocabulary = vocabulary
        self._tensor_group = tensor_group

    def prepare(self, batch: Batch, stream: Stream) -> tuple[DiffusionInputs, DiffusionTargets]:
        """Corrupts the batch. The noise of a document depends on its key and its number in its source alone."""
        copies = 2 if self.config.pairing == "complement" else 1
        corruption = corrupt(
            batch,
            stratified_times(batch, stream, num_strata=self.config.num_time_strata, copies=copies),
            schedules=self.config.schedules,
            condition=self.config.condition,
            vocabulary=self.vocabulary,
            stream=stream,
        )
        documents = None
        if batch.lengths_BD.shape[1] > 1:
            documents = PackedDocuments(lengths_BD=batch.lengths_BD, longest=batch.longest)
        # Not by roles: a document that was lost is one that nobody else sees, and never a row without a key.
        padding_BS = ~batch.places().inside_BS
        chosen = [corruption.masked_BS & (corruption.modality_BS == index) for index in range(len(MODALITIES))]
        # The one synchronization with the host: four counts at once.
        counts = torch.stack([mask_BS.sum() for mask_BS in (*chosen, padding_BS)]).tolist()
        rows: dict[Modality, tuple[Tensor, Tensor]] = {
            modality: self._rows(chosen[index], counts[index]) for index, modality in enumerate(MODALITIES)
        }
        inputs = DiffusionInputs(
            tokens_BS=corruption.tokens_BS,
            rows={m: rows_R for m, (rows_R, _) in rows.items()},
            padding_BS=padding_BS if counts[-1] and documents is None else None,
            documents=documents,
            keys=RowKeys(
                stream=stream,
                samples_B3=batch.samples_BD3[:, 0],
                copies_B=batch.copies_B + 2 * batch.offsets_BD[:, 0],  # pieces of one text may each begin a row
            ),
        )
        return inputs, self._targets(batch, corruption, rows)

    def _rows(self, mask_BS: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Flat indices of the true positions, padded with 0 to a multiple of the quantum; and which are real."""
        quantum = math.ceil(self.config.head_capacity * mask_BS.numel())
        # At least one quantum, so that no parameter ever goes without a gradient.
        capacity = quantum * max(1, math.ceil(count / quantum))
        rows_R = torch.nonzero_static(mask_BS.flatten(), size=capacity, fill_value=0)[:, 0]
        return rows_R, torch.arange(capacity, device=rows_R.device) < count

    def _targets(
        self, batch: Batch, corruption: Corruption, rows: Mapping[Modality, tuple[Tensor, Tensor]]
    ) -> DiffusionTargets:
        num_bins = self.config.num_noise_bins
        bins_BS = (corruption.levels_BS * num_bins).long().clamp(max=num_bins - 1)
        weights_BS = corruption.weights_BS.float()
        labels, row_weights, bins, num_maskable = {}, {}, {}, {}
        for index, (modality, (rows_R, real_R)) in enumerate(rows.items()):
            labels_R = batch.tokens_BS.flatten()[rows_R] - self.vocabulary.start(modality)
            labels[modality] = labels_R.masked_fill(~real_R, NO_LABEL)
            row_weights[modality] = weights_BS.flatten()[rows_R].masked_fill(~real_R, 0)
            bins[modality] = bins_BS.flatten()[rows_R]
            num_maskable[modality] = (corruption.maskable_BS & (corruption.modality_BS == index)).sum().float()
        weighted = [self.config.loss_weights.of(modality) * number for modality, number in num_maskable.items()]
        return DiffusionTargets(
            labels=labels,
            row_weights=row_weights,
            bins=bins,
            num_maskable=num_maskable,
            weight=torch.stack(weighted).sum(),
        )

    def loss(self, outputs: Mapping[Modality, Tensor], targets: DiffusionTargets) -> LossTerms:
        """Cross-entropy in float32 of logits [R, V] per modality, V split over the tensor-parallel ranks.

        Metrics, over maskable positions, the condition's among them where it was masked: nelbo/<modality> in nats per
        maskable token; ce/<modality>/bin<k>, nats per masked token without the weight, at mask probabilities k/N to
        (k+1)/N; accuracy/<modality>, of masked tokens.
        """
        sums: list[Tensor] = []
        metrics: dict[str, tuple[Tensor, Tensor]] = {}
        for modality, labels_R in targets.labels.items():
            losses_R, correct_R = vocabulary_parallel_cross_entropy(
                outputs[modality], labels_R, self._tensor_group, self.vocabulary.num_outputs(modality)
            )
            nelbo = (targets.row_weights[modality] * losses_R).sum()
            sums.append(self.config.loss_weights.of(modality) * nelbo)
            metrics[f"nelbo/{modality}"] = (nelbo.detach(), targets.num_maskable[modality])
            with torch.no_grad():
                metrics |= self._row_metrics(modality, losses_R, correct_R, targets)
        return LossTerms(sum=torch.stack(sums).sum(), weight=targets.weight, metrics=metrics)

    def _row_metrics(
        self, modality: Modality, losses_R: Tensor, correct_R: Tensor, targets: DiffusionTargets
    ) -> dict[str, tuple[Tensor, Tensor]]:
        labels_R = targets.labels[modality]
        real_R = (labels_R != NO_LABEL).float()
        metrics = {f"accuracy/{modality}": (correct_R.sum().float(), real_R.sum())}
        bins_N1 = torch.arange(self.config.num_noise_bins, device=labels_R.device)[:, None]
        member_NR = (targets.bins[modality] == bins_N1) * real_R
        for k, (total, number) in enumerate(zip(member_NR @ losses_R, member_NR.sum(1), strict=True)):
            metrics[f"ce/{modality}/bin{k}"] = (total, number)
        return metrics
