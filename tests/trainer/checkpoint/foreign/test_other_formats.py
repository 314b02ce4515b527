"""DeepSpeed's universal checkpoints, Megatron's stacked layers, and DeepSpeed's folders that are not whole."""

import subprocess
import sys
from dataclasses import replace
from unittest.mock import patch

import pytest
import tiny_run
import torch

from triptych.models.sharding import sharding_of
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.checkpoint.foreign.deepspeed_universal import UniversalWeights, universal_folder
from triptych.trainer.checkpoint.foreign.deepspeed_zero import DeepSpeedWeights, deepspeed_folder
from triptych.trainer.checkpoint.foreign.torch_dist import TorchDistWeights
from triptych.trainer.checkpoint.foreign.weights import WantedParameter, require_shapes
from triptych.trainer.engine.config import EngineConfig
from triptych.trainer.engine.engine import Engine
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of ZeRO-1, what the weights are, and what is wanted."""
    folder = tmp_path_factory.mktemp("saved")
    with process_groups(Placement()) as groups:
        model = TrimodalTransformer(tiny_run.MODEL, groups.collection)
        model.initialise(3)
        wanted = {
            name: WantedParameter(shape=tuple(parameter.shape), sharding=sharding_of(parameter))
            for name, parameter in model.named_parameters()
        }
        Engine([model], EngineConfig(), groups)._deepspeed.save_checkpoint(str(folder / "zero"))
        expected = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return folder, expected, wanted


def all_equal(weights, expected, wanted):
    require_shapes("it", weights.shapes, wanted)
    return all(weights.read(name).equal(expected[name]) for name in expected)


@pytest.mark.slow
def test_universal_checkpoints_are_read(saved, tmp_path):
    folder, expected, wanted = saved
    source = deepspeed_folder(folder / "zero")
    model_states = source / "mp_rank_00_model_states.pt"
    content = torch.load(model_states, weights_only=True)
    # DeepSpeed's converter does not know what to do with megatron-core's empty `_extra_state`.
    content["module"] = {name: value for name, value in content["module"].items() if value is not None}
    torch.save(content, model_states)
    options = ["--input_folder", source, "--output_folder", tmp_path / "universal", "--inject_missing_state"]
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", *options]
    subprocess.run([*command, "--num_extract_workers", "1", "--num_merge_workers", "1"], check=True)
    found = universal_folder(tmp_path / "universal")
    assert found is not None
    assert all_equal(UniversalWeights(found), expected, wanted)


def test_universal_checkpoints_of_several_model_parallel_ranks_are_refused(tmp_path):
    (tmp_path / "zero" / "a").mkdir(parents=True)
    for rank in range(2):
        (tmp_path / f"mp_rank_0{rank}_model_states.pt").touch()
    with pytest.raises(ValueError, match="several model-parallel ranks"):
        UniversalWeights(tmp_path)


@pytest.mark.slow
def test_stacked_layers_of_megatron_are_read(saved, tmp_path):
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing import ShardedTensor

    _, expected, wanted = saved
    state = {}
    for name, tensor in expected.items():
        if name.startswith("layers."):
            number = int(name.split(".")[1])
            place, key = (0, number, tiny_run.MODEL.num_layers), name.replace(f"layers.{number}.", "layers.")
            state[name] = ShardedTensor.from_rank_offsets(f"model.{key}", tensor, place, prepend_axis_num=1)
        else:
            state[name] = ShardedTensor.from_rank_offsets(f"model.{name}", tensor)
    with (
        process_groups(Placement()),
        patch("torch.cuda.synchronize"),
        patch("torch.cuda.current_device", lambda: "cpu"),
    ):
        dist_checkpointing.save(state, str(tmp_path))
    assert all_equal(TorchDistWeights(tmp_path, wanted), expected, wanted)


def test_a_missing_file_of_megatron_s_is_named(saved, tmp_path):
    from torch.distributed import checkpoint

    _, expected, wanted = saved
    with process_groups(Placement()):
        checkpoint.save(dict(expected), checkpoint_id=str(tmp_path))
    weights = TorchDistWeights(tmp_path, wanted)
    assert all_equal(weights, expected, wanted)  # torch's own checkpoints are the same
    for path in tmp_path.glob("*.distcp"):
        path.unlink()
    with pytest.raises(ValueError, match=r"distcp is missing; copy"):
        weights.read("embedding.weight")


def test_zero_without_its_partitions_is_refused(saved, tmp_path):
    folder, expected, wanted = saved
    import shutil

    shutil.copytree(folder / "zero", tmp_path / "zero")
    found = deepspeed_folder(tmp_path / "zero")
    weights = DeepSpeedWeights(found, wanted)
    assert all_equal(weights, expected, wanted)
    other = {**wanted, "more": replace(next(iter(wanted.values())))}
    with pytest.raises(ValueError, match="more: missing there"):
        require_shapes("it", weights.shapes, other)
    (found / "mp_rank_00_model_states.pt").rename(found / "mp_rank_01_model_states.pt")
    with pytest.raises(ValueError, match=r"ranks \[1\] alone"):
        DeepSpeedWeights(found, wanted)
