"""Small raw inputs made on the spot, and tokenizers that need no training and can be sent to other processes."""

import contextlib
import hashlib
import io
import json
import os
import random
import signal
import tarfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from triptych.data_pipelines.prepare.config import default_config
from triptych.data_pipelines.prepare.inputs.entries import MEDIA, InputConfig
from triptych.data_pipelines.prepare.preparation import Preparation, Share


class Bytes:
    """Codes are the bytes of a text, the pixels of an image, or how loud each tenth of a recording is."""

    vocab_size = 256

    def __init__(self, modality, victim=None):
        self.modality, self._victim = modality, victim
        self.fingerprint = hashlib.sha256(modality.encode()).hexdigest()

    def encode(self, raw):
        return [self._codes(item) for item in raw]

    def _codes(self, item):
        if isinstance(item, str):
            if self._victim is not None and self._victim.exists() and self._victim.read_text() in item:
                os.kill(os.getpid(), signal.SIGKILL)
            return np.frombuffer(item.encode(), np.uint8).astype(np.int64)
        if item.dtype == np.uint8:
            return item.reshape(-1).astype(np.int64)
        return np.array([int(255 * min(1, np.abs(part).max())) for part in np.array_split(item, 10)], np.int64)


@dataclass(frozen=True)
class Tokenizers:
    """victim: a file with a word; as long as it is there, the process that encodes this word is killed."""

    victim: Path | None = None

    def __call__(self, kind, number, num_processes):
        modalities = ["text", *filter(None, [MEDIA[kind]])]
        return {modality: Bytes(modality, self.victim) for modality in modalities}


class Shown:
    """A `Display` that remembers."""

    def __init__(self):
        self.messages, self.stages, self.num_tokens = [], [], 0
        self.left_out = Counter()

    @contextlib.contextmanager
    def stage(self, name, num_parts, num_bytes):
        self.stages.append((name, num_parts))
        yield

    def advance(self, counts):
        self.left_out += counts.left_out
        self.num_tokens += counts.num_tokens

    def message(self, text):
        self.messages.append(text)


def settings(kind, part_bytes=None, **changes):
    """The default tree with some parts replaced."""
    config = replace(default_config(kind), **changes)
    return config if part_bytes is None else replace(config, inputs=InputConfig(part_bytes=part_bytes))


def prepare(inputs, target, config, *, stage=None, share=None, shown=None, tokenizers=None, **options):
    """Run `Preparation`; give the manifest."""
    preparation = Preparation(inputs, target, config, tokenizers or Tokenizers(), **options)
    return preparation.run(stage, share or Share(), shown or Shown())


def about(manifest):
    return manifest.provenance["preparation"]


def documents(count, num_words=120, seed=0):
    """Texts of random words, no two alike."""
    generator = random.Random(seed)
    words = ["".join(generator.choice("abcdefghij") for _ in range(6)) for _ in range(2000)]
    return [" ".join(generator.choice(words) for _ in range(num_words)) for _ in range(count)]


def write_lines(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def write_tar(path, members, mode="w"):
    """members: (name, bytes) or (TarInfo, bytes)."""
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            header = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            header.size = header.size or len(data)
            tar.addfile(header, io.BytesIO(data))
    return path


def image_file(kind="PNG", height=20, width=24, seed=0, **options):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def audio_file(kind="FLAC", seconds=0.5, rate=16_000, level=0.5, seed=0):
    buffer = io.BytesIO()
    wave = np.random.default_rng(seed).uniform(-level, level, round(seconds * rate))
    soundfile.write(buffer, wave, rate, format=kind)
    return buffer.getvalue()


def listing(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
