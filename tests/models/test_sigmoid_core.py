"""The core attention by itself: formats, masks, options of megatron's configuration, and what it refuses."""

from types import SimpleNamespace

import pytest
import torch
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.dot_product_attention import DotProductAttention
from megatron.core.transformer.enums import AttnBackend, AttnMaskType

from triptych.kernels.flash_sigmoid.problem import Band, minus_log
from triptych.kernels.flash_sigmoid.reference import reference_attention
from triptych.models.attention.sigmoid import SigmoidCoreAttention
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

LENGTH, ROWS, HEADS, GROUPS, HEAD_DIM = 9, 2, 4, 2, 8
SIZES = {"num_layers": 4, "hidden_size": 32, "num_attention_heads": HEADS, "num_query_groups": GROUPS}


@pytest.fixture(scope="module", autouse=True)
def groups():
    with process_groups(Placement()) as opened:
        yield opened


def build(groups, *, mask_type=AttnMaskType.no_mask, layer=1, attention_type="self", options=(), **fields):
    config = TransformerConfig(**SIZES, **({"attention_dropout": 0.0, "use_cpu_initialization": True} | fields))
    return SigmoidCoreAttention(
        config=config,
        layer_number=layer,
        attn_mask_type=mask_type,
        attention_type=attention_type,
        cp_comm_type=None,
        softmax_scale=config.softmax_scale,
        pg_collection=groups.collection,
        **dict(options),
    )


def tensors(num_queries=LENGTH, num_keys=LENGTH, rows=ROWS):
    """Queries, keys and values as megatron has them, positions first, that ask for gradients."""
    generator = torch.Generator().manual_seed(2)
    sizes = ((num_queries, HEADS), (num_keys, GROUPS), (num_keys, GROUPS))
    return [torch.randn(n, rows, h, HEAD_DIM, generator=generator).requires_grad_() for n, h in sizes]


def assert_equals_the_oracle(core, call, *, bias=None, scale=HEAD_DIM**-0.5, band=None, masked_BT=None, inputs=None):
    """Output and gradients of `call(core, query, key, value)` against the oracle's in fp64."""
    inputs = tensors() if inputs is None else inputs
    bias = minus_log(LENGTH) if bias is None else bias
    plain = [x.detach().double().transpose(0, 1).requires_grad_() for x in inputs]
    value = plain[2] if masked_BT is None else plain[2].masked_fill(masked_BT[:, :, None, None], 0)
    wanted = (
        reference_attention(*plain[:2], value, scale=scale, bias=bias, band=band or Band()).transpose(0, 1).flatten(2)
    )
    found = call(core, *inputs)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    weights = torch.linspace(-1, 1, found.numel()).view_as(found)
    (found * weights).sum().backward()
    (wanted * weights.double()).sum().backward()
    for x, y in zip(inputs, plain, strict=True):
        torch.testing.assert_close(x.grad.double(), y.grad.transpose(0, 1), rtol=1e-5, atol=1e-6)


def plainly(core, query, key, value):
    return core(query, key, value, None)


def of_keys(*lengths):
    return (torch.arange(LENGTH) >= torch.tensor(lengths)[:, None])[:, None, None]


BY_CONFIGURATION = {
    "nothing": ({}, {}),
    "a scale": ({"softmax_scale": 0.2}, {"scale": 0.2}),
    "scaling by layer, which a softmax undoes": ({"layer": 3, "apply_query_key_layer_scaling": True}, {}),
    "a window": ({"window_size": (2, 1)}, {"band": Band(left=2, right=1)}),
    "a window that this layer skips": ({"window_size": (2, 1), "window_attn_skip_freq": 2, "layer": 2}, {}),
    "a window of another layer": (
        {"window_size": (2, 0), "window_attn_skip_freq": 2, "layer": 3},
        {"band": Band(left=2, right=0)},
    ),
    "causal": ({"mask_type": AttnMaskType.causal}, {"band": Band(right=0)}),
    "a bias": ({"options": {"bias": -0.5}}, {"bias": -0.5}),
    "causal in a window": (
        {"mask_type": AttnMaskType.causal, "window_size": (3, 5)},
        {"band": Band(left=3, right=0)},
    ),
}


@pytest.mark.parametrize("name", BY_CONFIGURATION)
def test_the_configuration_is_honoured(groups, name):
    options, oracle = BY_CONFIGURATION[name]
    assert_equals_the_oracle(build(groups, **options), plainly, **oracle)


def test_scaling_by_layer_changes_nothing_in_megatrons_own_attention(groups):
    """Which is why it changes nothing here."""

    def computed(scaling):
        config = TransformerConfig(**SIZES, attention_dropout=0.0, apply_query_key_layer_scaling=scaling)
        core = DotProductAttention(config, 3, AttnMaskType.no_mask, "self", pg_collection=groups.collection)
        core.config.sequence_parallel = True  # else it wants CUDA's random numbers, for a dropout of 0
        return core(*tensors(), None)

    torch.testing.assert_close(computed(False), computed(True))


def test_the_type_of_a_call_comes_before_that_of_the_module(groups):
    def call(core, *inputs):
        return core(*inputs, None, attn_mask_type=AttnMaskType.causal, attention_bias=None, packed_seq_params=None)

    assert_equals_the_oracle(build(groups), call, band=Band(right=0))


@pytest.mark.parametrize("mask_type", [AttnMaskType.padding, AttnMaskType.padding_causal])
@pytest.mark.parametrize("masked", [of_keys(4, 9), of_keys(0, 5).flip(0, 3)], ids=["trailing", "leading"])
def test_masked_keys_are_not_there(groups, mask_type, masked):
    band = Band() if mask_type is AttnMaskType.padding else Band(right=0)
    core = build(groups, mask_type=mask_type)
    assert_equals_the_oracle(core, lambda core, *x: core(*x, masked), band=band, masked_BT=masked[:, 0, 0])


def test_the_causal_mask_may_come_along(groups):
    mask = torch.ones(1, 1, LENGTH, LENGTH, dtype=torch.bool).triu(1)
    core = build(groups, mask_type=AttnMaskType.causal)
    assert_equals_the_oracle(core, lambda core, *x: core(*x, mask), band=Band(right=0))


@pytest.mark.parametrize(
    ("mask_type", "alignment"), [(AttnMaskType.causal, "top_left"), (AttnMaskType.causal_bottom_right, "bottom_right")]
)
def test_causal_types_are_aligned_as_they_say(groups, mask_type, alignment):
    core = build(groups, mask_type=mask_type, options={"bias": -1.0})
    band = Band(right=0, alignment=alignment)
    assert_equals_the_oracle(core, plainly, bias=-1.0, band=band, inputs=tensors(5, LENGTH))


def test_a_learned_bias_adds_to_the_bias_and_learns(groups):
    core = build(groups, options={"learned_bias": "per_head"})
    with torch.no_grad():
        core.head_bias.copy_(torch.tensor([0.5, -1.0, 0.0, 2.0]))
    bias = (core.head_bias.detach().double() + minus_log(LENGTH)).requires_grad_()
    assert_equals_the_oracle(core, plainly, bias=bias)
    torch.testing.assert_close(core.head_bias.grad.double(), bias.grad, rtol=1e-5, atol=1e-6)


def thd(lengths, gaps=None):
    """PackedSeqParams of sequences, each with a gap behind it or none."""
    sums = torch.tensor([0, *lengths]).cumsum(0).int()
    padded = None if gaps is None else torch.tensor([0, *(n + g for n, g in zip(lengths, gaps, strict=True))])
    offsets = None if padded is None else padded.cumsum(0).int()
    return PackedSeqParams(
        qkv_format="thd",
        cu_seqlens_q=sums,
        cu_seqlens_kv=sums,
        cu_seqlens_q_padded=offsets,
        cu_seqlens_kv_padded=offsets,
        max_seqlen_q=max(lengths),
        max_seqlen_kv=max(lengths),
    )


@pytest.mark.parametrize("mask_type", [AttnMaskType.padding, AttnMaskType.causal, AttnMaskType.padding_causal])
def test_packed_sequences_are_each_by_itself(groups, mask_type):
    core = build(groups, mask_type=mask_type, options={"learned_bias": "per_head", "bias": -1.0})
    query, key, value = (x.squeeze(1) for x in tensors(rows=1))
    together = core(query, key, value, None, packed_seq_params=thd([3, 6]))
    alone = [core(*(x[at, None] for x in (query, key, value)), None)[:, 0] for at in (slice(0, 3), slice(3, 9))]
    torch.testing.assert_close(together, torch.cat(alone))


def test_gaps_of_packed_sequences_are_zero_and_never_read(groups):
    core = build(groups, mask_type=AttnMaskType.padding, options={"bias": -1.0})
    query, key, value = (x.detach().squeeze(1).clone() for x in tensors(rows=1))
    gap = torch.tensor([2, 8])
    for x in (query, key, value):
        x[gap] = torch.nan
    found = core(query, key, value, None, packed_seq_params=thd([2, 5], gaps=[1, 1]))
    kept = torch.tensor([0, 1, 3, 4, 5, 6, 7])
    close = core(query[kept], key[kept], value[kept], None, packed_seq_params=thd([2, 5]))
    torch.testing.assert_close(found[kept], close)
    assert (found[gap] == 0).all()


def test_n_of_packed_sequences_is_the_length_they_come_with(groups):
    query, key, value = (x.squeeze(1) for x in tensors(rows=1))
    params = thd([3, 6])
    params.max_seqlen_q = params.max_seqlen_kv = torch.tensor(32)
    as_said = build(groups)(query, key, value, None, packed_seq_params=params)
    given = build(groups, options={"bias": minus_log(32)})(query, key, value, None, packed_seq_params=thd([3, 6]))
    torch.testing.assert_close(as_said, given)


def test_packed_sequences_without_a_length_have_no_n(groups):
    query, key, value = (x.squeeze(1) for x in tensors(rows=1))
    params = thd([3, 6])
    params.max_seqlen_kv = None
    with pytest.raises(ValueError, match='bias "-log n" of packed sequences needs max_seqlen_kv; give it'):
        build(groups)(query, key, value, None, packed_seq_params=params)


REFUSED_FIELDS = {
    "attention_dropout": ({"attention_dropout": 0.1}, "attention_dropout is 0.1, .*; set it to 0"),
    "softmax_type": ({"softmax_type": "learnable"}, "softmax_type is 'learnable', .*; leave it at vanilla"),
    "qk_clip": ({"qk_clip": True}, "qk_clip reads the largest score, .*; turn it off"),
    "log_max_attention_logit": ({"log_max_attention_logit": True}, "log_max_attention_logit reads .*; turn it off"),
    "flash_decode": ({"flash_decode": True}, "flash_decode runs softmax kernels past .*; turn it off"),
    "fp8_multi_head_attention": ({"fp8_multi_head_attention": True}, "fp8_multi_head_attention hands .*; turn it off"),
    "batch_invariant_mode": (
        {"batch_invariant_mode": True, "attention_backend": AttnBackend.flash},
        "batch_invariant_mode is not kept by .*; turn it off",
    ),
    "learned_bias": (
        {"options": {"learned_bias": "per-head"}},
        "learned_bias is 'per-head'; take one of none, per_head",
    ),
}


@pytest.mark.parametrize("name", REFUSED_FIELDS)
def test_what_would_silently_not_be_done_is_refused(groups, name):
    fields, message = REFUSED_FIELDS[name]
    with pytest.raises(ValueError, match=message):
        build(groups, **fields)


def test_a_bias_of_pairs_is_refused(groups):
    with pytest.raises(ValueError, match="takes no attention_bias; leave it out"):
        build(groups)(*tensors(), None, attention_bias=torch.zeros(1))


def test_packed_sequences_take_no_mask_besides(groups):
    query, key, value = (x.squeeze(1) for x in tensors(rows=1))
    with pytest.raises(ValueError, match="come with an attention_mask, which says nothing more; leave it out"):
        build(groups)(query, key, value, of_keys(3), packed_seq_params=thd([3, 6]))


def test_a_growing_cache_has_no_n(groups):
    with pytest.raises(ValueError, match=r'bias "-log n" with 1 queries and 9 keys .* at every step of generation'):
        build(groups)(*tensors(1), None)


def test_queries_of_another_sequence_have_the_n_of_their_keys(groups):
    core = build(groups, attention_type="cross")
    assert_equals_the_oracle(core, plainly, inputs=tensors(4))


def test_recomputing_the_core_attention_is_warned_of(groups):
    with pytest.warns(UserWarning, match="keeps no scores, so that recomputing core_attn costs time"):
        build(groups, recompute_granularity="selective", recompute_modules=["core_attn"])


def test_without_recomputation_nothing_is_warned_of(groups, recwarn):
    build(groups)
    assert [each for each in recwarn if "sigmoid attention" in str(each.message)] == []


def test_a_ranks_own_mask_is_read_under_context_parallelism(groups):
    """On a group of one, whose part is the whole."""
    core, split = (build(groups, mask_type=AttnMaskType.padding, options={"bias": -1.0}) for _ in range(2))
    split.cp_group = groups.collection.tp
    inputs, masked = [x[:8] for x in tensors()], of_keys(4, 7)[..., :8]
    torch.testing.assert_close(split(*inputs, masked), core(*inputs, masked))


def test_packed_sequences_are_not_split_over_ranks(groups):
    core = build(groups)
    core.cp_group = SimpleNamespace(size=lambda: 2)
    query, key, value = (x.squeeze(1) for x in tensors(rows=1))
    with pytest.raises(ValueError, match="set context parallel size to 1, or do not pack"):
        core(query, key, value, None, packed_seq_params=thd([3, 6]))


def test_groups_that_are_not_given_are_megatrons_own(groups):
    core = build(SimpleNamespace(collection=None))
    assert core.tp_group is ProcessGroupCollection.use_mpu_process_groups(required_pgs=["tp"]).tp
