"""Raw inputs of every kind to sets, the same bytes however it is done, and what is refused."""

import gzip
import io
import json
from dataclasses import replace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from prepare_inputs import (
    Shown,
    Tokenizers,
    about,
    audio_file,
    documents,
    image_file,
    listing,
    prepare,
    settings,
    write_lines,
    write_tar,
)

from triptych.data_pipelines.prepare.filters.text import TextFilterConfig
from triptych.data_pipelines.prepare.images import ImageFitConfig
from triptych.data_pipelines.prepare.inputs.entries import InputConfig
from triptych.data_pipelines.prepare.preparation import Preparation, Share
from triptych.data_pipelines.shards.codes import unpack_codes
from triptych.data_pipelines.shards.decode import DecodeConfig
from triptych.data_pipelines.shards.manifest import Damaged
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.shards.verify import verify


def texts_of(folder):
    return [bytes(codes_of(sample, "text").astype(np.uint8)).decode() for sample in ShardSet.open(folder)]


def codes_of(sample, modality):
    return unpack_codes(sample.key, sample.members[f"{modality}.npy"])


def planted():
    """Forty texts: 7 and 31 like 3 but for white space, 12 and 25 like 5 but for a word."""
    texts = documents(40)
    texts[7], texts[31] = texts[3].replace(" ", "  "), f"\n{texts[3]} "
    for i in (12, 25):
        words = texts[5].split()
        words[i] = "else"
        texts[i] = " ".join(words)
    return texts


@pytest.fixture
def raw(tmp_path):
    return write_lines(tmp_path / "raw.jsonl", planted())


TEXT = settings("text", part_bytes=8_000)


def test_the_first_of_all_that_are_alike_is_kept_in_the_order_of_the_inputs(raw, tmp_path):
    manifest = prepare([raw], tmp_path / "set", TEXT)
    kept = [text for i, text in enumerate(planted()) if i not in (7, 31, 12, 25)]
    assert texts_of(tmp_path / "set") == kept
    assert about(manifest)["left_out"] == {"exact duplicate": 2, "near duplicate": 2}


def test_processes_shares_and_kills_do_not_change_a_byte(raw, tmp_path):
    prepare([raw], tmp_path / "alone", TEXT)
    victim, target = tmp_path / "victim", tmp_path / "set"
    victim.write_text(documents(40)[33][:30])
    tokenizers, pair = Tokenizers(victim), Share(num_processes=2)
    prepare([raw], target, TEXT, stage="scan", share=pair)
    prepare([raw], target, TEXT, stage="deduplicate")
    with pytest.raises(ValueError, match=r"a process ended without a word.*; repeat the command, with fewer"):
        prepare([raw], target, TEXT, stage="encode", share=pair, tokenizers=tokenizers)
    finished = len(list((tmp_path / "set.work" / "encoded").glob("part-*")))
    left = len(list((tmp_path / "set.work" / "encoded").glob(".part-*")))
    victim.unlink()
    for part in range(3):
        prepare([raw], target, TEXT, stage="encode", share=Share(part=part, num_parts=3), tokenizers=tokenizers)
    prepare([raw], target, TEXT, stage="join", tokenizers=tokenizers)
    assert 0 < finished < 5 and left >= 1
    assert listing(target) == listing(tmp_path / "alone")
    assert list((tmp_path / "set.work" / "encoded").glob(".part-*")) == []


def test_where_parts_are_cut_changes_no_sample(raw, tmp_path):
    for part_bytes in (900, 5_000, 10**6):
        prepare([raw], tmp_path / f"by{part_bytes}", settings("text", part_bytes=part_bytes))
    assert texts_of(tmp_path / "by900") == texts_of(tmp_path / "by5000") == texts_of(tmp_path / "by1000000")


def test_the_manifest_counts_and_verifies(raw, tmp_path):
    manifest = prepare([raw], tmp_path / "set", TEXT)
    assert verify(tmp_path / "set").num_samples == about(manifest)["samples"]["written"] == 36
    assert about(manifest)["tokens"] == {"text": sum(map(len, texts_of(tmp_path / "set")))}
    assert [(entry["name"], entry["num_bytes"]) for entry in about(manifest)["inputs"]] == [
        (str(raw), raw.stat().st_size)
    ]
    assert manifest.tokenizers["text"].vocab_size == 256


def test_a_finished_set_is_recognised(raw, tmp_path):
    manifest = prepare([raw], tmp_path / "set", TEXT)
    assert Preparation([raw], tmp_path / "set", TEXT, Tokenizers()).finished() == manifest
    other = settings("text", part_bytes=9_000)
    with pytest.raises(ValueError, match="/set was made of other inputs or with other settings; remove it"):
        Preparation([raw], tmp_path / "set", other, Tokenizers()).finished()


