"""Sigmoid attention in the place of core attentions of models that are built."""

import sys
from types import ModuleType

import pytest
import torch
from einops import rearrange
from layer_stand_ins import DotProductAttention, MultiheadAttention, TransformerLayer
from torch import nn

from triptych.kernels.flash_sigmoid.problem import CAUSAL
from triptych.kernels.flash_sigmoid.reference import reference_attention
from triptych.models.attention.transformer_engine.conversion import replace_core_attention
from triptych.models.attention.transformer_engine.dot_product_attention import SigmoidDotProductAttention
from triptych.models.attention.transformer_engine.factory import make_dot_product_attention


def model(**settings):
    torch.manual_seed(5)
    return nn.Sequential(*(TransformerLayer(16, 4, 2, **settings) for _ in range(2)))


def test_every_layer_is_found():
    layers = nn.Sequential(TransformerLayer(16, 4, 2, decoder=True), TransformerLayer(16, 4, 2))
    names = ["0.self_attention.core_attention", "0.inter_attention.core_attention", "1.self_attention.core_attention"]
    assert replace_core_attention(layers) == names
    assert all(isinstance(layers.get_submodule(name), SigmoidDotProductAttention) for name in names)


def test_a_single_attention_is_found():
    assert replace_core_attention(MultiheadAttention(16, 4, 2)) == ["core_attention"]


def test_a_converted_layer_computes_sigmoid_attention():
    attention = MultiheadAttention(16, 4, 2)
    replace_core_attention(attention, bias=-1.5)
    hidden = torch.randn(6, 3, 16, generator=torch.Generator().manual_seed(6))
    query, key, value = (
        rearrange(part, "s b (h d) -> b s h d", d=4) for part in attention.qkv(hidden).split([16, 8, 8], dim=-1)
    )
    context = reference_attention(query, key, value, scale=0.5, bias=-1.5, band=CAUSAL)
    expected = attention.proj(rearrange(context, "b s h d -> s b (h d)").float())
    torch.testing.assert_close(attention(hidden), expected, atol=1e-5, rtol=1e-5)


def test_settings_stay():
    settings = {
        "qkv_format": "bshd",
        "attn_mask_type": "padding",
        "window_size": (3, 4),
        "bottom_right_diagonal": False,
        "softmax_scale": 0.3,
        "attention_type": "cross",
        "layer_number": 7,
        "name": "layer.core_attention",
        "tp_size": 2,
        "tp_group": None,
    }
    attention = MultiheadAttention(16, 4, 2, **settings)
    attention.core_attention.tp_group = None
    replace_core_attention(attention, bias=-2.0, sigmoid="accurate", backend="blocked")
    replaced = attention.core_attention
    assert {name: getattr(replaced, name) for name in settings} == settings
    assert (replaced.num_attention_heads, replaced.num_gqa_groups, replaced.num_gqa_groups_per_partition) == (4, 2, 1)
    assert (replaced.sigmoid_bias, replaced.sigmoid, replaced.backend) == (-2.0, "accurate", "blocked")


def test_parameters_and_mode_stay():
    layers = model().eval()
    before = dict(layers.named_parameters())
    replace_core_attention(layers)
    after = dict(layers.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name] is parameter for name, parameter in before.items())
    assert not any(module.training for module in layers.modules())


def test_every_layer_gets_a_bias_of_its_own():
    layers = model()
    replace_core_attention(layers, bias=lambda attention: nn.Parameter(torch.zeros(attention.num_attention_heads)))
    biases = [parameter for name, parameter in layers.named_parameters() if name.endswith("sigmoid_bias")]
    assert [list(bias.shape) for bias in biases] == [[4], [4]]
    layers(torch.randn(5, 2, 16)).sum().backward()
    assert all(bias.grad.abs().sum() > 0 for bias in biases)


def test_one_parameter_for_many_layers_is_refused():
    with pytest.raises(ValueError, match="for 2 layers would tie them; give a function"):
        replace_core_attention(model(), bias=nn.Parameter(torch.zeros(4)))


def test_dropout_is_refused_unless_it_is_set_to_0():
    layers = model(attention_dropout=0.1)
    with pytest.raises(ValueError, match=r"^attention_dropout is 0\.1"):
        replace_core_attention(layers)
    assert isinstance(layers[0].self_attention.core_attention, DotProductAttention)
    assert len(replace_core_attention(layers, attention_dropout=0.0)) == 2


