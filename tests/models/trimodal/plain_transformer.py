"""The tri-modal transformer in plain PyTorch, written to be read: the oracle of the megatron-core model.

Takes the model's own state dict. Shape legend: B sequences, S positions, H hidden, N query heads, G groups, D head
dimension.
"""

import math

import torch
from einops import rearrange, repeat


def rms_norm(x, weight, epsilon):
    return x / (x.square().mean(-1, keepdim=True) + epsilon).sqrt() * weight


def rotate(x_BSND, base):
    """Channels c and c + D/2 of position s turn by s * base^(-2c/D)."""
    _, length, _, size = x_BSND.shape
    frequencies = base ** (-torch.arange(0, size, 2, dtype=x_BSND.dtype) / size)
    angle = torch.arange(length, dtype=x_BSND.dtype)[:, None] * frequencies
    cos, sin = angle.cos()[None, :, None], angle.sin()[None, :, None]
    first, second = x_BSND.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def attention(x_BSH, weights, config, padding_BS):
    groups, per_group, size = (
        config.num_query_groups,
        config.num_attention_heads // config.num_query_groups,
        config.head_dim,
    )
    qkv = rearrange(x_BSH @ weights["linear_qkv.weight"].T, "b s (g r d) -> b s g r d", g=groups, d=size)
    query = rearrange(qkv[..., :per_group, :], "b s g r d -> b s (g r) d")
    key, value = (repeat(qkv[..., per_group + i, :], "b s g d -> b s (g r) d", r=per_group) for i in (0, 1))
    if config.attention.qk_norm == "rms":
        query = rms_norm(query, weights["q_layernorm.weight"], config.norm_epsilon)
        key = rms_norm(key, weights["k_layernorm.weight"], config.norm_epsilon)
    query, key = rotate(query, config.rope_base), rotate(key, config.rope_base)
    scores = torch.einsum("bqnd,bknd->bnqk", query, key) / size**0.5
    if config.attention.function == "sigmoid":
        bias = config.attention.bias
        scores = scores - math.log(config.sequence_length) if bias == "-log n" else scores + bias
        if "core_attention.head_bias" in weights:
            scores = scores + weights["core_attention.head_bias"][:, None, None]
    if padding_BS is not None:
        scores = scores.masked_fill(padding_BS[:, None, None, :], -torch.inf)
    shares = scores.softmax(-1) if config.attention.function == "softmax" else scores.sigmoid()
    context = torch.einsum("bnqk,bknd->bqnd", shares, value)
    output = rearrange(context, "b s n d -> b s (n d)") @ weights["linear_proj.weight"].T
    if config.post_attention_norm == "rms":
        output = rms_norm(output, weights["output_norm.weight"], config.norm_epsilon)
    return output


def swiglu(x_BSH, weights):
    gate, up = (x_BSH @ weights["linear_fc1.weight"].T).chunk(2, -1)
    return (torch.nn.functional.silu(gate) * up) @ weights["linear_fc2.weight"].T


def plain_logits(state, config, tokens_BS, padding_BS):
    """Full logits [B, S, V] of every modality at every position, from a state dict of tensors."""
    scale = config.residual_scale
    if config.base is not None:
        scale *= (config.num_layers / config.base.num_layers) ** -config.base.depth_exponent
    x_BSH = state["embedding.weight"][tokens_BS]
    if "positions" in state:
        x_BSH = x_BSH + state["positions"][: tokens_BS.shape[1]]
    for number in range(config.num_layers):
        layer = _below(state, f"layers.{number}.")
        normed = rms_norm(x_BSH, layer["input_layernorm.weight"], config.norm_epsilon)
        branch = attention(normed, _below(layer, "self_attention."), config, padding_BS)
        x_BSH = x_BSH + scale * layer.get("self_attn_bda.layer_scale", 1.0) * branch
        normed = rms_norm(x_BSH, layer["pre_mlp_layernorm.weight"], config.norm_epsilon)
        x_BSH = x_BSH + scale * layer.get("mlp_bda.layer_scale", 1.0) * swiglu(normed, _below(layer, "mlp."))
    x_BSH = rms_norm(x_BSH, state["final_norm.weight"], config.norm_epsilon)
    return {modality: x_BSH @ state[f"heads.{modality}.weight"].T for modality in ("text", "image", "audio")}


def _below(state, prefix):
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
