"""One small run under any layout: the real model, objective, stream, engine and schedules, on gloo processes."""

import gc
import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import layout_paths  # noqa: F401 - before what it makes importable
import tiny_run
import torch
import torch.distributed as dist
from deepspeed.runtime import bf16_optimizer

from triptych.configs.layouts import layout_plan
from triptych.data_pipelines.stream.mixture import Mixture, WeightedSource
from triptych.data_pipelines.stream.sources import MemoryCodes, PairSource, TextSource
from triptych.models.attention.config import AttentionConfig
from triptych.models.parameterization import ShapeRatio
from triptych.models.trimodal.execution import Execution
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.fit import fit
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.stages import chunk_layers
from triptych.trainer.scaling.config import RunFacts

# Every size divides by 4; the vocabulary only once it is padded. All that a layout could treat wrongly is switched on.
MODEL = replace(
    tiny_run.MODEL,
    num_layers=4,
    num_attention_heads=8,
    num_query_groups=4,
    vocabulary_multiple=4,
    positions="rotary_and_learned",
    post_attention_norm="rms",
    dropout=0.1,
)
SIGMOID = AttentionConfig(function="sigmoid", learned_bias="per_head")
LAYOUT = tiny_run.LAYOUT
ROW_LENGTH = 24  # of one document of the longest and others behind it, or of several
TOTAL_TOKENS = 2770
SHORT = 800
NUM_STEPS = 10
BATCH = 16


@dataclass(kw_only=True, slots=True, frozen=True)
class Cell:
    """One run of the matrix. pairs: every sequence twice, as complement pairs. total_tokens: NUM_STEPS steps, or SHORT
    for three. shape: against which hyper-parameters are scaled, so that kinds of parameters have values of their own.
    attention: "sigmoid" learns a bias per head and has layer scales.
    """

    layout: ParallelLayout = field(default_factory=ParallelLayout)
    data: int = 1
    zero: int = 1
    recompute: str = "none"
    micro: int = 4
    precision: str = "fp32"
    num_layers: int = 4
    pairs: bool = False
    total_tokens: int = TOTAL_TOKENS
    shape: ShapeRatio = field(default_factory=ShapeRatio)
    attention: str = "softmax"

    @property
    def num_processes(self):
        return self.layout.model_ranks * self.data

    @property
    def reference(self):
        """The run of one process that this one must equal."""
        return Cell(
            precision=self.precision,
            num_layers=self.num_layers,
            pairs=self.pairs,
            total_tokens=self.total_tokens,
            shape=self.shape,
            attention=self.attention,
        )

    def __str__(self):
        layout = self.layout
        parts = [f"tp{layout.tensor} pp{layout.pipeline} dp{self.data} zero{self.zero} micro{self.micro}"]
        parts += [f"vpp{layout.virtual}"] if layout.virtual > 1 else []
        parts += ["sp"] if layout.sequence else []
        parts += [f"recompute-{self.recompute}"] if self.recompute != "none" else []
        parts += [f"stages{'-'.join(map(str, layout.stage_layers))}"] if layout.stage_layers else []
        parts += [f"layers{self.num_layers}"] if self.num_layers != 4 else []
        parts += ["pairs"] if self.pairs else []
        parts += [f"width{self.shape.width:g} depth{self.shape.depth:g}"] if self.shape != ShapeRatio() else []
        parts += [self.attention] if self.attention != "softmax" else []
        parts += ["short"] if self.total_tokens == SHORT else []
        return " ".join([*parts, self.precision])


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What a run came to. steps: (metrics, gradient norm, tokens) of each. state: part to name to the whole tensor; an
    element that no rank holds is NaN. copies_apart: the largest difference between two ranks' copies of one element.
    ranks_agree: whether all of them reported the same numbers, bit for bit. noticed: what a run with a planted mistake
    said of itself, where it would have ended.
    """

    steps: list[tuple[dict[str, float], float, int]]
    state: dict[str, dict[str, torch.Tensor]]
    copies_apart: float
    ranks_agree: bool
    seconds: float
    noticed: str | None = None


def model_of(cell):
    model = replace(MODEL, num_layers=cell.num_layers)
    return replace(model, attention=SIGMOID, layer_scale=0.5) if cell.attention == "sigmoid" else model


def plan_of(cell):
    """As the trainer's own judge of layouts sees it."""
    return layout_plan(
        model_of(cell),
        settings(cell),
        world_size=cell.num_processes,
        row_length=ROW_LENGTH,
        rows_together=2 if cell.pairs else 1,
    )


