"""What the `config.json` of LLaDA or of a LLaMA-like model says, and where our model agrees with it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from triptych.models.trimodal.config import TrimodalConfig


@dataclass(kw_only=True, slots=True, frozen=True)
class LlamaShape:
    """Sizes under our names. mask_token, end_token: ids, or None."""

    hidden_size: int
    num_layers: int
    num_attention_heads: int
    num_query_groups: int
    ffn_hidden_size: int
    norm_epsilon: float
    rope_base: float
    is_causal: bool
    mask_token: int | None
    end_token: int | None

    @classmethod
    def read(cls, folder: Path) -> Self:
        """ValueError, naming the field, for a function that our model cannot be (biases, ALiBi, scaled positions), for
        weights that are not plain numbers, and for a size that is missing.
        """
        config = _read_config(folder / "config.json")
        is_llada = "d_model" in config
        refused = _LLADA_REFUSED if is_llada else _LLAMA_REFUSED
        for name, allowed in refused.items():
            if name in config and config[name] not in allowed:
                raise ValueError(f"{folder}: {name} is {config[name]!r}, which the model has not; use another source")
        heads = config["n_heads" if is_llada else "num_attention_heads"]
        groups = config.get("n_kv_heads" if is_llada else "num_key_value_heads") or heads
        end = config.get("eos_token_id")
        rope = config.get("rope_parameters") or {}
        if rope.get("rope_type", "default") != "default":
            raise ValueError(
                f"{folder}: rope_type is {rope['rope_type']!r}, which the model has not; use another source"
            )
        return cls(
            hidden_size=config["d_model" if is_llada else "hidden_size"],
            num_layers=config["n_layers" if is_llada else "num_hidden_layers"],
            num_attention_heads=heads,
            num_query_groups=groups,
            ffn_hidden_size=config["mlp_hidden_size" if is_llada else "intermediate_size"],
            norm_epsilon=config.get("rms_norm_eps", 1e-5 if is_llada else 1e-6),
            rope_base=config.get("rope_theta", rope.get("rope_theta", 10_000.0)),
            is_causal=not is_llada,
            mask_token=config.get("mask_token_id"),
            end_token=next(iter(end), None) if isinstance(end, list) else end,
        )

    def compare(self, folder: Path, model: TrimodalConfig, num_rows: int) -> list[str]:
        """What differs that training may make good. ValueError, naming the field, for what cannot differ."""
        sizes = ("hidden_size", "num_layers", "num_attention_heads", "num_query_groups", "ffn_hidden_size")
        for name in sizes:
            if getattr(self, name) != getattr(model, name):
                raise ValueError(
                    f"{folder} has {name} {getattr(self, name)}, the run's model {getattr(model, name)}; "
                    f"set model.{name}={getattr(self, name)}"
                )
        if model.vocabulary.text > num_rows:
            raise ValueError(
                f"{folder} has {num_rows} rows of vocabulary, the run's model.vocabulary.text is "
                f"{model.vocabulary.text}; use the source's own tokenizer (triptych tokenizer adopt)"
            )
        for name in ("mask_token", "end_token"):
            if (getattr(self, name) or 0) >= num_rows:
                raise ValueError(
                    f"{folder}: {name} {getattr(self, name)} has no row among {num_rows}; correct config.json"
                )
        ours = {"norm_epsilon": model.norm_epsilon, "rope_base": model.rope_base}
        notes = [
            f"{name} is {getattr(self, name):g} there and {value:g} here (model.{name} would agree)"
            for name, value in ours.items()
            if getattr(self, name) != value
        ]
        if self.is_causal:
            notes.append("it looks only back, and this model both ways")
        plain = {"attention.function": "softmax", "positions": "rotary", "post_attention_norm": "none"}
        for path, value in plain.items():
            found = model.attention.function if path.startswith("attention.") else getattr(model, path)
            if found != value:
                notes.append(f"model.{path} is {found} ({value} would agree)")
        if model.branch_scale != 1 or model.layer_scale is not None:
            notes.append(
                "residual branches are scaled (model.base=null, residual_scale=1, layer_scale=null would agree)"
            )
        return notes


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); copy the whole folder") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds no mapping; copy the whole folder")
    for name in _LLADA_SIZES if "d_model" in config else _LLAMA_SIZES:
        if not isinstance(config.get(name), int):
            raise ValueError(f"{path} says {config.get(name)!r} of {name}, a number belongs there; add it")
    return config


_LLADA_SIZES = ("d_model", "n_layers", "n_heads", "mlp_hidden_size")
_LLAMA_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_OFF = (False, None, 0)
_LLADA_REFUSED: dict[str, tuple[Any, ...]] = {
    "block_type": ("llama",),
    "activation_type": ("silu", "swiglu"),
    "layer_norm_type": ("rms",),
    "rope": (True,),
    "include_bias": _OFF,
    "include_qkv_bias": _OFF,
    "alibi": _OFF,
    "attention_layer_norm": _OFF,
    "input_emb_norm": _OFF,
    "scale_logits": _OFF,
    "quantization_config": (None,),
}
_LLAMA_REFUSED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": _OFF,
    "mlp_bias": _OFF,
    "rope_scaling": (None,),
    "quantization_config": (None,),
}
