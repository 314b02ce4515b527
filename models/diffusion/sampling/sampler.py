"""The sampling loop: from hidden to filled, a few positions per step, each modality by its own settings.

All randomness is a function of (seed, sample key, step, position), so a row comes out the same alone and in any
batch, as far as the denoiser's logits do.

Shape legend: B sequences, S positions, R rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from triptych.data_pipelines.vocabulary import MODALITIES, Modality, Vocabulary
from triptych.kernels.philox import Purpose, Stream
from triptych.models.diffusion.sampling.canvas import Canvas
from triptych.models.diffusion.sampling.drawing import draw
from triptych.models.diffusion.sampling.guidance import Denoiser, guided_logits
from triptych.models.diffusion.sampling.rules import Confidence, MaskGit, Moment, RevealRule

MAX_STEPS = 2**16  # the step takes the place of the epoch in the key of a draw


@dataclass(kw_only=True, slots=True, frozen=True)
class SamplerConfig:
    """How one modality is sampled.

    num_steps: for a block, or for all of a row's holes where block_length is None. temperature: of the token; 0 takes
    the likeliest. top_p: mass of the nucleus, 1 for no cut. guidance: s of u + (s+1)(c-u). block_length: holes are
    filled in blocks of so many, from left to right, each finished before the next is begun (semi-autoregressive,
    LLaDA). may_end: whether END may be drawn. ValueError for a value outside its range.
    """

    num_steps: int
    rule: RevealRule
    temperature: float = 1.0
    top_p: float = 1.0
    guidance: float = 0.0
    block_length: int | None = None
    may_end: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.num_steps < MAX_STEPS:
            raise ValueError(f"num_steps {self.num_steps} is outside 1..{MAX_STEPS - 1}; 16 to 256 is usual")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(
                f"temperature {self.temperature} is not 0 or more; 1 samples the model, 0 takes the likeliest"
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} is outside (0, 1]; 1 cuts nothing")
        if not -1 <= self.guidance < float("inf"):
            raise ValueError(f"guidance {self.guidance} is below -1; 0 is none, 1 to 4 is usual")
        if self.block_length is not None and self.block_length < 1:
            raise ValueError(f"block_length {self.block_length} is below 1; leave it out to fill all at once")


def _text() -> SamplerConfig:
    return SamplerConfig(num_steps=32, rule=Confidence(), temperature=0.7, top_p=0.9)


def _image() -> SamplerConfig:
    return SamplerConfig(num_steps=16, rule=MaskGit(), guidance=1.0, may_end=False)


def _audio() -> SamplerConfig:
    return SamplerConfig(num_steps=24, rule=MaskGit(choice_temperature=1.0), guidance=1.0)


@dataclass(kw_only=True, slots=True, frozen=True)
class ModalitySamplers:
    """One sampler per modality. The defaults are our starting points: the tri-modal paper's own are not known to us."""

    text: SamplerConfig = field(default_factory=_text)
    image: SamplerConfig = field(default_factory=_image)
    audio: SamplerConfig = field(default_factory=_audio)

    def of(self, modality: Modality) -> SamplerConfig:
        return getattr(self, modality)


@dataclass(kw_only=True, slots=True, frozen=True)
class State:
    """After a step. tokens_BS: int64, [MASK] where still hidden; revealed_BS: bool, what is new."""

    step: int
    num_steps: int
    tokens_BS: Tensor
    revealed_BS: Tensor


@dataclass(kw_only=True, slots=True, frozen=True)
class _Plan:
    """One modality's holes: blocks_BS int64, the block of each, -1 elsewhere."""

    config: SamplerConfig
    blocks_BS: Tensor
    num_blocks: int

    @property
    def num_steps(self) -> int:
        return self.num_blocks * self.config.num_steps

    def moment(self, step: int, hidden_BS: Tensor, draws_BS: Tensor) -> Moment:
        block, index = divmod(step, self.config.num_steps)
        inside_BS = self.blocks_BS == block
        return Moment(
            hidden_BS=hidden_BS & inside_BS,
            num_start_B=inside_BS.sum(1),
            time=(self.config.num_steps - index) / self.config.num_steps,
            next_time=(self.config.num_steps - index - 1) / self.config.num_steps,
            draws_BS=draws_BS,
        )


