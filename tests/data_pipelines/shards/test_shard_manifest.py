"""The manifest comes back as it was, and a bad one is told in one line."""

import json
from dataclasses import replace

import pytest
from sample_sets import TEXT_SAMPLES, TOKENIZERS, make_set

from triptych.data_pipelines.shards.manifest import (
    Damaged,
    TokenizerRecord,
    read_manifest,
    require_fingerprints,
    write_manifest,
)
from triptych.data_pipelines.tokenizers.protocol import fingerprints_of


def test_comes_back_as_it_was(tmp_path):
    manifest = replace(
        read_manifest(make_set(tmp_path, "set", TEXT_SAMPLES, max_shard_samples=4)),
        tokenizers={"text": TokenizerRecord(fingerprint="f" * 64, vocab_size=9)},
        damaged=(Damaged(key="a", reason="image"),),
    )
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def test_counts_what_was_damaged(tmp_path):
    damaged = (Damaged(key="a", reason="image"), Damaged(key="b", reason="audio"), Damaged(key="c", reason="image"))
    manifest = replace(read_manifest(make_set(tmp_path, "set", TEXT_SAMPLES)), damaged=damaged)
    assert manifest.damaged_by_reason == {"image": 2, "audio": 1}


def test_missing(tmp_path):
    with pytest.raises(ValueError, match=r"manifest.json is missing; give a folder of shards"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_not_json(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest.json is not JSON; copy it again, or make the folder again$"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"format": "other"}', b"null"])
def test_another_format(tmp_path, content):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest.json is not a manifest of shards"):
        read_manifest(tmp_path)


def _edit(folder, edit):
    path = folder / "manifest.json"
    content = json.loads(path.read_bytes())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("version", [0, 1, None, "2"])
def test_another_version(tmp_path, version):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES)
    _edit(folder, lambda content: content.update(version=version))
    with pytest.raises(ValueError, match=rf"has version {version!r}, this program reads 2; make the folder again"):
        read_manifest(folder)


def test_field_that_is_missing(tmp_path):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES)
    _edit(folder, lambda content: content["shards"][0].pop("sha256"))
    with pytest.raises(ValueError, match=r"manifest.json: shards.0.sha256: Field required; copy it again"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_samples", -1),
        ("num_samples", "4"),
        ("num_samples", True),
        ("num_samples", 10**30),
        ("num_bytes", 0),
        ("num_bytes", 1.0),
        ("num_codes", {"text": -1}),
        ("num_codes", {"a\nb\ud800": 1}),
        ("sha256", "\ud800"),
        ("index_sha256", "0" * 63 + "\n"),
        ("member_bytes", []),
        ("name", 3),
    ],
)
def test_what_cannot_be(tmp_path, field, value):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES)
    _edit(folder, lambda content: content["shards"][0].update({field: value}))
    with pytest.raises(
        ValueError, match=rf"manifest.json: shards.0.{field}.*; copy it again, or make the folder again$"
    ):
        read_manifest(folder)


def test_a_file_that_is_named_twice(tmp_path):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES)
    _edit(folder, lambda content: content["shards"].append(content["shards"][0]))
    with pytest.raises(ValueError, match=r"manifest.json: shard-000000.tar is named twice; copy it again"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["../elsewhere.tar", "/etc/passwd", "a/b.tar", "..", "", "a\nb.tar", "a?b.tar"])
def test_file_outside_the_folder(tmp_path, name):
    folder = make_set(tmp_path, "set", TEXT_SAMPLES)
    _edit(folder, lambda content: content["shards"][0].update(name=name))
    with pytest.raises(ValueError, match=r"is not a plain file name"):
        read_manifest(folder)


def _manifest_of(tmp_path, fingerprint):
    record = TokenizerRecord(fingerprint=fingerprint, vocab_size=256)
    folder = make_set(tmp_path, "set", TEXT_SAMPLES)
    return folder, replace(read_manifest(folder), tokenizers={"text": record})


def test_same_fingerprints_pass(tmp_path):
    folder, manifest = _manifest_of(tmp_path, TOKENIZERS["text"].fingerprint)
    assert require_fingerprints(folder, manifest, fingerprints_of(TOKENIZERS)) is None


def test_another_fingerprint(tmp_path):
    folder, manifest = _manifest_of(tmp_path, "0" * 64)
    with pytest.raises(
        ValueError, match=r"/set: the text codes are of tokenizer 000000000000, the one given is \w{12};"
    ):
        require_fingerprints(folder, manifest, fingerprints_of(TOKENIZERS))


def test_no_tokenizer_for_codes(tmp_path):
    folder, manifest = _manifest_of(tmp_path, TOKENIZERS["text"].fingerprint)
    with pytest.raises(ValueError, match=r"/set holds text codes but no text tokenizer is given"):
        require_fingerprints(folder, manifest, fingerprints_of({"image": TOKENIZERS["image"]}))
