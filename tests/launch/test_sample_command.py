"""`triptych sample`: every task writes its files, a seed gives the same bytes, and what cannot be sampled is named."""

import numpy as np
import pytest
import soundfile
from PIL import Image
from tiny_world import TASKS, digit_sample, speech_sample

pytest_plugins = ["command_fixtures"]

TEXT_TASKS, FILE_TASKS = ("t2i", "t2s", "text"), ("i2t", "s2t")
ENDINGS = {"t2i": "png", "t2s": "flac", "i2t": "txt", "s2t": "txt", "text": "txt"}


@pytest.fixture
def inputs(tmp_path):
    """Task to the arguments that give it one input."""
    (tmp_path / "digit.png").write_bytes(digit_sample(3)["png"])
    (tmp_path / "three.flac").write_bytes(speech_sample(3)["flac"])
    return {
        "t2i": ["--prompt", "three"],
        "t2s": ["--prompt", "three"],
        "text": ["--prompt", "The list"],
        "i2t": ["--file", tmp_path / "digit.png"],
        "s2t": ["--file", tmp_path / "three.flac"],
    }


def sampled(command, trained, task, given, out, *more):
    done = command("sample", trained, "--task", task, *given, "--out", out, *more)
    assert (done.code, done.err) == (0, "")
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_gives_the_same_bytes(command, trained, inputs, tmp_path, task):
    first, second = (sampled(command, trained, task, inputs[task], tmp_path / out, "--num", 2) for out in ("a", "b"))
    assert sorted(first) == [f"{task}-000-{i:03d}.{ENDINGS[task]}" for i in range(2)]
    assert first == second


@pytest.mark.parametrize("task", ["t2i", "text"])
def test_another_seed_gives_other_samples(command, trained, inputs, tmp_path, task):
    first, second = (
        sampled(command, trained, task, inputs[task], tmp_path / str(seed), "--seed", seed) for seed in (0, 1)
    )
    assert first != second


def test_an_image_has_the_size_of_the_tokenizer(command, trained, inputs, tmp_path):
    sampled(command, trained, "t2i", inputs["t2i"], tmp_path / "out")
    assert np.asarray(Image.open(tmp_path / "out" / "t2i-000-000.png")).shape == (8, 8)


def test_speech_has_the_rate_of_the_tokenizer(command, trained, inputs, tmp_path):
    sampled(command, trained, "t2s", inputs["t2s"], tmp_path / "out")
    assert soundfile.info(tmp_path / "out" / "t2s-000-000.flac").samplerate == 16_000


def test_text_begins_with_its_prompt(command, trained, inputs, tmp_path):
    made = sampled(command, trained, "text", inputs["text"], tmp_path / "out")
    assert made["text-000-000.txt"].decode().startswith("The list")


def test_text_needs_no_prompt(command, trained, tmp_path):
    assert len(sampled(command, trained, "text", [], tmp_path / "out")) == 1


def test_what_is_written_is_printed(command, trained, inputs, tmp_path):
    done = command("sample", trained, *inputs["t2i"], "--num", 2, "--out", tmp_path / "out")
    assert done.out.split() == [str(path) for path in sorted((tmp_path / "out").iterdir())]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--task", "i2s"], ("--task i2s", "t2i")),
        (["--task", "t2i"], "--prompt"),
        (["--task", "t2s"], "--prompt"),
        (["--task", "i2t"], "--file"),
        (["--task", "s2t", "--prompt", "three"], "--file"),
        (["--prompt", "three", "--num", "0"], "--num"),
        (["--prompt", "three", "--num", "-2"], "--num"),
        (["--prompt", "three", "--seed", "-1"], "--seed"),
        (["--prompt", ""], "--prompt"),
        (["--prompt", "  \n"], "--prompt"),
        (["--prompt", "three \udcff"], "--prompt"),
        (["--prompt", "three", "--prompt", "the very long story of a digit and its many friends"], "--prompt"),
        (["--task", "text", "--prompt", "so " * 100], "--prompt"),
        (["--prompt", "three", "--set", "sampling.image.num_stps=3"], "num_steps"),
        (["--prompt", "three", "--set", "sampling.image.num_steps=0"], "num_steps 0"),
        (["--prompt", "three", "--set", "model.num_layers=2"], "another model"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused(assert_refused, trained, arguments, says):
    assert_refused("sample", trained, *arguments, says=says)


@pytest.mark.parametrize("task", FILE_TASKS)
@pytest.mark.parametrize(
    "content",
    [b"", b"no image, no sound", digit_sample(1)["png"][:60], speech_sample(1)["flac"][:60]],
    ids=["empty", "text", "truncated PNG", "truncated FLAC"],
)
def test_a_file_of_something_else_is_refused(assert_refused, trained, tmp_path, task, content):
    path = tmp_path / "input"
    path.write_bytes(content)
    assert_refused("sample", trained, "--task", task, "--file", path, says=path)


@pytest.mark.parametrize("task", FILE_TASKS)
def test_a_missing_file_is_refused(assert_refused, trained, tmp_path, task):
    assert_refused("sample", trained, "--task", task, "--file", tmp_path / "none", says=tmp_path / "none")


def test_a_folder_is_no_file(assert_refused, trained, tmp_path):
    assert_refused("sample", trained, "--task", "i2t", "--file", tmp_path, says=tmp_path)


def test_an_image_of_another_size_is_refused(assert_refused, trained, tmp_path):
    Image.fromarray(np.zeros((9, 12), np.uint8)).save(tmp_path / "large.png")
    assert_refused(
        "sample", trained, "--task", "i2t", "--file", tmp_path / "large.png", says=(tmp_path / "large.png", "[9, 12]")
    )


def test_a_recording_longer_than_its_region_is_refused(assert_refused, trained, tmp_path):
    soundfile.write(tmp_path / "long.flac", np.zeros(16_000 * 4), 16_000)
    assert_refused("sample", trained, "--task", "s2t", "--file", tmp_path / "long.flac", says=tmp_path / "long.flac")


def test_a_recording_of_another_rate_is_resampled(command, trained, tmp_path):
    soundfile.write(tmp_path / "slow.flac", np.zeros(800), 8_000)
    arguments = ("sample", trained, "--task", "s2t", "--file", tmp_path / "slow.flac", "--out", tmp_path / "out")
    done = command(*arguments)
    assert (done.code, done.err) == (0, "")


def test_a_file_in_the_place_of_the_folder_is_refused(assert_refused, trained, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert_refused("sample", trained, "--prompt", "three", "--out", tmp_path / "out", says=tmp_path / "out")


def test_a_folder_without_a_run_is_refused(assert_refused, tmp_path):
    assert_refused("sample", tmp_path / "none", "--prompt", "three", says=(tmp_path / "none", "run.yaml"))


def test_a_full_disk_leaves_no_half_of_a_sample(command, trained, tmp_path, full_disk):
    done = command("sample", trained, "--prompt", "three", "--out", tmp_path / "out")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "free disk space" in done.err
    assert list((tmp_path / "out").iterdir()) == []
