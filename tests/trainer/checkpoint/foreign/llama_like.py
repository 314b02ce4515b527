"""Tiny LLaDA- and LLaMA-like models, from their published formulas, in folders as Hugging Face keeps them.

x + Attn(Norm(x)), then x + W2 (silu(W1 n) * W3 n), rotary positions on halves, RMS norms, no biases; LLaDA sees both
ways (arXiv 2502.09992, section 2), LLaMA (arXiv 2302.13971) here too.
"""

import json

import torch
from safetensors.torch import save_file

HIDDEN, LAYERS, HEADS, GROUPS, FFN, ROWS = 32, 2, 4, 2, 48, 56
EPSILON, BASE = 1e-5, 500_000.0
LLADA_CONFIG = {
    "model_type": "llada",
    "d_model": HIDDEN,
    "n_layers": LAYERS,
    "n_heads": HEADS,
    "n_kv_heads": GROUPS,
    "mlp_hidden_size": FFN,
    "vocab_size": ROWS,
    "embedding_size": ROWS,
    "rms_norm_eps": EPSILON,
    "rope_theta": BASE,
    "mask_token_id": 50,
    "eos_token_id": 45,
    "block_type": "llama",
    "activation_type": "silu",
    "layer_norm_type": "rms",
    "rope": True,
    "include_bias": False,
    "include_qkv_bias": False,
    "alibi": False,
}
LLAMA_CONFIG = {
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "intermediate_size": FFN,
    "vocab_size": ROWS,
    "rms_norm_eps": EPSILON,
    "rope_theta": BASE,
    "eos_token_id": [45, 46],
    "hidden_act": "silu",
    "rope_scaling": None,
}


def weights():
    """Neutral names to random tensors."""
    size = HIDDEN // HEADS
    shapes = {
        "query": (HIDDEN, HIDDEN),
        "key": (GROUPS * size, HIDDEN),
        "value": (GROUPS * size, HIDDEN),
        "out": (HIDDEN, HIDDEN),
        "gate": (FFN, HIDDEN),
        "up": (FFN, HIDDEN),
        "down": (HIDDEN, FFN),
        "norm1": (HIDDEN,),
        "norm2": (HIDDEN,),
    }
    made = {f"{i} {name}": torch.randn(shape) * 0.3 for i in range(LAYERS) for name, shape in shapes.items()}
    return made | {"wte": torch.randn(ROWS, HIDDEN), "norm": torch.randn(HIDDEN), "head": torch.randn(ROWS, HIDDEN)}


def forward(w, ids):
    """Logits [S, ROWS] of one row of ids, every position seeing every other."""
    x = w["wte"][ids]
    for i in range(LAYERS):
        n = norm(x, w[f"{i} norm1"])
        q, k, v = (n @ w[f"{i} {name}"].T for name in ("query", "key", "value"))
        q, k = rotate(heads(q, HEADS)), rotate(heads(k, GROUPS))
        k, v = (y.repeat_interleave(HEADS // GROUPS, dim=0) for y in (k, heads(v, GROUPS)))
        weight = (q @ k.mT / (HIDDEN // HEADS) ** 0.5).softmax(-1)
        x = x + (weight @ v).transpose(0, 1).flatten(1) @ w[f"{i} out"].T
        n = norm(x, w[f"{i} norm2"])
        x = x + (torch.nn.functional.silu(n @ w[f"{i} gate"].T) * (n @ w[f"{i} up"].T)) @ w[f"{i} down"].T
    return norm(x, w["norm"]) @ w["head"].T


def norm(x, gain):
    return x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt() * gain


def heads(x, number):
    return x.view(len(x), number, -1).transpose(0, 1)


def rotate(x):
    """[heads, S, D]: pairs (i, i + D/2) turned by position * BASE^(-2i/D)."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[1])[:, None] * BASE ** (-torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


_LLADA = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "attn_out", "gate": "ff_proj"}
_LLADA |= {"up": "up_proj", "down": "ff_out", "norm1": "attn_norm", "norm2": "ff_norm"}
_LLAMA = {"query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj"}
_LLAMA |= {"out": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"}
_LLAMA |= {"norm1": "input_layernorm", "norm2": "post_attention_layernorm"}


def save(folder, w, family, more=None, left_out=(), **changes):
    """A folder of either family. more: tensors besides, by their own names. changes: of config.json."""
    names, config, stem = (
        (_LLADA, LLADA_CONFIG, "model.transformer.blocks")
        if family == "llada"
        else (_LLAMA, LLAMA_CONFIG, "model.layers")
    )
    ends = (
        ("transformer.wte", "transformer.ln_f", "transformer.ff_out")
        if family == "llada"
        else ("embed_tokens", "norm", "")
    )
    tensors = {f"{stem}.{i}.{names[name]}.weight": w[f"{i} {name}"] for i in range(LAYERS) for name in names}
    tensors |= {f"model.{ends[0]}.weight": w["wte"], f"model.{ends[1]}.weight": w["norm"]}
    tensors[f"model.{ends[2]}.weight" if ends[2] else "lm_head.weight"] = w["head"]
    tensors = {name: tensor for name, tensor in {**tensors, **(more or {})}.items() if name not in left_out}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    first = dict(list(tensors.items())[:7])
    rest = {name: tensor for name, tensor in tensors.items() if name not in first}
    save_file(first, folder / "model-00001-of-00002.safetensors")
    save_file(rest, folder / "model-00002-of-00002.safetensors")
    where = dict.fromkeys(first, "model-00001-of-00002.safetensors") | dict.fromkeys(
        rest, "model-00002-of-00002.safetensors"
    )
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder
