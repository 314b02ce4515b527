"""Small files of every kind that the readers take, sound ones, to be mutated."""

import gzip
import io
import json
import tarfile
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from triptych.data_pipelines.shards.codes import pack_codes
from triptych.data_pipelines.shards.manifest import TokenizerRecord
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter

RATE = 16_000


@cache
def images(kind):
    """Tuple of encoded images: "png", "jpeg" or "webp", in every pixel format that the kind has."""
    pixels = np.random.default_rng(0).integers(0, 256, (13, 17, 4), dtype=np.uint8)
    pixels[2:9] = 40  # something to compress
    colour, grey = Image.fromarray(pixels[..., :3]), Image.fromarray(pixels[..., 0])
    alpha = Image.fromarray(pixels)
    wide = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if kind == "png":
        formats = [grey, colour, alpha, colour.quantize(16), grey.convert("1"), grey.convert("LA"), wide]
        frames = {"save_all": True, "append_images": [colour.rotate(90), colour.rotate(180)]}
        texts = [_saved(colour, "PNG", **frames), _saved(grey, "PNG", pnginfo=_notes())]
        return tuple(_saved(image, "PNG") for image in formats) + tuple(texts)
    if kind == "jpeg":
        formats = [(grey, {}), (colour, {}), (colour, {"progressive": True}), (colour.convert("CMYK"), {})]
        formats.append((colour, {"exif": _exif(), "quality": 30, "restart_marker_blocks": 1}))
        return tuple(_saved(image, "JPEG", **options) for image, options in formats)
    formats = [(colour, {}), (colour, {"lossless": True}), (alpha, {}), (alpha, {"lossless": True})]
    formats.append((colour, {"save_all": True, "append_images": [colour.rotate(90)]}))
    formats.append((colour, {"exif": _exif()}))
    return tuple(_saved(image, "WEBP", **options) for image, options in formats)


@cache
def recordings(kind):
    """Tuple of encoded recordings: "flac", "wav", "mp3" or "ogg"."""
    times = np.arange(3000) / RATE
    mono = 0.4 * np.sin(2 * np.pi * 440 * times) + 0.01 * np.random.default_rng(1).normal(size=len(times))
    stereo = np.stack([mono, -mono], axis=1)
    subtypes = {
        "flac": [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("FLAC", "PCM_S8")],
        "wav": [
            *(("WAV", subtype) for subtype in ("PCM_16", "PCM_U8", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "MS_ADPCM")),
            ("WAVEX", "PCM_16"),
            ("RF64", "PCM_16"),
        ],
        "mp3": [("MP3", "MPEG_LAYER_III")],
        "ogg": [("OGG", "VORBIS"), ("OGG", "OPUS")],
    }[kind]
    return tuple(_recorded(wave, *subtype) for subtype in subtypes for wave in (mono, stereo))


@cache
def codes():
    """Tuple of members of codes: narrow, wide, empty, long."""
    draw = np.random.default_rng(2)
    return tuple(
        pack_codes(draw.integers(0, size, length), size)
        for length, size in ((0, 10), (7, 300), (64, 70_000), (2000, 65_536))
    )


@cache
def labels():
    """Tuple of JSON objects as samples have them."""
    some = [{}, {"label": 3}, {"label": "three", "speaker": {"age": 41.5, "tags": ["a", "b", None]}, "ok": True}]
    return tuple(json.dumps(label).encode() for label in some)


@cache
def texts():
    """Tuple of captions."""
    return (b"the digit three", "naïve 𝄞 日本語 \u200d".encode(), b"line\nline\ttab " * 20)


@cache
def set_files():
    """{name: bytes} of a folder of two shards with codes, labels and raw members."""
    with tempfile.TemporaryDirectory() as folder:
        _write_set(Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@cache
def tars():
    """Tuple of tars as people make them: ustar, GNU with long names, PAX, and one in the layout of a shard."""
    made = [_tar(kind) for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
    return (*made, set_files()["shard-000000.tar"])


@cache
def json_lines():
    """Tuple of files of JSON objects, one per line."""
    rows = [{"text": f"document {number} " * number, "source": {"url": "none"}} for number in range(6)]
    return ("".join(json.dumps(row) + "\n" for row in rows).encode(), b'{"text": "one"}\n\n{"text": null}\r\n')


@cache
def gzipped_lines():
    """The same, compressed."""
    return tuple(gzip.compress(lines, mtime=0) for lines in json_lines())


@cache
def tables():
    """Tuple of parquet files with a text column."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"text": ["one", "two", None, "three " * 50], "number": [1, 2, 3, 4]})
    buffers = [io.BytesIO(), io.BytesIO()]
    pyarrow.parquet.write_table(table, buffers[0], compression="snappy", row_group_size=2)
    pyarrow.parquet.write_table(table, buffers[1], compression="none", use_dictionary=False)
    return tuple(buffer.getvalue() for buffer in buffers)


def _write_set(folder):
    draw = np.random.default_rng(3)
    record = TokenizerRecord(fingerprint="ab" * 32, vocab_size=300)
    with ShardWriter(folder, ShardConfig(max_shard_samples=3), provenance={"made": "of nothing"}) as writer:
        for number in range(5):
            numbers = {"text": 3 + number, "image": 16}
            members = {f"{name}.npy": pack_codes(draw.integers(0, 300, size), 300) for name, size in numbers.items()}
            writer.write(f"sample-{number}", {**members, "json": labels()[2], "txt": texts()[0]}, numbers)
        writer.set_tokenizers({"text": record, "image": record})


def _tar(kind):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for number in range(3):
            key = f"folder/{'long-' * (30 if kind != tarfile.USTAR_FORMAT else 1)}{number}"
            for extension, data in (("jpg", images("jpeg")[0]), ("txt", texts()[1]), ("json", labels()[2])):
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _notes():
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text("Title", "a title")
    notes.add_text("Comment", "words " * 50, zip=True)
    notes.add_itxt("Author", "naïve", lang="fr", tkey="auteur", zip=True)
    return notes


def _exif():
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    return exif


def _recorded(wave, kind, subtype):
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, RATE, format=kind, subtype=subtype)
    return buffer.getvalue()
