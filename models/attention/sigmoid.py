"""Sigmoid attention as a `core_attention` for megatron-core, by the protocol that 0.16 and 0.20 share.

Shape legend: S and T positions of queries and keys on this rank, B sequences, N query heads of this rank, G key-value
groups of this rank, D head dimension of queries and keys, E of values.
"""

import math
import warnings
from typing import Any, Literal, get_args

import torch
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel.layers import set_tensor_model_parallel_attributes
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.utils import (
    ensure_metadata_has_dp_cp_group,
    is_layer_window_attention,
    make_sharded_tensors_for_checkpoint,
)
from torch import Tensor, nn

from triptych.kernels.flash_sigmoid.operator import Kernel
from triptych.kernels.flash_sigmoid.problem import Band, Segments, Sigmoid, minus_log
from triptych.models.attention.config import LearnedBias
from triptych.models.attention.documents import DocumentRows
from triptych.models.attention.masks import band_of, key_mask_of, segments_of, without_keys
from triptych.models.attention.registry.attend import attend_sigmoid
from triptych.models.attention.registry.request import AttentionCall


class SigmoidCoreAttention(nn.Module):
    """sigma(scale Q K^T + bias) V.

    bias: a number, or "-log n", for which n is the number of keys of the whole sequence, over all context-parallel
    ranks; of packed sequences the max_seqlen_kv that they come with. A model that is to be the same function at other
    lengths, above all one that generates, needs the number. learned_bias: "per_head" adds a number that each head
    learns: the parameter `head_bias`, fp32 or the model's dtype, [N], split over the tensor-parallel ranks; it starts
    at 0, so that bf16 does not round it as it would the whole bias. sigmoid, kernel: of `sigmoid_attention`.

    Of the configuration it honours softmax_scale (which megatron hands over), window_size and window_attn_skip_freq,
    and context parallelism: a rank holds the chunks of megatron's order (rank r of R the chunks r and 2 R - 1 - r),
    keys and values are gathered whatever cp_comm_type says, since all of its ways compute the same.
    apply_query_key_layer_scaling changes nothing: megatron divides fp16 scores by the layer's number and its softmax
    multiplies them by it again; here scores are fp32. ValueError where the configuration asks for what would silently
    not be done, or learned_bias is neither of the two.

    Recomputation of core_attn saves nothing, since no scores are kept, and is warned of; under context parallelism it
    saves the gathered keys and values, which are then gathered again.
    """

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: AttnMaskType,
        attention_type: str,
        attention_dropout: float | None = None,
        softmax_scale: float | None = None,
        cp_comm_type: str | None = None,
        pg_collection: ProcessGroupCollection | None = None,
        *,
        bias: float | Literal["-log n"] = "-log n",
        learned_bias: LearnedBias = "none",
        sigmoid: Sigmoid = "accurate",
        kernel: Kernel | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        _require_supported(config, config.attention_dropout if attention_dropout is None else attention_dropout)
        self.config = config
        self.attn_mask_type = attn_mask_type
        self.attention_type = attention_type
        self.bias: float | Literal["-log n"] = bias
        self.sigmoid: Sigmoid = sigmoid
        self.kernel = kernel
        assert config.kv_channels is not None
        self.scale = 1 / math.sqrt(config.kv_channels) if softmax_scale is None else softmax_scale
        skipped: Any = config.window_attn_skip_freq  # may be None, which megatron's own annotation leaves out
        is_windowed = is_layer_window_attention(config.window_size, skipped, layer_number)
        self.window = config.window_size if is_windowed else None
        groups = pg_collection or ProcessGroupCollection.use_mpu_process_groups(required_pgs=["tp", "cp"])
        self.tp_group = groups.tp
        self.cp_group = groups.cp if config.context_parallel_size > 1 else None
        self.head_bias = None
        if learned_bias not in get_args(LearnedBias):
            raise ValueError(f"learned_bias is {learned_bias!r}; take one of {', '.join(get_args(LearnedBias))}")
        if learned_bias == "per_head":
            self.head_bias = _head_bias(config, config.num_attention_heads // groups.tp.size())
        _warn_of_recomputation(config)

    def forward(
        self,
        query_SBND: Tensor,
        key_TBGD: Tensor,
        value_TBGE: Tensor,
        attention_mask: Tensor | None,
        attn_mask_type: AttnMaskType | None = None,
        attention_bias: Tensor | None = None,
        packed_seq_params: Any = None,
    ) -> Tensor:
        """Returns [S, B, N*E]; of packed sequences, whose tensors have no B (thd), [S, N*E], 0 between them.

        attention_mask: bool, True where masked out, [B, 1, 1, T] of this rank's keys, or the causal one; `masks` has
        the rest. ValueError for attention_bias, and for what `masks` refuses.
        """
        if attention_bias is not None:
            raise ValueError("sigmoid attention takes no attention_bias; leave it out")
        mask_type = attn_mask_type or self.attn_mask_type
        band = band_of(mask_type, self.window)
        if packed_seq_params is not None:
            if attention_mask is not None:
                raise ValueError("packed sequences come with an attention_mask, which says nothing more; leave it out")
            if isinstance(packed_seq_params, DocumentRows):
                return self._documents(query_SBND, key_TBGD, value_TBGE, packed_seq_params, band)
            return self._packed(query_SBND, key_TBGD, value_TBGE, packed_seq_params, band)
        masked_BT = key_mask_of(attention_mask, mask_type, band, query_SBND.shape[0])
        value_TBGE = without_keys(value_TBGE, masked_BT)
        query, key, value = (x.transpose(0, 1) for x in (query_SBND, key_TBGD, value_TBGE))
        num_keys = key.shape[1]
        if self.cp_group is None:
            self._require_one_length(query, key)
        else:
            num_keys *= self.cp_group.size()
        context = self._attend(query, key, value, num_keys, band, padding=masked_BT is not None)
        return context.transpose(0, 1).flatten(2)

    def _documents(
        self, query_SBND: Tensor, key_SBGD: Tensor, value_SBGE: Tensor, documents: DocumentRows, band: Band
    ) -> Tensor:
        if self.cp_group is not None:
            raise ValueError("packed documents do not go over context-parallel ranks; set context parallel size to 1")
        query, key, value = (x.transpose(0, 1) for x in (query_SBND, key_SBGD, value_SBGE))
        context = self._attend(query, key, value, documents.longest, band, segments=documents.segments, padding=True)
        return context.transpose(0, 1).flatten(2)

    def _packed(self, query_SND: Tensor, key_TGD: Tensor, value_TGE: Tensor, packed: Any, band: Band) -> Tensor:
        if self.cp_group is not None:
            raise ValueError(
                "each of several packed sequences would be cut over the context-parallel ranks, which sigmoid "
                "attention does not follow; set context parallel size to 1, or do not pack"
            )
        if self.bias == "-log n" and packed.max_seqlen_kv is None:
            raise ValueError(
                'bias "-log n" of packed sequences needs max_seqlen_kv; give it, or minus the logarithm of the '
                "training length as a number"
            )
        segments = segments_of(packed, band, query_SND.shape[0], key_TGD.shape[0])
        rows = (query_SND[None], key_TGD[None], value_TGE[None])
        return self._attend(*rows, segments.max_key_length, band, segments=segments)[0].flatten(1)

    def _attend(
        self,
        query_BSND: Tensor,
        key_BTGD: Tensor,
        value_BTGE: Tensor,
        num_keys: int,
        band: Band,
        *,
        segments: Segments | None = None,
        padding: bool = False,
    ) -> Tensor:
        """[B, S, N, E]. num_keys: the n of "-log n"."""
        call = AttentionCall(
            scale=self.scale,
            band=band,
            segments=segments,
            bias=self._biased(minus_log(num_keys)),
            sigmoid=self.sigmoid,
        )
        return attend_sigmoid(
            query_BSND,
            key_BTGD,
            value_BTGE,
            call,
            backend=self.kernel,
            padding=padding,
            packed=segments is not None,
            deterministic=self.config.deterministic_mode,
            training=self.training,
            cp_group=self.cp_group,
        )

    def _biased(self, minus_log_n: float) -> float | Tensor:
        """The bias of this rank's heads, a number or [N]."""
        bias = minus_log_n if self.bias == "-log n" else self.bias
        return bias if self.head_bias is None else self.head_bias.float() + bias

    def _require_one_length(self, query_BSND: Tensor, key_BTGD: Tensor) -> None:
        """A cache of keys grows with every token, and "-log n" would grow with it."""
        if self.bias == "-log n" and self.attention_type == "self" and query_BSND.shape[1] != key_BTGD.shape[1]:
            raise ValueError(
                f'bias "-log n" with {query_BSND.shape[1]} queries and {key_BTGD.shape[1]} keys would make the model '
                "another function at every step of generation; give minus the logarithm of the training length as a "
                "number"
            )

    def sharded_state_dict(
        self,
        prefix: str = "",
        sharded_offsets: tuple[tuple[int, int, int], ...] = (),
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """megatron's distributed checkpoint of the learned bias: its heads are split over the tensor-parallel ranks."""
        return make_sharded_tensors_for_checkpoint(
            self.state_dict(prefix="", keep_vars=True),
            prefix,
            {"head_bias": 0},
            sharded_offsets,
            tp_group=self.tp_group,
            dp_cp_group=ensure_metadata_has_dp_cp_group(metadata)["dp_cp_group"],
        )


def _require_supported(config: TransformerConfig, dropout: float) -> None:
    """ValueError with the mend. Fields that not every version has are asked for by name."""
    softmax_type = getattr(config, "softmax_type", "vanilla")
    refusals = {
        f"attention_dropout is {dropout}, which sigmoid attention does not apply; set it to 0": dropout,
        f"softmax_type is {softmax_type!r}, and there is no softmax; leave it at vanilla": softmax_type != "vanilla",
        "qk_clip reads the largest score, which sigmoid attention does not keep; turn it off": config.qk_clip,
        "log_max_attention_logit reads the largest score, which sigmoid attention does not keep; turn it off": getattr(
            config, "log_max_attention_logit", False
        ),
        "flash_decode runs softmax kernels past core_attention; turn it off": config.flash_decode,
        "multi_latent_attention decodes past core_attention; turn it off": config.multi_latent_attention,
        "fp8_dot_product_attention is not done by sigmoid attention; turn it off": getattr(
            config, "fp8_dot_product_attention", False
        ),
        "fp8_multi_head_attention hands over fp8, which sigmoid attention does not take; turn it off": getattr(
            config, "fp8_multi_head_attention", False
        ),
        "batch_invariant_mode is not kept by sigmoid attention's kernels; turn it off": getattr(
            config, "batch_invariant_mode", False
        ),
    }
    for text, applies in refusals.items():
        if applies:
            raise ValueError(text)


def _head_bias(config: TransformerConfig, num_heads: int) -> nn.Parameter:
    """Zeros [N], in the dtype and on the device of the model's other parameters, marked as split over ranks."""
    on_gpu = torch.cuda.is_available() and not (
        config.use_cpu_initialization or getattr(config, "init_model_with_meta_device", False)
    )
    device = torch.cuda.current_device() if on_gpu else None
    parameter = nn.Parameter(torch.zeros(num_heads, dtype=config.params_dtype, device=device))
    set_tensor_model_parallel_attributes(parameter, True, 0, 1)
    return parameter


def _warn_of_recomputation(config: TransformerConfig) -> None:
    recomputes = config.recompute_granularity == "selective" and "core_attn" in (config.recompute_modules or [])
    if recomputes and config.context_parallel_size == 1:
        warnings.warn(
            "sigmoid attention keeps no scores, so that recomputing core_attn costs time and saves nothing; recompute "
            "something else, or nothing",
            stacklevel=2,
        )
