"""The same few thousand mutated files in every run of the tests; `make fuzz` reads others for minutes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[1] / "fuzz" / "fuzz_readers.py"
NUM_CASES = 1500
TARGETS = (
    "txt", "json", "npy", "png", "jpeg", "webp", "flac", "wav", "ogg", "mp3", "input tar", "input jsonl", "input gz",
    "input parquet", "set manifest.json", "set shard-000000.index.npy", "set shard-000001.tar",
)  # fmt: skip


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    out = tmp_path_factory.mktemp("findings")
    command = [sys.executable, FUZZ, "--cases", NUM_CASES, "--seed", 0, "--out", out, "--minutes", 10]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=900, check=False)
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_every_case_was_read(summary):
    assert summary["cases"] == NUM_CASES


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_files_decode_or_are_refused_in_one_line(summary, target):
    assert [finding for finding in summary["details"] if finding["target"] == target] == []


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_files_are_not_all_refused(summary, target):
    kinds = {name.partition(": ")[2] for name in summary["counts"] if name.startswith(f"{target}: ")}
    assert "decoded" in kinds
