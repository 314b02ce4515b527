"""`triptych tokenizer train` and `adopt`: a folder per modality that loads again, whole or not at all."""

import pytest

from triptych.configs.token_data import load_tokenizers

pytest_plugins = ["command_fixtures"]

SHORT = {
    "text": ["--set", "vocab_size=280"],
    "image": ["--set", "fit.total_tokens=3000", "--set", "fit.learning_rate.warmup_tokens=100"],
    "audio": ["--set", "fit.total_tokens=300", "--set", "fit.learning_rate.warmup_tokens=100"],
}


@pytest.mark.parametrize("modality", SHORT)
def test_a_tokenizer_is_trained_and_loads_again(command, own_world, modality):
    folder = own_world.data / "tokenizers"
    before = load_tokenizers(own_world.data)[modality].fingerprint
    (folder / modality).rename(folder / "old")
    done = command("tokenizer", "train", modality, "--data", own_world.data / "raw", "--out", folder, *SHORT[modality])
    assert (done.code, done.err) == (0, "")
    after = load_tokenizers(own_world.data)[modality].fingerprint
    assert after != before
    assert after[:16] in done.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["video"], ("video", "text, image, audio")),
        (["text", "--set", "vocab_size=100"], "vocab_size=100"),
        (["text", "--set", "vocab_sice=300"], "did you mean vocab_size"),
        (["image", "--set", "fit.total_tokens=0"], "total_tokens"),
        (["image", "--set", "model.image_height=9"], "image_height"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused(assert_refused, world, tmp_path, arguments, says):
    given = ["--data", world.data / "raw", "--out", tmp_path / "out"]
    assert_refused("tokenizer", "train", *arguments, *given, says=says)


@pytest.mark.parametrize("modality", SHORT)
def test_a_tokenizer_that_is_there_is_refused(assert_refused, world, modality):
    given = ["--data", world.data / "raw", "--out", world.data / "tokenizers"]
    assert_refused("tokenizer", "train", modality, *given, says=world.data / "tokenizers" / modality)


@pytest.mark.parametrize("modality", SHORT)
def test_missing_data_is_refused(assert_refused, tmp_path, modality):
    given = ["--data", tmp_path / "none" / "raw", "--out", tmp_path / "out"]
    assert_refused("tokenizer", "train", modality, *given, says=tmp_path / "none" / "raw")


def test_data_of_another_name_is_refused_instead_of_its_neighbour_read(assert_refused, world):
    assert_refused("tokenizer", "train", "text", "--data", world.data / "codes", "--out", world.data, says="--data")


def test_a_full_disk_leaves_nothing(command, world, tmp_path, full_disk):
    given = ["--data", world.data / "raw", "--out", tmp_path / "out", *SHORT["text"]]
    done = command("tokenizer", "train", "text", *given)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "free some space" in done.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_pretrained_tokenizer_is_adopted(command, world, tmp_path):
    done = command("tokenizer", "adopt", "text", world.data / "tokenizers" / "text", "--out", tmp_path)
    assert (done.code, done.err) == (0, "")
    assert load_tokenizers(world.data)["text"].fingerprint[:16] in done.out
    assert "not exact" not in done.out
    assert (tmp_path / "text" / "tokenizer.json").exists()


def test_text_that_comes_back_changed_is_said(command, tmp_path):
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"plain": 0, "?": 1}, unk_token="?")).save(str(tmp_path / "tokenizer.json"))
    done = command("tokenizer", "adopt", "text", tmp_path / "tokenizer.json", "--out", tmp_path)
    assert "not exact: 'plain words' comes back as '?'" in done.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["video"], ("video", "text, image, audio")),
        (["audio", "--codebooks", "later"], ("--codebooks later", "'delayed'")),
        (["audio", "--precision", "float16"], ("--precision float16", "'float64'")),
        (["text", "--num-codebooks", "4"], "num_codebooks says nothing"),
    ],
)
def test_what_cannot_be_adopted_is_refused(assert_refused, world, tmp_path, arguments, says):
    source, out = world.data / "tokenizers" / "text", tmp_path / "out"
    assert_refused("tokenizer", "adopt", arguments[0], source, "--out", out, *arguments[1:], says=says)
