"""What is trained and how it is split, in the words that every transformer shares: neither a run of ours nor anybody
else's.
"""

from dataclasses import dataclass
from typing import Literal

Recompute = Literal["none", "selective", "half", "full"]
"""Made again in the backward pass: "selective", core attention; "half", every other matrix product and what is between
them; "full", all but each layer's input.
"""


@dataclass(kw_only=True, slots=True, frozen=True)
class Head:
    """A read-out of `columns` ids on `share` of all positions, on average; `masked`: the part of these that counts as
    asked for; `most`: the share in the fullest micro-batch.
    """

    columns: int
    share: float = 1.0
    masked: float = 1.0
    most: float = 1.0


@dataclass(kw_only=True, slots=True, frozen=True)
class Shape:
    """A transformer. gated: three matrices in the FFN (SwiGLU), else two. embedding_rows: rows of the token embedding.
    tied: the head is the embedding. rotary, qk_norm, post_norm (on attention's output), layer_scale, dropout: whether
    there is any; learned_positions: rows of an embedding of positions. softmax: whether attention's rows are
    normalised. head_dim: of one attention head.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    num_groups: int
    ffn_hidden_size: int
    gated: bool
    embedding_rows: int
    heads: tuple[Head, ...]
    tied: bool = False
    rotary: bool = True
    qk_norm: bool = False
    post_norm: bool = False
    layer_scale: bool = False
    dropout: bool = False
    learned_positions: int = 0
    softmax: bool = True

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def keys_size(self) -> int:
        """Columns of the keys, and of the values."""
        return self.num_groups * self.head_dim

    @property
    def layer_parameters(self) -> int:
        """Of the matrices of one layer, norms and biases left out."""
        attention = self.hidden_size * (2 * self.hidden_size + 2 * self.keys_size)
        return attention + (3 if self.gated else 2) * self.hidden_size * self.ffn_hidden_size

    @property
    def layer_vectors(self) -> int:
        """Gains of a layer's norms and residual branches; they are whole on every tensor-parallel rank."""
        along_hidden = 2 + (1 if self.post_norm else 0) + (2 if self.layer_scale else 0)
        return along_hidden * self.hidden_size + (2 * self.head_dim if self.qk_norm else 0)

    @property
    def head_parameters(self) -> int:
        return sum(self.hidden_size * head.columns for head in self.heads)

    @property
    def parameters(self) -> int:
        """All of them; biases are left out."""
        ends = self.embedding_rows * self.hidden_size + (0 if self.tied else self.head_parameters)
        ends += (self.learned_positions + 1) * self.hidden_size  # and the last norm's gains
        return self.num_layers * (self.layer_parameters + self.layer_vectors) + ends


@dataclass(kw_only=True, slots=True, frozen=True)
class Rows:
    """What a sequence of `length` positions holds. documents: mean positions that a position attends to, itself among
    them, before a causal mask: the sum of the squares of the documents' lengths over their sum. tokens: share of the
    positions that is not padding. causal: whether a position sees only those before it.
    """

    length: int
    attended: float
    tokens: float = 1.0
    causal: bool = True

    @classmethod
    def of_one(cls, length: int, *, causal: bool = True) -> "Rows":
        """One document that fills it."""
        return cls(length=length, attended=length, causal=causal)


@dataclass(kw_only=True, slots=True, frozen=True)
class Layout:
    """Ranks per tensor-parallel group and pipeline, chunks per stage, copies of the model. zero_stage 3: parameters are
    gathered for each pass, as fully sharded data parallelism has it. stage_layers: layers of each chunk in the order of
    the model; empty is as even as it goes.
    """

    tensor: int = 1
    pipeline: int = 1
    virtual: int = 1
    data: int = 1
    sequence: bool = False
    zero_stage: Literal[0, 1, 2, 3] = 1
    stage_layers: tuple[int, ...] = ()

    @property
    def num_devices(self) -> int:
        return self.tensor * self.pipeline * self.data


@dataclass(kw_only=True, slots=True, frozen=True)
class Workload:
    """A training step. batch: sequences over all devices; micro_batch: at once on one copy of the model. precision: of
    parameters and activations; "fp8" is bf16 whose layers' products are of fp8. attention: "fused" keeps no scores;
    "scores" writes them to memory. gradient_bytes: of one gradient that travels. reduction: how data-parallel ranks add
    gradients up. overlapped: whether that happens under the backward pass.
    """

    shape: Shape
    rows: Rows
    layout: Layout
    batch: int
    micro_batch: int
    recompute: Recompute = "none"
    precision: Literal["fp32", "bf16", "fp8"] = "bf16"
    attention: Literal["fused", "scores"] = "fused"
    gradient_bytes: int = 4
    reduction: Literal["all_reduce", "reduce_scatter"] = "reduce_scatter"
    each_micro_batch: bool = False
    overlapped: bool = True

    @property
    def width(self) -> int:
        """Bytes of an activation."""
        return 4 if self.precision == "fp32" else 2

    @property
    def num_micro_batches(self) -> int:
        return max(1, -(-self.batch // (self.layout.data * self.micro_batch)))

    @property
    def positions(self) -> int:
        """Of one micro-batch."""
        return self.micro_batch * self.rows.length

    @property
    def tokens(self) -> float:
        """Of a step, over all devices, padding left out."""
        return self.batch * self.rows.length * self.rows.tokens
