"""Shape of the tri-modal transformer, and what follows from it."""

from dataclasses import dataclass, field
from typing import Literal

from triptych.data_pipelines.vocabulary import Vocabulary


@dataclass(kw_only=True, slots=True, frozen=True)
class InitConfig:
    """Standard deviations at initialisation. All are our choices: the paper gives none.

    Hidden matrices get hidden_gain / sqrt(fan in), the variance rule of Complete(d)P (arXiv 2512.22382) at its base
    width.
    """

    embedding_std: float = 0.02
    hidden_gain: float = 1.0
    readout_std: float = 0.0


@dataclass(kw_only=True, slots=True, frozen=True)
class TrimodalConfig:
    """Sizes of the model. Pre-norm, QK-norm, SwiGLU, RoPE, untied heads, no biases, no dropout, no time input.

    positions: "rotary_and_learned" adds a learned vector per position to the embedding, which tells the cells of a
    fixed layout apart from the first layer on; it pays in small models and short runs. residual_scale: factor on both
    residual branches, m_L^-alpha in Complete(d)P (arXiv 2512.22382), 1 at the base depth. post_attention_norm: "rms"
    adds the hybrid norm x + Norm(Attn(Norm(x))), which sigmoid attention needs at long sequences.
    """

    vocabulary: Vocabulary
    sequence_length: int
    hidden_size: int
    num_layers: int
    num_attention_heads: int
    num_query_groups: int
    ffn_hidden_size: int
    positions: Literal["rotary", "rotary_and_learned"] = "rotary"
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5
    residual_scale: float = 1.0
    post_attention_norm: Literal["none", "rms"] = "none"
    init: InitConfig = field(default_factory=InitConfig)

    def __post_init__(self) -> None:
        for name in ("sequence_length", "hidden_size", "num_layers", "num_attention_heads", "num_query_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; set it to 1 or more")
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

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads
