import dataclasses

import pytest
import torch
from plain_transformer import plain_logits

from triptych.data_pipelines.vocabulary import MODALITIES, Vocabulary
from triptych.models.attention.config import AttentionConfig
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.parameterization import BaseShape, kind_of
from triptych.models.trimodal.config import InitConfig, TrimodalConfig
from triptych.models.trimodal.counts import parameter_counts
from triptych.models.trimodal.kinds import kind_of_name
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

BASE = TrimodalConfig(
    vocabulary=Vocabulary(text=50, image=20, audio=30),
    sequence_length=11,
    hidden_size=32,
    num_layers=2,
    num_attention_heads=4,
    num_query_groups=2,
    ffn_hidden_size=56,
    init=InitConfig(embedding_std=0.5, readout_std=0.2),
)
BASE_SHAPE = BaseShape(hidden_size=16, num_layers=1, num_attention_heads=2, ffn_hidden_size=28, depth_exponent=0.75)
VARIANTS = {
    "base": BASE,
    "learned positions": dataclasses.replace(BASE, positions="rotary_and_learned"),
    "norm after attention": dataclasses.replace(BASE, post_attention_norm="rms"),
    "scaled residual": dataclasses.replace(BASE, residual_scale=0.5),
    "another shape than the base": dataclasses.replace(BASE, residual_scale=0.8, base=BASE_SHAPE),
    "sigmoid attention": dataclasses.replace(BASE, attention=AttentionConfig(function="sigmoid")),
    "sigmoid attention, all of its parts": dataclasses.replace(
        BASE,
        attention=AttentionConfig(function="sigmoid", bias=-1.5, learned_bias="per_head"),
        post_attention_norm="rms",
        layer_scale=0.3,
    ),
    "no norm of queries and keys": dataclasses.replace(BASE, attention=AttentionConfig(qk_norm="none")),
    "layer scale": dataclasses.replace(BASE, layer_scale=1e-4, residual_scale=0.5),
    "one head per group": dataclasses.replace(BASE, num_query_groups=4, rope_base=500.0, norm_epsilon=1e-3),
}


@pytest.fixture(scope="module")
def groups():
    with process_groups(Placement()) as opened:
        yield opened


def example(padded):
    generator = torch.Generator().manual_seed(3)
    tokens_BS = torch.randint(0, BASE.vocabulary.size, (3, 11), generator=generator)
    padding_BS = torch.zeros(3, 11, dtype=torch.bool)
    padding_BS[1, 8:] = padding_BS[2, 5:] = True
    rows = {"text": torch.tensor([0, 5, 7]), "image": torch.tensor([11, 23, 0, 0]), "audio": torch.tensor([32])}
    return DiffusionInputs(tokens_BS=tokens_BS, rows=rows, padding_BS=padding_BS if padded else None)


def build(config, groups):
    model = TrimodalTransformer(config, groups.collection)
    model.initialise(seed=7)
    with torch.no_grad():  # norms start at one, which would hide a missing or misplaced gain
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(len(name)))
    return model


def relative(error, reference):
    return (error - reference).abs().max() / reference.abs().max().clamp(min=1e-12)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_values_and_gradients_equal_the_plain_model(groups, variant, padded):
    config, inputs = VARIANTS[variant], example(padded)
    model = build(config, groups)
    state = {name: p.detach().double().requires_grad_() for name, p in model.named_parameters()}
    logits = model(inputs)
    full = plain_logits(state, config, inputs.tokens_BS, inputs.padding_BS)
    wanted = {modality: full[modality].flatten(0, 1)[rows] for modality, rows in inputs.rows.items()}
    for modality in MODALITIES:
        assert relative(logits[modality].double(), wanted[modality]) < 1e-5
    sum((x.sin() * x).sum() for x in logits.values()).backward()
    sum((x.sin() * x).sum() for x in wanted.values()).backward()
    for name, parameter in model.named_parameters():
        assert relative(parameter.grad.double(), state[name].grad) < 1e-5, name


@pytest.mark.parametrize("variant", ["base", "sigmoid attention"])
def test_a_padded_position_changes_nothing(groups, variant):
    model, inputs = build(VARIANTS[variant], groups), example(padded=True)
    other_BS = torch.where(inputs.padding_BS, BASE.vocabulary.mask, inputs.tokens_BS)
    first, second = model(inputs), model(dataclasses.replace(inputs, tokens_BS=other_BS))
    assert torch.equal(first["text"], second["text"])