def settings(cell):
    """Of a run of NUM_STEPS steps, of which some are clipped and some are not.

    Adam divides by |g| + epsilon, so an error of d in the gradient of an element moves its weight by up to rate * d /
    epsilon per step. Gradients here have elements of 1e-2 to 1e-6, and rounding errors of 1e-8 of the largest: with
    the usual epsilon of 1e-8 the smallest elements' signs would be compared. 1e-4 also keeps a wrong *scale* of all
    gradients visible in the weights, to which Adam is else blind.
    """
    config = tiny_run.config(cell.total_tokens, micro=cell.micro, zero=cell.zero, precision=cell.precision, batch=BATCH)
    optimizer = replace(config.optimizer, epsilon=1e-4)
    watch = replace(config.watch, parameters_every_steps=2)
    return replace(config, optimizer=optimizer, parallel=cell.layout, recompute=cell.recompute, watch=watch)


def mixture(copies=1):
    """Text and pairs in which every modality is a target, so that all heads learn."""
    text, image, audio = (
        tiny_run.codes(30, 2, 4, 40, 1),
        tiny_run.codes(30, 4, 4, 12, 2),
        tiny_run.codes(30, 3, 6, 20, 3),
    )
    pairs = {"t2i": {"text": text, "image": image}, "t2s": {"text": text, "audio": audio}}
    sources = {
        name: WeightedSource(source=PairSource(name, MemoryCodes(sides), LAYOUT), weight=1.0)
        for name, sides in pairs.items()
    }
    texts = MemoryCodes({"text": tiny_run.codes(20, 5, 30, 40, 0)})
    sources["text"] = WeightedSource(source=TextSource(texts, LAYOUT, 16), weight=1.0)
    return Mixture(sources, seed=5, row_length=ROW_LENGTH, pad=tiny_run.VOCABULARY.special("pad"), copies=copies)


def build_chunks(groups, cell):
    model = model_of(cell)
    chunks = []
    for chunk in range(groups.layout.virtual):
        execution = Execution(
            layers=chunk_layers(groups.layout, model.num_layers, groups.stage, chunk),
            sequence_parallel=groups.layout.sequence,
            recompute=cell.recompute,
        )
        chunks.append(TrimodalTransformer(model, groups.collection, execution))
        chunks[-1].initialise(seed=3)
    return chunks


def train(cell):
    """On every rank; the outcome on rank 0, None on the others."""
    rank, started = dist.get_rank(), time.perf_counter()
    placement = Placement(rank=rank, world_size=dist.get_world_size(), local_rank=rank)
    pairing = "complement" if cell.pairs else "independent"
    with process_groups(placement, cell.layout) as groups:
        records = []
        state = fit(
            settings(cell),
            chunks=build_chunks(groups, cell),
            objective=MaskedDiffusion(
                MaskedDiffusionConfig(pairing=pairing), tiny_run.VOCABULARY, groups.collection.tp
            ),
            data=mixture(copies=2 if cell.pairs else 1),
            groups=groups,
            facts=RunFacts(shape=cell.shape),
            checkpoints=None,
            identity=tiny_run.IDENTITY,
            reporters=[records.append],
        )
        steps = [(record.metrics, record.gradient_norm, record.tokens) for record in records]
        everyones = _gathered((steps, tiny_run.held_boxes(state.engine)))
        state.engine._deepspeed.destroy()  # else its hooks keep it, the model and their groups for ever
    gc.collect()
    if rank:
        return None
    whole, apart = tiny_run.put_together([boxes for _, boxes in everyones])
    return Outcome(
        steps=steps,
        state=whole,
        copies_apart=apart,
        ranks_agree=all(theirs == steps for theirs, _ in everyones),
        seconds=time.perf_counter() - started,
    )


def train_all(cells):
    """One after the other in the same processes."""
    with quiet_engine():
        return [train(cell) for cell in cells]


@contextmanager
def alone():
    """A default group of this process, for `train` where none has been started for it."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextmanager
def quiet_engine():
    """DeepSpeed without its messages. In bf16 it measures the memory six times at each start, for 0.3 s each.

    What has been imported by now is no garbage and never will be: collecting it takes as long as a short run.
    """
    gc.collect()
    gc.freeze()
    logger = logging.getLogger("DeepSpeed")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with patch.object(bf16_optimizer, "see_memory_usage", lambda *arguments, **options: None):
        yield
    logger.setLevel(level)
    gc.unfreeze()


def _gathered(mine):
    everyones = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(mine, everyones)
    return everyones
