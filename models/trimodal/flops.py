"""Floating-point operations of the model's matrix multiplications, two to a multiplication and addition.

Norms, rotations, activation functions, softmax, loss and optimizer are left out, as is the field's custom: of a large
model they are below a percent. The attention is bidirectional, so every pair of positions of a document counts, where a
causal model's custom is half of them; none counts of two documents, since no position sees another document's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from triptych.data_pipelines.vocabulary import Modality
from triptych.models.trimodal.config import TrimodalConfig
from triptych.models.trimodal.execution import Recompute


@dataclass(kw_only=True, slots=True, frozen=True)
class Flops:
    """Operations by part. dense: matrices of the layers, which grow with the positions. attention: scores and weighted
    values, which grow with the pairs of positions. heads: read-out.
    """

    dense: int
    attention: int
    heads: int

    @property
    def total(self) -> int:
        return self.dense + self.attention + self.heads

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(
            dense=self.dense + other.dense, attention=self.attention + other.attention, heads=self.heads + other.heads
        )

    def times(self, factor: int) -> "Flops":
        return Flops(dense=factor * self.dense, attention=factor * self.attention, heads=factor * self.heads)


def forward_flops(
    config: TrimodalConfig, lengths: Sequence[int], rows: Mapping[Modality, int], *, num_positions: int | None = None
) -> Flops:
    """One forward pass over documents of these lengths, with heads on so many rows of each modality. num_positions: all
    that go through the layers, padding too; the sum of the lengths if None.

    Without padding and with rows without filler it counts what the model is asked to do; with all positions, and the
    rows that are projected, what is computed.
    """
    hidden, keys_and_values = config.hidden_size, 2 * config.num_query_groups * config.head_dim
    per_position = 2 * hidden * (hidden + keys_and_values)  # queries, keys, values
    per_position += 2 * hidden * hidden  # projection
    per_position += 6 * hidden * config.ffn_hidden_size  # SwiGLU's three matrices
    pairs = sum(length * length for length in lengths)
    return Flops(
        dense=config.num_layers * per_position * (sum(lengths) if num_positions is None else num_positions),
        attention=config.num_layers * 4 * hidden * pairs,
        heads=sum(2 * hidden * config.head_columns(modality) * number for modality, number in rows.items()),
    )


def with_dense_head(config: TrimodalConfig, forward: Flops, num_positions: int) -> Flops:
    """The same with one head over the whole vocabulary at each of `num_positions`, as a model has that does not pick
    its rows: the customary 6 N per token and 12 layers hidden sequence, for comparison with other people's numbers.
    """
    heads = 2 * config.hidden_size * config.embedding_rows * num_positions
    return Flops(dense=forward.dense, attention=forward.attention, heads=heads)


def training_flops(forward: Flops) -> Flops:
    """Forward and backward pass: three times the forward pass, since every matrix multiplication has two in its
    gradient.

    Attention kernels that keep no scores compute them again in the backward pass, half a forward pass of attention
    more (FlashAttention, Dao et al. 2022, arXiv 2205.14135, appendix B). It is no part of the count.
    """
    return forward.times(3)


def recomputed_flops(forward: Flops, recompute: Recompute) -> Flops:
    """What the recomputation of activations adds to a training step."""
    dense = forward.dense if recompute == "full" else 0
    attention = forward.attention if recompute in ("selective", "full") else 0
    return Flops(dense=dense, attention=attention, heads=0)
