"""The transformer layer as a megatron-core spec: which module stands where, and megatron's configuration of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer import ModuleSpec, TransformerConfig, TransformerLayer, TransformerLayerSubmodules
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from triptych.kernels.flash_sigmoid.problem import minus_log
from triptych.models.attention.sdpa import SDPACoreAttention
from triptych.models.attention.sigmoid import SigmoidCoreAttention
from triptych.models.dropout import DropoutKeys, StreamDropout
from triptych.models.norms import RMSNorm, shared_parameter
from triptych.models.trimodal.config import TrimodalConfig
from triptych.models.trimodal.execution import Execution


def megatron_config(config: TrimodalConfig, groups: ProcessGroupCollection, execution: Execution) -> TransformerConfig:
    """megatron-core's view of the model. Weights are built in fp32 where torch makes new tensors (the CPU, or nowhere
    under `torch.device("meta")`) and filled by `initialisation`; the engine moves and casts them.
    """
    selective = execution.recompute == "selective"
    return TransformerConfig(
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        num_attention_heads=config.num_attention_heads,
        num_query_groups=config.num_query_groups,
        kv_channels=config.head_dim,
        ffn_hidden_size=config.ffn_hidden_size,
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        bias_activation_fusion=dist.get_backend(groups.tp) == "nccl",
        add_bias_linear=False,
        normalization="RMSNorm",
        layernorm_epsilon=config.norm_epsilon,
        qk_layernorm=config.attention.qk_norm == "rms",
        hidden_dropout=0.0,
        attention_dropout=0.0,
        params_dtype=torch.float32,
        use_cpu_initialization=True,
        perform_initialization=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
        calculate_per_token_loss=True,
        # Of the pipeline megatron is told where its schedule is started: here it would count layers for itself.
        tensor_model_parallel_size=groups.tp.size(),
        sequence_parallel=execution.sequence_parallel,
        recompute_granularity="selective" if selective else None,
        recompute_modules=["core_attn"] if selective else None,
    )


def layer_spec(config: TrimodalConfig, groups: ProcessGroupCollection, execution: Execution, number: int) -> ModuleSpec:
    """Layer `number` of the whole model, pre-norm: x + a g Attn(Norm(x)), then x + a g SwiGLU(Norm(x)), with a =
    branch_scale, g the layer scale where there is one, and dropout on both branches.
    """
    # Under sequence parallelism a rank normalises its part of the positions; a head is always on one rank alone.
    group_of_parts = groups.tp if execution.sequence_parallel else None
    norm = ModuleSpec(RMSNorm, params={"sum_gradient_over": group_of_parts})
    head_norm = ModuleSpec(RMSNorm, params={"sum_gradient_over": groups.tp})
    query_key_norm = head_norm if config.attention.qk_norm == "rms" else None
    gain = None
    if config.layer_scale is not None:
        gain = LayerScale(initial=config.layer_scale, hidden_size=config.hidden_size, sum_gradient_over=group_of_parts)

    def add(branch: str) -> ModuleSpec:
        site = f"layers.{number}.{branch}"
        params = {"scale": config.branch_scale, "site": site, "dropout": config.dropout, "gain": gain}
        return ModuleSpec(ResidualAdd, params=params)

    attention = SelfAttention if config.post_attention_norm == "none" else PostNormSelfAttention
    return ModuleSpec(
        module=TransformerLayer,
        submodules=TransformerLayerSubmodules(
            input_layernorm=norm,
            self_attention=ModuleSpec(
                module=attention,
                params={"attn_mask_type": AttnMaskType.padding},
                submodules=SelfAttentionSubmodules(
                    linear_qkv=ColumnParallelLinear,
                    core_attention=_core_attention(config),  # type: ignore[arg-type]  # a spec, as below
                    linear_proj=RowParallelLinear,
                    q_layernorm=query_key_norm,  # type: ignore[arg-type]  # megatron takes specs, its types do not say so
                    k_layernorm=query_key_norm,  # type: ignore[arg-type]
                ),
            ),
            self_attn_bda=add("attention"),
            pre_mlp_layernorm=norm,
            mlp=ModuleSpec(
                module=MLP, submodules=MLPSubmodules(linear_fc1=ColumnParallelLinear, linear_fc2=RowParallelLinear)
            ),
            mlp_bda=add("mlp"),
        ),
    )


def _core_attention(config: TrimodalConfig) -> ModuleSpec:
    attention = config.attention
    if attention.function == "softmax":
        return ModuleSpec(SDPACoreAttention)
    params = {
        "bias": minus_log(config.sequence_length) if attention.bias == "-log n" else attention.bias,
        "learned_bias": attention.learned_bias,
        "sigmoid": attention.sigmoid,
        "kernel": attention.kernel,
    }
    return ModuleSpec(SigmoidCoreAttention, params=params)


@dataclass(kw_only=True, slots=True, frozen=True)
class LayerScale:
    """A gain on a residual branch. sum_gradient_over: as of `RMSNorm`."""

    initial: float
    hidden_size: int
    sum_gradient_over: ProcessGroup | None


class ResidualAdd(nn.Module):
    """megatron's bias-dropout-add slot: residual + scale * gain * dropout(branch), without a bias.

    keys: of the micro-batch whose forward pass, or recomputation, comes next.
    """

    def __init__(self, scale: float, site: str, dropout: float, gain: LayerScale | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.layer_scale = None if gain is None else nn.Parameter(torch.full((gain.hidden_size,), gain.initial))
        self._group = None if gain is None else gain.sum_gradient_over
        self.dropout = StreamDropout(site, dropout)
        self.keys: DropoutKeys | None = None

    def forward(self, training: bool, fused: bool) -> Callable[..., Tensor]:
        """megatron asks for the function to call."""
        return self._add

    def _add(self, branch_and_bias: tuple[Tensor, Tensor | None], residual: Tensor, probability: float) -> Tensor:
        branch, bias = branch_and_bias
        assert bias is None and probability == 0.0
        branch = self.dropout(branch, self.keys)
        if self.layer_scale is not None:
            branch = branch * shared_parameter(self.layer_scale, self._group).to(branch.dtype)
        return residual + branch if self.scale == 1.0 else torch.add(residual, branch, alpha=self.scale)


class PostNormSelfAttention(SelfAttention):
    """Self-attention with one more norm on its output (the hybrid norm of arXiv 2409.04431, for stability at long
    sequences).
    """

    def __init__(self, config: TransformerConfig, *, pg_collection: ProcessGroupCollection, **arguments: Any) -> None:
        super().__init__(config=config, pg_collection=pg_collection, **arguments)
        self.output_norm = RMSNorm(
            config,
            config.hidden_size,
            config.layernorm_epsilon,
            sum_gradient_over=pg_collection.tp if config.sequence_parallel else None,
        )

    def forward(self, *arguments: Any, **named: Any) -> tuple[Tensor, Tensor | None]:
        output, bias = super().forward(*arguments, **named)
        return self.output_norm(output), bias
