"""The transformer layer as a megatron-core spec: which module stands where, and megatron's configuration of it."""

from collections.abc import Callable
from typing import Any

import torch
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer import ModuleSpec, TransformerConfig, TransformerLayer, TransformerLayerSubmodules
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from torch import Tensor

from triptych.models.attention.sdpa import SDPACoreAttention
from triptych.models.norms import RMSNorm
from triptych.models.trimodal.config import TrimodalConfig


def megatron_config(config: TrimodalConfig) -> TransformerConfig:
    """megatron-core's view of the model. Weights are built in fp32 and filled by `initialisation`; the engine casts
    them.
    """
    on_gpu = torch.cuda.is_available()
    return TransformerConfig(
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_attention_heads,
        num_query_groups=config.num_query_groups,
        kv_channels=config.head_dim,
        ffn_hidden_size=config.ffn_hidden_size,
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        bias_activation_fusion=on_gpu,
        add_bias_linear=False,
        normalization="RMSNorm",
        layernorm_epsilon=config.norm_epsilon,
        qk_layernorm=True,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        params_dtype=torch.float32,
        use_cpu_initialization=not on_gpu,
        perform_initialization=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
        calculate_per_token_loss=True,
    )


def layer_spec(config: TrimodalConfig) -> ModuleSpec:
    """One pre-norm layer: x + a Attn(Norm(x)), then x + a SwiGLU(Norm(x)), with a = residual_scale."""
    add = scaled_residual_add(config.residual_scale)
    attention = SelfAttention if config.post_attention_norm == "none" else PostNormSelfAttention
    return ModuleSpec(
        module=TransformerLayer,
        submodules=TransformerLayerSubmodules(
            input_layernorm=RMSNorm,
            self_attention=ModuleSpec(
                module=attention,
                params={"attn_mask_type": AttnMaskType.padding},
                submodules=SelfAttentionSubmodules(
                    linear_qkv=ColumnParallelLinear,
                    core_attention=SDPACoreAttention,
                    linear_proj=RowParallelLinear,
                    q_layernorm=RMSNorm,
                    k_layernorm=RMSNorm,
                ),
            ),
            self_attn_bda=add,  # type: ignore[arg-type]  # megatron takes functions, its types do not say so
            pre_mlp_layernorm=RMSNorm,
            mlp=ModuleSpec(
                module=MLP, submodules=MLPSubmodules(linear_fc1=ColumnParallelLinear, linear_fc2=RowParallelLinear)
            ),
            mlp_bda=add,  # type: ignore[arg-type]
        ),
    )


def scaled_residual_add(scale: float) -> Callable[..., Callable[..., Tensor]]:
    """megatron's bias-dropout-add slot, for a model without bias and dropout: residual + scale * branch."""

    def slot(training: bool, fused: bool) -> Callable[..., Tensor]:
        def add(branch_and_bias: tuple[Tensor, Tensor | None], residual: Tensor, dropout: float) -> Tensor:
            branch, bias = branch_and_bias
            assert bias is None and dropout == 0.0
            return residual + branch if scale == 1.0 else torch.add(residual, branch, alpha=scale)

        return add

    return slot


class PostNormSelfAttention(SelfAttention):
    """Self-attention with one more norm on its output (the hybrid norm of arXiv 2409.04431, for stability at long
    sequences).
    """

    def __init__(self, config: TransformerConfig, **arguments: Any) -> None:
        super().__init__(config=config, **arguments)
        self.output_norm = RMSNorm(config, config.hidden_size, config.layernorm_epsilon)

    def forward(self, *arguments: Any, **named: Any) -> tuple[Tensor, Tensor | None]:
        output, bias = super().forward(*arguments, **named)
        return self.output_norm(output), bias