def test_work_of_other_settings_or_inputs_is_refused(raw, tmp_path):
    prepare([raw], tmp_path / "set", TEXT, stage="scan")
    other = replace(TEXT, filters=TextFilterConfig(min_characters=50))
    with pytest.raises(ValueError, match=r"filters.min_characters=100, not 50; go back to that, remove"):
        prepare([raw], tmp_path / "set", other)
    write_lines(raw, documents(3))
    with pytest.raises(ValueError, match=r"begun with another content of .*raw.jsonl; go back to that"):
        prepare([raw], tmp_path / "set", TEXT)


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ("deduplicate", "--stage scan is not finished"),
        ("encode", "--stage scan is not finished"),
        ("join", "--stage scan"),
    ],
)
def test_a_stage_before_its_time(raw, tmp_path, stage, says):
    with pytest.raises(ValueError, match=f"{says}.*; run it first"):
        prepare([raw], tmp_path / "set", TEXT, stage=stage)


def test_what_is_there_is_not_done_again(raw, tmp_path):
    prepare([raw], tmp_path / "set", TEXT, stage="scan", share=Share(part=0, num_parts=2))
    shown = Shown()
    prepare([raw], tmp_path / "set", TEXT, stage="scan", shown=shown)
    assert (shown.messages, shown.stages) == (["scan: 3 of 5 parts are there already"], [("scan", 2)])


def test_every_form_of_text_gives_the_same_documents(tmp_path):
    texts = documents(6, seed=1)
    lines = write_lines(tmp_path / "a.jsonl", texts).read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    with pyarrow.CompressedOutputStream(tmp_path / "a.jsonl.zst", "zstd") as file:
        file.write(lines)
    pyarrow.parquet.write_table(
        pyarrow.table({"text": texts, "id": range(6)}), tmp_path / "a.parquet", row_group_size=2
    )
    write_tar(tmp_path / "a.tar", [(f"in/{i}.txt", text.encode()) for i, text in enumerate(texts)])
    write_tar(
        tmp_path / "b.tar.gz", [(f"{i}.json", json.dumps({"text": t}).encode()) for i, t in enumerate(texts)], "w:gz"
    )
    (tmp_path / "a").mkdir()
    for i, text in enumerate(texts):
        (tmp_path / "a" / f"{i}.txt").write_text(text)
    names = ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.tar", "b.tar.gz", "a")
    found = {}
    for name in names:
        prepare([tmp_path / name], tmp_path / f"set-{name}", settings("text", part_bytes=900))
        found[name] = texts_of(tmp_path / f"set-{name}")
    assert found == dict.fromkeys(names, texts)


def test_a_text_file_of_lines(tmp_path):
    texts = documents(5)
    (tmp_path / "a.txt").write_text("\r\n".join(texts))
    config = replace(settings("text"), inputs=InputConfig(txt_documents="line", part_bytes=700))
    prepare([tmp_path / "a.txt"], tmp_path / "set", config)
    assert texts_of(tmp_path / "set") == texts


def test_images_of_every_form_are_fitted_and_keep_keys_and_labels(tmp_path):
    forms = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
    members = []
    for i, (extension, form) in enumerate(forms.items()):
        members += [
            (f"{i}.{extension}", image_file(form, seed=i)),
            (f"{i}.json", json.dumps({"text": f"c{i}"}).encode()),
        ]
    write_tar(tmp_path / "a.tar", members)
    config = replace(settings("image-text"), images=ImageFitConfig(height=8, width=6, colours="grey"))
    manifest = prepare([tmp_path / "a.tar"], tmp_path / "set", config)
    samples = list(ShardSet.open(tmp_path / "set"))
    assert [sample.key for sample in samples] == ["0", "1", "2", "3"]
    assert texts_of(tmp_path / "set") == ["c0", "c1", "c2", "c3"]
    assert [json.loads(sample.members["json"]) for sample in samples] == [{"text": f"c{i}"} for i in range(4)]
    assert about(manifest)["tokens"] == {"text": 8, "image": 4 * 48}


