"""Arguments of Transformer Engine's DotProductAttention that sigmoid attention does not honour, in any version's words.

An argument that would change the result is refused by name; one that only steers how softmax is computed is let pass.
"""

from collections.abc import Mapping
from typing import Any

REFUSED_AT_CONSTRUCTION: dict[str, tuple[tuple[Any, ...], str]] = {
    "attention_dropout": ((0.0,), "dropout of weights is not built; set it to 0"),
    "softcap": ((0.0, None), "capped scores are not built; set it to 0"),
    "softmax_type": (("vanilla",), "there is no softmax whose denominator could be changed; leave it out"),
    "return_max_logit": ((False, None), "the largest score is not kept; leave it out"),
}
"""Name to the values that ask for nothing, and why another is refused."""

IGNORED_AT_CONSTRUCTION = frozenset({"sequence_parallel", "get_rng_state_tracker"})
"""Of dropout's random numbers alone."""

REFUSED_IN_CALLS: dict[str, tuple[tuple[Any, ...], str]] = {
    "softcap": ((0.0, None), "capped scores are not built; set it to 0"),
    "core_attention_bias": ((None,), "a matrix added to the scores is not built; use ALiBi or the module's bias"),
    "inference_params": ((None,), "a cache of keys and values is not built; attend to the whole sequence"),
    "fp8_output": ((False, None), "fp8 is not built; leave attention in bf16 (fp8_dpa=False, fp8_mha=False)"),
    "score_mod": ((None,), "a program that changes scores is not built; leave it out"),
    "score_mod_bprop": ((None,), "a program that changes scores is not built; leave it out"),
    "score_mod_tensors": ((None,), "a program that changes scores is not built; leave it out"),
    "score_mod_bprop_tensors": ((None,), "a program that changes scores is not built; leave it out"),
    "thd_attention_policies": ((None,), "one mask for all sequences is; make one call for each policy"),
}

IGNORED_IN_CALLS = frozenset(
    {
        "checkpoint_core_attention",  # nothing but queries, keys and values is kept for the backward pass anyway
        "fast_zero_fill",
        "num_splits",
        "bf16_backward",  # of fp8 alone
        "thd_attention_policy_dispatch",  # of policies alone
    }
)


def require_honoured(
    arguments: Mapping[str, Any], refused: Mapping[str, tuple[tuple[Any, ...], str]], ignored: frozenset[str]
) -> None:
    """ValueError for the first argument that asks for what is not done, or that no known version has: of those, None is
    let pass, since it is how every version spells "not given".
    """
    for name, value in arguments.items():
        if name in ignored:
            continue
        silent, why = refused.get(name, ((None,), "no known version of Transformer Engine has it; leave it out"))
        if not any(value is quiet or (type(value) in (int, float, str) and value == quiet) for quiet in silent):
            raise ValueError(f"{name} is {_short(value)}, which sigmoid attention does not honour: {why}")


def _short(value: Any) -> str:
    return repr(value) if isinstance(value, bool | int | float | str) else f"a {type(value).__name__}"
