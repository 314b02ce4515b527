"""From codes of one modality to codes of another, through a sampler: every direction is the filling of a canvas.

Shape legend: B sequences, S positions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from triptych.data_pipelines.batch import Batch, Role
from triptych.data_pipelines.stream.sequences import SIDES, Document, SequenceLayout
from triptych.data_pipelines.vocabulary import Task
from triptych.kernels.philox import Stream
from triptych.models.diffusion.sampling import Canvas, Sampler

Codes = NDArray[np.int64]


@dataclass(kw_only=True, slots=True, frozen=True)
class Generator:
    """Generates with one model, a denoiser in the samplers' sense.

    Results depend on the stream's seed and each item's key, not on the batch.
    """

    model: nn.Module
    sampler: Sampler
    layout: SequenceLayout
    stream: Stream
    device: torch.device
    batch_size: int

    def targets(self, task: Task, conditions: Sequence[Codes], first_key: int = 0) -> list[Codes]:
        """The target side of each pair, given the condition side; item i has key first_key + i."""
        made: list[Codes] = []
        for start in range(0, len(conditions), self.batch_size):
            canvas = self.canvas(task, conditions[start : start + self.batch_size], first_key + start)
            lengths = self._lengths(task, conditions[start : start + self.batch_size])
            made += self.target_codes(task, self.sampler.sample(self.model, canvas, self.stream), lengths)
        return made

    def states(
        self, task: Task, conditions: Sequence[Codes], first_key: int = 0
    ) -> Iterator[tuple[torch.Tensor, list[Codes]]]:
        """After each sampling step: which target positions are still masked (bool [B, target size]), and the codes so
        far.

        A masked position's code is 0; nothing is cut at END.
        """
        target = SIDES[task][1]
        first_code = self.layout.vocabulary.codes_start(target)
        canvas = self.canvas(task, conditions, first_key)
        lengths = self._lengths(task, conditions)
        for state in self.sampler.states(self.model, canvas, self.stream):
            rows = zip(state.tokens_BS, lengths, strict=True)
            ids = torch.stack([row[self.layout.target_slice(task, length)] for row, length in rows])
            yield ids == self.layout.vocabulary.mask, list((ids - first_code).clamp(min=0).cpu().numpy())

    def texts(self, num: int, prompt: Codes, first_key: int = 0) -> list[Codes]:
        """Packed text of a whole sequence after a prompt; END separates documents and is left out of the codes."""
        length = self.layout.sequence_length
        codes = np.zeros(length, np.int64)
        given = min(len(prompt), length - 1)
        codes[:given] = prompt[:given]
        tokens, roles = self.layout.text(codes, 0, length)
        roles[1 : 1 + given] = Role.CONDITION
        batch = self._batch([Document(tokens, roles)] * num, first_key)
        tokens_BS = self.sampler.sample(self.model, self._canvas(batch), self.stream)
        return [self.layout.region_codes("text", row[1:]) for row in tokens_BS.cpu().numpy()]

    def canvas(self, task: Task, conditions: Sequence[Codes], first_key: int) -> Canvas:
        """Pairs whose target side is to be filled."""
        condition, target = SIDES[task]
        nothing = np.zeros(self.layout.regions.of(target), np.int64)
        return self._canvas(
            self._batch(
                [self.layout.pair(task, {condition: codes, target: nothing}) for codes in conditions], first_key
            )
        )

    def infill(
        self, task: Task, pairs: Sequence[tuple[Codes, Codes]], holes: NDArray[np.bool_], first_key: int = 0
    ) -> list[Codes]:
        """Refill the true places of each target side (bool [target size]), given its rest and the condition side."""
        condition, target = SIDES[task]
        rows = [self.layout.pair(task, {condition: first, target: second}) for first, second in pairs]
        for tokens, roles in rows:
            where = self.layout.target_slice(task, len(tokens))
            roles[where] = np.where(holes, Role.TARGET, Role.GIVEN)
        tokens_BS = self.sampler.sample(self.model, self._canvas(self._batch(rows, first_key)), self.stream)
        return self.target_codes(task, tokens_BS, [len(tokens) for tokens, _ in rows])

    def target_codes(self, task: Task, tokens_BS: torch.Tensor, lengths: Sequence[int]) -> list[Codes]:
        """The target side of filled pairs of these lengths, up to its END."""
        target = SIDES[task][1]
        rows = zip(tokens_BS.cpu().numpy(), lengths, strict=True)
        return [self.layout.region_codes(target, row[self.layout.target_slice(task, length)]) for row, length in rows]

    def _lengths(self, task: Task, conditions: Sequence[Codes]) -> list[int]:
        """Positions of the pairs with these conditions."""
        return self.layout.pair_sizes(task, np.array([len(codes) for codes in conditions])).tolist()

    def _canvas(self, batch: Batch) -> Canvas:
        return Canvas.of_batch(batch.to(self.device), self.layout.vocabulary)

    def _batch(self, documents: Sequence[Document], first_key: int) -> Batch:
        """A row for each, filled up with padding, keyed first_key and on."""
        lengths = torch.tensor([[len(document.tokens)] for document in documents])
        longest = int(lengths.max())
        tokens = np.full((len(documents), longest), self.layout.vocabulary.special("pad"), np.int64)
        roles = np.full(tokens.shape, int(Role.PADDING), np.uint8)
        for row, document in enumerate(documents):
            tokens[row, : len(document.tokens)], roles[row, : len(document.tokens)] = document
        keys = torch.arange(first_key, first_key + len(documents))[:, None]
        nought = torch.zeros_like(keys)
        return Batch(
            tokens_BS=torch.from_numpy(tokens),
            roles_BS=torch.from_numpy(roles),
            lengths_BD=lengths,
            samples_BD3=torch.stack([nought, keys, nought], dim=-1),
            offsets_BD=nought,
            numbers_BD=torch.arange(len(documents))[:, None],
            lost_BD=nought.bool(),
            copies_B=nought[:, 0],
            longest=longest,
        )
