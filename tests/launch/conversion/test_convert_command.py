"""`triptych convert` there and back: nothing changes, nothing half-written is left, and what does not fit is named."""

import json
import shutil

import pytest
import torch
import yaml
from tiny_world import listing

from triptych.launch.conversion import hugging_face
from triptych.trainer.checkpoint.disk.folders import complete_checkpoints
from triptych.trainer.checkpoint.disk.reading import read_part

pytest_plugins = ["command_fixtures"]


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    """A Hugging Face folder of the trained run. Shared."""
    from triptych.launch.cli import main

    folder = tmp_path_factory.mktemp("converted") / "hf"
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(trained), str(folder), "--to", "hf"])
    assert not ended.value.code
    return folder


@pytest.fixture
def back(folder, command, tmp_path):
    """The folder as a run again."""
    assert command("convert", folder, tmp_path / "back", "--to", "native", "--verify").code == 0
    return tmp_path / "back"


def weights_of(run_dir):
    return read_part(complete_checkpoints(run_dir / "checkpoints")[-1], "weights")


def sampled(command, run_dir, out, *more):
    done = command("sample", run_dir, "--task", "t2i", "--prompt", "three", "--num", 2, "--out", out, *more)
    assert done.code == 0, done.err
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_weights_come_back_bit_for_bit(trained, back):
    first, second = weights_of(trained), weights_of(back)
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)


def test_the_run_comes_back_with_its_settings(trained, back):
    first, second = (yaml.safe_load((path / "run.yaml").read_text())["run"] for path in (trained, back))
    assert second["data"].pop("folder") == str(back / "data")
    assert first["data"].pop("folder") != str(back / "data")
    assert first == second


def test_the_run_that_came_back_samples_the_same(command, trained, back, tmp_path):
    assert sampled(command, trained, tmp_path / "a") == sampled(command, back, tmp_path / "b")


def test_a_run_that_came_back_begins_from_its_weights(command, world, back):
    arguments = ("--resume", "--set", f"data.folder={world.data}", "--set", "fit.total_tokens=500")
    done = command("train", "trimodal_demo", "--run-dir", back, *arguments)
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in (back / "logs" / "rank0.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line or "metrics" in line] == [1]


def test_shards_are_indexed_and_read_back(command, trained, tmp_path):
    done = command("convert", trained, tmp_path / "hf", "--to", "hf", "--max-shard-gib", 5e-5, "--verify")
    assert done.code == 0, done.err
    where = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(where.values())) > 1
    assert {*where.values()} == {path.name for path in (tmp_path / "hf").glob("*.safetensors")}


def test_half_precision_is_verified_against_rounded_weights(command, trained, tmp_path):
    assert command("convert", trained, tmp_path / "hf", "--to", "hf", "--dtype", "bf16", "--verify").code == 0


def test_a_folder_is_halved_and_verified_against_rounded_weights(command, folder, tmp_path):
    assert command("convert", folder, tmp_path / "half", "--to", "hf", "--dtype", "bf16", "--verify").code == 0
    configs = [json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "half")]
    assert [config["dtype"] for config in configs] == ["float32", "bfloat16"]
    assert configs[0]["trained_tokens"] == configs[1]["trained_tokens"] > 0


def test_the_code_that_travels_names_nothing_of_ours(folder):
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    assert "from .configuration_triptych import" in text
    assert "triptych." not in text.replace("_triptych.", "")


def test_a_difference_is_code_1_and_leaves_nothing(command, trained, tmp_path, monkeypatch):
    def off_by_a_bit(path, shapes, tensors, *more):
        return write_tensors(path, shapes, (torch.nextafter(x, torch.tensor(9.0)) for x in tensors), *more)

    write_tensors = hugging_face.write_tensors
    monkeypatch.setattr(hugging_face, "write_tensors", off_by_a_bit)
    done = command("convert", trained, tmp_path / "new" / "hf", "--to", "hf", "--verify")
    assert done.code == 1
    assert "embedding.weight differs" in done.err and "logits of t2i differ" in done.err
    assert not list((tmp_path / "new").iterdir())


def test_a_full_disk_leaves_nothing(command, trained, tmp_path, full_disk):
    done = command("convert", trained, tmp_path / "new" / "hf", "--to", "hf")
    assert done.code == 2 and "free some space" in done.err
    assert not list((tmp_path / "new").iterdir())


def test_code_of_others_is_not_run(folder, tmp_path, assert_refused):
    shutil.copytree(folder, tmp_path / "hf")
    (tmp_path / "hf" / "noise_triptych.py").write_text("raise SystemExit(3)\n")
    assert_refused(
        "convert",
        tmp_path / "hf",
        tmp_path / "run",
        "--to",
        "native",
        "--verify",
        says=("noise_triptych.py", "not run"),
    )


def test_a_data_folder_that_would_be_passed_over_is_refused(folder, tmp_path, assert_refused):
    arguments = ("--to", "native", "--set", "data.folder=elsewhere")
    assert_refused("convert", folder, tmp_path / "run", *arguments, says=("data.folder", "leave it out"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "gguf"], ("--to gguf", "hf, native")),
        (["--to", "native", "--dtype", "bf16"], "--dtype bf16"),
        (["--to", "hf", "--max-shard-gib", "0"], "--max-shard-gib"),
        (["--to", "hf", "--weights", "slow"], ("slow", "weights")),
        (["--to", "hf", "--from", "megatron", "--run", "trimodal_demo"], ".metadata"),
        (["--to", "hf", "--from", "deepspeed"], "--run"),
    ],
)
def test_options_that_do_not_fit_are_named(trained, tmp_path, assert_refused, arguments, says):
    assert_refused("convert", trained, tmp_path / "out", *arguments, says=says)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path, assert_refused):
    assert_refused("convert", tmp_path, tmp_path / "out", "--to", "hf", says="no checkpoint that is known")


def test_a_target_that_exists_is_left_alone(command, trained, folder):
    before = listing(folder)
    done = command("convert", trained, folder, "--to", "hf")
    assert done.code == 2 and "already exists" in done.err
    assert listing(folder) == before


def test_a_damaged_checkpoint_is_refused(command, own_run, tmp_path):
    checkpoint = complete_checkpoints(own_run / "checkpoints")[-1]
    path = next(checkpoint.glob("weights-*"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = command("convert", checkpoint, tmp_path / "hf", "--to", "hf")
    assert done.code == 2 and path.name in done.err
    assert not (tmp_path / "hf").exists()
