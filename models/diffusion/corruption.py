"""The forward process: which tokens of a batch are hidden, as a pure function of the run's seed and each row's key.

Shape legend: B sequences, S positions, 3 modalities in the order of MODALITIES.
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

_SMALLEST_TIME = 2.0**-53  # keeps t inside (0, 1) where fractions round to an end


@dataclass(kw_only=True, slots=True, frozen=True)
class ConditionTreatment:
    """What becomes of a pair's condition, decided per row.

    masking_probability: the condition is masked like a target, at the level of its own modality's schedule at the
    row's t, and carries loss: the row then trains the joint distribution. dropout: otherwise, the chance that all of
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
    those of them that are masked. modality_BS: int64 index into MODALITIES, -1 for specials. levels_B3, weights_B3:
    float64, each row's mask probability and loss weight for a token of each modality.
    """

    tokens_BS: Tensor
    maskable_BS: Tensor
    masked_BS: Tensor
    modality_BS: Tensor
    levels_B3: Tensor
    weights_B3: Tensor


def stratified_times(batch: Batch, stream: Stream, *, num_strata: int, rows_per_time: int) -> Tensor:
    """float64 [B] in (0, 1): t of each row, stratified over every `num_strata` times of the run, wherever its batches
    begin and end.

    t = frac((k + u)/n + shift), with k one of n = `num_strata` strata, u the row's own draw and shift one draw for the
    n times, which makes every single row's t uniform. Consecutive rows take strata a golden section of n apart, so that
    a part of them is spread almost as evenly as the whole. rows_per_time: 1, or 2 where rows 2k and 2k+1 of the run are
    a pair that shares its t.

    Low-discrepancy times: MDLM (arXiv 2406.07524), VDM (arXiv 2107.00630, appendix I.1), over a batch. Over the run, so
    that a change of batch leaves every row's noise as it was, is our choice.
    """
    draws_B = stream.uniform(Purpose.TIME, batch.samples_B3, 1)[:, 0]
    times_B = (batch.numbers_B - batch.copies_B) // rows_per_time  # a twin has its original's time
    shifts_B = stream.at(Purpose.TIME_SHIFT, times_B // num_strata)
    strata_B = times_B % num_strata * _golden_stride(num_strata) % num_strata
    return torch.frac((strata_B + draws_B) / num_strata + shifts_B).clamp(_SMALLEST_TIME, 1 - _SMALLEST_TIME)


@functools.cache
def _golden_stride(number: int) -> int:
    """The number nearest to number * 0.618 that has no factor in common with it."""
    target = number * (math.sqrt(5) - 1) / 2
    return min(
        (stride for stride in range(1, number + 1) if math.gcd(stride, number) == 1),
        key=lambda stride: abs(stride - target),
    )


def levels_and_weights(times_B: Tensor, copies_B: Tensor, schedules: ModalitySchedules) -> tuple[Tensor, Tensor]:
    """m(t), the same for a row and its twin, and the loss weights, which are not: both float64 [B, 3]."""
    each = [schedules.of(modality) for modality in MODALITIES]
    levels_B3 = torch.stack([schedule.mask_probability(times_B) for schedule in each], 1)
    weights_B3 = torch.stack([schedule.weight(times_B) for schedule in each], 1)
    twin_weights_B3 = torch.stack([schedule.complement_weight(times_B) for schedule in each], 1)
    return levels_B3, torch.where(copies_B.bool()[:, None], twin_weights_B3, weights_B3)


def per_position(values_B3: Tensor, modality_BS: Tensor) -> Tensor:
    """[B, S]: each position's value for its own modality; that of the first modality at specials."""
    return values_B3.gather(1, modality_BS.clamp(min=0))


def corrupt(
    batch: Batch,
    times_B: Tensor,
    *,
    schedules: ModalitySchedules,
    condition: ConditionTreatment,
    vocabulary: Vocabulary,
    stream: Stream,
) -> Corruption:
    """Masks each maskable token where its draw is under its level; a twin where the same draw is not under its
    original's.

    So a twin's mask is exactly the complement, among maskable positions, of its original's at the same t, and its
    marginal level is 1 - m. A token's fate depends on seed, sample key, position, copy and t alone.
    """
    modality_BS = vocabulary.modality_ids(batch.tokens_BS)
    levels_B3, weights_B3 = levels_and_weights(times_B, batch.copies_B, schedules)
    joint_B = stream.uniform(Purpose.CONDITION_MASKING, batch.samples_B3, 1)[:, 0] < condition.masking_probability
    dropped_B = stream.uniform(Purpose.CONDITION_DROPOUT, batch.samples_B3, 1)[:, 0] < condition.dropout
    is_condition_BS = batch.roles_BS == Role.CONDITION
    maskable_BS = (batch.roles_BS == Role.TARGET) | (is_condition_BS & joint_B[:, None])
    maskable_BS &= modality_BS >= 0  # specials are never predicted
    twin_B1 = batch.copies_B.bool()[:, None]
    draws_BS = stream.uniform(Purpose.CORRUPTION, batch.samples_B3, batch.tokens_BS.shape[1])
    under_BS = draws_BS < per_position(levels_B3, modality_BS)
    masked_BS = maskable_BS & (under_BS ^ twin_B1)
    hidden_BS = masked_BS | (is_condition_BS & (dropped_B & ~joint_B)[:, None])
    return Corruption(
        tokens_BS=batch.tokens_BS.masked_fill(hidden_BS, vocabulary.mask),
        maskable_BS=maskable_BS,
        masked_BS=masked_BS,
        modality_BS=modality_BS,
        levels_B3=torch.where(twin_B1, 1 - levels_B3, levels_B3),
        weights_B3=weights_B3,
    )
