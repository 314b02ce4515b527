"""The forward process: which tokens of a batch are hidden, as a pure function of the run's seed and each row's key.

Shape legend: B rows, S positions, D documents of the fullest row, 3 modalities in the order of MODALITIES.
"""

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from triptych.data_pipelines.batch import Batch, Role
from triptych.data_pipelines.vocabulary import MODALITIES, Vocabulary
from triptych.kernels.philox import Purpose, Stream
from triptych.models.diffusion.schedules import ModalitySchedules

_LARGEST_INDEX = 2**40 - 1  # of a random stream's samples; what is beyond begins anew
_SMALLEST_TIME = 2.0**-53  # keeps t inside (0, 1) where fractions round to an end


@dataclass(kw_only=True, slots=True, frozen=True)
class ConditionTreatment:
    """What becomes of a pair's condition, decided per pair.

    masking_probability: the condition is masked like a target, at the level of its own modality's schedule at the
    pair's t, and carries loss: the pair then trains the joint distribution. dropout: otherwise, the chance that all of
    it is replaced by [MASK], without loss, as guidance needs. ValueError unless both are in [0, 1].
    """

    masking_probability: float = 0.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("masking_probability", "dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"condition.{name} {getattr(self, name)} is not a probability; give 0 to 1")


@dataclass(kw_only=True, slots=True, frozen=True)
class Corruption:
    """A corrupted batch.

    tokens_BS: int64 with [MASK] where hidden. maskable_BS: bool, positions that the loss is about. masked_BS: bool,
    those of them that are masked. modality_BS: int64 index into MODALITIES, -1 for specials. levels_BS, weights_BS:
    float64, the mask probability and the loss weight of each position's modality in its document; those of the first
    modality at specials.
    """

    tokens_BS: Tensor
    maskable_BS: Tensor
    masked_BS: Tensor
    modality_BS: Tensor
    levels_BS: Tensor
    weights_BS: Tensor


def stratified_times(batch: Batch, stream: Stream, *, num_strata: int, copies: int) -> Tensor:
    """float64 [B, D] in (0, 1): t of each document, stratified over every `num_strata` documents of its source's order,
    wherever batches begin and end.

    t = frac((k + u)/n + shift), with k one of n = `num_strata` strata, u the document's own draw and shift one draw for
    the n of them, which makes every single t uniform. Consecutive documents take strata a golden section of n apart, so
    that a part of them is spread almost as evenly as the whole. copies: 2 where a row and the next are a pair that
    shares its times, else 1.

    Low-discrepancy times: MDLM (arXiv 2406.07524), VDM (arXiv 2107.00630, appendix I.1), over a batch. Over the order
    of each source, so that neither a change of batch nor another source changes a document's noise, is our choice.
    """
    draws_BD = stream.uniform_at(Purpose.TIME, batch.samples_BD3, batch.offsets_BD)
    times_BD = (batch.numbers_BD - batch.copies_B[:, None]) // copies  # a twin has its original's time
    source_BD = batch.samples_BD3[..., 0]
    stretches_BD3 = torch.stack([source_BD, times_BD // num_strata & _LARGEST_INDEX, torch.zeros_like(source_BD)], -1)
    shifts_BD = stream.uniform_at(Purpose.TIME_SHIFT, stretches_BD3, torch.zeros_like(source_BD))
    strata_BD = times_BD % num_strata * _golden_stride(num_strata) % num_strata
    return torch.frac((strata_BD + draws_BD) / num_strata + shifts_BD).clamp(_SMALLEST_TIME, 1 - _SMALLEST_TIME)


@functools.cache
def _golden_stride(number: int) -> int:
    """The number nearest to number * 0.618 that has no factor in common with it."""
    target = number * (math.sqrt(5) - 1) / 2
    return min(
        (stride for stride in range(1, number + 1) if math.gcd(stride, number) == 1),
        key=lambda stride: abs(stride - target),
    )


def levels_and_weights(times_BD: Tensor, copies_B: Tensor, schedules: ModalitySchedules) -> tuple[Tensor, Tensor]:
    """m(t), the same for a row and its twin, and the loss weights, which are not: both float64 [B, D, 3]."""
    each = [schedules.of(modality) for modality in MODALITIES]
    levels_BD3 = torch.stack([schedule.mask_probability(times_BD) for schedule in each], -1)
    weights_BD3 = torch.stack([schedule.weight(times_BD) for schedule in each], -1)
    twin_weights_BD3 = torch.stack([schedule.complement_weight(times_BD) for schedule in each], -1)
    return levels_BD3, torch.where(copies_B.bool()[:, None, None], twin_weights_BD3, weights_BD3)


def corrupt(
    batch: Batch,
    times_BD: Tensor,
    *,
    schedules: ModalitySchedules,
    condition: ConditionTreatment,
    vocabulary: Vocabulary,
    stream: Stream,
) -> Corruption:
    """Masks each maskable token where its draw is under its level; a twin where the same draw is not under its
    original's.

    So a twin's mask is exactly the complement, among maskable positions, of its original's at the same t, and its
    marginal level is 1 - m. A token's fate depends on seed, sample key, position in the sample, copy and t alone: not
    on where its document stands, nor on what shares its row.
    """
    places = batch.places()
    modality_BS = vocabulary.modality_ids(batch.tokens_BS)
    samples_BD3, document_BS = batch.samples_BD3, places.document_BS
    nowhere_BD = torch.zeros_like(batch.offsets_BD)
    joint_BD = stream.uniform_at(Purpose.CONDITION_MASKING, samples_BD3, nowhere_BD) < condition.masking_probability
    dropped_BD = stream.uniform_at(Purpose.CONDITION_DROPOUT, samples_BD3, nowhere_BD) < condition.dropout
    joint_BS, dropped_BS = (draws_BD.gather(1, document_BS) for draws_BD in (joint_BD, dropped_BD & ~joint_BD))
    is_condition_BS = batch.roles_BS == Role.CONDITION
    maskable_BS = (batch.roles_BS == Role.TARGET) | (is_condition_BS & joint_BS)
    maskable_BS &= modality_BS >= 0  # specials are never predicted
    levels_BS, weights_BS = (
        values_BD3.flatten(1).gather(1, document_BS * len(MODALITIES) + modality_BS.clamp(min=0))
        for values_BD3 in levels_and_weights(times_BD, batch.copies_B, schedules)
    )
    samples_BS3 = samples_BD3.gather(1, document_BS[..., None].expand(-1, -1, 3))
    positions_BS = places.position_BS + batch.offsets_BD.gather(1, document_BS)
    twin_B1 = batch.copies_B.bool()[:, None]
    under_BS = stream.uniform_at(Purpose.CORRUPTION, samples_BS3, positions_BS) < levels_BS
    masked_BS = maskable_BS & (under_BS ^ twin_B1)
    return Corruption(
        tokens_BS=batch.tokens_BS.masked_fill(masked_BS | (is_condition_BS & dropped_BS), vocabulary.mask),
        maskable_BS=maskable_BS,
        masked_BS=masked_BS,
        modality_BS=modality_BS,
        levels_BS=torch.where(twin_B1, 1 - levels_BS, levels_BS),
        weights_BS=weights_BS,
    )
