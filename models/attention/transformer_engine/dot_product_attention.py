"""`SigmoidDotProductAttention`: a drop-in for transformer_engine.pytorch.DotProductAttention.

Shape legend: B rows, S and T positions of queries and keys, H heads, G key-value heads, D head dimension of queries and
keys, E of values; H and G of this tensor-parallel rank.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from triptych.kernels.flash_sigmoid.attention import Bias
from triptych.kernels.flash_sigmoid.problem import Sigmoid
from triptych.models.attention.transformer_engine.alibi import alibi_slopes as paper_slopes
from triptych.models.attention.transformer_engine.arguments import (
    IGNORED_AT_CONSTRUCTION,
    IGNORED_IN_CALLS,
    REFUSED_AT_CONSTRUCTION,
    REFUSED_IN_CALLS,
    require_honoured,
)
from triptych.models.attention.transformer_engine.call import LAYERS, Settings, attend_in_format
from triptych.models.attention.transformer_engine.environment import follow_debug_level, read_environment
from triptych.models.attention.transformer_engine.formats import Lengths, canonical_format, separate
from triptych.models.attention.transformer_engine.masks import band_of, canonical_mask_type


class SigmoidDotProductAttention(nn.Module):
    """sigma(scale Q K^T + bias) V, constructed and called as Transformer Engine's DotProductAttention (2.11 to 2.20.2),
    also on a CPU.

    bias, sigmoid and backend are our own. bias: as in `sigmoid_attention`; an nn.Parameter of one number per head of
    this rank is learned. "-log n" takes n from each call, so a model that is to be the same function at other lengths
    gives a number. sigmoid, backend: what the environment says (`environment.VARIABLES`) if None.

    Differences: padding on the left of rows is understood, where Transformer Engine takes all padding to be on the
    right. ALiBi's slopes must be given under tensor parallelism, where Transformer Engine makes those of a model with
    this rank's heads. Under context parallelism there is neither padding nor packing. Of what cannot be honoured a
    ValueError names the argument; a later version's new argument is refused unless it is None.
    """

    def __init__(
        self,
        num_attention_heads: int,
        kv_channels: int | tuple[int, int],
        num_gqa_groups: int | None = None,
        attention_dropout: float = 0.0,
        qkv_format: str = "sbhd",
        attn_mask_type: str = "causal",
        window_size: tuple[int, int] | None = None,
        *,
        bottom_right_diagonal: bool | None = None,
        tp_size: int = 1,
        tp_group: Any = None,
        layer_number: int | None = None,
        attention_type: str = "self",
        cp_group: Any = None,
        cp_global_ranks: list[int] | None = None,
        cp_stream: Any = None,
        cp_comm_type: str = "p2p",
        softmax_scale: float | None = None,
        name: str | None = None,
        bias: Bias = "-log n",
        sigmoid: Sigmoid | None = None,
        backend: str | None = None,
        **others: Any,
    ) -> None:
        super().__init__()
        others["attention_dropout"] = attention_dropout
        require_honoured(others, REFUSED_AT_CONSTRUCTION, IGNORED_AT_CONSTRUCTION)
        follow_debug_level()
        self.name = name
        self.qkv_format = canonical_format(qkv_format)
        self.attn_mask_type = canonical_mask_type(attn_mask_type)
        self.bottom_right_diagonal = bottom_right_diagonal
        band = band_of(self.attn_mask_type, window_size, bottom_right_diagonal)
        self.window_size = None if window_size is None else (band.left, band.right)  # coerced once, also for calls
        self.attention_type = _one_of("attention_type", attention_type, ("self", "cross"))
        self.layer_number = 1 if layer_number is None else layer_number
        self.tp_group = tp_group
        self.tp_size = tp_size if tp_group is None else torch.distributed.get_world_size(tp_group)
        self.num_attention_heads = num_attention_heads
        self.num_gqa_groups = num_attention_heads if num_gqa_groups is None else num_gqa_groups
        _require_heads(self.num_attention_heads, self.num_gqa_groups, self.tp_size)
        self.num_gqa_groups_per_partition = self.num_gqa_groups // self.tp_size
        channels = (kv_channels, kv_channels) if isinstance(kv_channels, int) else kv_channels
        self.hidden_size_per_attention_head_k, self.hidden_size_per_attention_head_v = channels
        self.softmax_scale = 1 / math.sqrt(channels[0]) if softmax_scale is None else softmax_scale
        self.attention_dropout = attention_dropout
        self.softmax_type = "vanilla"
        self.deterministic = read_environment().deterministic or torch.are_deterministic_algorithms_enabled()
        self.sigmoid: Sigmoid | None = sigmoid
        self.backend = backend
        self.output_quantizer_role = None  # set from outside, and of fp8 alone, as is the next
        self.grad_input_quantizer_role = None
        self.set_context_parallel_group(cp_group, cp_global_ranks, cp_stream, cp_comm_type)
        self.sigmoid_bias: Bias = self._checked_bias(bias)

    def forward(
        self,
        query_layer: Tensor | None = None,
        key_layer: Tensor | None = None,
        value_layer: Tensor | None = None,
        attention_mask: Tensor | tuple[Tensor, Tensor] | None = None,
        qkv_format: str | None = None,
        cu_seqlens_q: Tensor | None = None,
        cu_seqlens_kv: Tensor | None = None,
        cu_seqlens_q_padded: Tensor | None = None,
        cu_seqlens_kv_padded: Tensor | None = None,
        max_seqlen_q: int | None = None,
        max_seqlen_kv: int | None = None,
        attn_mask_type: str | None = None,
        window_size: tuple[int, int] | None = None,
        *,
        bottom_right_diagonal: bool | None = None,
        core_attention_bias_type: str = "no_bias",
        alibi_slopes: Tensor | None = None,
        pad_between_seqs: bool | None = None,
        qkv_layer: Tensor | None = None,
        kv_layer: Tensor | None = None,
        qkv_interleave_dim: int = -3,
        **others: Any,
    ) -> Tensor:
        """[S, B, H * E] of sbhd, [B, S, H * E] of bshd, [positions, H * E] of thd. Padding is 0, and what it holds is
        never read. What is not given is as in the constructor. attention_mask: bool [B, 1, 1, S], True where padded, or
        one for queries and one for keys; looked at only where attn_mask_type has padding, after cu_seqlens.
        """
        require_honoured(others, REFUSED_IN_CALLS, IGNORED_IN_CALLS)
        layout = self.qkv_format if qkv_format is None else canonical_format(qkv_format)
        mask_type = self.attn_mask_type if attn_mask_type is None else canonical_mask_type(attn_mask_type)
        diagonal = self.bottom_right_diagonal if bottom_right_diagonal is None else bottom_right_diagonal
        band = band_of(mask_type, self.window_size if window_size is None else window_size, diagonal)
        layers = separate((query_layer, key_layer, value_layer), qkv_layer, kv_layer, qkv_interleave_dim)
        self._require_shapes(layers)
        lengths = Lengths(
            attention_mask=attention_mask,
            cu_seqlens_q=cu_seqlens_q,
            cu_seqlens_kv=cu_seqlens_kv,
            cu_seqlens_q_padded=cu_seqlens_q_padded,
            cu_seqlens_kv_padded=cu_seqlens_kv_padded,
            max_seqlen_q=max_seqlen_q,
            max_seqlen_kv=max_seqlen_kv,
            pad_between_seqs=pad_between_seqs,
        )
        slopes = self._slopes(core_attention_bias_type, alibi_slopes, layers[0].device)
        return attend_in_format(layers, layout, mask_type, band, lengths, slopes, self._settings())

    def set_context_parallel_group(
        self,
        cp_group: Any,
        cp_global_ranks: list[int] | None,
        cp_stream: Any,
        cp_comm_type: str = "p2p",
        load_balancing_strategy: Any = None,
    ) -> None:
        """The ranks that share each sequence; rank r of R holds its chunks r and 2 R - 1 - r of 2 R. Keys and values
        are gathered, whatever cp_comm_type says: all ways compute the same. ValueError for several groups, or chunks
        in another order.
        """
        groups = cp_group if isinstance(cp_group, list) else [] if cp_group is None else [cp_group]
        size = math.prod(torch.distributed.get_world_size(group) for group in groups)
        if size > 1 and len(groups) > 1:
            raise ValueError(f"cp_group is {len(groups)} groups, and sigmoid attention knows one level; give one group")
        order = getattr(load_balancing_strategy, "value", load_balancing_strategy)
        if size > 1 and order not in (None, "dual_chunk_swap"):
            raise ValueError(f"load_balancing_strategy is {order!r}; give dual_chunk_swap, or leave it out")
        self.cp_group, self.cp_global_ranks = cp_group, cp_global_ranks
        self.cp_stream, self.cp_comm_type = cp_stream, cp_comm_type
        self._shared_by = groups[0] if size > 1 else None

    def set_tensor_parallel_group(self, tp_group: Any) -> None:
        """Remember the group; heads arrive sharded."""
        self.tp_group = tp_group

    def get_qkv_quantization_capabilities(self) -> tuple[bool, bool]:
        """Neither current scaling nor MXFP8: there is no fp8."""
        return False, False

    def fast_setattr(self, name: str, value: Any) -> None:
        """Set what is neither a parameter nor a module."""
        self.__dict__[name] = value

    def extra_repr(self) -> str:
        """Heads, groups, head dimensions, mask type and bias."""
        bias = "learned" if isinstance(self.sigmoid_bias, nn.Parameter) else self.sigmoid_bias
        return (
            f"{self.num_attention_heads} heads, {self.num_gqa_groups} groups, {self.hidden_size_per_attention_head_k} "
            f"and {self.hidden_size_per_attention_head_v} channels, {self.attn_mask_type}, bias {bias}"
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *more: Any) -> None:
        """As every module, but for the state of fp8 that Transformer Engine's checkpoints hold here: it has no use."""
        for key in [key for key in state_dict if key.startswith(prefix) and key.endswith("_extra_state")]:
            del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *more)

    def _apply(self, fn: Any, recurse: bool = True) -> nn.Module:
        """As every module. A bias that is not learned follows to another device, and stays in its dtype: bf16 would
        round -log n.
        """
        super()._apply(fn, recurse)
        bias = self.sigmoid_bias
        if isinstance(bias, Tensor) and not isinstance(bias, nn.Parameter):
            self.sigmoid_bias = bias.to(fn(bias).device)
        return self

    def _checked_bias(self, bias: Bias) -> Bias:
        num_heads = self.num_attention_heads // self.tp_size
        if isinstance(bias, Tensor):
            if list(bias.shape) != [num_heads]:
                raise ValueError(f"bias is {list(bias.shape)}; give [{num_heads}], one number per head of this rank")
            if self.tp_size > 1:  # by which Transformer Engine and megatron-core know a parameter that is sharded
                for attribute, value in (
                    ("tensor_model_parallel", True),
                    ("partition_dim", 0),
                    ("partition_stride", 1),
                ):
                    setattr(bias, attribute, value)
        elif isinstance(bias, str):
            _one_of("bias", bias, ("-log n", "-log n of each"))
        return bias

    def _require_shapes(self, layers: tuple[Tensor, Tensor, Tensor]) -> None:
        heads, groups = self.num_attention_heads // self.tp_size, self.num_gqa_groups_per_partition
        dim_k, dim_v = self.hidden_size_per_attention_head_k, self.hidden_size_per_attention_head_v
        expected = ((heads, dim_k), (groups, dim_k), (groups, dim_v))
        for name, layer, shape in zip(LAYERS, layers, expected, strict=True):
            if tuple(layer.shape[-2:]) != shape:
                raise ValueError(
                    f"{name} is {list(layer.shape)}, and the module has {shape[0]} heads of {shape[1]} there; make "
                    "them agree"
                )

    def _slopes(self, bias_type: str, slopes: Tensor | None, device: torch.device) -> Tensor | None:
        """ALiBi's slopes, fp32, where the call asks for them."""
        if bias_type in ("pre_scale_bias", "post_scale_bias"):
            raise ValueError(
                f"core_attention_bias_type is {bias_type!r}, and a matrix added to the scores is not built; use alibi "
                "or the module's bias"
            )
        _one_of("core_attention_bias_type", bias_type, ("no_bias", "alibi"))
        if bias_type == "no_bias":
            if slopes is not None:
                raise ValueError("alibi_slopes are given, but core_attention_bias_type is no_bias; set it to alibi")
            return None
        if slopes is None and self.tp_size > 1:
            raise ValueError("alibi_slopes of this rank's heads are not known under tensor parallelism; give them")
        return paper_slopes(self.num_attention_heads, device) if slopes is None else slopes

    def _settings(self) -> Settings:
        return Settings(
            scale=self.softmax_scale,
            bias=self.sigmoid_bias,
            sigmoid=self.sigmoid,
            backend=self.backend,
            deterministic=self.deterministic,
            training=self.training,
            cp_group=self._shared_by,
        )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; give one of {', '.join(allowed)}")
    return value


def _require_heads(num_heads: int, num_groups: int, tp_size: int) -> None:
    if num_heads % num_groups:
        raise ValueError(
            f"num_attention_heads {num_heads} does not divide into num_gqa_groups {num_groups}; change one"
        )
    if num_heads % tp_size or num_groups % tp_size:
        raise ValueError(
            f"num_attention_heads {num_heads} or num_gqa_groups {num_groups} does not divide into tp_size {tp_size}; "
            "change one"
        )
