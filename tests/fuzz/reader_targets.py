"""What is fuzzed: for each kind of file its seeds, the mutations that know its format, and what reads it.

A reader is a list of stages, each called by itself: it returns what it has read, or raises.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import audio_structures
import image_structures
import numpy as np
import seed_files
import text_structures
from messages import fault_of

from triptych.data_pipelines.prepare.inputs.entries import InputConfig
from triptych.data_pipelines.prepare.inputs.lines import read_json_lines
from triptych.data_pipelines.prepare.inputs.samples import read_tar
from triptych.data_pipelines.prepare.inputs.streams import open_stream
from triptych.data_pipelines.prepare.inputs.tables import read_table, row_group_bytes
from triptych.data_pipelines.prepare.quiet import quiet
from triptych.data_pipelines.shards.codes import load_codes, load_labels, unpack_codes
from triptych.data_pipelines.shards.decode import DecodeConfig, decode_json, decode_member
from triptych.data_pipelines.shards.errors import DamagedSample
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.shards.verify import verify
from triptych.data_pipelines.statistics.sets import set_statistics

CONFIG = DecodeConfig()
INPUTS = InputConfig(max_document_bytes=1 << 20, max_member_bytes=1 << 20)
_MOST_SAMPLES = 16  # read of a set that claims to have more


class WrongResult(Exception):
    """A reader gave something that it must not give."""


@dataclass(frozen=True)
class Target:
    """stages: from the bytes of a file to calls that read it. weight: share of the cases."""

    name: str
    seeds: Callable[[], tuple[bytes, ...]]
    structured: Callable[[bytes, Any], bytes] | None
    stages: Callable[[bytes], Iterator[Callable[[], Any]]]
    weight: int = 2


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise WrongResult(what)


def _text(data):
    yield lambda: _require(isinstance(decode_member("k", "text", data, CONFIG), str), "no str")


def _image(data):
    def read():
        image = decode_member("k", "image", data, CONFIG)
        _require(image.dtype == np.uint8 and image.ndim in (2, 3), f"{image.dtype} {image.shape}")
        _require(0 < image.shape[0] * image.shape[1] <= CONFIG.max_pixels, f"an image of {image.shape}")
        _require(image.ndim == 2 or image.shape[2] == 3, f"an image of {image.shape}")

    yield read


def _audio(data):
    def read():
        with quiet(data):
            wave = decode_member("k", "audio", data, CONFIG)
        _require(wave.dtype == np.float32 and wave.ndim == 1, f"{wave.dtype} {wave.shape}")
        _require(0 < len(wave) <= CONFIG.max_audio_seconds * CONFIG.sample_rate_hertz, f"a recording of {wave.shape}")
        _require(bool(np.isfinite(wave).all()), "a recording that is not finite")

    yield read


def _codes(data):
    def read():
        codes = unpack_codes("k", data)
        _require(codes.dtype == np.int32 and codes.ndim == 1, f"{codes.dtype} {codes.shape}")

    yield read


def _labels(data):
    yield lambda: _require(isinstance(decode_json("k", data), dict), "labels that are no object")


def changed_set(files):
    """A set of which some files (name to bytes) are others. Where it is a tar, what is read is what was written."""
    folder = _written_set()
    try:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        sealed = all(name.endswith(".tar") for name in files)
        yield partial(_read_samples, folder, sealed=sealed)
        yield lambda: _require(verify(folder) is not None, "no manifest")
        yield lambda: _require(load_codes(folder, "text").flat.ndim == 1, "no codes")
        yield lambda: _require(isinstance(load_labels(folder), list), "no labels")
        yield lambda: _require(set_statistics(ShardSet.open(folder)).num_samples >= 0, "no statistics")
    finally:
        for name in files:
            (folder / name).write_bytes(seed_files.set_files()[name])


def _set(name, data):
    return changed_set({name: data})


def _read_samples(folder, *, sealed):
    shards = ShardSet.open(folder)
    for index in range(min(len(shards), _MOST_SAMPLES)):
        try:
            key, members = shards.read(index)
        except DamagedSample:
            continue
        if sealed:
            _require(members == _written_members()[key], f"{key} is not what was written")
    list(shards.members("json")) if len(shards) <= _MOST_SAMPLES else None


def _input(name, kind, data):
    """A file as people bring it: every entry is a text, a pair, or says in one line why it is neither."""
    path = _written_set() / name
    path.write_bytes(data)

    def read():
        if name.endswith(".parquet"):
            groups = row_group_bytes(path, INPUTS)
            return _check(read_table(path, range(len(groups)), len(data), INPUTS), data)
        with open_stream(path) as stream:
            if name.endswith(".tar"):
                return _check(read_tar(stream, kind, INPUTS, CONFIG), data)
            return _check(read_json_lines(stream, 0, len(data), INPUTS), data)

    yield read


def _check(entries, data):
    """Keys and reasons of the damaged ones."""
    damaged = []
    for number, entry in enumerate(entries):
        _require(number <= len(data), "more entries than bytes")
        if isinstance(entry.content, DamagedSample):
            fault = fault_of(str(entry.content))
            _require(fault is None, f"a message with a fault: {fault}")
            damaged.append((entry.content.key, entry.content.reason))
    return damaged


_FOLDERS: list[tempfile.TemporaryDirectory] = []


@cache
def _written_set():
    """A folder of its own for this process, removed when it ends."""
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="fuzzed-set-"))
    folder = Path(_FOLDERS[0].name)
    for name, data in seed_files.set_files().items():
        (folder / name).write_bytes(data)
    return folder


@cache
def _written_members():
    folder = _written_set()
    for name, data in seed_files.set_files().items():
        (folder / name).write_bytes(data)
    return dict(ShardSet.open(folder))


def _of_set(name, structured):
    return Target(f"set {name}", lambda: (seed_files.set_files()[name],), structured, partial(_set, name))


TARGETS = (
    Target("txt", seed_files.texts, None, _text, weight=1),
    Target("json", seed_files.labels, text_structures.json_text, _labels),
    Target("npy", seed_files.codes, text_structures.npy, _codes),
    Target("png", partial(seed_files.images, "png"), image_structures.png, _image, weight=4),
    Target("jpeg", partial(seed_files.images, "jpeg"), image_structures.jpeg, _image, weight=3),
    Target("webp", partial(seed_files.images, "webp"), image_structures.webp, _image, weight=3),
    Target("flac", partial(seed_files.recordings, "flac"), audio_structures.flac, _audio, weight=4),
    Target("wav", partial(seed_files.recordings, "wav"), audio_structures.wav, _audio, weight=3),
    Target("ogg", partial(seed_files.recordings, "ogg"), audio_structures.ogg, _audio),
    Target("mp3", partial(seed_files.recordings, "mp3"), audio_structures.mp3, _audio),
    Target("input tar", seed_files.tars, text_structures.tar, partial(_input, "input.tar", "image-text"), weight=4),
    Target("input jsonl", seed_files.json_lines, text_structures.json_line, partial(_input, "input.jsonl", "text")),
    Target("input gz", seed_files.gzipped_lines, None, partial(_input, "input.jsonl.gz", "text"), weight=1),
    Target("input parquet", seed_files.tables, None, partial(_input, "input.parquet", "text"), weight=1),
    _of_set("manifest.json", text_structures.json_text),
    _of_set("shard-000000.index.npy", text_structures.npy),
    _of_set("shard-000001.tar", text_structures.tar),
)
BY_NAME = {target.name: target for target in TARGETS}
