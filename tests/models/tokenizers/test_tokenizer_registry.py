"""One function loads any tokenizer's folder."""

import json

import pytest

from triptych.data_pipelines.tokenizers.text import TextTokenizer
from triptych.data_pipelines.tokenizers.tiktoken_ranks import TiktokenConfig, TiktokenTokenizer
from triptych.data_pipelines.vocabulary import MODALITIES
from triptych.models.fsq import FsqImageAutoencoder, FsqImageConfig, FsqImageTokenizer
from triptych.models.tokenizers.adopt import adopt
from triptych.models.tokenizers.audio.tokenizer import AUDIO_KINDS
from triptych.models.tokenizers.image.tokenizer import IMAGE_KINDS
from triptych.models.tokenizers.registry import KINDS, load_tokenizer


def bpe():
    return TextTokenizer.train(["some text"], 260)


def tiktoken():
    return TiktokenTokenizer(TiktokenConfig(pattern=r"\S+|\s+"), {bytes([byte]): byte for byte in range(256)})


def fsq_image():
    config = FsqImageConfig(
        image_height=4,
        image_width=4,
        num_channels=1,
        patch_size=2,
        levels=(3, 3),
        hidden_size=4,
        num_encoder_layers=1,
        num_decoder_layers=1,
    )
    return FsqImageTokenizer(FsqImageAutoencoder(config))


def test_every_kind_is_there_once():
    assert list(KINDS) == list(MODALITIES)
    assert {*AUDIO_KINDS, "fsq_audio"} == set(KINDS["audio"])
    assert {*IMAGE_KINDS, "fsq_image"} == set(KINDS["image"])


@pytest.mark.parametrize("make", [bpe, tiktoken, fsq_image])
def test_what_was_saved_is_loaded(tmp_path, make):
    tokenizer = make()
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path, modality=tokenizer.modality)
    assert (type(loaded), loaded.fingerprint) == (type(tokenizer), tokenizer.fingerprint)


def test_a_text_tokenizer_among_a_models_files(tmp_path):
    bpe().save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert load_tokenizer(tmp_path).fingerprint == bpe().fingerprint


def test_another_modality_is_named(tmp_path):
    tiktoken().save(tmp_path)
    with pytest.raises(ValueError, match="is of kind tiktoken, no tokenizer of image; give one of fsq_image, vq_diff"):
        load_tokenizer(tmp_path, modality="image")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no tokenizer at .* is missing"),
        ({"config": {"kind": "wav2vec"}}, "of kind 'wav2vec'; use one of hugging_face, tiktoken, fsq_image"),
        ({"model_type": "mimi"}, "triptych tokenizer adopt"),
        ([], "not a JSON object"),
    ],
)
def test_a_folder_that_is_no_tokenizer(tmp_path, content, says):
    if content is not None:
        (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=says):
        load_tokenizer(tmp_path)


def test_a_tokenizer_json_is_adopted_from_folder_or_file(tmp_path):
    bpe().save(tmp_path / "source")
    folder = adopt(tmp_path / "source", "text", tmp_path / "one")
    file = adopt(tmp_path / "source" / "tokenizer.json", "text", tmp_path / "two")
    assert folder.fingerprint == file.fingerprint == bpe().fingerprint


def test_a_rank_file_is_adopted_from_folder_or_file(tmp_path):
    tiktoken().save(tmp_path)
    (tmp_path / "ranks.json").write_text('{"pattern": "\\\\S+|\\\\s+"}')
    folder = adopt(tmp_path, "text", tmp_path / "one")
    file = adopt(tmp_path / "ranks.tiktoken", "text", tmp_path / "two")
    assert folder.fingerprint == file.fingerprint == tiktoken().fingerprint


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="none is no folder or file, and none of tiktoken's encodings"):
        adopt(tmp_path / "none", "text", tmp_path / "out")


def test_an_empty_folder(tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises(ValueError, match=r"source has no tokenizer\.json and no \.tiktoken file"):
        adopt(tmp_path / "source", "text", tmp_path / "out")


def test_what_is_there_is_not_written_over(tmp_path):
    bpe().save(tmp_path)
    with pytest.raises(ValueError, match="already exists"):
        adopt(tmp_path, "text", tmp_path)
