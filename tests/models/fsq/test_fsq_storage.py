import json
import re

import pytest

from triptych.models.fsq import FsqImageAutoencoder, FsqImageConfig, FsqImageTokenizer, initialize, load_tokenizer

CONFIG = FsqImageConfig(
    image_height=4,
    image_width=4,
    num_channels=1,
    patch_size=2,
    levels=(5, 5),
    hidden_size=4,
    num_encoder_layers=1,
    num_decoder_layers=1,
)


@pytest.fixture
def folder(tmp_path):
    model = FsqImageAutoencoder(CONFIG)
    initialize(model, 0)
    FsqImageTokenizer(model).save(tmp_path)
    return tmp_path


def assert_refused(folder, file: str) -> None:
    with pytest.raises(ValueError, match=re.escape(str(folder / file))) as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["config.json", "weights.safetensors"])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    assert_refused(folder, file)


@pytest.mark.parametrize("file", ["config.json", "weights.safetensors"])
def test_a_truncated_file_is_named(folder, file):
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    assert_refused(folder, file)


def test_a_flipped_bit_in_the_weights_is_noticed(folder):
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)
    assert_refused(folder, "weights.safetensors")


@pytest.mark.parametrize(
    ("field", "value"),
    [("hidden_size", "four"), ("hidden_size", 8), ("kind", "fsq_video"), ("kind", None), ("levels", [5])],
)
def test_a_changed_config_is_noticed(folder, field, value):
    head = json.loads((folder / "config.json").read_text())
    head["config"][field] = value
    (folder / "config.json").write_text(json.dumps(head))
    assert_refused(folder, "config.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff\xfe"])
def test_what_is_no_config_is_named(folder, content):
    (folder / "config.json").write_bytes(content)
    assert_refused(folder, "config.json")


def test_nothing_else_is_left_in_the_folder(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "weights.safetensors"]
