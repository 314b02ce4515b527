"""Classifier-free guidance, and the call of the denoiser.

Convention: logits = u + (s+1)(c-u), with c conditional and u unconditional logits (LLaDA, arXiv 2502.09992;
the same as (1+s)c - s u). s = 0 is conditional sampling, s = -1 unconditional. The unconditional input has [MASK] for
every token of the condition. Logits and log-probabilities give the same distribution here, for a row's constant drops
out.

Shape legend: B sequences, S positions, R rows, V ids of one modality.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from triptych.data_pipelines.vocabulary import Modality
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.diffusion.sampling.canvas import Canvas


class Denoiser(Protocol):
    """Logits [R, V] for the rows of each modality; a trained model, or a table in a test. Columns past the modality's
    ids are padding and mean nothing.
    """

    def __call__(self, inputs: DiffusionInputs) -> Mapping[Modality, Tensor]: ...


def guide(conditional_RV: Tensor, unconditional_RV: Tensor, strength: float) -> Tensor:
    """u + (s+1)(c-u) in float64."""
    unconditional_RV = unconditional_RV.double()
    return unconditional_RV + (strength + 1) * (conditional_RV.double() - unconditional_RV)


def guided_logits(
    denoiser: Denoiser,
    canvas: Canvas,
    tokens_BS: Tensor,
    rows: Mapping[Modality, Tensor],
    strengths: Mapping[Modality, float],
    mask: int,
) -> dict[Modality, Tensor]:
    """Logits [R, V] of each modality's rows, each at its own strength, in one call.

    Where any strength is not 0 the batch is doubled, the second half without condition.
    """
    guided: list[Modality] = [modality for modality in rows if strengths[modality] != 0]
    if not guided:
        inputs = DiffusionInputs(tokens_BS=tokens_BS, rows=rows, padding_BS=canvas.padding_BS)
        return dict(denoiser(inputs))
    padding_BS = canvas.padding_BS
    offset = tokens_BS.numel()
    inputs = DiffusionInputs(
        tokens_BS=torch.cat([tokens_BS, tokens_BS.masked_fill(canvas.condition_BS, mask)]),
        rows={m: torch.cat([rows_R, rows_R + offset]) if m in guided else rows_R for m, rows_R in rows.items()},
        padding_BS=None if padding_BS is None else torch.cat([padding_BS, padding_BS]),
    )
    logits = dict(denoiser(inputs))
    for modality in guided:
        conditional_RV, unconditional_RV = logits[modality].chunk(2)
        logits[modality] = guide(conditional_RV, unconditional_RV, strengths[modality])
    return logits
