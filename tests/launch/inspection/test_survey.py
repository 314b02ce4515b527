"""Some samples are read, spread over the set; what is wrong with them is found and judged."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_world import digit_sample, speech_sample, write_set

from triptych.data_pipelines.shards.codes import pack_codes
from triptych.data_pipelines.shards.manifest import Damaged, TokenizerRecord
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.shards.writer import ShardConfig, ShardWriter
from triptych.data_pipelines.statistics.sets import set_statistics
from triptych.launch.inspection.checks import all_checks, verdict
from triptych.launch.inspection.config import InspectionConfig
from triptych.launch.inspection.survey import spread, survey

CONFIG = InspectionConfig()


def write_codes(folder, rows, vocab_size=100, damaged=0):
    """A set of samples with codes of text (a list of numbers each)."""
    folder.mkdir()
    with ShardWriter(folder, ShardConfig(max_shard_samples=100), provenance={}) as writer:
        for number, codes in enumerate(rows):
            packed = pack_codes(np.array(codes, np.int64), 1 << 16)
            writer.write(f"s-{number}", {"image.npy": packed}, {"image": len(codes)})
        writer.set_tokenizers({"image": TokenizerRecord(fingerprint="ab", vocab_size=vocab_size)})
        for _ in range(damaged):
            writer.record_damaged(Damaged(key="x", reason="image"))
    return ShardSet.open(folder)


def judged(shards):
    """{title: level} of every check."""
    checks = all_checks(set_statistics(shards), survey(shards, CONFIG), {}, {})
    return {check.title: check.level for check in checks}, verdict(checks)


def even_use(number=400):
    draw = np.random.default_rng(0)
    return [draw.integers(0, 90, 16).tolist() for _ in range(number)]


@given(st.integers(0, 10**15), st.integers(1, 50), st.integers(0, 9))
def test_samples_are_spread_over_all(total, number, seed):
    found = spread(total, number, seed)
    assert len(found) == min(total, number)
    parts = [index * number // total for index in found] if total > number else found
    assert all(abs(part - place) <= 1 for place, part in enumerate(parts))
    assert found == sorted(set(found)) == spread(total, number, seed)


def test_another_seed_reads_others():
    assert spread(10**6, 20, 0) != spread(10**6, 20, 1)


def test_reading_is_bounded(tmp_path):
    shards = write_codes(tmp_path / "set", even_use())
    few = survey(shards, InspectionConfig(max_samples_read=30))
    assert (len(few.indices), few.num_codes("image")) == (30, 480)


def test_a_sound_set_is_judged_sound(tmp_path):
    levels, level = judged(write_codes(tmp_path / "set", even_use()))
    assert level == "good"
    assert set(levels.values()) <= {"good", "note"}


@pytest.mark.parametrize(
    ("rows", "title"),
    [
        (even_use(390) + [[7] * 16] * 10, "Image of 10 of 400 samples is one value throughout"),
        (even_use(390) + even_use(10), "10 of 400 samples read repeat an earlier one"),
        ([[3] * 12 + [number % 50] * 4 for number in range(400)], "One image code is most of them"),
        ([[number % 2, number % 3, *[1, 2] * 12] for number in range(400)], "3 of 100 image codes occur"),
        ([*even_use(399), []], "1 of 400 samples have no image codes"),
    ],
    ids=["even", "alike", "one code", "few codes", "lacking"],
)
def test_what_is_odd_is_found(tmp_path, rows, title):
    levels, level = judged(write_codes(tmp_path / "set", rows))
    assert (levels.get(title), level) == ("odd", "odd")


def test_codes_beyond_the_vocabulary_are_bad(tmp_path):
    levels, level = judged(write_codes(tmp_path / "set", even_use(), vocab_size=40))
    assert levels["Image codes lie outside of their vocabulary"] == level == "bad"


def test_what_was_left_out_is_told(tmp_path):
    levels, _ = judged(write_codes(tmp_path / "set", even_use(), damaged=2))
    assert levels["Left out when the set was made: 2 samples"] == "note"


def test_much_that_was_left_out_is_odd(tmp_path):
    levels, _ = judged(write_codes(tmp_path / "set", even_use(), damaged=40))
    assert levels["Left out when the set was made: 40 samples"] == "odd"


def test_damaged_samples_are_found_and_the_rest_is_read(tmp_path):
    shards = write_codes(tmp_path / "set", even_use(8))
    path = tmp_path / "set" / "shard-000000.tar"
    content = bytearray(path.read_bytes())
    content[3 * 1024 + 512 + 100] ^= 1  # within the fourth member
    path.write_bytes(bytes(content))
    found = survey(shards, CONFIG)
    assert [(one.index, one.key, one.reason) for one in found.damaged] == [(3, "s-3", "checksum")]
    assert found.num_codes("image") == 7 * 16
    assert judged(shards)[1] == "bad"


def test_a_shard_that_is_gone_is_damage_too(tmp_path):
    shards = write_codes(tmp_path / "set", even_use(250))
    (tmp_path / "set" / "shard-000001.tar").unlink()
    found = survey(shards, CONFIG)
    assert found.num_damaged == 100
    assert found.num_codes("image") == 150 * 16


def test_raw_members_are_decoded(tmp_path):
    cut = {**digit_sample(2), "png": digit_sample(2)["png"][:60]}
    write_set(tmp_path / "set", [digit_sample(0), speech_sample(1), cut])
    found = survey(ShardSet.open(tmp_path / "set"), CONFIG)
    assert (found.sizes["image"], found.sizes["audio"]) == ([64.0], [pytest.approx(0.3)])
    assert dict(found.reasons) == {"image": 1}


def test_labels_that_are_no_json_are_damage(tmp_path):
    write_set(tmp_path / "set", [{"txt": b"a", "json": json.dumps([1]).encode()}])
    assert survey(ShardSet.open(tmp_path / "set"), CONFIG).reasons.total() == 1
