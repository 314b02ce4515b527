"""DeepSpeed's universal checkpoints, Megatron's stacked layers, and DeepSpeed's folders that are not whole."""

import shutil
import subprocess
import sys
from dataclasses import replace
from unittest.mock import patch

import pytest
import tiny_run
import torch
from torch.distributed import checkpoint

from triptych.models.sharding import sharding_of
from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.checkpoint.foreign.deepspeed_universal import UniversalWeights, universal_folder
from triptych.trainer.checkpoint.foreign.deepspeed_zero import DeepSpeedWeights, deepspeed_folder
from triptych.trainer.checkpoint.foreign.torch_dist import TorchDistWeights, torch_dist_folder
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
    _, expected, wanted = saved
    with process_groups(Placement()):
        checkpoint.save(dict(expected), checkpoint_id=str(tmp_path))
    weights = TorchDistWeights(tmp_path, wanted)
    assert all_equal(weights, expected, wanted)  # torch's own checkpoints are the same
    for path in tmp_path.glob("*.distcp"):
        path.unlink()
    with pytest.raises(ValueError, match=r"distcp is missing; copy"):
        weights.read("embedding.weight")


@pytest.fixture
def stacked(saved, tmp_path):
    """Megatron's form by torch's own writer: the layers' norms stacked, the rest by name; and the state."""
    _, expected, _ = saved
    of_layers = {name: tensor for name, tensor in expected.items() if name.startswith("layers.")}
    state = {name: tensor for name, tensor in expected.items() if name not in of_layers}
    for name in of_layers:
        if name.startswith("layers.0."):
            layers = range(tiny_run.MODEL.num_layers)
            key = name.replace("layers.0.", "layers.")
            state[key] = torch.stack([expected[name.replace("layers.0.", f"layers.{i}.")] for i in layers])

    def save(folder, state):
        with process_groups(Placement()):
            checkpoint.save(state, checkpoint_id=str(folder))

    return state, save


def test_layers_of_a_stack_that_the_run_has_not_are_named(saved, stacked, tmp_path):
    _, expected, wanted = saved
    state, save = stacked
    save(tmp_path / "right", state)
    assert all_equal(TorchDistWeights(tmp_path / "right", wanted), expected, wanted)
    last = tiny_run.MODEL.num_layers - 1
    for name, num_layers in (("fewer", last), ("more", last + 2)):
        other = {
            key: torch.cat([tensor, tensor])[:num_layers] if key.startswith("layers.") else tensor
            for key, tensor in state.items()
        }
        save(tmp_path / name, other)
        with pytest.raises(ValueError, match=rf"layers\.{min(num_layers, last + 1)}\..* missing"):
            require_shapes("it", TorchDistWeights(tmp_path / name, wanted).shapes, wanted)


def test_an_index_of_less_than_whole_tensors_is_refused(saved, stacked, tmp_path):
    import pickle

    _, _, wanted = saved
    state, save = stacked
    save(tmp_path / "it", state)
    path = tmp_path / "it" / ".metadata"
    index = pickle.loads(path.read_bytes())
    chunk = index.state_dict_metadata["embedding.weight"].chunks[0]
    chunk.sizes = torch.Size([chunk.sizes[0] - 1, chunk.sizes[1]])
    path.write_bytes(pickle.dumps(index))
    with pytest.raises(ValueError, match=r"embedding\.weight; copy it again"):
        TorchDistWeights(tmp_path / "it", wanted).read("embedding.weight")
    index.state_dict_metadata["embedding.weight"].chunks.clear()
    path.write_bytes(pickle.dumps(index))
    with pytest.raises(ValueError, match=r"knows 0 of \d+ elements of embedding\.weight; copy it again"):
        TorchDistWeights(tmp_path / "it", wanted).read("embedding.weight")


def test_the_latest_iteration_is_found_as_megatron_notes_it(tmp_path):
    (tmp_path / "iter_0000030").mkdir()
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("30\n")
    assert torch_dist_folder(tmp_path) is None
    (tmp_path / "iter_0000030" / ".metadata").touch()
    assert torch_dist_folder(tmp_path) == tmp_path / "iter_0000030"


def test_what_training_goes_on_from_is_read_and_no_older_universal_one(tmp_path):
    (tmp_path / "step5_universal" / "zero").mkdir(parents=True)
    (tmp_path / "step9").mkdir()
    (tmp_path / "latest_universal").write_text("step5_universal")
    assert universal_folder(tmp_path) == tmp_path / "step5_universal"
    (tmp_path / "latest").write_text("step9")
    assert universal_folder(tmp_path) is None
    (tmp_path / "step9" / "mp_rank_00_model_states.pt").touch()
    assert deepspeed_folder(tmp_path) == tmp_path / "step9"


def test_zero_3_is_named(tmp_path):
    (tmp_path / "zero_pp_rank_0_mp_rank_00_model_states.pt").touch()
    with pytest.raises(ValueError, match=r"ZeRO stage 3, .*; make a universal checkpoint"):
        deepspeed_folder(tmp_path)


def test_a_missing_partition_of_zero_is_named(saved, tmp_path):
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    folder, _, wanted = saved
    shutil.copytree(folder / "zero", tmp_path / "zero")
    found = deepspeed_folder(tmp_path / "zero")
    (path,) = found.glob("*optim_states.pt")
    with torch.serialization.safe_globals([fragment_address, ZeroStageEnum, LossScaler, DynamicLossScaler]):
        content = torch.load(path, weights_only=True)
    state = content["optimizer_state_dict"]
    first = next(iter(state["param_slice_mappings"][0]))
    del state["param_slice_mappings"][0][first]
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"has 0 of \d+ elements of {first}; copy"):
        DeepSpeedWeights(found, wanted).read(first)


def test_zero_without_its_first_rank_is_refused(saved, tmp_path):
    folder, expected, wanted = saved
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
