"""From codes of one modality to codes of another, through a sampler: every direction is the filling of a canvas.

Shape legend: B sequences, S positions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from triptych.data_pipelines.batch import Batch, Role
from triptych.data_pipelines.stream.sequences import SIDES, Document, SequenceLayout
from triptych.data_pipelines.vocabulary import Modality, Task
from triptych.kernels.philox import Stream
from triptych.models.diffusion.sampling import Canvas, Sampler, State

Codes = NDArray[np.int64]


@dataclass(kw_only=True, slots=True, frozen=True)
class Filling:
    """Rows to be filled. regions: the part of each row that is read afterwards, of one modality."""

    canvas: Canvas
    modality: Modality
    regions: Sequence[slice]


class Snapshot(NamedTuple):
    """A region while it is filled. hidden, ended: bool [n], where [MASK] and END stand. codes: int64 [n], 0 there."""

    hidden: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    codes: Codes


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
        return [codes for filling in self.pair_fillings(task, conditions, first_key) for codes in self.filled(filling)]

    def states(
        self, task: Task, conditions: Sequence[Codes], first_key: int = 0
    ) -> Iterator[tuple[torch.Tensor, list[Codes]]]:
        """After each sampling step: which target positions are still masked (bool [B, target size]), and the codes so
        far.

        A masked position's code is 0; nothing is cut at END.
        """
        filling = self._pair_filling(task, conditions, first_key)
        for state in self.steps(filling):
            snapshots = self.snapshots(filling, state.tokens_BS)
            yield torch.from_numpy(np.stack([one.hidden for one in snapshots])), [one.codes for one in snapshots]

    def texts(self, num: int, prompt: Codes, first_key: int = 0) -> list[Codes]:
        """Packed text of a whole sequence after a prompt; END separates documents and is left out of the codes."""
        return self.filled(self.text_filling(num, prompt, first_key))

    def canvas(self, task: Task, conditions: Sequence[Codes], first_key: int) -> Canvas:
        """Pairs whose target side is to be filled."""
        return self._pair_filling(task, conditions, first_key).canvas

    def infill(
        self, task: Task, pairs: Sequence[tuple[Codes, Codes]], holes: NDArray[np.bool_], first_key: int = 0
    ) -> list[Codes]:
        """Refill the true places of each target side (bool [target size]), given its rest and the condition side."""
        return self.filled(self.infilling(task, pairs, holes, first_key))

    def pair_fillings(self, task: Task, conditions: Sequence[Codes], first_key: int = 0) -> Iterator[Filling]:
        """What `targets` fills, a batch at a time."""
        for start in range(0, len(conditions), self.batch_size):
            yield self._pair_filling(task, conditions[start : start + self.batch_size], first_key + start)

    def text_filling(self, num: int, prompt: Codes, first_key: int = 0) -> Filling:
        """What `texts` fills."""
        length = self.layout.sequence_length
        codes = np.zeros(length, np.int64)
        given = min(len(prompt), length - 1)
        codes[:given] = prompt[:given]
        tokens, roles = self.layout.text(codes, 0, length)
        roles[1 : 1 + given] = Role.CONDITION
        return self._filling("text", [Document(tokens, roles)] * num, slice(1, length), first_key)

    def infilling(
        self, task: Task, pairs: Sequence[tuple[Codes, Codes]], holes: NDArray[np.bool_], first_key: int = 0
    ) -> Filling:
        """What `infill` fills."""
        condition, target = SIDES[task]
        rows = [self.layout.pair(task, {condition: first, target: second}) for first, second in pairs]
        for tokens, roles in rows:
            where = self.layout.target_slice(task, len(tokens))
            roles[where] = np.where(holes, Role.TARGET, Role.GIVEN)
        return self._filling(target, rows, [self.layout.target_slice(task, len(row.tokens)) for row in rows], first_key)

    def text_infilling(self, num: int, codes: Codes, holes: NDArray[np.bool_], first_key: int = 0) -> Filling:
        """A text whose true places (bool [n], as many as codes) are to be filled anew, `num` times; END follows it.

        Of a text longer than a sequence, its beginning.
        """
        tokens, roles = self.layout.text(codes, 0, self.layout.sequence_length)
        shown = holes[: len(tokens) - 1]
        roles[1:] = Role.GIVEN
        roles[1 : 1 + len(shown)][shown] = Role.TARGET
        return self._filling("text", [Document(tokens, roles)] * num, slice(1, len(tokens)), first_key)

    def steps(self, filling: Filling) -> Iterator[State]:
        """The state after each sampling step; whoever stops asking stops the sampler."""
        return self.sampler.states(self.model, filling.canvas, self.stream)

    def filled(self, filling: Filling) -> list[Codes]:
        """The codes of each region, up to its END."""
        return self.codes(filling, self.sampler.sample(self.model, filling.canvas, self.stream))

    def codes(self, filling: Filling, tokens_BS: torch.Tensor) -> list[Codes]:
        """As `filled`, of tokens that have been sampled."""
        rows = zip(tokens_BS.cpu().numpy(), filling.regions, strict=True)
        return [self.layout.region_codes(filling.modality, row[region]) for row, region in rows]

    def snapshots(self, filling: Filling, tokens_BS: torch.Tensor) -> list[Snapshot]:
        """How far each region is."""
        vocabulary, found = self.layout.vocabulary, []
        for row, region in zip(tokens_BS.cpu().numpy(), filling.regions, strict=True):
            ids = row[region]
            hidden, ended = ids == vocabulary.mask, ids == vocabulary.end(filling.modality)
            codes = np.where(hidden | ended, 0, ids - vocabulary.codes_start(filling.modality))
            found.append(Snapshot(hidden, ended, codes))
        return found

    def _pair_filling(self, task: Task, conditions: Sequence[Codes], first_key: int) -> Filling:
        condition, target = SIDES[task]
        nothing = np.zeros(self.layout.regions.of(target), np.int64)
        rows = [self.layout.pair(task, {condition: codes, target: nothing}) for codes in conditions]
        return self._filling(target, rows, [self.layout.target_slice(task, len(row.tokens)) for row in rows], first_key)

    def _filling(
        self, modality: Modality, documents: Sequence[Document], region: slice | Sequence[slice], first_key: int
    ) -> Filling:
        batch = self._batch(documents, first_key).to(self.device)
        regions = [region] * len(documents) if isinstance(region, slice) else region
        return Filling(canvas=Canvas.of_batch(batch, self.layout.vocabulary), modality=modality, regions=regions)

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