def test_where_one_cannot_be_replaced_none_is():
    layers = model()
    layers[1].self_attention.core_attention.softmax_type = "learnable"
    with pytest.raises(ValueError, match=r"^softmax_type is 'learnable'"):
        replace_core_attention(layers)
    assert isinstance(layers[0].self_attention.core_attention, DotProductAttention)


def test_a_model_without_any_is_refused():
    with pytest.raises(ValueError, match=r"^Linear holds no core_attention of Transformer Engine's; give a model"):
        replace_core_attention(nn.Linear(2, 2))


def test_megatrons_are_refused():
    layers = model()
    layers[1].self_attention.core_attention.config = object()
    with pytest.raises(ValueError, match=r"^1\.self_attention\.core_attention is megatron-core's .*; choose"):
        replace_core_attention(layers)


def test_converting_again_changes_the_bias():
    layers = model()
    for bias in (-1.0, -2.0):
        replace_core_attention(layers, bias=bias)
    assert layers[1].self_attention.core_attention.sigmoid_bias == -2.0


def test_checkpoints_of_softmax_load():
    layers = model()
    checkpoint = layers.state_dict() | {"0.self_attention.core_attention._extra_state": torch.zeros(2)}
    replace_core_attention(layers)
    assert layers.load_state_dict(checkpoint).missing_keys == []


def test_context_parallel_groups_are_set_through_the_layer():
    attention = MultiheadAttention(16, 4, 2)
    replace_core_attention(attention)
    attention.set_context_parallel_group(None, [0], "stream", "a2a")
    assert (attention.core_attention.cp_stream, attention.core_attention.cp_comm_type) == ("stream", "a2a")


def test_the_factory_makes_sigmoid_attention():
    made = make_dot_product_attention(4, 8, function="sigmoid", num_gqa_groups=2, bias=-3.0)
    assert (type(made), made.num_gqa_groups, made.sigmoid_bias) == (SigmoidDotProductAttention, 2, -3.0)


@pytest.mark.parametrize(("given", "made"), [("1", SigmoidDotProductAttention), ("0", DotProductAttention)])
def test_the_environment_says_which_where_the_function_is_not_named(given, made, monkeypatch, transformer_engine):
    monkeypatch.setenv("NVTE_SIGMOID_ATTN", given)
    assert type(make_dot_product_attention(4, 8)) is made


@pytest.fixture
def transformer_engine(monkeypatch):
    """A package of that name with the stand-in for its attention."""
    package, pytorch = ModuleType("transformer_engine"), ModuleType("transformer_engine.pytorch")
    pytorch.DotProductAttention = DotProductAttention
    monkeypatch.setitem(sys.modules, "transformer_engine", package)
    monkeypatch.setitem(sys.modules, "transformer_engine.pytorch", pytorch)


def test_softmax_has_no_bias(transformer_engine):
    with pytest.raises(ValueError, match=r"^bias is of sigmoid attention alone; leave it out"):
        make_dot_product_attention(4, 8, function="softmax", bias=-1.0)


@pytest.mark.parametrize("error", [ImportError("no module"), RuntimeError("empty\nmeta package")])
def test_softmax_without_transformer_engine_says_why(error, monkeypatch):
    def refuse(name):
        raise error

    monkeypatch.setattr("importlib.import_module", refuse)
    message = " ".join(str(error).split())
    with pytest.raises(ValueError, match=rf"cannot be imported \({message}\); install it, or set function='sigmoid'"):
        make_dot_product_attention(4, 8, function="softmax")


def test_another_function_is_refused():
    with pytest.raises(ValueError, match=r"^function is 'relu'; give softmax or sigmoid$"):
        make_dot_product_attention(4, 8, function="relu")


def test_the_order_of_chunks_stays_refused(monkeypatch):
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: 2)
    attention = MultiheadAttention(16, 4, 2, cp_group=object(), load_balancing_strategy="no_load_balance")
    with pytest.raises(ValueError, match="load_balancing_strategy is 'no_load_balance'"):
        replace_core_attention(attention)
