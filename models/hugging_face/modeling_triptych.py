"""The tri-modal masked diffusion transformer in plain torch: one stream of text, image and audio tokens, seen whole.

The operations and their order are those of the model as it is trained, so that on a CPU in fp32 the logits are the same
to the bit. Positions come before rows of the batch, as in training.

Shape legend: S positions, B sequences, H hidden size, N query heads, G key-value groups, D head dimension, R rows of
one modality, V ids of one modality, X = B * G, L lines (position, head within the group).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.utils import ModelOutput

from triptych.models.hugging_face.codecs_triptych import FsqCodec, load_codec
from triptych.models.hugging_face.configuration_triptych import MODALITIES, TriptychConfiguration
from triptych.models.hugging_face.sampling_triptych import changed_settings, generate_codes

_KEYS_PER_BLOCK, _LINES_PER_BLOCK, _SCORES_PER_BLOCK = 512, 256, 1 << 18


@dataclass
class TriptychOutput(ModelOutput):
    """logits: by modality, [R, V] of the rows that were asked for, or [B, S, V] of all positions; column 0 is END,
    column j code j - 1, columns past the modality's ids mean nothing. last_hidden_state: [B, S, H], not normalised.
    """

    logits: dict[str, Tensor] | None = None
    last_hidden_state: Tensor | None = None


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.epsilon)


class Projection(nn.Module):
    """x W^T."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size_out, size_in))

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(x, self.weight.t())


class ResidualAdd(nn.Module):
    """residual + scale * gain * dropout(branch)."""

    def __init__(self, config: TriptychConfiguration) -> None:
        super().__init__()
        self.scale, self.dropout = config.branch_scale, config.dropout
        self.layer_scale = nn.Parameter(torch.ones(config.hidden_size)) if config.layer_scale else None

    def forward(self, residual: Tensor, branch: Tensor) -> Tensor:
        branch = functional.dropout(branch, self.dropout, self.training)
        if self.layer_scale is not None:
            branch = branch * self.layer_scale.to(branch.dtype)
        return residual + branch if self.scale == 1.0 else torch.add(residual, branch, alpha=self.scale)


class SoftmaxAttention(nn.Module):
    """softmax(Q K^T / sqrt(D)) V."""

    def forward(self, query_SBND: Tensor, key_SBGD: Tensor, value_SBGD: Tensor, padding_BS: Tensor | None) -> Tensor:
        query, key, value = (x.permute(1, 2, 0, 3) for x in (query_SBND, key_SBGD, value_SBGD))
        visible = None if padding_BS is None else ~padding_BS[:, None, None, :]
        context_BNSD = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=visible, enable_gqa=query.shape[1] != key.shape[1]
        )
        return context_BNSD.permute(2, 0, 1, 3).reshape(*query_SBND.shape[:2], -1)


