"""Shape of the tri-modal transformer, and what follows from it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from triptych.data_pipelines.vocabulary import MODALITIES, Modality, Vocabulary
from triptych.models.attention.config import AttentionConfig
from triptych.models.parameterization import BaseShape, ShapeRatio

_SIZES = (
    "sequence_length",
    "hidden_size",
    "num_layers",
    "num_attention_heads",
    "num_query_groups",
    "ffn_hidden_size",
    "vocabulary_multiple",
)


@dataclass(kw_only=True, slots=True, frozen=True)
class InitConfig:
    """Standard deviations at initialisation, at the base shape. All are our choices: the paper gives none.

    At another shape they follow Complete(d)P (arXiv 2512.22382): the embedding keeps its own, hidden matrices get
    hidden_gain / sqrt(fan in), where every fan-in grows with the width, heads get readout_std / m_N.
    """

    embedding_std: float = 0.02
    hidden_gain: float = 1.0
    readout_std: float = 0.0


@dataclass(kw_only=True, slots=True, frozen=True)
class TrimodalConfig:
    """Sizes of the model. Pre-norm, QK-norm, SwiGLU, RoPE, untied heads, no biases of matrices, no time input.

    positions: "rotary_and_learned" adds a learned vector per position to the embedding, which tells the cells of a
    fixed layout apart from the first layer on; it pays in small models and short runs. residual_scale: factor on both
    residual branches at the base's depth. post_attention_norm: "rms"
    adds the hybrid norm x + Norm(Attn(Norm(x))), which sigmoid attention needs at long sequences. layer_scale: the
    initial value of a learned gain on each residual branch, a vector of the hidden size (arXiv 2103.17239, eq. 4; 1e-4
    in the vision runs of the sigmoid paper, arXiv 2409.04431); none if None. dropout: rate on both residual branches in
    training; the paper is silent, 0 is our choice. vocabulary_multiple: embedding rows and
    each head's columns are filled up to a multiple of it, so that every number of tensor-parallel ranks that divides it
    fits; a property of the model, so that a checkpoint does not know how it was split.

    base: the shape that hyper-parameters, initial values and residual_scale are stated for; they follow from it by
    Complete(d)P (arXiv 2512.22382). None: this one. ValueError if its heads are of another size, or its FFN another
    multiple of the width. Query groups are not compared: sharing keys and values among more heads changes the size of
    their gradients, which AdamW divides out but for epsilon.
    """

    vocabulary: Vocabulary
    sequence_length: int
    hidden_size: int
    num_layers: int
    num_attention_heads: int
    num_query_groups: int
    ffn_hidden_size: int
    vocabulary_multiple: int = 1
    positions: Literal["rotary", "rotary_and_learned"] = "rotary"
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5
    residual_scale: float = 1.0
    post_attention_norm: Literal["none", "rms"] = "none"
    layer_scale: float | None = None
    dropout: float = 0.0
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    init: InitConfig = field(default_factory=InitConfig)
    base: BaseShape | None = None

    def __post_init__(self) -> None:
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; set it to 1 or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; set it to 0 or more and below 1")
        if self.layer_scale is not None and not 0 <= self.layer_scale < math.inf:
            raise ValueError(f"layer_scale is {self.layer_scale}; set it to a number of 0 or more, or to null for none")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} does not divide into {self.num_attention_heads} heads; "
                "change hidden_size or num_attention_heads"
            )
        if self.num_attention_heads % self.num_query_groups:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} does not divide into "
                f"{self.num_query_groups} query groups; change one of them"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"head dimension {self.head_dim} is odd, which RoPE cannot rotate; change num_attention_heads"
            )
        _ = self.shape_ratio  # refuses a base that nothing transfers from

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def shape_ratio(self) -> ShapeRatio:
        """The model against its base; 1 where it is its own."""
        if self.base is None:
            return ShapeRatio()
        return self.base.ratio_of(
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            head_dim=self.head_dim,
            ffn_hidden_size=self.ffn_hidden_size,
        )

    @property
    def branch_scale(self) -> float:
        """Factor on both residual branches, residual_scale * m_L^-alpha. The attention's scores are over sqrt(d_head)
        at every shape: heads keep their size.
        """
        return self.residual_scale * self.shape_ratio.branch_scale

    @property
    def embedding_rows(self) -> int:
        """Rows of the embedding: the vocabulary's ids, and after them rows that no id reaches."""
        return self._filled(self.vocabulary.size)

    def head_columns(self, modality: Modality) -> int:
        """Columns of a modality's head: its ids, and after them columns that are no id's."""
        return self._filled(self.vocabulary.num_outputs(modality))

    def stage_costs(self, predicted: Mapping[Modality, float] | None = None) -> tuple[float, float]:
        """Compute of what the first stage of a pipeline has besides layers, and of what the last has, in layers.

        predicted: share of all positions that are of a modality and to be predicted; a third each if None. Counted are
        the multiplications of matrices, of which the embedding has none. Heads run on masked rows alone; half of the
        predicted positions are taken to be masked, the mean of a linear schedule, and the rows that fill a head's
        capacity are left out. Recomputation of layers, which makes heads count for less, is left out too.
        """
        shares = dict.fromkeys(MODALITIES, 1 / len(MODALITIES)) if predicted is None else predicted
        per_row = {modality: 2 * self.hidden_size * self.head_columns(modality) for modality in MODALITIES}
        heads = sum(0.5 * share * per_row[modality] for modality, share in shares.items())
        return 0.0, heads / self._layer_flops

    @property
    def _layer_flops(self) -> int:
        """Floating-point operations of one layer's forward pass per position, two to a multiplication and addition:
        queries, keys, values and projection; scores and weighted values over the whole sequence, both directions;
        SwiGLU's three matrices.
        """
        hidden, keys = self.hidden_size, self.num_query_groups * self.head_dim
        projections = 2 * hidden * (2 * hidden + 2 * keys)
        attention = 4 * self.sequence_length * hidden
        return projections + attention + 6 * hidden * self.ffn_hidden_size

    def _filled(self, size: int) -> int:
        return math.ceil(size / self.vocabulary_multiple) * self.vocabulary_multiple
