"""The shape of a tri-modal masked diffusion transformer, as `config.json` keeps it."""

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

MODALITIES = ("text", "image", "audio")
TASKS = ("text", "t2i", "i2t", "t2s", "s2t")
SIDES = {"t2i": ("text", "image"), "i2t": ("image", "text"), "t2s": ("text", "audio"), "s2t": ("audio", "text")}
"""Condition and target of each paired task."""

_SPECIALS = ("mask", "pad", *(f"task_{task}" for task in TASKS), *(f"begin_{modality}" for modality in MODALITIES))
_NUM_SPECIALS = 16


class TriptychConfiguration(PretrainedConfig):
    """Sizes of the model and of its sequences.

    vocabulary: codes of each modality. regions: positions of each side of a pair, and `condition_multiple`, up to a
    multiple of which a condition is filled with END (None: to its whole region). vocabulary_multiple: embedding rows
    and columns of each head are filled up to a multiple of it. branch_scale: factor on both residual branches.
    layer_scale: whether each branch has a learned gain. attention: `function` (softmax or sigmoid), `bias` of sigmoid
    (a number), `learned_bias` (none or per_head), `qk_norm` (rms or none).

    Ids: 16 specials, then for each modality END, code 0, code 1, ...
    """

    model_type = "triptych"
    attribute_map = {  # noqa: RUF012 - a class attribute of the library's, which it does not annotate
        "num_hidden_layers": "num_layers",
        "num_key_value_heads": "num_query_groups",
        "intermediate_size": "ffn_hidden_size",
        "max_position_embeddings": "sequence_length",
    }

    def __init__(
        self,
        *,
        vocabulary: Mapping[str, int] | None = None,
        regions: Mapping[str, int | None] | None = None,
        sequence_length: int = 28,
        hidden_size: int = 128,
        num_layers: int = 3,
        num_attention_heads: int = 8,
        num_query_groups: int = 8,
        ffn_hidden_size: int = 344,
        vocabulary_multiple: int = 1,
        positions: str = "rotary",
        rope_base: float = 10_000.0,
        norm_epsilon: float = 1e-5,
        branch_scale: float = 1.0,
        post_attention_norm: str = "none",
        layer_scale: bool = False,
        dropout: float = 0.0,
        attention: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self.vocabulary = dict(vocabulary or {"text": 1024, "image": 64, "audio": 64})
        self.regions = dict(regions or {"text": 6, "image": 16, "audio": 12, "condition_multiple": None})
        self.sequence_length = sequence_length
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_attention_heads = num_attention_heads
        self.num_query_groups = num_query_groups
        self.ffn_hidden_size = ffn_hidden_size
        self.vocabulary_multiple = vocabulary_multiple
        self.positions = positions
        self.rope_base = rope_base
        self.norm_epsilon = norm_epsilon
        self.branch_scale = branch_scale
        self.post_attention_norm = post_attention_norm
        self.layer_scale = layer_scale
        self.dropout = dropout
        self.attention = dict(attention or {"function": "softmax", "qk_norm": "rms"})
        super().__init__(**{"tie_word_embeddings": False, **more})

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def vocab_size(self) -> int:
        """Number of ids in all, specials included."""
        return _NUM_SPECIALS + sum(self.num_outputs(modality) for modality in MODALITIES)

    @property
    def embedding_rows(self) -> int:
        """Rows of the embedding: the ids, and after them rows that no id reaches."""
        return self._filled(self.vocab_size)

    def head_columns(self, modality: str) -> int:
        """Columns of a modality's head: its ids (END first), and after them columns that are no id's."""
        return self._filled(self.num_outputs(modality))

    def num_outputs(self, modality: str) -> int:
        """How many ids a position of this modality can take: END and the codes."""
        return 1 + self.vocabulary[modality]

    def special(self, name: str) -> int:
        """Id of a special token: mask, pad, task_t2i, begin_image, ..."""
        return _SPECIALS.index(name)

    def end(self, modality: str) -> int:
        """Id of the modality's END, the first of its range; code c is `end + 1 + c`."""
        before = MODALITIES[: MODALITIES.index(modality)]
        return _NUM_SPECIALS + sum(self.num_outputs(other) for other in before)

    def _filled(self, size: int) -> int:
        return -(-size // self.vocabulary_multiple) * self.vocabulary_multiple
