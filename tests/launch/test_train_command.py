"""`triptych train`: what it writes and prints, going on after a signal, and everything that must stop it beforehand."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from tiny_world import environment, start_command

from triptych.configs.token_data import load_tokenizers
from triptych.configs.tokenizers import build_tokenizer, image_fsq_demo
from triptych.data_pipelines.tokenizers.text import TextTokenizer
from triptych.launch.slurm.code_copy import copy_code
from triptych.trainer.checkpoint.disk.reading import read_part

pytest_plugins = ["command_fixtures"]
REPOSITORY = Path(__file__).parents[2]


def checkpoints(run_dir):
    return sorted((run_dir / "checkpoints").iterdir())


def last_weights(run_dir):
    return read_part(checkpoints(run_dir)[-1], "weights")


def logged_tokens(run_dir):
    return [json.loads(line)["tokens"] for line in (run_dir / "logs" / "rank0.jsonl").read_text().splitlines()]


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_directory_of_a_run(trained):
    assert sorted(path.name for path in trained.iterdir()) == [
        "checkpoints",
        "code",
        "code.diff",
        "finished",
        "heartbeats",
        "logs",
        "run.yaml",
        "tensorboard",
    ]


def test_run_yaml_holds_command_version_commit_and_every_setting(trained):
    document = yaml.safe_load((trained / "run.yaml").read_text())
    assert list(document) == ["command", "version", "commit", "run"]
    assert re.fullmatch(r"[0-9a-f]{40}\+?|unknown", document["commit"])
    assert document["run"]["model"]["hidden_size"] == 32
    assert document["run"]["objective"]["schedules"]


def test_tokens_rise_to_the_total_in_the_log(trained):
    tokens = logged_tokens(trained)
    assert tokens == sorted(set(tokens))
    assert tokens[-1] >= 3000 > tokens[-2]


def test_checkpoints_are_whole_and_few(trained):
    assert len(checkpoints(trained)) == 2
    assert int(checkpoints(trained)[-1].name.removeprefix("tokens-")) == logged_tokens(trained)[-1]


def test_tensorboard_has_a_file(trained):
    assert [path.name.split(".")[0] for path in (trained / "tensorboard").iterdir()] == ["events"]


def test_describe_counts_exactly_and_writes_nothing(command, world, trained, tmp_path):
    done = command(*world.training(tmp_path / "run", "--describe"))
    assert (done.code, done.err) == (0, "")
    said = int(re.search(r"parameters\s+([\d,]+)", done.out)[1].replace(",", ""))
    assert said == sum(weight.numel() for weight in last_weights(trained).values())
    assert not (tmp_path / "run").exists()


def test_only_our_own_lines_are_printed(world, tmp_path):
    running = start_command(world.training(tmp_path / "run"), tmp_path)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (0, "")
    ours = r"\d .*|.* \| .* tokens/s \| .*|.*: done after .*"
    assert [line for line in out.splitlines() if not re.fullmatch(ours, line)] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_run_stopped_by_a_signal_goes_on_to_the_same_end(command, world, tmp_path, number):
    length = {"fit__total_tokens": 40_000}
    running = start_command(world.training(tmp_path / "run", **length), tmp_path)
    wait_for((tmp_path / "run" / "checkpoints").exists, running)
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    stopped_at = int(
        re.search(r"stopped at ([\d,]+) tokens; go on with: triptych train .* --resume", out)[1].replace(",", "")
    )
    assert stopped_at == logged_tokens(tmp_path / "run")[-1] < 40_000
    assert command("train", "trimodal_demo", "--run-dir", tmp_path / "run", "--resume").code == 0
    assert command(*world.training(tmp_path / "straight", **length)).code == 0
    assert logged_tokens(tmp_path / "run") == logged_tokens(tmp_path / "straight")
    assert_same_weights(last_weights(tmp_path / "run"), last_weights(tmp_path / "straight"))


def wait_for(condition, running, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_finished_run_resumed_stays_as_it_is(command, own_run):
    before = last_weights(own_run)
    assert command("train", "trimodal_demo", "--run-dir", own_run, "--resume").code == 0
    assert_same_weights(last_weights(own_run), before)


def test_a_finished_run_goes_on_to_a_later_end(command, own_run):
    done = command("train", "trimodal_demo", "--run-dir", own_run, "--resume", "--set", "fit.total_tokens=4000")
    assert done.code == 0
    assert logged_tokens(own_run)[-1] >= 4000


def test_two_processes_under_torchrun_equal_one(world, trained, tmp_path):
    """Micro-batches and ranks change the order of sums alone. Both start from a copy of the code, as a run on a cluster
    does: ranks compare what they run, and a checkout may change while they start.
    """
    copy_code(REPOSITORY, tmp_path / "code", "0" * 40)
    arguments = world.training(tmp_path / "run")[1:]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "triptych.launch.train", *arguments],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path / "code")),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stdout + done.stderr
    assert yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["commit"] == "0" * 40
    assert sorted(path.name for path in (tmp_path / "run" / "logs").iterdir()) == ["rank0.jsonl", "rank1.jsonl"]
    alone, together = last_weights(trained), last_weights(tmp_path / "run")
    assert max(float((alone[name] - together[name]).abs().max()) for name in alone) < 1e-4


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fit__totl_tokens": 3}, ("--set", "total_tokens")),
        ({"fit__total_tokens": "many"}, ("--set", "fit.total_tokens", "integer")),
        ({"fit__total_tokens": 0}, "total_tokens"),
        ({"fit__logical_batch": 0}, "logical_batch"),
        ({"fit__logical_batch": 7, "objective__pairing": "complement"}, "logical_batch=7"),
        ({"fit__micro_batch_per_dp_rank": -1}, "micro_batch_per_dp_rank"),
        ({"fit__checkpoint__keep_last": 0}, "keep_last"),
        ({"fit__checkpoint__every_tokens": -5}, "every_tokens"),
        ({"fit__learning_rate__warmup_tokens": 3000}, "warmup_tokens"),
        ({"model__hidden_size": 33}, "hidden_size"),
        ({"model__vocabulary__text": 5}, "model.vocabulary.text"),
        ({"model__sequence_length": 8}, "sequence_length"),
        ({"data__sources__text__weight": 0}, "weight"),
        ({"data__sources__text__weight": -1}, "weight"),
        ({"data__sources__text__task": "t2v"}, "task"),
        ({"data__sources__text__shards": "nowhere"}, "nowhere"),
        ({"data__sources__t2i__shards": "speech"}, "no image codes"),
        ({"data__sources": "{}"}, "data.sources"),
        ({"data__folder": "none"}, "none/tokenizers/text"),
    ],
)
def test_settings_that_cannot_be_are_refused(assert_refused, world, tmp_path, changes, says):
    assert_refused(*world.training(tmp_path / "run", **changes), says=says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trimodal_dmo"], ("trimodal_dmo", "did you mean trimodal_demo")),
        (["trimodal_demo", "--set", "fit.seed"], "--set path=value"),
        (["trimodal_demo", "--set", "fit.seed=[1"], "fit.seed"),
        (["trimodal_demo", "--resume"], ("run.yaml", "trimodal_demo")),
        (["trimodal_demo"], "data/demo/tokenizers"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused(assert_refused, arguments, says):
    assert_refused("train", *arguments, says=says)


def test_a_directory_in_use_is_refused(assert_refused, world, trained):
    assert_refused(*world.training(trained), says=(trained, "--resume"))


def test_a_file_in_the_place_of_the_directory_is_refused(assert_refused, world, tmp_path):
    (tmp_path / "run").write_text("mine")
    assert_refused(*world.training(tmp_path / "run"), says=tmp_path / "run")


def test_a_directory_under_a_file_is_refused(assert_refused, world, tmp_path):
    (tmp_path / "run").write_text("mine")
    assert_refused(*world.training(tmp_path / "run" / "below"), says=tmp_path / "run")


def test_another_name_than_the_directory_holds_is_refused(assert_refused, trained):
    assert_refused("train", "trimodal_320m", "--run-dir", trained, "--resume", says=(trained, "trimodal_demo"))


@pytest.mark.parametrize("setting", ["model.num_layers=2", "model.ffn_hidden_size=64"])
def test_another_model_than_the_checkpoint_is_refused(assert_refused, trained, setting):
    says = ("checkpoint", "another model")
    assert_refused("train", "trimodal_demo", "--run-dir", trained, "--resume", "--set", setting, says=says)


@pytest.mark.parametrize(
    "text", ["", "[1", "run: 3", "run: {name: [a]}", "run: {}", "run: {name: trimodal_demo}", "\0"]
)
def test_a_damaged_run_yaml_is_refused(assert_refused, own_run, text):
    (own_run / "run.yaml").write_text(text)
    assert_refused("train", "trimodal_demo", "--run-dir", own_run, "--resume", says=own_run / "run.yaml")


def test_a_run_of_an_unknown_name_is_refused(assert_refused, own_run):
    text = (own_run / "run.yaml").read_text().replace("name: trimodal_demo", "name: trimodal_old")
    (own_run / "run.yaml").write_text(text)
    assert_refused("train", "trimodal_demo", "--run-dir", own_run, "--resume", says="trimodal_old")


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = [flip_a_byte, cut_in_half, lambda path: path.unlink(), lambda path: path.write_bytes(b"")]
DAMAGE_NAMES = ["flipped", "cut", "missing", "empty"]


def verb_on(run_dir, verb):
    return {
        "train": ["train", "trimodal_demo", "--resume", "--run-dir", run_dir],
        "sample": ["sample", run_dir, "--prompt", "three"],
    }[verb]


@pytest.mark.parametrize("damage", DAMAGES, ids=DAMAGE_NAMES)
@pytest.mark.parametrize(("verb", "name"), [("train", "exp_avg-*"), ("train", "state.json"), ("sample", "weights-*")])
def test_a_damaged_checkpoint_is_passed_over_and_told(command, own_run, caplog, damage, verb, name):
    path = next(checkpoints(own_run)[-1].glob(name))
    damage(path)
    done = command(*verb_on(own_run, verb))
    warnings = [line for line in [*caplog.messages, *done.err.splitlines()] if "is passed over" in line]
    assert (done.code, len(warnings)) == (0, 1)
    assert str(path) in warnings[0]


@pytest.mark.parametrize("verb", ["train", "sample"])
def test_a_run_whose_checkpoints_are_all_damaged_is_refused(assert_refused, own_run, verb):
    paths = tuple(next(folder.glob("weights-*")) for folder in checkpoints(own_run))
    for path in paths:
        path.unlink()
    assert_refused(*verb_on(own_run, verb), says=paths)


@pytest.mark.parametrize("verb", ["train", "sample"])
def test_a_checkpoint_of_another_format_is_refused(assert_refused, own_run, verb):
    path = checkpoints(own_run)[-1] / "state.json"
    path.write_text('{"format": 9}')
    assert_refused(*verb_on(own_run, verb), says=(path, "format 9"))


def test_a_run_without_a_checkpoint_is_refused(assert_refused, own_run):
    shutil.rmtree(own_run / "checkpoints")
    assert_refused("train", "trimodal_demo", "--run-dir", own_run, "--resume", says=own_run / "checkpoints")


@pytest.mark.parametrize("damage", DAMAGES[1:], ids=DAMAGE_NAMES[1:])
@pytest.mark.parametrize("name", ["shard-000000.tar", "shard-000000.index.npy", "manifest.json"])
def test_damaged_shards_are_refused(assert_refused, own_world, tmp_path, damage, name):
    folder = own_world.data / "codes" / "digits" / "train"
    damage(folder / name)
    assert_refused(*own_world.training(tmp_path / "run"), says=name.split(".")[0])


def test_codes_that_are_not_what_was_written_are_lost_by_name(command, own_world, tmp_path):
    path = own_world.data / "codes" / "digits" / "train" / "shard-000000.tar"
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 130] ^= 1
    path.write_bytes(bytes(content))
    assert command(*own_world.training(tmp_path / "run"), "--set", "data.sources.text.weight=0.01").code == 0
    events = [json.loads(line) for line in (tmp_path / "run" / "logs" / "rank0.jsonl").read_text().splitlines()]
    lost = {(event["key"], event["shard"], event["reason"]) for event in events if event.get("event") == "lost"}
    assert {shard for _, shard, _ in lost} == {path.name}


@pytest.mark.parametrize("damage", DAMAGES, ids=DAMAGE_NAMES)
@pytest.mark.parametrize(
    "name", ["text/tokenizer.json", "image/config.json", "image/weights.safetensors", "audio/weights.safetensors"]
)
def test_damaged_tokenizers_are_refused(assert_refused, own_world, world, tmp_path, damage, name):
    path = own_world.data / "tokenizers" / name
    damage(path)
    assert_refused(*world.training(tmp_path / "run", data__folder=own_world.data), says="tokenizer")


def test_a_foreign_text_tokenizer_is_refused(assert_refused, own_world, tmp_path):
    folder = own_world.data / "tokenizers" / "text"
    size = load_tokenizers(own_world.data)["text"].vocab_size
    TextTokenizer.train(["quite another text, over and over: text text other other, and more of it"] * 9, size).save(
        folder
    )
    assert_refused(*own_world.training(tmp_path / "run"), says=("tokenizer", "codes"))


def test_a_foreign_image_tokenizer_is_refused(assert_refused, own_world, trained, tmp_path):
    model = image_fsq_demo().build_model()
    torch.nn.init.zeros_(next(model.parameters()))
    build_tokenizer(model).save(own_world.data / "tokenizers" / "image")
    assert_refused(*own_world.training(tmp_path / "run"), says="image codes are of tokenizer")
    foreign = ["--set", f"data.folder={own_world.data}"]
    assert_refused("sample", trained, "--prompt", "three", *foreign, says="another tokenizers")


def test_a_full_disk_leaves_no_half_of_a_run(command, world, tmp_path, full_disk):
    done = command(*world.training(tmp_path / "run"))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "free disk space" in done.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_disk_that_fills_up_leaves_whole_checkpoints(command, own_run, full_disk):
    before = {path: path.stat().st_mtime_ns for path in (own_run / "checkpoints").rglob("*")}
    done = command("train", "trimodal_demo", "--run-dir", own_run, "--resume", "--set", "fit.total_tokens=4000")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert (str(own_run / "checkpoints") in done.err, "free disk space" in done.err) == (True, True)
    assert {path: path.stat().st_mtime_ns for path in (own_run / "checkpoints").rglob("*")} == before


def test_damaged_variables_of_torchrun_are_refused(assert_refused, world, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    assert_refused(*world.training(tmp_path / "run"), says="WORLD_SIZE")
