"""The corpus as a whole: the same bytes every time, all or nothing, readable by others."""

import io
import itertools
import json

import pytest
import soundfile
import webdataset
from PIL import Image

from triptych.data_pipelines.corpus import make, text
from triptych.data_pipelines.corpus.digits import FIRST_HELD_OUT_ROW, DigitsConfig
from triptych.data_pipelines.corpus.make import CorpusConfig, make_corpus, set_folder
from triptych.data_pipelines.corpus.speech import SpeechConfig
from triptych.data_pipelines.shards.decode import DecodeConfig, decode_member
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.shards.verify import verify

CONFIG = CorpusConfig(digits=DigitsConfig(num_warped=1), speech=SpeechConfig(num_train=20, num_validation=10), seed=5)
ALL = [(source, split) for source in make.SOURCES for split in make.SPLITS]


@pytest.fixture(scope="module", autouse=True)
def _some_of_the_prose():
    """The whole library takes seconds to parse, and `test_prose` reads it."""
    some = list(itertools.islice(text._raw_documents(), 400))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_raw_documents", lambda: iter(some))
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "raw"
    make_corpus(folder, CONFIG)
    return folder


def test_same_config_gives_the_same_bytes(corpus, tmp_path):
    make_corpus(tmp_path / "again", CONFIG)
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (corpus, tmp_path / "again")
    )
    assert first == second


@pytest.mark.parametrize(("source", "split"), ALL)
def test_every_set_verifies(corpus, source, split):
    assert verify(set_folder(corpus, source, split)).num_samples > 0


@pytest.mark.parametrize(
    ("source", "extensions"),
    [("text", {"txt", "json"}), ("digits", {"png", "txt", "json"}), ("speech", {"flac", "txt", "json"})],
)
def test_webdataset_reads_every_source(corpus, source, extensions):
    url = str(set_folder(corpus, source, "train") / "shard-000000.tar")
    sample = next(iter(webdataset.WebDataset(url, shardshuffle=False)))
    assert {name for name in sample if not name.startswith("__")} == extensions


@pytest.mark.parametrize(("source", "modality", "extension"), [("digits", "image", "png"), ("speech", "audio", "flac")])
def test_members_decode(corpus, source, modality, extension):
    key, members = ShardSet.open(set_folder(corpus, source, "validation")).read(0)
    assert decode_member(key, modality, members[extension], DecodeConfig()).size > 0


def test_digits_are_grey_pngs(corpus):
    members = ShardSet.open(set_folder(corpus, "digits", "train")).read(0).members
    image = Image.open(io.BytesIO(members["png"]))
    assert (image.mode, image.size) == ("L", (8, 8))


def test_speech_is_sixteen_bit_flac(corpus):
    members = ShardSet.open(set_folder(corpus, "speech", "train")).read(0).members
    about = soundfile.info(io.BytesIO(members["flac"]))
    assert (about.format, about.subtype, about.samplerate, about.channels) == ("FLAC", "PCM_16", 16_000, 1)


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        ("text", {"split", "origin"}),
        ("digits", {"split", "label", "row", "remarks", "warped"}),
        ("speech", {"split", "label", "voice", "pitch", "words_per_minute"}),
    ],
)
def test_labels_say_what_is_known(corpus, source, fields):
    members = ShardSet.open(set_folder(corpus, source, "validation")).read(0).members
    assert set(json.loads(members["json"])) == fields


@pytest.mark.parametrize(("split", "number"), [("train", FIRST_HELD_OUT_ROW), ("validation", 0)])
def test_json_says_which_digits_are_warped(corpus, split, number):
    abouts = [json.loads(sample.members["json"]) for sample in ShardSet.open(set_folder(corpus, "digits", split))]
    assert sum(about["warped"] is True for about in abouts) == number


def test_same_config_finds_what_is_there(corpus):
    before = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}
    manifests = make_corpus(corpus, CONFIG)
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before
    assert list(manifests) == ALL


def test_another_config_is_refused(corpus):
    with pytest.raises(ValueError, match=r"/raw was made with another config; remove it or choose another folder"):
        make_corpus(corpus, CorpusConfig(seed=6))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match=r"/photos exists and is no corpus; remove it or choose another folder"):
        make_corpus(tmp_path / "photos", CONFIG)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_nothing_is_left_when_it_breaks_off(tmp_path, monkeypatch, error):
    def breaks_off(*args):
        yield {"txt": b"one"}
        raise error

    monkeypatch.setattr(make, "_speech_samples", breaks_off)
    with pytest.raises((KeyboardInterrupt, OSError)):
        make_corpus(tmp_path / "raw", CONFIG)
    assert list(tmp_path.iterdir()) == []
