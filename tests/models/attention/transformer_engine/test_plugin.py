"""The plugin against a stand-in for Transformer Engine 2.20.2: the modules, names and calls that its sources have."""

import importlib.metadata
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from triptych.models.attention.transformer_engine import plugin
from triptych.models.attention.transformer_engine.dot_product_attention import SigmoidDotProductAttention

FOLDER = "transformer_engine.pytorch.attention.dot_product_attention"


@dataclass
class AttentionParams:
    """The fields that the choice looks at, with the defaults of 2.20.2."""

    attn_mask_type: str = "no_mask"
    window_size: tuple[int, int] | None = None
    bottom_right_diagonal: bool = True
    softcap: float = 0.0
    core_attention_bias_type: str = "no_bias"
    attention_dropout: float = 0.0
    context_parallel: bool = False
    is_training: bool = True
    fp8: bool = False
    inference_params: Any = None
    softmax_type: str = "vanilla"
    return_max_logit: bool = False
    has_score_mod: bool = False
    extra: list = field(default_factory=list)


class FlashAttention(nn.Module):
    """Transformer Engine's own: says that it was called."""

    def __init__(self, softmax_scale, attention_dropout=0.0, attention_dropout_ctx=None, **named):
        super().__init__()
        self.arguments = (softmax_scale, attention_dropout, named)

    def forward(self, query_layer, key_layer, value_layer, **named):
        return ("native", named["flash_attention_backend"])


NATIVE_CHOICE = (False, None, True, 1, False, [False, True, False])


