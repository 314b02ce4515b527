"""LLaDA- and LLaMA-like weights are the text part of a run of their shape, with equal logits where both can agree."""

from dataclasses import replace

import llama_like
import pytest
import torch
from safetensors.torch import save_file

from triptych.configs.trimodal import trimodal_demo
from triptych.data_pipelines.vocabulary import Vocabulary
from triptych.launch.conversion.sources import SourceConfig, open_source
from triptych.models.attention.config import AttentionConfig
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.trimodal.config import InitConfig, TrimodalConfig
from triptych.trainer.checkpoint.foreign.llama import SafetensorsFolder
from triptych.trainer.checkpoint.foreign.weights import require_shapes
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

VOCABULARY = Vocabulary(text=44, image=64, audio=64)
AGREEING = TrimodalConfig(
    vocabulary=VOCABULARY,
    sequence_length=28,
    hidden_size=32,
    num_layers=2,
    num_attention_heads=4,
    num_query_groups=2,
    ffn_hidden_size=48,
    rope_base=500_000.0,
    attention=AttentionConfig(qk_norm="none"),
    init=InitConfig(embedding_std=0.5, readout_std=1.0),
)


@pytest.fixture(scope="module")
def groups():
    with process_groups(Placement()) as groups:
        yield groups


@pytest.fixture
def opened(groups, monkeypatch):
    """`opened(folder, model)`: the source, of a run with that model."""

    def call(folder, model=AGREEING):
        run = replace(trimodal_demo(), model=model)
        monkeypatch.setattr("triptych.launch.conversion.sources.named_run", lambda name: run)
        return open_source(SourceConfig(folder=folder, run="any"), groups)

    return call


def filled(source, groups):
    model = source.run.build_model(groups).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(source.weights.read(name))
    return model


@pytest.mark.parametrize(("family", "notes"), [("llada", 0), ("llama", 1)])
def test_logits_of_text_are_theirs(opened, groups, tmp_path, family, notes):
    weights = llama_like.weights()
    source = opened(llama_like.save(tmp_path / "source", weights, family))
    assert len(source.notes) == notes  # that LLaMA looks only back
    ids = torch.randint(0, VOCABULARY.text, (11,))
    ours = ids + VOCABULARY.codes_start("text")
    if family == "llada":
        ids[3], ours[3] = 50, VOCABULARY.mask
    ids[7], ours[7] = 45, VOCABULARY.end("text")
    inputs = DiffusionInputs(tokens_BS=ours[None], rows={"text": torch.arange(11)}, padding_BS=None)
    with torch.no_grad():
        logits = filled(source, groups)(inputs)["text"]
    expected = llama_like.forward(weights, ids)
    torch.testing.assert_close(logits[:, 1:], expected[:, : VOCABULARY.text], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits[:, 0], expected[:, 45], rtol=1e-4, atol=1e-4)


def test_the_other_parts_keep_their_initial_values(opened, groups, tmp_path):
    model = replace(AGREEING, attention=AttentionConfig(), positions="rotary_and_learned", layer_scale=0.25)
    source = opened(llama_like.save(tmp_path / "source", llama_like.weights(), "llada"), model)
    initial = dict(source.run.build_model(groups).named_parameters())
    image = slice(VOCABULARY.start("image"), None)
    assert source.weights.read("embedding.weight")[image].equal(initial["embedding.weight"][image])
    kept = ["heads.image.weight", "heads.audio.weight", "positions", "layers.1.self_attention.q_layernorm.weight"]
    for name in [*kept, "layers.1.mlp_bda.layer_scale"]:
        assert source.weights.read(name).equal(initial[name]), name
    assert [note for note in source.notes if "qk_norm" in note]
    assert [note for note in source.notes if "model.positions" in note]


@pytest.mark.parametrize(
    ("changes", "model", "says"),
    [
        ({}, replace(AGREEING, num_layers=3), "num_layers 2"),
        ({}, replace(AGREEING, num_query_groups=4), "num_query_groups 2"),
        ({}, replace(AGREEING, ffn_hidden_size=64), "ffn_hidden_size 48"),
        ({}, replace(AGREEING, vocabulary=Vocabulary(text=57, image=8, audio=8)), "vocabulary.text is 57"),
        ({"include_qkv_bias": True}, AGREEING, "include_qkv_bias"),
        ({"alibi": True}, AGREEING, "alibi"),
        ({"activation_type": "gelu"}, AGREEING, "activation_type"),
        ({"mask_token_id": 99}, AGREEING, "mask_token 99"),
    ],
)
def test_what_does_not_fit_is_named(opened, tmp_path, changes, model, says):
    folder = llama_like.save(tmp_path / "source", llama_like.weights(), "llada", **changes)
    if "vocabulary" in says:
        model = replace(model, sequence_length=28)
    with pytest.raises(ValueError, match=says) as raised:
        opened(folder, model)
    assert "\n" not in str(raised.value) and "; " in str(raised.value)


BIAS = "model.layers.1.self_attn.q_proj.bias"
NORM = "model.layers.1.input_layernorm.weight"


def wide_heads():
    return {f"model.layers.{i}.self_attn.q_proj.weight": torch.randn(64, 32) for i in range(2)}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"more": {BIAS: torch.ones(32)}}, f"has {BIAS}, for which"),  # Qwen2 and Dream do not say so in their configs
        ({"left_out": (NORM,)}, f"has no {NORM}"),
        ({"more": wide_heads(), "head_dim": 16}, r"q_proj.weight is \(64, 32\), the run's model has \(32, 32\)"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        ({"hidden_size": None}, "hidden_size"),
    ],
)
def test_what_would_be_another_function_is_refused(opened, tmp_path, changes, says):
    folder = llama_like.save(tmp_path / "source", llama_like.weights(), "llama", **changes)
    with pytest.raises(ValueError, match=says) as raised:
        opened(folder)
    assert "\n" not in str(raised.value) and "; " in str(raised.value)


def test_what_follows_from_the_config_may_lie_beside_the_weights(opened, tmp_path):
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    assert opened(llama_like.save(tmp_path / "source", llama_like.weights(), "llama", more=more)).weights


@pytest.mark.parametrize(
    "index", ["{", "{}", '{"weight_map": 3}', '{"weight_map": {"a": "model-00001-of-00002.safetensors"}}']
)
def test_a_damaged_index_names_the_file(tmp_path, index):
    folder = llama_like.save(tmp_path / "source", llama_like.weights(), "llama")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=r"source/model.*is damaged .*; copy it again"):
        SafetensorsFolder(folder).shape("a")


def test_files_beside_the_usual_one_are_not_read(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, tmp_path / "optimizer.safetensors")
    folder = SafetensorsFolder(tmp_path)
    assert folder.names() == ["a"] and folder.read("a").equal(torch.zeros(2))


def test_a_difference_of_shapes_names_the_parameter(groups):
    with pytest.raises(ValueError, match=r"a: \(2,\) there, missing in the run"):
        require_shapes("folder", {"a": (2,)}, {})
