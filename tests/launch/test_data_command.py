"""`triptych data`: raw shards made, encoded and verified; damage is counted, skipped up to a limit, or refused."""

import itertools
import struct

import pytest
from tiny_world import digit_sample, speech_sample, write_set

from triptych.configs import digits
from triptych.data_pipelines.corpus import text
from triptych.data_pipelines.corpus.digits import DigitsConfig
from triptych.data_pipelines.corpus.make import CorpusConfig
from triptych.data_pipelines.corpus.speech import SpeechConfig
from triptych.data_pipelines.shards.manifest import read_manifest

pytest_plugins = ["command_fixtures"]


def bomb():
    """A PNG whose header promises 10 gigapixels."""
    content = bytearray(digit_sample(0)["png"])
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    return bytes(content)


DAMAGED = {
    "damaged PNG": ({"png": digit_sample(0)["png"][:70]}, "image"),
    "image bomb": ({"png": bomb()}, "image too large"),
    "no PNG": ({"png": b"GIF89a"}, "image"),
    "damaged FLAC": ({"flac": speech_sample(0)["flac"][:400]}, "audio"),
    "empty caption": ({"txt": b" \n"}, "empty text"),
    "no UTF-8": ({"txt": b"\xff\xfe"}, "text"),
    "no JSON": ({"json": b"{"}, "json"),
}


def damaged_set(folder, damaged):
    """Six digits, or clips, of which the third and the fifth are damaged."""
    sample = speech_sample if "flac" in damaged else digit_sample
    write_set(folder, [{**sample(i), **(damaged if i in (2, 4) else {})} for i in range(6)])
    return folder


@pytest.mark.parametrize(("damaged", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_samples_are_skipped_counted_and_named(command, world, tmp_path, damaged, reason):
    source, limit = damaged_set(tmp_path / "raw", damaged), ["--max-damaged", 2]
    done = command("data", "encode", source, tmp_path / "codes", "--tokenizers", world.data / "tokenizers", *limit)
    assert (done.code, done.err) == (0, "")
    assert "4 samples" in done.out
    assert f"skipped 2 damaged: {reason}" in done.out
    assert [entry.key for entry in read_manifest(tmp_path / "codes").damaged] == ["000002", "000004"]


@pytest.mark.parametrize(("damaged", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_one_more_than_the_limit_is_refused(assert_refused, world, tmp_path, damaged, reason):
    source = damaged_set(tmp_path / "raw", damaged)
    given = [source, tmp_path / "codes", "--tokenizers", world.data / "tokenizers", "--max-damaged", 1]
    assert_refused("data", "encode", *given, says=(source, "max_damaged=1", "000004"))


def test_encoding_again_gives_the_same_bytes(command, world, tmp_path):
    source = world.data / "raw" / "speech" / "validation"
    done = command("data", "encode", source, tmp_path / "codes", "--tokenizers", world.data / "tokenizers")
    assert done.code == 0
    first, second = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (tmp_path / "codes", world.data / "codes" / "speech" / "validation")
    )
    assert first == second


def test_a_target_that_is_there_is_refused(assert_refused, world):
    source, target = (world.data / kind / "digits" / "validation" for kind in ("raw", "codes"))
    assert_refused("data", "encode", source, target, "--tokenizers", world.data / "tokenizers", says=target)


def test_a_source_that_is_not_there_is_refused(assert_refused, world, tmp_path):
    given = [tmp_path / "none", tmp_path / "codes", "--tokenizers", world.data / "tokenizers"]
    assert_refused("data", "encode", *given, says=tmp_path / "none")


def test_tokenizers_that_are_not_there_are_refused(assert_refused, world, tmp_path):
    given = [world.data / "raw" / "text" / "train", tmp_path / "codes", "--tokenizers", tmp_path / "none"]
    assert_refused("data", "encode", *given, says=tmp_path / "none")


def test_a_negative_limit_is_refused(assert_refused, world, tmp_path):
    given = [world.data / "raw" / "text" / "train", tmp_path / "codes", "--tokenizers", world.data / "tokenizers"]
    assert_refused("data", "encode", *given, "--max-damaged", -1, says="--max-damaged")


@pytest.mark.parametrize("folder", ["somewhere", "tokenizers"])
def test_tokenizers_may_be_in_any_folder(command, world, tmp_path, folder):
    (tmp_path / folder).symlink_to(world.data / "tokenizers")
    source = world.data / "raw" / "digits" / "validation"
    done = command("data", "encode", source, tmp_path / "codes", "--tokenizers", tmp_path / folder)
    assert (done.code, done.err) == (0, "")


def test_a_full_disk_leaves_nothing(command, world, tmp_path, full_disk):
    source = world.data / "raw" / "digits" / "validation"
    done = command("data", "encode", source, tmp_path / "codes", "--tokenizers", world.data / "tokenizers")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert str(tmp_path / "codes") in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_verify_counts_what_is_whole(command, world):
    done = command("data", "verify", world.data / "codes" / "digits" / "train")
    assert (done.code, done.err) == (0, "")
    assert "30 samples in 1 shards" in done.out


@pytest.mark.parametrize("name", ["shard-000000.tar", "shard-000000.index.npy"])
def test_verify_finds_a_flipped_bit(assert_refused, own_world, name):
    path = own_world.data / "raw" / "digits" / "train" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    assert_refused("data", "verify", path.parent, says=path)


@pytest.mark.parametrize("name", ["shard-000000.tar", "shard-000000.index.npy", "manifest.json"])
def test_verify_finds_a_missing_file(assert_refused, own_world, name):
    path = own_world.data / "raw" / "digits" / "train" / name
    path.unlink()
    assert_refused("data", "verify", path.parent, says=path)


@pytest.fixture
def small_corpus(monkeypatch):
    """`data make` of little prose, no warps and few clips."""
    some = list(itertools.islice(text._raw_documents(), 200))
    monkeypatch.setattr(text, "_raw_documents", lambda: iter(some))
    speech = SpeechConfig(num_train=4, num_validation=2)
    monkeypatch.setattr(digits, "corpus_config", lambda: CorpusConfig(digits=DigitsConfig(num_warped=0), speech=speech))


def test_make_writes_every_source_once(command, small_corpus, tmp_path):
    first = command("data", "make", tmp_path / "raw")
    stamp = (tmp_path / "raw" / "corpus.json").stat().st_mtime_ns
    second = command("data", "make", tmp_path / "raw")
    assert (first.code, first.err) == (0, "")
    assert "speech/train: 4 samples" in first.out
    assert second.out == first.out
    assert (tmp_path / "raw" / "corpus.json").stat().st_mtime_ns == stamp


def test_make_refuses_a_folder_of_something_else(assert_refused, small_corpus, tmp_path):
    (tmp_path / "raw").mkdir()
    assert_refused("data", "make", tmp_path / "raw", says=tmp_path / "raw")


def test_make_refuses_a_corpus_of_other_settings(command, assert_refused, small_corpus, tmp_path, monkeypatch):
    command("data", "make", tmp_path / "raw")
    monkeypatch.setattr(digits, "corpus_config", lambda: CorpusConfig(seed=1))
    assert_refused("data", "make", tmp_path / "raw", says=(tmp_path / "raw", "another config"))