def test_initial_weights_depend_on_name_and_seed_alone(groups):
    shallow, deep = (TrimodalTransformer(dataclasses.replace(BASE, num_layers=n), groups.collection) for n in (1, 3))
    for model in (shallow, deep):
        model.initialise(seed=1)
    deep_state = dict(deep.named_parameters())
    assert all(torch.equal(p, deep_state[name]) for name, p in shallow.named_parameters())
    again = TrimodalTransformer(BASE, groups.collection)
    again.initialise(seed=2)
    assert not torch.equal(again.embedding.weight, shallow.embedding.weight)


def test_every_parameter_says_what_it_is(groups):
    config = dataclasses.replace(
        BASE,
        positions="rotary_and_learned",
        post_attention_norm="rms",
        layer_scale=1.0,
        attention=AttentionConfig(function="sigmoid", learned_bias="per_head"),
    )
    model = build(config, groups)
    kinds = {name: kind_of(parameter) for name, parameter in model.named_parameters() if "layers.1." not in name}
    assert kinds == {
        "embedding.weight": "embedding",
        "positions": "embedding",
        "layers.0.input_layernorm.weight": "norm",
        "layers.0.self_attn_bda.layer_scale": "layer_scale",
        "layers.0.mlp_bda.layer_scale": "layer_scale",
        "layers.0.self_attention.core_attention.head_bias": "attention_bias",
        "layers.0.self_attention.linear_qkv.weight": "attention_in",
        "layers.0.self_attention.q_layernorm.weight": "query_key_norm",
        "layers.0.self_attention.k_layernorm.weight": "query_key_norm",
        "layers.0.self_attention.linear_proj.weight": "attention_out",
        "layers.0.self_attention.output_norm.weight": "norm",
        "layers.0.pre_mlp_layernorm.weight": "norm",
        "layers.0.mlp.linear_fc1.weight": "mlp_in",
        "layers.0.mlp.linear_fc2.weight": "mlp_out",
        "final_norm.weight": "final_norm",
        "heads.text.weight": "readout",
        "heads.image.weight": "readout",
        "heads.audio.weight": "readout",
    }


@pytest.mark.parametrize("name", ["time.weight", "layers.0.mlp.linear_fc3.weight", "layers.0.mlp.linear_fc1.bias"])
def test_a_parameter_without_a_kind_is_our_error(name):
    with pytest.raises(AssertionError, match=name):
        kind_of_name(name)


def test_counts_cover_every_parameter(groups):
    model = build(VARIANTS["learned positions"], groups)
    counts = parameter_counts(model)
    assert sum(counts.values()) == sum(p.numel() for p in model.parameters())
    assert counts["embedding"] == BASE.vocabulary.size * 32
    assert counts["head image"] == 21 * 32
    assert counts["positions"] == 11 * 32
    assert counts["attention"] == 2 * (32 * 32 + 2 * 32 * 16 + 32 * 32)
    assert counts["mlp"] == 2 * 3 * 32 * 56


def test_counts_cover_the_parts_of_sigmoid_attention(groups):
    counts = parameter_counts(build(VARIANTS["sigmoid attention, all of its parts"], groups))
    assert counts["attention"] == 2 * (32 * 32 + 2 * 32 * 16 + 32 * 32 + 4)
    assert counts["layer scales"] == 2 * 2 * 32


def test_learned_biases_start_at_zero_and_layer_scales_at_their_value(groups):
    model = TrimodalTransformer(VARIANTS["sigmoid attention, all of its parts"], groups.collection)
    model.initialise(seed=1)
    found = {name: parameter.unique().tolist() for name, parameter in model.named_parameters()}
    assert found["layers.1.self_attention.core_attention.head_bias"] == [0.0]
    assert found["layers.1.mlp_bda.layer_scale"] == [pytest.approx(0.3)]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_layer_scale_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match=r"layer_scale is .*; set it to a number of 0 or more"):
        dataclasses.replace(BASE, layer_scale=value)


@pytest.mark.parametrize(
    ("change", "mend"),
    [
        ({"num_attention_heads": 5}, "change hidden_size or num_attention_heads"),
        ({"num_query_groups": 3}, "change one of them"),
        ({"num_attention_heads": 32, "num_query_groups": 32}, "change num_attention_heads"),
    ],
)
def test_shapes_that_do_not_divide_are_refused(change, mend):
    with pytest.raises(ValueError, match=mend):
        dataclasses.replace(BASE, **change)