def test_recordings_of_every_form_come_to_one_rate(tmp_path):
    forms = {"flac": "FLAC", "wav": "WAV", "mp3": "MP3", "ogg": "OGG"}
    members = []
    for i, (extension, form) in enumerate(forms.items()):
        members += [(f"s/{i}.{extension}", audio_file(form, rate=24_000, seed=i)), (f"s/{i}.txt", f"t{i}".encode())]
    write_tar(tmp_path / "a.tar", members)
    manifest = prepare([tmp_path / "a.tar"], tmp_path / "set", settings("audio-text"))
    samples = list(ShardSet.open(tmp_path / "set"))
    assert texts_of(tmp_path / "set") == ["t0", "t1", "t2", "t3"]
    assert [json.loads(sample.members["json"])["source_key"] for sample in samples] == ["s/0", "s/1", "s/2", "s/3"]
    assert about(manifest)["tokens"] == {"text": 8, "audio": 40}


def test_a_pair_is_a_duplicate_only_with_its_caption(tmp_path):
    image = image_file()
    pairs = [("a", image, "one"), ("b", image, " one "), ("c", image, "two"), ("d", image_file(seed=1), "one")]
    members = [member for key, data, text in pairs for member in ((f"{key}.png", data), (f"{key}.txt", text.encode()))]
    prepare([write_tar(tmp_path / "a.tar", members)], tmp_path / "set", settings("image-text"))
    assert [sample.key for sample in ShardSet.open(tmp_path / "set")] == ["a", "c", "d"]


def test_a_key_that_comes_again_gives_way(tmp_path):
    for name, seed in (("a.tar", 0), ("b.tar", 1)):
        write_tar(tmp_path / name, [("x.png", image_file(seed=seed)), ("x.txt", b"words")])
    prepare([tmp_path / "a.tar", tmp_path / "b.tar"], tmp_path / "set", settings("image-text"))
    first, second = ShardSet.open(tmp_path / "set")
    assert (first.key, second.key, json.loads(second.members["json"])) == ("x", "000000-000000001", {"source_key": "x"})


def damaged_tar(path):
    """Seven pairs, of which four are damaged: two show when the tar is read, two when they are decoded."""
    cut = image_file("JPEG", 40, 40)[:-600]
    good = [image_file(seed=i) for i in range(3)]
    members = [("a.png", good[0]), ("a.txt", b"a"), ("b.png", b"GIF89a"), ("b.txt", b"b"), ("c.png", good[1])]
    members += [("c.txt", b"\xff"), ("d.jpg", cut), ("d.txt", b"d"), ("e.png", good[2][:-20]), ("e.txt", b"e")]
    return write_tar(path, [*members, ("f.png", image_file(seed=9)), ("f.txt", b"f")])


DAMAGED = [("b", "image"), ("c", "text"), ("d", "image"), ("e", "image")]


def test_damaged_samples_are_counted_and_named(tmp_path):
    path = damaged_tar(tmp_path / "a.tar")
    manifest = prepare([path], tmp_path / "set", settings("image-text"), max_damaged=4)
    assert [sample.key for sample in ShardSet.open(tmp_path / "set")] == ["a", "f"]
    assert about(manifest)["damaged"] == {"image": 3, "text": 1}
    assert manifest.damaged == tuple(Damaged(key=f"{path}: {key}", reason=reason) for key, reason in DAMAGED)


@pytest.mark.parametrize("limit", [1, 3])
def test_one_more_than_the_limit_ends_it_and_a_higher_limit_goes_on(tmp_path, limit):
    path = damaged_tar(tmp_path / "a.tar")
    with pytest.raises(ValueError, match=rf"a.tar: b \(image\), more than --max-damaged {limit}; mend") as caught:
        prepare([path], tmp_path / "set", settings("image-text"), max_damaged=limit)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()
    assert prepare([path], tmp_path / "set", settings("image-text"), max_damaged=4).num_samples == 2


def test_the_manifest_names_no_more_than_it_is_told(tmp_path):
    config = replace(settings("image-text"), num_damaged_named=2)
    manifest = prepare([damaged_tar(tmp_path / "a.tar")], tmp_path / "set", config, max_damaged=4)
    assert (len(manifest.damaged), sum(about(manifest)["damaged"].values())) == (2, 4)


