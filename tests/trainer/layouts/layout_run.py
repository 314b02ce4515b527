"""One small run under any layout: the real model, objective, stream, engine and schedules, on gloo processes."""

from dataclasses import dataclass, replace

import tiny_run
import torch.distributed as dist

from triptych.models.trimodal.execution import Execution
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.fit import fit
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.stages import chunk_layers

# Every size divides by 4; the vocabulary only once it is padded.
MODEL = replace(
    tiny_run.MODEL,
    num_layers=4,
    num_attention_heads=8,
    num_query_groups=4,
    vocabulary_multiple=4,
    positions="rotary_and_learned",
    post_attention_norm="rms",
)
TOTAL_TOKENS = 2000
BATCH = 16


@dataclass(kw_only=True, slots=True, frozen=True)
class Cell:
    """One run of the matrix."""

    layout: ParallelLayout
    data: int = 1
    zero: int = 1
    recompute: str = "none"
    micro: int = 4
    precision: str = "fp32"

    @property
    def num_processes(self):
        return self.layout.model_ranks * self.data

    def __str__(self):
        layout = self.layout
        parts = [
            f"tp{layout.tensor}",
            f"pp{layout.pipeline}",
            f"dp{self.data}",
            f"zero{self.zero}",
            f"micro{self.micro}",
        ]
        parts += [f"vpp{layout.virtual}"] if layout.virtual > 1 else []
        parts += ["sp"] if layout.sequence else []
        parts += [f"recompute-{self.recompute}"] if self.recompute != "none" else []
        parts += [f"stages{'-'.join(map(str, layout.stage_layers))}"] if layout.stage_layers else []
        return " ".join([*parts, self.precision])


def build_chunks(groups, recompute, model=MODEL):
    chunks = []
    for chunk in range(groups.layout.virtual):
        execution = Execution(
            layers=chunk_layers(groups.layout, model.num_layers, groups.stage, chunk),
            sequence_parallel=groups.layout.sequence,
            recompute=recompute,
        )
        chunks.append(TrimodalTransformer(model, groups.collection, execution))
        chunks[-1].initialise(seed=3)
    return chunks


def settings(cell):
    config = tiny_run.config(TOTAL_TOKENS, micro=cell.micro, zero=cell.zero, precision=cell.precision, batch=BATCH)
    # Adam divides by |g| + epsilon: with 1e-8 an element whose gradient is all rounding would compare rounding.
    return replace(config, optimizer=replace(config.optimizer, epsilon=1e-6), parallel=cell.layout)


def train(cell):
    """Every rank: the records as plain values, and every part of the whole state by name."""
    placement = Placement(rank=dist.get_rank(), world_size=dist.get_world_size(), local_rank=dist.get_rank())
    with process_groups(placement, cell.layout) as groups:
        records = []
        state = fit(
            settings(cell),
            chunks=build_chunks(groups, cell.recompute),
            objective=MaskedDiffusion(MaskedDiffusionConfig(), tiny_run.VOCABULARY, groups.collection.tp),
            data=tiny_run.mixture(),
            groups=groups,
            checkpoints=None,
            identity=tiny_run.IDENTITY,
            reporters=[records.append],
        )
        return [(r.metrics, r.gradient_norm, r.tokens) for r in records], tiny_run.whole_state(state.engine, groups)
