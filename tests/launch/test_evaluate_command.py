"""`triptych evaluate`: scores in a file and in a table, the same every time, and what it refuses."""

import json
import shutil

import pytest

pytest_plugins = ["command_fixtures"]

SCORES = {
    *(f"{task}_accuracy" for task in ("t2i", "i2t", "t2s", "s2t")),
    *("i2t_character_error", "s2t_character_error", "judge_image_accuracy", "judge_speech_accuracy"),
    *("text_nelbo_bits_per_byte", "text_unigram_bits_per_byte", "text_gzip_bits_per_byte"),
}


def test_scores_are_written_and_shown_and_stay_the_same(command, own_run):
    first = command("evaluate", own_run)
    written = (own_run / "evaluation.json").read_bytes()
    second = command("evaluate", own_run)
    assert (first.code, first.err, second.code) == (0, "", 0)
    assert first.out == second.out
    assert (own_run / "evaluation.json").read_bytes() == written
    assert json.loads(written).keys() >= SCORES
    assert all(name in first.out for name in SCORES)


def test_out_names_the_file(command, own_run, tmp_path):
    done = command("evaluate", own_run, "--out", tmp_path / "scores.json")
    assert done.code == 0
    assert json.loads((tmp_path / "scores.json").read_text()).keys() >= SCORES
    assert not (own_run / "evaluation.json").exists()


@pytest.mark.parametrize("setting", ["evaluation.num_pears=3", "evaluation.batch_size=many", "model.num_layers=2"])
def test_settings_that_cannot_be_are_refused(assert_refused, trained, setting):
    assert_refused("evaluate", trained, "--set", setting, says="")


def test_missing_raw_data_is_refused(assert_refused, own_world, trained):
    shutil.rmtree(own_world.data / "raw")
    says = own_world.data / "raw"
    assert_refused("evaluate", trained, "--set", f"data.folder={own_world.data}", says=says)


@pytest.mark.parametrize("extension", ["png", "flac"])
def test_a_damaged_recording_or_image_is_refused(assert_refused, own_world, trained, extension):
    source = {"png": "digits", "flac": "speech"}[extension]
    path = own_world.data / "raw" / source / "train" / "shard-000000.tar"
    content = bytearray(path.read_bytes())
    content[content.index({"png": b"IHDR", "flac": b"fLaC"}[extension])] ^= 1
    path.write_bytes(bytes(content))
    assert_refused("evaluate", trained, "--set", f"data.folder={own_world.data}", says=("sample 000000", path.name))


def test_a_folder_in_the_place_of_the_file_is_refused(assert_refused, trained, tmp_path):
    assert_refused("evaluate", trained, "--out", tmp_path, says=tmp_path)


def test_an_out_in_a_missing_folder_is_refused(assert_refused, trained, tmp_path):
    assert_refused("evaluate", trained, "--out", tmp_path / "none" / "scores.json", says=tmp_path / "none")


def test_a_folder_without_a_run_is_refused(assert_refused, tmp_path):
    assert_refused("evaluate", tmp_path / "none", says=(tmp_path / "none", "run.yaml"))
