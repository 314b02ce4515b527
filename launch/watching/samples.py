"""Drafts of all modalities while a run trains, on its clock."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from triptych.configs.token_data import Tokenizers
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.stream.sequences import SIDES
from triptych.data_pipelines.vocabulary import Modality, Task
from triptych.kernels.philox import Stream
from triptych.models.diffusion.sampling import Sampler
from triptych.trainer.generation import Generator
from triptych.trainer.parallel.groups import Groups
from triptych.trainer.state import TrainState

SAMPLE_RATE_HERTZ = 16_000
HELD_OUT_ROWS = 64  # among which conditions of every task are looked for

Codes = NDArray[np.int64]


class Media(Protocol):
    """Where drafts go."""

    def image(self, name: str, pixels: NDArray[np.uint8], tokens: int) -> None: ...

    def audio(self, name: str, samples: NDArray[np.floating[Any]], tokens: int, sample_rate_hertz: int) -> None: ...

    def text(self, name: str, text: str, tokens: int) -> None: ...


@dataclass(kw_only=True, slots=True, frozen=True)
class Draft:
    """One thing made. condition: the text it was made for, "" for what is not text."""

    task: str
    number: int
    modality: Modality
    condition: str
    raw: Any


def why_not(groups: Groups) -> str | None:
    """Why no samples can be drawn while a run with these groups trains; None if they can."""
    if groups.num_model_ranks == 1:
        return None
    return "watch.samples_every_tokens: the model is split over ranks, so no samples are drawn while it trains"


class TrainingSamples:
    """An after-step hook of the first rank: draws samples whenever `watch.samples_every_tokens` more tokens have been
    seen. The same held-out conditions and the same noise every time, so that drafts differ by the weights alone.

    It uses no generator of torch's and leaves mode and gradients as they were; the other ranks wait for it at their
    next meeting. give_up: asked between tasks, so that a stop does not wait for all of them.
    """

    def __init__(
        self,
        run: TrimodalRun,
        tokenizers: Tokenizers,
        device: torch.device,
        media: Sequence[Media],
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._run, self._tokenizers, self._device = run, tokenizers, device
        self._media, self._give_up = list(media), give_up
        self._conditions: dict[Task, list[Codes]] | None = None
        self._last: int | None = None

    def __call__(self, state: TrainState) -> None:
        """Draw, if it is time."""
        every = self._run.watch.samples_every_tokens
        before = state.tokens if self._last is None else self._last
        self._last = state.tokens
        if not every or state.tokens // every <= before // every:
            return
        for draft in self.draw(state.engine.module):
            for media in self._media:
                show(draft, media, state.tokens)

    def draw(self, model: torch.nn.Module) -> Iterator[Draft]:
        """One draft after another from a model that is left as it was found."""
        if self._conditions is None:
            self._conditions = held_out_conditions(self._run, self._tokenizers)
        generator = Generator(
            model=model,
            sampler=Sampler(self._run.sampling, self._run.model.vocabulary),
            layout=self._run.layout,
            stream=Stream(seed=self._run.fit.seed),
            device=self._device,
            batch_size=self._run.watch.num_samples,
        )
        devices = [self._device] if self._device.type == "cuda" else []
        for task, conditions in self._conditions.items():
            if self._give_up():
                return
            was_training = model.training
            model.eval()
            try:
                with torch.no_grad(), torch.random.fork_rng(devices):
                    made = generator.targets(task, conditions)
            finally:
                model.train(was_training)
            yield from self._decoded(task, conditions, made)
        if not self._give_up() and any(source.task == "text" for source in self._run.data.sources.values()):
            yield from self._texts(generator, model)

    def _decoded(self, task: Task, conditions: list[Codes], made: list[Codes]) -> Iterator[Draft]:
        condition, target = SIDES[task]
        names = self._tokenizers["text"].decode(conditions) if condition == "text" else [""] * len(conditions)
        for number, (name, raw) in enumerate(zip(names, self._tokenizers[target].decode(made), strict=True)):
            yield Draft(task=task, number=number, modality=target, condition=name, raw=raw)

    def _texts(self, generator: Generator, model: torch.nn.Module) -> Iterator[Draft]:
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                made = generator.texts(self._run.watch.num_samples, np.zeros(0, np.int64))
        finally:
            model.train(was_training)
        for number, text in enumerate(self._tokenizers["text"].decode(made)):
            yield Draft(task="text", number=number, modality="text", condition="", raw=text)


def held_out_conditions(run: TrimodalRun, tokenizers: Tokenizers) -> dict[Task, list[Codes]]:
    """The conditions of the first held-out pairs, `watch.num_samples` for each task that the run has. None of a task
    that has no validation split.
    """
    found: dict[Task, list[Codes]] = {}
    mixture = run.build_mixture(tokenizers, "validation")
    batch, _ = mixture.batch({}, HELD_OUT_ROWS, 0, 1)
    tasks: Mapping[int, Task] = {run.model.vocabulary.special(f"task_{task}"): task for task in SIDES}
    for tokens_S, lengths_D in zip(batch.tokens_BS.numpy(), batch.lengths_BD.tolist(), strict=True):
        start = 0
        for length in lengths_D:
            document, start = tokens_S[start : start + length], start + length
            task = tasks.get(int(document[0])) if length else None
            if task is None or len(found.get(task, ())) == run.watch.num_samples:
                continue
            condition, target = SIDES[task]
            codes = run.layout.region_codes(condition, document[2 : length - run.layout.regions.of(target) - 1])
            found.setdefault(task, []).append(codes)
    return found


def show(draft: Draft, media: Media, tokens: int) -> None:
    """Put one draft where it can be seen."""
    name = f"samples/{draft.task}/{draft.number}"
    if draft.modality == "image":
        media.image(name, draft.raw, tokens)
        if draft.condition:
            media.text(f"{name}/condition", draft.condition, tokens)
    elif draft.modality == "audio":
        media.audio(name, draft.raw, tokens, SAMPLE_RATE_HERTZ)
        if draft.condition:
            media.text(f"{name}/condition", draft.condition, tokens)
    else:
        media.text(name, draft.raw, tokens)