def test_nothing_left_says_why(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", ["short", "12345 " * 40])
    with pytest.raises(
        ValueError, match="no sample is left to encode: 2 samples, 1 few letters, 1 text too short; change"
    ):
        prepare([path], tmp_path / "set", settings("text"))


def test_a_part_of_which_nothing_is_left(tmp_path):
    (tmp_path / "a.txt").write_text("too short")
    (tmp_path / "b.txt").write_text(documents(1)[0])
    prepare([tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "set", settings("text", part_bytes=100))
    assert texts_of(tmp_path / "set") == documents(1)


def test_silence_and_length_of_recordings(tmp_path):
    clips = {"loud": audio_file(level=0.5), "silent": audio_file(level=1e-4), "short": audio_file(seconds=0.1)}
    clips["long"] = audio_file(seconds=2)
    members = [(f"{key}.{end}", data) for key, clip in clips.items() for end, data in (("flac", clip), ("txt", b"x"))]
    config = replace(settings("audio-text"), decode=DecodeConfig(max_audio_seconds=1.0))
    manifest = prepare([write_tar(tmp_path / "a.tar", members)], tmp_path / "set", config)
    assert [sample.key for sample in ShardSet.open(tmp_path / "set")] == ["loud"]
    assert about(manifest)["left_out"] == {"silence": 1, "audio too short": 1, "audio too long": 1}


def test_images_that_the_tokenizer_refuses_name_the_mend(tmp_path):
    class Picky:
        vocab_size, fingerprint = 4, "0" * 64

        def encode(self, raw):
            raise ValueError("image 0 is too wide")

    path = write_tar(tmp_path / "a.tar", [("a.png", image_file()), ("a.txt", b"words")])
    with pytest.raises(ValueError, match=r"a.tar and what follows: image 0 is too wide \(--set images.height"):
        prepare(
            [path],
            tmp_path / "set",
            settings("image-text"),
            tokenizers=lambda *_: {"text": Picky(), "image": Picky()},
        )


def test_another_tokenizer_halfway_is_refused(raw, tmp_path):
    prepare([raw], tmp_path / "set", TEXT, stage="scan")
    prepare([raw], tmp_path / "set", TEXT, stage="deduplicate")
    prepare([raw], tmp_path / "set", TEXT, stage="encode", share=Share(part=0, num_parts=2))

    class Other(Tokenizers):
        def __call__(self, *arguments):
            tokenizers = super().__call__(*arguments)
            tokenizers["text"].fingerprint = "1" * 64
            return tokenizers

    with pytest.raises(ValueError, match="encoded with another text tokenizer than 111111111111; give the one before"):
        prepare([raw], tmp_path / "set", TEXT, stage="encode", tokenizers=Other())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["a.csv"], "a.csv is none of .jsonl, .parquet"),
        (["empty"], "there is no .jsonl, .parquet"),
        (["a.jsonl", "a.jsonl"], "a.jsonl is given twice; give it once"),
        (["a.parquet"], "a.parquet is no parquet file"),
        (["b.parquet"], "b.parquet has no column 'text'; give --text-field, one of id, body"),
        (["c.parquet"], r"one of \\x1b\[31mred$"),
        (["d.parquet"], r"d.parquet is no parquet file \(Couldn't deserialize thrift[^\n]*\); copy it again"),
    ],
)
def test_inputs_that_cannot_be_used(tmp_path, given, says):
    (tmp_path / "empty").mkdir()
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        (tmp_path / name).write_text("{}")
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "body": ["x"]}), tmp_path / "b.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"\x1b[31mred": ["x"]}), tmp_path / "c.parquet")
    data = (tmp_path / "b.parquet").read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    (tmp_path / "d.parquet").write_bytes(data[: -8 - size] + b"\xff" * size + data[-8:])
    with pytest.raises(ValueError, match=says):
        prepare([tmp_path / name for name in given], tmp_path / "set", settings("text"))
    assert not (tmp_path / "set.work").exists()


def test_damaged_streams_rows_and_lines(tmp_path):
    texts = documents(30)
    whole = gzip.compress(write_lines(tmp_path / "a.jsonl", texts).read_bytes())
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    bad = [b"{", b"[1]", b'{"other": 1}', b'{"text": 5}', b'{"text": "\\ud800 half"}', b'{"text": "\xff"}', b"[" * 9999]
    (tmp_path / "b.jsonl").write_bytes(b"\n".join([*bad, b"", json.dumps({"text": texts[0]}).encode()]))
    buffer = io.BytesIO()
    table = pyarrow.table({"text": pyarrow.array([texts[1].encode(), b"\xff" * 200, None])})
    pyarrow.parquet.write_table(table, buffer)
    (tmp_path / "c.parquet").write_bytes(buffer.getvalue())
    inputs = [tmp_path / name for name in ("a.jsonl.gz", "b.jsonl", "c.parquet")]
    manifest = prepare(inputs, tmp_path / "set", settings("text"), max_damaged=9)
    assert about(manifest)["damaged"] == {"compressed stream": 1, "json": 2, "no text field": 3, "text": 3}
    assert about(manifest)["left_out"]["text too short"] == 1
