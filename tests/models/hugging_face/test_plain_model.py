"""The model in plain torch is the model that is trained: logits, noise, rules and samples to the bit."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from triptych.configs.trimodal import TrimodalRun, trimodal_demo
from triptych.data_pipelines.vocabulary import MODALITIES, TASKS, Vocabulary
from triptych.kernels.philox import Purpose, Stream
from triptych.launch.conversion.hugging_face import generation_config, model_config
from triptych.models.attention.config import AttentionConfig
from triptych.models.diffusion.inputs import DiffusionInputs
from triptych.models.diffusion.sampling import Ancestral, Confidence, MaskGit, ModalitySamplers, Sampler, SamplerConfig
from triptych.models.diffusion.sampling.rules import _level
from triptych.models.diffusion.schedules import Cosine, CosineMdlm, CosineSquared, Geometric, Linear, Polynomial
from triptych.models.hugging_face.configuration_triptych import TriptychConfiguration
from triptych.models.hugging_face.modeling_triptych import TriptychModel
from triptych.models.hugging_face.noise_triptych import REVEAL, SAMPLING, uniform
from triptych.models.hugging_face.sampling_triptych import _level as plain_level
from triptych.models.parameterization import BaseShape
from triptych.models.trimodal.config import InitConfig, TrimodalConfig
from triptych.trainer.generation import Generator
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

SIZES = {
    "vocabulary": Vocabulary(text=40, image=64, audio=64),
    "sequence_length": 28,
    "hidden_size": 32,
    "num_layers": 2,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "ffn_hidden_size": 48,
    "init": InitConfig(embedding_std=0.5, readout_std=1.0),
}
EVERYTHING = {
    "attention": AttentionConfig(function="sigmoid", learned_bias="per_head", bias=-3.0),
    "post_attention_norm": "rms",
    "layer_scale": 0.3,
    "residual_scale": 0.7,
    "positions": "rotary_and_learned",
    "vocabulary_multiple": 32,
    "rope_base": 500.0,
    "norm_epsilon": 1e-3,
}
MODELS = {
    "softmax": {},
    "one query group per head": {"num_query_groups": 4},
    "no norm of queries": {"attention": AttentionConfig(qk_norm="none")},
    "sigmoid": {"attention": AttentionConfig(function="sigmoid")},
    "everything": EVERYTHING,
    "scaled depth": {
        "base": BaseShape(hidden_size=16, num_layers=1, num_attention_heads=2, ffn_hidden_size=24, depth_exponent=0.5)
    },
}


@pytest.fixture(scope="module")
def groups():
    with process_groups(Placement()) as groups:
        yield groups


def run_of(**changes) -> TrimodalRun:
    from dataclasses import replace

    sampling = changes.pop("sampling", None)
    run = replace(trimodal_demo(), model=TrimodalConfig(**{**SIZES, **changes}))
    return run if sampling is None else replace(run, sampling=sampling)


@pytest.fixture
def plain(groups):
    """The demo's samplers on a tiny model."""
    _, plain = both_models(run_of(), groups)
    for key, value in generation_config(run_of()).items():
        setattr(plain.generation_config, key, value)
    return plain