class Sampler:
    """Fills canvases with a denoiser. Given tokens are never changed; every hole is filled by the last step."""

    def __init__(self, config: ModalitySamplers, vocabulary: Vocabulary) -> None:
        self.config = config
        self.vocabulary = vocabulary

    def sample(self, denoiser: Denoiser, canvas: Canvas, stream: Stream) -> Tensor:
        """int64 [B, S], all holes filled."""
        tokens_BS = canvas.tokens_BS
        for state in self.states(denoiser, canvas, stream):
            tokens_BS = state.tokens_BS
        return tokens_BS

    def states(self, denoiser: Denoiser, canvas: Canvas, stream: Stream) -> Iterator[State]:
        """The state after each step. A step that reveals nothing does not call the denoiser.

        A row whose holes make fewer blocks than another's is finished earlier. ValueError for more than 65,535 steps.
        """
        plans = self._plans(canvas)
        num_steps = max((plan.num_steps for plan in plans.values()), default=0)
        if num_steps >= MAX_STEPS:
            raise ValueError(f"sampling would take {num_steps} steps; use longer blocks or fewer steps for each")
        hidden_BS = canvas.modality_BS >= 0
        tokens_BS = canvas.tokens_BS.masked_fill(hidden_BS, self.vocabulary.mask)
        for step in range(num_steps):
            choices_BS, draws_BS = self._randomness(canvas, stream, step)
            moments: dict[Modality, Moment] = {
                modality: plan.moment(step, hidden_BS, choices_BS)
                for modality, plan in plans.items()
                if step < plan.num_steps
            }
            proposals_BS, revealed_BS = self._step(denoiser, canvas, tokens_BS, moments, draws_BS)
            tokens_BS = torch.where(revealed_BS, proposals_BS, tokens_BS)
            hidden_BS = hidden_BS & ~revealed_BS
            yield State(step=step, num_steps=num_steps, tokens_BS=tokens_BS, revealed_BS=revealed_BS)

    def _plans(self, canvas: Canvas) -> dict[Modality, _Plan]:
        plans: dict[Modality, _Plan] = {}
        for index, modality in enumerate(MODALITIES):
            config = self.config.of(modality)
            holes_BS = canvas.modality_BS == index
            ranks_BS = holes_BS.long().cumsum(1) - 1  # a hole's place among its row's holes
            blocks_BS = torch.zeros_like(ranks_BS) if config.block_length is None else ranks_BS // config.block_length
            blocks_BS = blocks_BS.masked_fill(~holes_BS, -1)
            num_blocks = int(blocks_BS.max()) + 1 if blocks_BS.numel() else 0
            if num_blocks:
                plans[modality] = _Plan(config=config, blocks_BS=blocks_BS, num_blocks=num_blocks)
        return plans

    def _randomness(self, canvas: Canvas, stream: Stream, step: int) -> tuple[Tensor, Tensor]:
        """For the choice of positions and for the tokens: float64 [B, S] each."""
        samples_B, num_positions = canvas.samples_B, canvas.tokens_BS.shape[1]
        keys_B3 = torch.stack([torch.zeros_like(samples_B), samples_B, torch.full_like(samples_B, step)], 1)
        choices_BS = stream.uniform(Purpose.REVEAL, keys_B3, num_positions)
        return choices_BS, stream.uniform(Purpose.SAMPLING, keys_B3, num_positions)

    def _step(
        self,
        denoiser: Denoiser,
        canvas: Canvas,
        tokens_BS: Tensor,
        moments: Mapping[Modality, Moment],
        draws_BS: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Tokens drawn at this step (int64 [B, S], the old ones elsewhere), and which of them to keep (bool [B, S])."""
        configs: dict[Modality, SamplerConfig] = {modality: self.config.of(modality) for modality in moments}
        wanted: dict[Modality, Tensor] = {m: configs[m].rule.wanted(moment) for m, moment in moments.items()}
        rows: dict[Modality, Tensor] = {
            m: wanted_BS.flatten().nonzero()[:, 0] for m, wanted_BS in wanted.items() if bool(wanted_BS.any())
        }
        proposals_BS, revealed_BS = tokens_BS.clone(), torch.zeros_like(tokens_BS, dtype=torch.bool)
        if not rows:
            return proposals_BS, revealed_BS
        strengths: dict[Modality, float] = {m: config.guidance for m, config in configs.items()}
        with torch.no_grad():
            logits = guided_logits(denoiser, canvas, tokens_BS, rows, strengths, self.vocabulary.mask)
        for m, rows_R in rows.items():
            log_confidences_BS = torch.full_like(draws_BS, -torch.inf)
            ids_R, log_confidences_R = self._draw(m, logits[m], draws_BS.flatten()[rows_R])
            proposals_BS.view(-1)[rows_R] = ids_R
            log_confidences_BS.view(-1)[rows_R] = log_confidences_R
            revealed_BS |= configs[m].rule.revealed(moments[m], wanted[m], log_confidences_BS)
        return proposals_BS, revealed_BS

    def _draw(self, modality: Modality, logits_RV: Tensor, draws_R: Tensor) -> tuple[Tensor, Tensor]:
        """Ids of the vocabulary, and their log-confidence."""
        config = self.config.of(modality)
        logits_RV = logits_RV[:, : self.vocabulary.num_outputs(modality)].double()
        if not config.may_end:
            end = torch.zeros(1, dtype=torch.int64, device=logits_RV.device)
            logits_RV = logits_RV.index_fill(1, end, -torch.inf)
        ids_R, log_confidences_R = draw(logits_RV, draws_R, config.temperature, config.top_p)
        return ids_R + self.vocabulary.start(modality), log_confidences_R
