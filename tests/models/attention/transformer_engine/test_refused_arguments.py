"""What the drop-in does not honour is refused in one line that names the argument; what asks for nothing passes."""

import pytest
import torch

from triptych.models.attention.transformer_engine.dot_product_attention import SigmoidDotProductAttention


def layers(*shape):
    return [torch.zeros(shape or (5, 2, 4, 8)) for _ in range(3)]


def assert_refused(name, build):
    with pytest.raises(ValueError, match=rf"\b{name}\b") as caught:
        build()
    message = str(caught.value)
    assert "\n" not in message
    assert "; " in message or ": " in message, f"no mend: {message}"


CONSTRUCTION = {
    "attention_dropout": 0.1,
    "softcap": 30.0,
    "softmax_type": "learnable",
    "return_max_logit": True,
    "qkv_format": "bhsd",
    "attn_mask_type": "arbitrary",
    "window_size": (-1, 3),
    "attention_type": "other",
    "num_gqa_groups": 3,
    "tp_size": 3,
    "bias": "log n",
    "something_new": 1,
}

CALLS = {
    "softcap": 30.0,
    "core_attention_bias": torch.zeros(1, 4, 5, 5),
    "core_attention_bias_type": "post_scale_bias",
    "inference_params": object(),
    "fp8_output": True,
    "score_mod": len,
    "score_mod_bprop": len,
    "score_mod_tensors": {},
    "score_mod_bprop_tensors": {},
    "thd_attention_policies": [],
    "qkv_format": "hbsd",
    "attn_mask_type": "arbitrary",
    "window_size": (-1, 3),
    "alibi_slopes": torch.zeros(4),
    "something_new": 0,
}


@pytest.mark.parametrize("name", CONSTRUCTION)
def test_the_constructor_names_what_it_does_not_honour(name):
    assert_refused(name, lambda: SigmoidDotProductAttention(4, 8, **{name: CONSTRUCTION[name]}))


@pytest.mark.parametrize("name", CALLS)
def test_a_call_names_what_it_does_not_honour(name):
    module = SigmoidDotProductAttention(4, 8)
    assert_refused(name, lambda: module(*layers(), **{name: CALLS[name]}))


def test_an_unknown_argument_that_is_not_given_passes():
    module = SigmoidDotProductAttention(4, 8, something_new=None)
    assert module(*layers(), something_else=None).shape == (5, 2, 32)


def test_what_steers_softmax_alone_passes():
    module = SigmoidDotProductAttention(4, 8, sequence_parallel=True, get_rng_state_tracker=dict)
    steering = {"fast_zero_fill": False, "num_splits": 4, "checkpoint_core_attention": True, "bf16_backward": True}
    assert torch.equal(module(*layers(), **steering), module(*layers()))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("query_layer", {"query_layer": torch.zeros(5, 2, 3, 8)}),
        ("key_layer", {"key_layer": torch.zeros(5, 2, 4, 9)}),
        ("value_layer", {"value_layer": torch.zeros(5, 2, 4, 7)}),
        ("query_layer", {"query_layer": torch.zeros(5, 4, 8)}),
        ("value_layer", {"value_layer": None}),
        ("qkv_layer", {"qkv_layer": torch.zeros(5, 2, 3, 4, 8)}),
        ("kv_layer", {"kv_layer": torch.zeros(5, 2, 2, 4, 8)}),
    ],
)
def test_layers_that_do_not_fit_are_named(name, arguments):
    module = SigmoidDotProductAttention(4, 8)
    given = dict(zip(("query_layer", "key_layer", "value_layer"), layers(), strict=True)) | arguments
    assert_refused(name, lambda: module(**given))


@pytest.mark.parametrize(
    ("packed", "name"),
    [
        ({"qkv_layer": torch.zeros(5, 2, 4, 4, 8)}, "qkv_layer"),
        ({"qkv_layer": torch.zeros(5, 2, 3, 4, 8), "qkv_interleave_dim": 2}, "qkv_interleave_dim"),
        ({"kv_layer": torch.zeros(5, 2, 2, 4, 8)}, "query_layer"),
    ],
)
def test_packed_layers_that_do_not_fit_are_named(packed, name):
    assert_refused(name, lambda: SigmoidDotProductAttention(4, 8)(**packed))


def test_a_quantized_layer_is_refused():
    quantized, key, value = layers()
    quantized._quantizer = object()
    assert_refused("query_layer", lambda: SigmoidDotProductAttention(4, 8)(quantized, key, value))


RUNNING = torch.tensor([0, 2, 5], dtype=torch.int32)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("attn_mask_type", {"attn_mask_type": "causal", "cu_seqlens_q": RUNNING, "cu_seqlens_kv": RUNNING}),
        ("cu_seqlens_q", {}),
        ("cu_seqlens_kv", {"cu_seqlens_q": RUNNING, "cu_seqlens_kv": RUNNING.long()}),
        ("cu_seqlens_kv", {"cu_seqlens_q": RUNNING, "cu_seqlens_kv": RUNNING[:2]}),
        ("pad_between_seqs", {"cu_seqlens_q": RUNNING, "cu_seqlens_kv": RUNNING, "pad_between_seqs": True}),
    ],
)
def test_packed_sequences_without_lengths_are_refused(name, arguments):
    module = SigmoidDotProductAttention(4, 8, qkv_format="thd", attn_mask_type="padding")
    assert_refused(name, lambda: module(*layers(5, 4, 8), **arguments))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("attention_mask", {}),
        ("attention_mask", {"attention_mask": torch.zeros(2, 1, 1, 4, dtype=torch.bool)}),
        ("attention_mask", {"attention_mask": torch.zeros(2, 1, 1, 5)}),
        ("cu_seqlens_q", {"cu_seqlens_q": RUNNING[:2], "cu_seqlens_kv": RUNNING}),
    ],
)
def test_padding_without_lengths_is_refused(name, arguments):
    module = SigmoidDotProductAttention(4, 8, attn_mask_type="padding")
    assert_refused(name, lambda: module(*layers(), **arguments))


def test_padding_in_the_middle_of_a_row_is_refused():
    mask = torch.tensor([[0, 1, 0, 0, 1], [0, 0, 0, 0, 0]]).bool()[:, None, None]
    module = SigmoidDotProductAttention(4, 8, attn_mask_type="padding")
    assert_refused("attention_mask", lambda: module(*layers(), mask))


def test_slopes_are_not_guessed_under_tensor_parallelism():
    module = SigmoidDotProductAttention(8, 8, tp_size=2)
    assert_refused("alibi_slopes", lambda: module(*layers(), core_attention_bias_type="alibi"))
