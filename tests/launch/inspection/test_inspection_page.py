"""The page of a set: whole, safe whatever the set holds, of bounded size."""

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from PIL import Image
from tiny_world import digit_sample, speech_sample, write_set

from triptych.configs.token_data import read_tokenizers
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.launch.inspection.config import InspectionConfig
from triptych.launch.inspection.page import inspect_set, render

pytest_plugins = ["command_fixtures"]

VOID = {"meta", "img", "br", "rect", "path", "circle"}
EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(2)> \x1b[31m\x00\ud800"


class Reader(HTMLParser):
    """Tags that are open at the end or closed out of order, all attributes, all text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.errors, self.attributes, self.text = [], [], [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.errors.append(tag)

    def handle_data(self, data):
        self.text += data


def page_of(folder, tokenizers=None, **config):
    settings = InspectionConfig(**config)
    return render(inspect_set(ShardSet.open(folder), tokenizers or {}, settings), settings)


@pytest.fixture(scope="module")
def tokenizers(world):
    return read_tokenizers(world.data / "tokenizers")


@pytest.fixture(scope="module")
def pages(world, tokenizers):
    """Of every set of the world, raw and encoded."""
    raw = {f"raw {name}": page_of(world.data / "raw" / name / "train") for name in ("text", "digits", "speech")}
    codes = {name: page_of(world.data / "codes" / name / "train", tokenizers) for name in ("text", "digits", "speech")}
    return raw | codes


SETS = ("raw text", "raw digits", "raw speech", "text", "digits", "speech")


@pytest.mark.parametrize("name", SETS)
def test_every_tag_is_closed(pages, name):
    reader = Reader(pages[name])
    assert (reader.errors, reader.open) == ([], [])


@pytest.mark.parametrize("name", SETS)
def test_nothing_is_fetched(pages, name):
    links = [value for key, value in Reader(pages[name]).attributes if key in ("src", "href")]
    assert [link for link in links if not link.startswith(("data:", "#"))] == []


@pytest.mark.parametrize("name", SETS)
def test_the_page_says_what_was_read(pages, name):
    assert "all samples read, seed 0" in Reader(pages[name]).text


@pytest.mark.parametrize(
    ("name", "tags"),
    [("raw digits", "img"), ("digits", "img"), ("raw speech", "audio"), ("speech", "audio")],
)
def test_media_are_on_the_page(pages, name, tags):
    assert Reader(pages[name]).tags.count(tags) >= 24


@pytest.mark.parametrize("name", ["raw digits", "digits"])
def test_captions_read_as_they_were_written(pages, name):
    assert "the digit three" in Reader(pages[name]).text


def test_codes_without_a_tokenizer_are_numbers(world):
    text = Reader(page_of(world.data / "codes" / "digits" / "train")).text
    assert "No image tokenizer was given: its codes are shown as numbers" in text
    assert "codes alone: its tokenizer was not given" in text


def test_codes_of_another_tokenizer_are_not_decoded(world, tokenizers):
    class Other:
        fingerprint, vocab_size = "f" * 64, 300

        def decode(self, codes):
            raise AssertionError("decoded by another tokenizer")

    text = Reader(page_of(world.data / "codes" / "digits" / "train", {**tokenizers, "text": Other()})).text
    assert "The text codes are of another tokenizer than the one given" in text
    assert "Not sound" in text


def test_whatever_the_set_holds_is_text(tmp_path):
    evil = EVIL.encode("utf-8", "replace")
    labels = json.dumps({EVIL: [EVIL]}).encode()
    write_set(tmp_path / "set", [{"txt": evil, "json": labels}, {"png": evil}, {"txt": b"\xff"}])
    page = page_of(tmp_path / "set")
    reader = Reader(page)
    assert (reader.errors, reader.open, "script" in reader.tags) == ([], [], False)
    assert not any(key.startswith("on") for key, _ in reader.attributes)
    assert not re.search(r"[\x00-\x08\x1b]", page)
    assert "<script>alert(1)</script>" in reader.text


def test_damaged_samples_are_shown_with_the_reason(tmp_path):
    cut = {**digit_sample(1), "png": digit_sample(1)["png"][:60]}
    write_set(tmp_path / "set", [digit_sample(0), cut])
    text = Reader(page_of(tmp_path / "set")).text
    assert "1 of 2 samples read are damaged" in text
    assert "damaged: image" in text


def test_a_page_is_of_bounded_size(tmp_path):
    samples = [{**digit_sample(i), **speech_sample(i), "txt": b"word " * 9000} for i in range(20)]
    write_set(tmp_path / "set", samples)
    whole, small = (page_of(tmp_path / "set", max_media_bytes=size) for size in (1 << 24, 40_000))
    assert len(small) < 40_000 + 20 * 4000 + 60_000 < len(whole)
    assert "left out: the page has reached its size" in Reader(small).text
    assert "more characters)" in Reader(small).text


def test_a_long_recording_and_a_large_image_are_made_smaller(tmp_path):
    draw = np.random.default_rng(0)
    image, sound = io.BytesIO(), io.BytesIO()
    Image.fromarray(draw.integers(0, 255, (500, 700, 3), dtype=np.uint8)).save(image, "PNG")
    soundfile.write(sound, draw.normal(size=16_000 * 30) * 0.1, 16_000, format="FLAC")
    write_set(tmp_path / "set", [{"png": image.getvalue(), "flac": sound.getvalue()}])
    page = page_of(tmp_path / "set")
    assert "shown smaller than it is" in page
    assert "the first 15 s" in page
    assert len(page) < 1_500_000


def test_an_empty_set_has_a_page(tmp_path):
    write_set(tmp_path / "set", [])
    assert "The set is empty" in page_of(tmp_path / "set")


def test_the_same_seed_gives_the_same_page(world, tokenizers):
    folder = world.data / "codes" / "digits" / "train"
    first, second = (page_of(folder, tokenizers, num_samples=5, seed=3) for _ in range(2))
    assert first == second
    assert first != page_of(folder, tokenizers, num_samples=5, seed=4)