def both_models(run, groups):
    """The trained kind, with every vector moved from its initial value, and the plain one."""
    native = run.build_model(groups).eval()
    with torch.no_grad():
        for name, parameter in native.named_parameters():
            if parameter.dim() == 1 or name == "positions":
                parameter += 0.2 * torch.randn(parameter.shape)
    plain = TriptychModel(TriptychConfiguration(**model_config(run, "fp32", None))).eval()
    weights = dict(native.named_parameters())
    assert plain.load_state_dict(weights).missing_keys == []
    return native, plain


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_positions", [1, 28, 600])
def test_logits_are_equal_to_the_bit(groups, name, num_positions):
    native, plain = both_models(run_of(**MODELS[name]), groups)
    tokens_BS = torch.randint(0, SIZES["vocabulary"].size, (3, num_positions))
    rows = {modality: torch.randint(0, tokens_BS.numel(), (5,)) for modality in MODALITIES}
    padding_BS = torch.zeros_like(tokens_BS).bool()
    padding_BS[1, num_positions // 2 + 1 :] = True
    with torch.no_grad():
        for padding in (None, padding_BS):
            ours = native(DiffusionInputs(tokens_BS=tokens_BS, rows=rows, padding_BS=padding))
            theirs = plain(tokens_BS, None if padding is None else ~padding, rows).logits
            assert all(torch.equal(ours[modality], theirs[modality]) for modality in MODALITIES)


def test_all_positions_have_the_logits_of_the_rows(groups):
    _, plain = both_models(run_of(), groups)
    tokens_BS = torch.randint(0, SIZES["vocabulary"].size, (2, 9))
    with torch.no_grad():
        whole = plain(tokens_BS).logits["image"]
        rows = plain(tokens_BS, rows={"image": torch.arange(18)}).logits["image"]
    torch.testing.assert_close(whole.flatten(0, 1), rows)


@pytest.mark.parametrize(("purpose", "number"), [(Purpose.SAMPLING, SAMPLING), (Purpose.REVEAL, REVEAL)])
def test_noise_is_the_same_draws(purpose, number):
    samples_B, step, seed = torch.tensor([0, 5, 2**33 + 1]), 37, 2**63 + 11
    keys_B3 = torch.stack([torch.zeros_like(samples_B), samples_B, torch.full_like(samples_B, step)], 1)
    assert uniform(seed, number, samples_B, step, 50).equal(Stream(seed=seed).uniform(purpose, keys_B3, 50))


@pytest.mark.parametrize(
    "schedule", [Linear(), Cosine(), CosineMdlm(), CosineSquared(), Polynomial(power=2.5), Geometric(sigma_max=5.0)]
)
def test_schedules_are_the_same(schedule):
    from triptych.configs.tree import to_mapping

    times = [0.0, 1 / 3, 0.5, 0.9, 1.0]
    assert [_level(schedule, t) for t in times] == [plain_level(to_mapping(schedule), t) for t in times]


SAMPLERS = {
    "default": ModalitySamplers(),
    "ancestral": ModalitySamplers(
        text=SamplerConfig(num_steps=7, rule=Ancestral(schedule=Cosine()), guidance=0.5),
        image=SamplerConfig(num_steps=5, rule=Ancestral(), temperature=0.0, may_end=False),
        audio=SamplerConfig(num_steps=5, rule=Ancestral(schedule=Geometric()), top_p=0.5),
    ),
    "blocks": ModalitySamplers(
        text=SamplerConfig(num_steps=3, rule=Confidence(), block_length=4, guidance=2.0),
        image=SamplerConfig(num_steps=4, rule=MaskGit(choice_temperature=2.0), block_length=5),
        audio=SamplerConfig(num_steps=2, rule=Confidence(schedule=Polynomial(power=2.0)), guidance=-1.0),
    ),
}


@pytest.mark.parametrize("sampling", SAMPLERS)
@pytest.mark.parametrize("task", TASKS)
def test_samples_are_the_same(groups, sampling, task):
    run = run_of(sampling=SAMPLERS[sampling])
    native, plain = both_models(run, groups)
    for key, value in generation_config(run).items():
        setattr(plain.generation_config, key, value)
    conditions = {"t2i": [[3, 5], [7]], "t2s": [[1] * 6], "i2t": [[1] * 16], "s2t": [[2, 9, 4]], "text": [[3, 5], []]}
    generator = Generator(
        model=native,
        sampler=Sampler(run.sampling, run.model.vocabulary),
        layout=run.layout,
        stream=Stream(seed=4),
        device=torch.device("cpu"),
        batch_size=run.evaluation.batch_size,
    )
    given = [np.array(codes, np.int64) for codes in conditions[task]]
    if task == "text":
        expected = [codes for i, prompt in enumerate(given) for codes in generator.texts(2, prompt, first_key=2 * i)]
    else:
        expected = generator.targets(task, [codes for codes in given for _ in range(2)])
    found = plain.generate(task, conditions[task], num=2, seed=4)
    assert [codes.tolist() for codes in found] == [codes.tolist() for codes in expected]


@pytest.mark.parametrize(
    ("task", "conditions", "more", "says"),
    [
        ("i2s", [[1]], {}, "i2s"),
        ("t2i", [[1] * 7], {}, "room for 6"),
        ("t2i", [[40]], {}, "outside 0..39"),
        ("text", [[]], {"num": 0}, "num 0"),
        ("t2i", [[1]], {"video": {}}, "sampling of video"),
        ("t2i", [[1]], {"image": {"num_step": 4}}, "image has no num_step; use num_steps"),
        ("t2i", [[1]], {"image": {"num_steps": 0}}, "num_steps 0"),
        ("t2i", [[1]], {"image": {"temperature": -1.0}}, "temperature -1.0"),
        ("t2i", [[1]], {"image": {"top_p": 0}}, "top_p 0"),
        ("t2i", [[1]], {"image": {"guidance": -2}}, "guidance -2"),
        ("t2i", [[1]], {"image": {"block_length": 0}}, "block_length 0"),
        ("t2i", [[1]], {"image": {"num_steps": 2**15, "block_length": 8}}, "65536 steps"),
        ("t2i", [[1]], {"image": {"rule": {"kind": "best"}}}, "rule"),
    ],
)
def test_what_cannot_be_generated_is_named(plain, task, conditions, more, says):
    with pytest.raises(ValueError, match=says) as raised:
        plain.generate(task, conditions, **more)
    assert "; " in str(raised.value) and "\n" not in str(raised.value)


def test_a_model_that_is_trained_goes_on_being_trained_after_samples(plain):
    assert plain.train().generate("t2i", [[1]]) and plain.training


def test_a_model_that_is_begun_anew_is_filled_everywhere(tmp_path):
    run = run_of(**EVERYTHING)
    config = TriptychConfiguration(**model_config(run, "fp32", None))
    TriptychModel(config).save_pretrained(tmp_path)
    save_file({"embedding.weight": torch.zeros(config.embedding_rows, 32)}, tmp_path / "model.safetensors")
    model = TriptychModel.from_pretrained(tmp_path)  # all the rest is missing
    ones = [value for name, value in model.named_parameters() if name.endswith(("norm.weight", "layer_scale"))]
    zeros = [value for name, value in model.named_parameters() if name.startswith("heads") or name == "positions"]
    zeros += [value for name, value in model.named_parameters() if name.endswith("head_bias")]
    assert len(ones) == 2 * 7 + 1 and all(bool((value == 1).all()) for value in ones)
    assert len(zeros) == 3 + 1 + 2 and not any(bool(value.any()) for value in zeros)
    assert 0.1 < model.layers["1"].mlp.linear_fc1.weight.std() * 32**0.5 < 10
