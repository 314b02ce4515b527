"""What a sampler fills.

Shape legend: B sequences, S positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from triptych.data_pipelines.batch import Batch, Role
from triptych.data_pipelines.vocabulary import Vocabulary


@dataclass(kw_only=True, slots=True, frozen=True)
class Canvas:
    """Sequences with holes. Generation, infilling, and every direction between modalities are this one thing.

    tokens_BS: int64; given tokens, anything at the holes. modality_BS: int8, at the holes the index into MODALITIES
    of what to put there, -1 elsewhere. condition_BS: bool, given positions that the unconditional half of guidance
    hides. samples_B: int64 below 2**40, the key of each row's randomness. padding_BS: bool, True where not attended
    to, or None.
    """

    tokens_BS: Tensor
    modality_BS: Tensor
    condition_BS: Tensor
    samples_B: Tensor
    padding_BS: Tensor | None = None

    @classmethod
    def of_batch(cls, batch: Batch, vocabulary: Vocabulary, samples_B: Tensor | None = None) -> "Canvas":
        """The targets of a batch become holes of the modality that their tokens have.

        samples_B: keys of the randomness; the rows' absolute sample indices unless given. Rows of one document each.
        """
        padding_BS = batch.roles_BS == Role.PADDING
        return cls.of_tokens(
            batch.tokens_BS,
            batch.roles_BS == Role.TARGET,
            vocabulary,
            condition_BS=batch.roles_BS == Role.CONDITION,
            samples_B=batch.samples_BD3[:, 0, 1] if samples_B is None else samples_B,
            padding_BS=padding_BS if bool(padding_BS.any()) else None,
        )

    @classmethod
    def of_tokens(
        cls,
        tokens_BS: Tensor,
        holes_BS: Tensor,
        vocabulary: Vocabulary,
        *,
        condition_BS: Tensor,
        samples_B: Tensor,
        padding_BS: Tensor | None = None,
    ) -> "Canvas":
        """Infilling: holes_BS (bool) are refilled with the modality that tokens_BS has there; specials stay."""
        modality_BS = vocabulary.modality_ids(tokens_BS).masked_fill(~holes_BS, -1)
        return cls(
            tokens_BS=tokens_BS.masked_fill(modality_BS >= 0, vocabulary.mask),
            modality_BS=modality_BS.to(torch.int8),
            condition_BS=condition_BS & ~holes_BS,
            samples_B=samples_B,
            padding_BS=padding_BS,
        )