@pytest.fixture
def engine(monkeypatch):
    """`engine(version)` loads the plugin as Transformer Engine's common/__init__.py and then its
    dot_product_attention.py do; returns the name space in which the latter runs.
    """
    extension, utilities, backends = (
        ModuleType(name) for name in (plugin.EXTENSION, f"{FOLDER}.utils", f"{FOLDER}.backends")
    )
    utilities.get_attention_backend = lambda attention_params=None: NATIVE_CHOICE
    backends.FlashAttention = FlashAttention
    for module in (extension, utilities, backends):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    parts = FOLDER.split(".")
    for end in range(1, len(parts) + 1):
        package = ModuleType(".".join(parts[:end]))
        package.__path__ = []
        monkeypatch.setitem(sys.modules, package.__name__, package)

    def load(version="2.20.2"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
        plugin.load_plugins()
        utilities._original_get_attention_backend = utilities.get_attention_backend
        utilities.get_attention_backend = extension.get_attention_backend
        return extension.flash_attention, utilities

    return load


@pytest.fixture
def switched_on(monkeypatch):
    monkeypatch.setenv("NVTE_SIGMOID_ATTN", "1")


def test_it_tells_that_it_was_loaded(engine):
    assert not plugin.is_active()
    engine()
    assert plugin.is_active()


@pytest.mark.parametrize("version", ["2.11.0", "2.19.0", "2.20.0.dev0", "2.20.1+cu12"])
def test_versions_without_plugins_are_refused(version, engine):
    with pytest.raises(RuntimeError, match=r"has no plugins; install 2\.20\.2 or later"):
        engine(version)
    assert not plugin.is_active()


@pytest.mark.parametrize("version", ["2.20.2", "2.21.0.dev0", "3.0"])
def test_versions_with_plugins_are_taken(version, engine):
    engine(version)
    assert plugin.is_active()


def test_off_all_is_as_it_was(engine, monkeypatch):
    monkeypatch.delenv("NVTE_SIGMOID_ATTN", raising=False)
    attention, utilities = engine()
    assert utilities.get_attention_backend(AttentionParams()) == NATIVE_CHOICE
    made = attention(0.5, attention_type="cross", layer_number=3, deterministic=True)
    assert made.native.arguments == (0.5, 0.0, {"attention_type": "cross", "layer_number": 3, "deterministic": True})
    assert made(*[None] * 3, flash_attention_backend="2.8.3") == ("native", "2.8.3")


def test_on_it_takes_the_place_of_flash_attention(engine, switched_on):
    _, utilities = engine()
    chosen = utilities.get_attention_backend(AttentionParams())
    assert chosen == (True, plugin.SIGMOID, False, None, False, [True, False, False])


@pytest.mark.parametrize(
    ("layout", "mask_type", "window", "bias"),
    [
        ("sbhd_sbhd_sbhd", "causal", (-1, 0), "-log n"),
        ("sbh3d", "no_mask", (2, 1), "-3.0"),
        ("bshd_bs2hd", "padding_causal_bottom_right", (-1, 0), "-log n of each"),
        ("thd_thd_thd", "padding", (-1, -1), "-2.5"),
    ],
)
def test_on_it_computes_what_the_drop_in_does(layout, mask_type, window, bias, engine, switched_on, monkeypatch):
    monkeypatch.setenv("NVTE_SIGMOID_ATTN_BIAS", bias)
    attention, _ = engine()
    qkv_format = {"s": "sbhd", "b": "bshd", "t": "thd"}[layout[0]]
    draw = torch.Generator().manual_seed(7)
    shape = (8, 4, 16) if qkv_format == "thd" else (4, 4, 4, 16)
    layers = [torch.randn(shape, generator=draw) for _ in range(3)]
    running = torch.tensor([0, 1, 3, 4, 8], dtype=torch.int32)
    call = {
        "attention_mask": None,
        "cu_seqlens_q": running,
        "cu_seqlens_kv": running,
        "attn_mask_type": mask_type,
        "window_size": window,
        "alibi_slopes": None,
        "max_seqlen_q": 4,
        "max_seqlen_kv": 4,
        "pad_between_seqs": False,
        "cu_seqlens_q_padded": None,
        "cu_seqlens_kv_padded": None,
    }
    steering = {"fp8": False, "quantizers": None, "cp_group": None, "num_splits": 1, "softcap": 0.0, "fp8_meta": {}}
    made = attention(0.3, attention_type="self")
    ours = made(*layers, qkv_layout=layout, flash_attention_backend=plugin.SIGMOID, **call, **steering)
    of_drop_in = bias if bias.startswith("-log") else float(bias)
    drop_in = SigmoidDotProductAttention(4, 16, qkv_format=qkv_format, softmax_scale=0.3, bias=of_drop_in)
    assert torch.equal(ours, drop_in(*layers, **call))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attention_dropout", 0.1),
        ("softcap", 30.0),
        ("core_attention_bias_type", "post_scale_bias"),
        ("context_parallel", True),
        ("fp8", True),
        ("inference_params", object()),
        ("softmax_type", "off-by-one"),
        ("return_max_logit", True),
        ("has_score_mod", True),
        ("attn_mask_type", "arbitrary"),
    ],
)
def test_on_what_is_not_honoured_is_named_and_not_softmax(name, value, engine, switched_on):
    _, utilities = engine()
    with pytest.raises(ValueError, match=rf"^{name} is "):
        utilities.get_attention_backend(AttentionParams(**{name: value}))


def test_dropout_is_nothing_without_training(engine, switched_on):
    _, utilities = engine()
    assert utilities.get_attention_backend(AttentionParams(attention_dropout=0.1, is_training=False))[0]


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ({"window_size": (2, 2)}, True),
        ({"core_attention_bias_type": "alibi"}, True),
        ({}, False),
        ({"attn_mask_type": "causal", "window_size": (2, 0)}, False),
    ],
)
def test_a_corner_that_is_not_passed_on_is_refused_where_it_matters(more, refused, engine, switched_on):
    _, utilities = engine()
    asked = AttentionParams(bottom_right_diagonal=False, **more)
    if refused:
        with pytest.raises(ValueError, match=r"^bottom_right_diagonal is False"):
            utilities.get_attention_backend(asked)
    else:
        assert utilities.get_attention_backend(asked)[1] == plugin.SIGMOID