class SigmoidAttention(nn.Module):
    """sigma(Q K^T / sqrt(D) + bias) V (arXiv 2409.04431), block by block: memory is linear in the length."""

    def __init__(self, config: TriptychConfiguration) -> None:
        super().__init__()
        self.bias = float(config.attention["bias"])
        is_learned = config.attention.get("learned_bias", "none") == "per_head"
        self.head_bias = nn.Parameter(torch.zeros(config.num_attention_heads)) if is_learned else None

    def forward(self, query_SBND: Tensor, key_SBGD: Tensor, value_SBGD: Tensor, padding_BS: Tensor | None) -> Tensor:
        if padding_BS is not None:
            value_SBGD = value_SBGD.masked_fill(padding_BS.T[:, :, None, None], 0)
        num_positions, num_rows, num_heads, size = query_SBND.shape
        num_groups = key_SBGD.shape[2]
        query_XLD, key_XTD, value_XTD = (_by_group(x, num_groups) for x in (query_SBND, key_SBGD, value_SBGD))
        bias_XL1 = self._bias(query_XLD, num_rows, num_groups, num_heads // num_groups)
        blocks = list(_blocks(query_XLD.shape[0], num_positions, num_heads // num_groups))
        beta = 0 if len(blocks) == 1 else 1
        out_XLD = torch.zeros_like(query_XLD)
        for groups, lines, keys in blocks:
            bias = bias_XL1 if bias_XL1.shape[1] == 1 else bias_XL1[groups, lines]
            scores = torch.baddbmm(bias, query_XLD[groups, lines], key_XTD[groups, keys].mT, alpha=1 / math.sqrt(size))
            out_XLD[groups, lines].baddbmm_(scores.sigmoid_(), value_XTD[groups, keys], beta=beta)
        out_BGSRD = out_XLD.view(num_rows, num_groups, num_positions, -1, size)
        return out_BGSRD.permute(2, 0, 1, 3, 4).reshape(num_positions, num_rows, -1).to(query_SBND.dtype)

    def _bias(self, query_XLD: Tensor, num_rows: int, num_groups: int, per_group: int) -> Tensor:
        """[1, 1, 1], or [X, L, 1] where heads have their own."""
        if self.head_bias is None:
            return query_XLD.new_full((1, 1, 1), self.bias)
        bias_N = self.head_bias.float() + self.bias
        bias_XR = bias_N.expand(num_rows, -1).reshape(num_rows * num_groups, per_group)
        return bias_XR.repeat(1, query_XLD.shape[1] // per_group)[:, :, None]


def _by_group(x_SBND: Tensor, num_groups: int) -> Tensor:
    """fp32 [B * G, S * N / G, D]: the query heads that share keys are lines of one matrix."""
    num_rows, size = x_SBND.shape[1], x_SBND.shape[3]
    x_BGSRD = x_SBND.transpose(0, 1).unflatten(2, (num_groups, -1)).transpose(1, 2)
    return x_BGSRD.reshape(num_rows * num_groups, -1, size).float()


def _blocks(num_groups: int, num_positions: int, per_group: int) -> list[tuple[slice, slice, slice]]:
    """(of X, lines, keys): the blocks, and so the order of sums, of the kernel that the model is trained with on a
    CPU.
    """
    keys_at_once = min(num_positions, _KEYS_PER_BLOCK)
    queries_at_once = min(num_positions, max(_LINES_PER_BLOCK // per_group, 1))
    scores = keys_at_once * queries_at_once * per_group
    groups_at_once = min(num_groups, max(_SCORES_PER_BLOCK // scores, torch.get_num_threads()))
    return [
        (
            slice(group, group + groups_at_once),
            slice(line, line + queries_at_once * per_group),
            slice(key, key + keys_at_once),
        )
        for group in range(0, num_groups, groups_at_once)
        for line in range(0, num_positions * per_group, queries_at_once * per_group)
        for key in range(0, num_positions, keys_at_once)
    ]


class SelfAttention(nn.Module):
    """Queries, keys and values of each group lie side by side in one matrix: q q k v | q q k v | ..."""

    def __init__(self, config: TriptychConfiguration) -> None:
        super().__init__()
        self.num_groups, self.head_dim = config.num_query_groups, config.head_dim
        self.per_group = config.num_attention_heads // config.num_query_groups
        columns = (config.num_attention_heads + 2 * config.num_query_groups) * config.head_dim
        self.linear_qkv = Projection(config.hidden_size, columns)
        self.linear_proj = Projection(config.hidden_size, config.hidden_size)
        is_softmax = config.attention["function"] == "softmax"
        self.core_attention = SoftmaxAttention() if is_softmax else SigmoidAttention(config)
        has_norm = config.attention["qk_norm"] == "rms"
        self.q_layernorm = RMSNorm(config.head_dim, config.norm_epsilon) if has_norm else None
        self.k_layernorm = RMSNorm(config.head_dim, config.norm_epsilon) if has_norm else None
        has_output_norm = config.post_attention_norm == "rms"
        self.output_norm = RMSNorm(config.hidden_size, config.norm_epsilon) if has_output_norm else None

    def forward(self, hidden_SBH: Tensor, angles_S11D: Tensor, padding_BS: Tensor | None) -> Tensor:
        mixed = self.linear_qkv(hidden_SBH).unflatten(2, (self.num_groups, -1))
        query, key_SBGD, value_SBGD = mixed.split([self.per_group * self.head_dim, self.head_dim, self.head_dim], 3)
        query_SBND = query.reshape(*query.shape[:2], -1, self.head_dim)
        if self.q_layernorm is not None and self.k_layernorm is not None:
            query_SBND, key_SBGD = self.q_layernorm(query_SBND), self.k_layernorm(key_SBGD)
        query_SBND, key_SBGD = _rotated(query_SBND, angles_S11D), _rotated(key_SBGD, angles_S11D)
        output_SBH = self.linear_proj(self.core_attention(query_SBND, key_SBGD, value_SBGD, padding_BS))
        return output_SBH if self.output_norm is None else self.output_norm(output_SBH)


def _rotated(x_SBND: Tensor, angles_S11D: Tensor) -> Tensor:
    """Rotary positions (arXiv 2104.09864), the two halves of a head paired."""
    first, second = x_SBND.chunk(2, dim=-1)
    cos, sin = angles_S11D.cos().to(x_SBND.dtype), angles_S11D.sin().to(x_SBND.dtype)
    return x_SBND * cos + torch.cat((-second, first), dim=-1) * sin


class SwiGLU(nn.Module):
    """W2 (silu(gate) * up), with [gate; up] in one matrix."""

    def __init__(self, config: TriptychConfiguration) -> None:
        super().__init__()
        self.linear_fc1 = Projection(config.hidden_size, 2 * config.ffn_hidden_size)
        self.linear_fc2 = Projection(config.ffn_hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.linear_fc1(x).chunk(2, dim=-1)
        return self.linear_fc2(functional.silu(gate) * up)


class TriptychLayer(nn.Module):
    """x + a g Attn(Norm(x)), then x + a g SwiGLU(Norm(x))."""

    def __init__(self, config: TriptychConfiguration) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.self_attention = SelfAttention(config)
        self.self_attn_bda = ResidualAdd(config)
        self.pre_mlp_layernorm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.mlp = SwiGLU(config)
        self.mlp_bda = ResidualAdd(config)

    def forward(self, hidden_SBH: Tensor, angles_S11D: Tensor, padding_BS: Tensor | None) -> Tensor:
        attended = self.self_attention(self.input_layernorm(hidden_SBH), angles_S11D, padding_BS)
        hidden_SBH = self.self_attn_bda(hidden_SBH, attended)
        return self.mlp_bda(hidden_SBH, self.mlp(self.pre_mlp_layernorm(hidden_SBH)))


class TriptychModel(PreTrainedModel, GenerationMixin):
    """Bidirectional transformer with one untied head per modality."""

    config_class = TriptychConfiguration
    main_input_name = "input_ids"
    _no_split_modules = ["TriptychLayer"]  # noqa: RUF012 - as the library has it

    def __init__(self, config: TriptychConfiguration) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.embedding_rows, config.hidden_size)
        has_positions = config.positions == "rotary_and_learned"
        self.positions = (
            nn.Parameter(torch.zeros(config.sequence_length, config.hidden_size)) if has_positions else None
        )
        self.layers = nn.ModuleDict({str(i): TriptychLayer(config) for i in range(config.num_layers)})
        self.final_norm = RMSNorm(config.hidden_size, config.norm_epsilon)
        self.heads = nn.ModuleDict(
            {modality: Projection(config.hidden_size, config.head_columns(modality)) for modality in MODALITIES}
        )
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        rows: Mapping[str, Tensor] | None = None,
        **_: Any,
    ) -> TriptychOutput:
        """input_ids: int64 [B, S], [MASK] where hidden. attention_mask: [B, S], 0 or False where nobody looks; leave it
        out where there is no padding. rows: by modality, flat indices b * S + s of the positions whose logits are
        wanted; all positions for all modalities if left out.
        """
        num_rows, num_positions = input_ids.shape
        hidden_SBH = self.embedding(input_ids).transpose(0, 1).contiguous()
        place_S = torch.arange(num_positions, device=input_ids.device)
        if self.positions is not None:
            known_S1 = place_S.clamp(max=len(self.positions) - 1)[:, None]
            hidden_SBH = hidden_SBH + functional.embedding(known_S1, self.positions)
        padding_BS = None if attention_mask is None else ~attention_mask.bool()
        angles_S11D = self._angles(place_S)
        for layer in self.layers.values():
            hidden_SBH = layer(hidden_SBH, angles_S11D, padding_BS)
        flat = hidden_SBH.view(num_positions * num_rows, -1)
        logits = {}
        for modality, head in self.heads.items():
            if rows is None:
                logits[modality] = head(self.final_norm(hidden_SBH)).transpose(0, 1)
            elif modality in rows:
                wanted_R = rows[modality]
                places_R = wanted_R % num_positions * num_rows + wanted_R // num_positions
                logits[modality] = head(self.final_norm(flat.index_select(0, places_R)))
        return TriptychOutput(logits=logits, last_hidden_state=hidden_SBH.transpose(0, 1))

    @torch.no_grad()
    def generate(  # type: ignore[override]  # nothing here is left to right
        self,
        task: str,
        conditions: Sequence[Sequence[int]] = ((),),
        *,
        num: int = 1,
        seed: int = 0,
        first_key: int = 0,
        **sampling: Any,
    ) -> list[Tensor]:
        """Codes of `num` outputs for each condition (codes of the condition's modality; of task "text" a beginning),
        in order.

        The same seed gives the same samples; item i's noise is keyed by first_key + i alone. sampling: changes to
        `generation_config.sampling`, by modality, such as image={"num_steps": 32}. ValueError for an unknown task, a
        code outside its book, more codes than there is room for, or a setting that is unknown or outside its range.
        """
        config: Any = self.generation_config
        settings = {m: changed_settings(m, config.sampling[m], sampling.pop(m, {})) for m in MODALITIES}
        if sampling:
            raise ValueError(f"sampling of {', '.join(sampling)} is unknown; give text, image or audio")
        was_training = self.training
        self.eval()
        try:
            return generate_codes(
                self, task, conditions, settings, num=num, seed=seed, first_key=first_key, batch_size=config.batch_size
            )
        finally:
            self.train(was_training)

    def codec(self, modality: str) -> FsqCodec:
        """The image or audio tokenizer that lies beside the model. ValueError if it is of a kind that needs its own
        library.
        """
        return load_codec(str(self.name_or_path), modality)

    def _angles(self, place_S: Tensor) -> Tensor:
        exponents = torch.arange(0, self.config.head_dim, 2, dtype=torch.float32, device=place_S.device)
        angles = torch.outer(place_S.float(), self.config.rope_base ** -(exponents / self.config.head_dim))
        return torch.cat([angles, angles], dim=-1)[:, None, None, :]

    def _init_weights(self, module: nn.Module) -> None:
        """Only for what is begun anew: embeddings 0.02, matrices 1 / sqrt(fan in), gains 1, all else 0."""
        match module:
            case nn.Embedding():
                nn.init.normal_(module.weight, std=0.02)
            case Projection() if module in self.heads.values():
                nn.init.zeros_(module.weight)
            case Projection():
                nn.init.normal_(module.weight, std=module.weight.shape[1] ** -0.5)
            case RMSNorm():
                nn.init.ones_(module.weight)
            case ResidualAdd(layer_scale=nn.Parameter() as gain):
                nn.init.ones_(gain)
            case SigmoidAttention(head_bias=nn.Parameter() as bias):
                nn.init.zeros_(bias)
            case TriptychModel(positions=nn.Parameter() as positions):
                nn.init.zeros_(positions)
