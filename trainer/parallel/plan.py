"""A run as far as its layout is concerned, before any process is started."""

import math
from dataclasses import dataclass
from typing import Literal

from triptych.trainer.parallel.layout import ParallelLayout


@dataclass(kw_only=True, slots=True, frozen=True)
class ModelSizes:
    """What of a model must divide. vocabulary_sizes: rows and columns that are split over tensor-parallel ranks, as
    they are stored.
    """

    num_layers: int
    num_attention_heads: int
    num_query_groups: int
    ffn_hidden_size: int
    row_length: int
    vocabulary_sizes: tuple[int, ...]


@dataclass(kw_only=True, slots=True, frozen=True)
class Plan:
    """Everything that decides whether a layout is possible.

    batch: sequences per optimizer step over all ranks, and batch_setting the one that decides it; micro_batch: at most
    so many at once on one rank. rows_together: sequences in a row that must come to one rank (2 for complement pairs).
    """

    layout: ParallelLayout
    world_size: int
    zero_stage: Literal[0, 1, 2]
    precision: Literal["fp32", "bf16"]
    batch: int
    micro_batch: int
    model: ModelSizes
    rows_together: int = 1
    batch_setting: Literal["logical_batch", "physical_batch"] = "logical_batch"

    @property
    def data_ranks(self) -> int:
        """Copies of the model."""
        return self.world_size // self.layout.model_ranks

    @property
    def rows_per_rank(self) -> int:
        """Sequences of a batch that one copy of the model sees."""
        return self.batch // self.data_ranks

    @property
    def micro_batches(self) -> int:
        """Parts that a rank's rows are cut into."""
        return -(-self.rows_per_rank // self.micro_batch)

    @property
    def batch_unit(self) -> int:
        """Every multiple of it can be a batch."""
        return batch_unit(self.layout, self.data_ranks, self.micro_batch, self.rows_together)


def batch_unit(layout: ParallelLayout, data_ranks: int, micro_batch: int, rows_together: int) -> int:
    """Every multiple of it can be a batch. A pipeline needs micro-batches of one shape, an interleaved one groups of
    them.
    """
    per_rank = rows_together
    if layout.pipeline > 1:
        per_rank = math.lcm(per_rank, micro_batch * (layout.pipeline if layout.virtual > 1 else 1))
    return data_ranks * per_rank
