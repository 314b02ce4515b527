"""The environment variables by which users of Transformer Engine choose an attention, read when they are needed.

The one place outside launch/ that reads any: modules in place of Transformer Engine's follow its habits, and a run of
triptych's own sets none of them.
"""

import logging
import os
from dataclasses import dataclass

from triptych.kernels.flash_sigmoid.attention import Bias
from triptych.kernels.flash_sigmoid.problem import Sigmoid
from triptych.models.attention.registry.registry import logger
from triptych.models.attention.registry.request import Function

VARIABLES = {
    "NVTE_SIGMOID_ATTN": "1: sigmoid attention where a function is not named; 0, or unset: softmax",
    "NVTE_SIGMOID_ATTN_BACKEND": "auto, or the name of a sigmoid backend: triton, gluon, blocked",
    "NVTE_SIGMOID_ATTN_FAST_TANH": "1: sigma by the hardware's tanh, whose absolute error drowns small weights",
    "NVTE_SIGMOID_ATTN_BIAS": "under NVTE_PLUGIN: a number, -log n (unset), or -log n of each",
    "NVTE_ALLOW_NONDETERMINISTIC_ALGO": "0: only backends whose results are the same every time",
    "NVTE_DEBUG": "1: log as NVTE_DEBUG_LEVEL says",
    "NVTE_DEBUG_LEVEL": "1: which backend runs; 2: and why the others do not",
}
"""Name to what it does."""

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


@dataclass(kw_only=True, slots=True, frozen=True)
class AttentionEnvironment:
    """What the variables say. backend: "auto" or a name."""

    function: Function
    backend: str
    sigmoid: Sigmoid
    bias: Bias
    deterministic: bool


def read_environment() -> AttentionEnvironment:
    """ValueError, naming the variable, where a value is none of its own."""
    return AttentionEnvironment(
        function="sigmoid" if _switch("NVTE_SIGMOID_ATTN", "0") else "softmax",
        backend=os.environ.get("NVTE_SIGMOID_ATTN_BACKEND", "auto"),
        sigmoid="tanh" if _switch("NVTE_SIGMOID_ATTN_FAST_TANH", "0") else "accurate",
        bias=_bias(os.environ.get("NVTE_SIGMOID_ATTN_BIAS", "-log n")),
        deterministic=not _switch("NVTE_ALLOW_NONDETERMINISTIC_ALGO", "1"),
    )


def variables_that_are_set() -> dict[str, str]:
    """Name to value of those that are."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def follow_debug_level() -> None:
    """Give the choice's logger the level that NVTE_DEBUG times NVTE_DEBUG_LEVEL asks for, and stderr if nobody listens.
    Without NVTE_DEBUG nothing is touched.
    """
    if not _switch("NVTE_DEBUG", "0"):
        return
    given = os.environ.get("NVTE_DEBUG_LEVEL", "0")
    if not given.isdecimal():
        raise ValueError(f"NVTE_DEBUG_LEVEL is {given!r}; set it to 0, 1 or 2")
    logger.setLevel(_LEVELS[min(int(given), 2)])
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("[%(levelname)-8s | %(name)-19s]: %(message)s"))
        logger.addHandler(handler)


def _switch(name: str, default: str) -> bool:
    given = os.environ.get(name, default)
    if given not in ("0", "1"):
        raise ValueError(f"{name} is {given!r}; set it to 0 or 1")
    return given == "1"


def _bias(given: str) -> Bias:
    if given == "-log n" or given == "-log n of each":
        return given
    try:
        return float(given)
    except ValueError:
        raise ValueError(f"NVTE_SIGMOID_ATTN_BIAS is {given!r}; set it to a number, -log n or -log n of each") from None
