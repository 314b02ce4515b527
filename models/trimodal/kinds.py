"""What each parameter of the tri-modal transformer is to a scaling rule."""

from triptych.models.parameterization import ParameterKind

KINDS_OF_MODULES: dict[str, ParameterKind] = {
    "embedding": "embedding",
    "positions": "embedding",
    "linear_qkv": "attention_in",
    "linear_proj": "attention_out",
    "linear_fc1": "mlp_in",
    "linear_fc2": "mlp_out",
    "input_layernorm": "norm",
    "pre_mlp_layernorm": "norm",
    "output_norm": "norm",
    "q_layernorm": "query_key_norm",
    "k_layernorm": "query_key_norm",
    "head_bias": "attention_bias",
    "layer_scale": "layer_scale",
    "final_norm": "final_norm",
    "heads": "readout",
}
"""The one part of a parameter's dotted name that tells its kind."""


def kind_of_name(name: str) -> ParameterKind:
    """The kind of the parameter of that name. A name that the table does not know is an error of ours."""
    kinds: list[ParameterKind] = [KINDS_OF_MODULES[part] for part in name.split(".") if part in KINDS_OF_MODULES]
    assert len(kinds) == 1 and not name.endswith(".bias"), name
    return kinds[0]
