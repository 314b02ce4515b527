"""A run as far as its layout is concerned, before any process is started."""

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
    sequence_length: int
    vocabulary_sizes: tuple[int, ...]


@dataclass(kw_only=True, slots=True, frozen=True)
class Plan:
    """Everything that decides whether a layout is possible.

    logical_batch: sequences per optimizer step over all ranks; micro_batch: at most so many at once on one rank.
    rows_together: sequences in a row that must come to one rank (2 for complement pairs).
    """

    layout: ParallelLayout
    world_size: int
    zero_stage: Literal[0, 1, 2]
    precision: Literal["fp32", "bf16"]
    logical_batch: int
    micro_batch: int
    model: ModelSizes
    rows_together: int = 1

    @property
    def data_ranks(self) -> int:
        """Copies of the model."""
        return self.world_size // self.layout.model_ranks

    @property
    def rows_per_rank(self) -> int:
        """Sequences of a logical batch that one copy of the model sees."""
        return self.logical_batch // self.data_ranks

    @property
    def micro_batches(self) -> int:
        """Parts that a rank's rows are cut into."""
        return -(-self.rows_per_rank // self.micro_batch)
