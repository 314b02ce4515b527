"""The mixture of a run: shards, tokenizers and vocabulary must belong together."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from triptych.configs.token_data import SourceConfig, TokenDataConfig, build_mixture, require_vocabulary
from triptych.data_pipelines.shards.encode import encode_shards
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter
from triptych.data_pipelines.stream.sequences import RegionSizes, SequenceLayout
from triptych.data_pipelines.tokenizers.protocol import fingerprints_of
from triptych.data_pipelines.vocabulary import Vocabulary

VOCABULARY = Vocabulary(text=256, image=256, audio=16)
LAYOUT = SequenceLayout(vocabulary=VOCABULARY, sequence_length=16, regions=RegionSizes(text=6, image=4, audio=6))


class Bytes:
    """A tokenizer whose codes are bytes: of text, or of an image's pixels."""

    def __init__(self, modality, name="a"):
        self.modality, self.vocab_size = modality, 256
        self.fingerprint = hashlib.sha256(f"{modality}/{name}".encode()).hexdigest()

    def encode(self, raw):
        whole = [item.encode() if isinstance(item, str) else item.tobytes() for item in raw]
        return [np.frombuffer(data, np.uint8).astype(np.int64) for data in whole]


TOKENIZERS = {"text": Bytes("text"), "image": Bytes("image")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight captions with images of 2 x 2 pixels, encoded."""
    import io

    from PIL import Image

    root = tmp_path_factory.mktemp("data")
    (root / "raw").mkdir()
    with ShardWriter(root / "raw", ShardConfig(), provenance={}) as writer:
        for i in range(8):
            buffer = io.BytesIO()
            Image.fromarray(np.full((2, 2), i, np.uint8)).save(buffer, "PNG")
            about = json.dumps({"label": i}).encode()
            writer.write(f"{i:03d}", {"png": buffer.getvalue(), "txt": f"image {i}".encode(), "json": about})
    encode_shards(root / "raw", root / "codes" / "digits" / "train", TOKENIZERS)
    return root


def mixture(folder, tokenizers=TOKENIZERS, **tasks):
    sources = {name: SourceConfig(task=task, shards="digits") for name, task in tasks.items()}
    config = TokenDataConfig(folder=str(folder), regions=LAYOUT.regions, sources=sources)
    return build_mixture(config, LAYOUT, fingerprints_of(tokenizers), split="train", seed=0)


def test_captions_may_be_a_source_of_text(folder):
    data = mixture(folder, prose="text", pairs="t2i")
    whole = data.rows(data.epoch_of("prose"))
    assert sorted(whole.lengths_BD[whole.lengths_BD > 0].tolist()) == [1 + len("image 0") + 1] * 8


def test_every_pair_is_a_document_with_its_own_codes(folder):
    data = mixture(folder, pairs="i2t")
    whole = data.rows(data.epoch_of("pairs"))
    pixels = whole.tokens_BS[:, 2] - VOCABULARY.codes_start("image")
    assert sorted(whole.samples_BD3[:, 0, 1].tolist()) == list(range(8))
    assert pixels.tolist() == whole.samples_BD3[:, 0, 1].tolist()
    assert not whole.lost_BD.any()


def test_a_shard_that_is_gone_is_lost_sample_by_sample(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "data")
    data = mixture(copied, pairs="i2t")
    planned = data.epoch_of("pairs")
    (copied / "codes" / "digits" / "train" / "shard-000000.tar").unlink()
    whole = data.rows(planned)
    assert whole.lost_BD.all() and whole.num_tokens == 0
    assert sorted(lost.failure.sample for lost in whole.lost) == list(range(8))


def test_codes_of_a_kind_that_was_never_encoded_are_named(folder):
    with pytest.raises(ValueError, match="has no audio codes"):
        mixture(folder, speech="t2s")


@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_foreign_tokenizer_is_named(folder, modality):
    foreign = {**TOKENIZERS, modality: Bytes(modality, "b")}
    with pytest.raises(ValueError, match=f"the {modality} codes are of tokenizer"):
        mixture(folder, foreign, pairs="t2i")


def test_a_missing_split_is_named(folder):
    config = TokenDataConfig(
        folder=str(folder), regions=LAYOUT.regions, sources={"pairs": SourceConfig(task="t2i", shards="digits")}
    )
    with pytest.raises(ValueError, match=r"digits/validation/manifest\.json"):
        build_mixture(config, LAYOUT, fingerprints_of(TOKENIZERS), split="validation", seed=0)


def test_another_vocabulary_is_named_with_the_setting():
    with pytest.raises(ValueError, match=r"--set model\.vocabulary\.text=256"):
        require_vocabulary(Vocabulary(text=300, image=256, audio=16), TOKENIZERS)


def test_the_same_vocabulary_passes():
    assert require_vocabulary(VOCABULARY, TOKENIZERS) is None


def test_a_set_may_be_a_url(folder):
    config = TokenDataConfig(
        folder="elsewhere",
        regions=LAYOUT.regions,
        sources={"pairs": SourceConfig(task="t2i", shards=f"file://{folder}/codes/digits")},
    )
    here = mixture(folder, pairs="t2i").batch({}, 8, 0, 1)[0]
    there = build_mixture(config, LAYOUT, fingerprints_of(TOKENIZERS), split="train", seed=0).batch({}, 8, 0, 1)[0]
    assert here.tokens_BS.equal(there.tokens_BS)
