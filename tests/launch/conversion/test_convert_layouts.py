"""Checkpoints of several ranks, saved natively and by the real DeepSpeed and Megatron, become the same folder."""

import pytest
from several_engines import save_all

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.launch.conversion.sources import SourceConfig, open_source
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.layout import ParallelLayout
from triptych.trainer.parallel.placement import Placement

pytest_plugins = ["command_fixtures"]
pytestmark = pytest.mark.slow  # six processes with an engine each: `make test-convert`

TP2_PP2 = ParallelLayout(tensor=2, pipeline=2)
SETTINGS = {"model__num_layers": 2, "model__vocabulary_multiple": 4, "model__post_attention_norm": "rms"}


def settings_of(world):
    return world.settings(**SETTINGS)[1::2]


@pytest.fixture(scope="module")
def saved(world, tmp_path_factory):
    """Folders native/, deepspeed/ and megatron/ of TP2 x PP2, and bf16/deepspeed of two data-parallel ranks."""
    from gloo_processes import Processes

    folder = tmp_path_factory.mktemp("saved")
    run = with_settings(named_run("trimodal_demo"), settings_of(world))
    processes = Processes(folder)
    processes(save_all, 4, run, folder, 1, "fp32", TP2_PP2, ("native", "deepspeed", "megatron"))
    processes(save_all, 2, run, folder / "bf16", 2, "bf16", ParallelLayout(), ("deepspeed",))
    return folder


@pytest.fixture(scope="module")
def expected(saved):
    return digest(SourceConfig(folder=saved / "native"))


def digest(config):
    with process_groups(Placement()) as groups:
        weights = open_source(config, groups).weights
        return {name: weights.read(name).clone() for name in weights.shapes}


def test_native_ranks_become_a_verified_folder(command, saved, tmp_path):
    done = command("convert", saved / "native", tmp_path / "hf", "--to", "hf", "--verify")
    assert done.code == 0, done.err
    assert "logits equal to the bit" in done.out


@pytest.mark.parametrize("origin", ["deepspeed", "megatron", "bf16/deepspeed"])
def test_another_engine_s_checkpoint_has_the_same_weights(saved, world, expected, origin):
    config = SourceConfig(folder=saved / origin, run="trimodal_demo", settings=settings_of(world))
    found = digest(config)
    assert found.keys() == expected.keys()
    assert all(found[name].equal(expected[name]) for name in expected)


@pytest.mark.parametrize("origin", ["deepspeed", "megatron"])
def test_another_engine_s_checkpoint_becomes_a_verified_run(command, saved, world, tmp_path, origin):
    arguments = ("--to", "native", "--run", "trimodal_demo", "--verify", *world.settings(**SETTINGS))
    done = command("convert", saved / origin, tmp_path / "run", *arguments)
    assert done.code == 0, done.err


def test_a_checkpoint_of_another_model_is_refused(command, saved, world, tmp_path):
    arguments = ("--to", "native", "--run", "trimodal_demo", *world.settings(**{**SETTINGS, "model__num_layers": 3}))
    done = command("convert", saved / "megatron", tmp_path / "run", *arguments)
    assert done.code == 2
    assert "layers.2" in done.err and "--set" in done.err
    assert not (tmp_path / "run").exists()
