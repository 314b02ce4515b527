"""The drop-in as a module: its bias, what it saves and loads, what a MultiheadAttention touches, compilation."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from triptych.kernels.flash_sigmoid.attention import sigmoid_attention
from triptych.kernels.flash_sigmoid.problem import CAUSAL
from triptych.models.attention.transformer_engine.dot_product_attention import SigmoidDotProductAttention


def layers():
    draw = torch.Generator().manual_seed(4)
    return [torch.randn(6, 2, 4, 8, generator=draw) for _ in range(3)]


def by_hand(query, key, value, bias, **more):
    rows = [x.transpose(0, 1) for x in (query, key, value)]
    return sigmoid_attention(*rows, bias=bias, band=CAUSAL, **more).transpose(0, 1).flatten(2)


@pytest.mark.parametrize(("bias", "number"), [(-3.5, -3.5), ("-log n", -math.log(6)), ("-log n of each", -math.log(6))])
def test_the_bias_reaches_the_scores(bias, number):
    torch.testing.assert_close(SigmoidDotProductAttention(4, 8, bias=bias)(*layers()), by_hand(*layers(), number))


def test_without_a_bias_it_is_minus_log_n():
    assert torch.equal(SigmoidDotProductAttention(4, 8)(*layers()), by_hand(*layers(), "-log n"))


def test_n_of_each_is_that_of_a_sequence():
    mask = torch.arange(6).ge(torch.tensor([[3], [6]]))[:, None, None]
    module = SigmoidDotProductAttention(4, 8, attn_mask_type="padding", bias="-log n of each")
    alone = SigmoidDotProductAttention(4, 8, attn_mask_type="no_mask", bias="-log n")
    short = alone(*(x[:3, :1] for x in layers()))
    torch.testing.assert_close(module(*layers(), mask)[:3, :1], short)


def test_the_scale_is_that_of_the_keys_or_the_one_that_is_given():
    scaled = SigmoidDotProductAttention(4, 8, softmax_scale=0.7, bias=0.0)
    assert torch.equal(scaled(*layers()), by_hand(*layers(), 0.0, scale=0.7))


def test_a_bias_per_head_is_learned():
    start = torch.tensor([-1.0, -2.0, -3.0, -4.0])
    module = SigmoidDotProductAttention(4, 8, bias=nn.Parameter(start.clone()))
    assert dict(module.named_parameters()).keys() == {"sigmoid_bias"}
    module(*layers()).sum().backward()
    leaf = start.clone().requires_grad_()
    by_hand(*layers(), leaf).sum().backward()
    torch.testing.assert_close(module.sigmoid_bias.grad, leaf.grad)


def test_a_bias_that_is_not_learned_follows_the_module_and_is_not_rounded():
    module = SigmoidDotProductAttention(4, 8, bias=torch.full((4,), -8.3))
    assert module.bfloat16().sigmoid_bias.tolist() == pytest.approx([-8.3] * 4, abs=1e-6)
    assert module.to("meta").sigmoid_bias.device.type == "meta"
    assert list(module.state_dict()) == []


def test_a_bias_per_head_belongs_to_its_rank():
    module = SigmoidDotProductAttention(8, 8, tp_size=2, bias=nn.Parameter(torch.zeros(4)))
    bias = module.sigmoid_bias
    assert (bias.tensor_model_parallel, bias.partition_dim, bias.partition_stride) == (True, 0, 1)
    with pytest.raises(ValueError, match=r"bias is \[8\]; give \[4\]"):
        SigmoidDotProductAttention(8, 8, tp_size=2, bias=nn.Parameter(torch.zeros(8)))


class Holder(nn.Module):
    """What has a core attention."""

    def __init__(self, **settings):
        super().__init__()
        self.core_attention = SigmoidDotProductAttention(4, 8, **settings)


@pytest.mark.parametrize("key", ["core_attention._extra_state", "core_attention.fused_attention._extra_state"])
def test_the_state_of_fp8_is_dropped_on_loading(key):
    assert not Holder().load_state_dict({key: torch.zeros(3, dtype=torch.uint8)}).unexpected_keys


def test_no_other_state_is_dropped():
    with pytest.raises(RuntimeError, match=r"core_attention\.softmax_offset"):
        Holder().load_state_dict({"core_attention.softmax_offset": torch.zeros(4)})


def test_nothing_but_a_learned_bias_is_saved():
    assert list(Holder().state_dict()) == []
    learned = Holder(bias=nn.Parameter(torch.ones(4)))
    assert list(learned.state_dict()) == ["core_attention.sigmoid_bias"]
    other = Holder(bias=nn.Parameter(torch.zeros(4)))
    other.load_state_dict(learned.state_dict())
    assert other.core_attention.sigmoid_bias.tolist() == [1.0] * 4


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_the_same_function(copied):
    module = SigmoidDotProductAttention(4, 8, bias=nn.Parameter(torch.ones(4)), window_size=(2, 0))
    assert torch.equal(copied(module)(*layers()), module(*layers()))


def test_what_a_multi_head_attention_touches_is_there():
    module = SigmoidDotProductAttention(4, 8, name="layer.core_attention")
    module.output_quantizer_role = module.grad_input_quantizer_role = object()
    module.fast_setattr("fp8_initialized", True)
    module.set_tensor_parallel_group(None)
    module.set_context_parallel_group(None, None, None, "p2p", load_balancing_strategy=object())
    assert (module.name, module.get_qkv_quantization_capabilities()) == ("layer.core_attention", (False, False))


@pytest.fixture
def group_of(monkeypatch):
    """`group_of(size)`: what stands for a process group of that size."""
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: group["size"])
    return lambda size: {"size": size}


def test_several_groups_for_one_sequence_are_refused(group_of):
    groups = [group_of(2), group_of(1)]
    with pytest.raises(ValueError, match="cp_group is 2 groups"):
        SigmoidDotProductAttention(4, 8, cp_group=groups)


def test_another_order_of_chunks_is_refused(group_of):
    module = SigmoidDotProductAttention(4, 8)
    with pytest.raises(ValueError, match="load_balancing_strategy is 'no_load_balance'"):
        module.set_context_parallel_group(group_of(2), [0, 1], None, load_balancing_strategy="no_load_balance")


def test_a_group_of_one_rank_is_none(group_of):
    module = SigmoidDotProductAttention(4, 8, cp_group=group_of(1))
    assert module(*layers()).shape == (6, 2, 32)


def test_the_tensor_parallel_group_says_how_many_heads_are_here(group_of):
    module = SigmoidDotProductAttention(8, 8, 8, tp_group=group_of(2))
    assert (module.tp_size, module(*layers()).shape) == (2, (6, 2, 32))


def test_a_module_of_half_precision_gives_half_precision():
    half = [x.bfloat16() for x in layers()]
    out = SigmoidDotProductAttention(4, 8)(*half)
    torch.testing.assert_close(out.float(), by_hand(*[x.float() for x in half], "-log n"), atol=2e-2, rtol=2e-2)
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("mask_type", ["causal", "padding"])
def test_it_compiles_without_a_break(mask_type):
    module = SigmoidDotProductAttention(4, 8, attn_mask_type=mask_type)
    mask = torch.arange(6).ge(torch.tensor([[3], [6]]))[:, None, None]
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*layers(), mask), module(*layers(), mask))
