"""Small sets of shards, and tokenizers that are quick and need no training."""

import hashlib
import io
import json

import numpy as np
import soundfile
from PIL import Image

from triptych.data_pipelines.shards.atomic import atomic_folder
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter


class BytesOfText:
    """A text tokenizer whose codes are the UTF-8 bytes."""

    modality, vocab_size, fingerprint = "text", 256, hashlib.sha256(b"bytes").hexdigest()

    def encode(self, raw):
        return [np.frombuffer(text.encode(), np.uint8).astype(np.int64) for text in raw]


class GreyLevels:
    """An image tokenizer whose codes are the pixels; its vocabulary is wide enough to need four bytes a code."""

    modality, vocab_size, fingerprint = "image", 70_000, hashlib.sha256(b"grey").hexdigest()

    def encode(self, raw):
        return [image.reshape(-1).astype(np.int64) for image in raw]


class Loudness:
    """An audio tokenizer: one code, how loud each tenth of a second is, in sixteen steps."""

    modality, vocab_size, fingerprint = "audio", 16, hashlib.sha256(b"loud").hexdigest()

    def encode(self, raw):
        return [np.array([int(15 * np.abs(part).max()) for part in np.array_split(wave, 4)], np.int64) for wave in raw]


TOKENIZERS = {"text": BytesOfText(), "image": GreyLevels(), "audio": Loudness()}
TEXT_SAMPLES = [(f"text-{i:03d}", {"txt": f"text number {i}".encode(), "json": b"{}"}) for i in range(10)]


def make_set(parent, name, samples, **config):
    """Write [(key, members), ...] as shards; give the folder."""
    with atomic_folder(parent / name) as partial, _writer(partial, config) as writer:
        for key, members in samples:
            writer.write(key, members)
    return parent / name


def encode_png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def encode_flac(wave, sample_rate_hertz=16_000, kind="FLAC"):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, sample_rate_hertz, format=kind, subtype="PCM_16")
    return buffer.getvalue()


def mixed_samples():
    """Eight samples with a text, an image, a recording and labels each."""
    generator = np.random.default_rng(0)
    samples = []
    for i in range(8):
        image = generator.integers(0, 256, (4, 4), dtype=np.uint8)
        wave = generator.uniform(-0.5, 0.5, 800)
        members = {"txt": f"caption {i}".encode(), "png": encode_png(image), "flac": encode_flac(wave)}
        samples.append((f"mixed-{i}", {**members, "json": json.dumps({"label": i}).encode()}))
    return samples


def _writer(folder, config):
    return ShardWriter(folder, ShardConfig(**config), provenance={"made": "for a test"})
