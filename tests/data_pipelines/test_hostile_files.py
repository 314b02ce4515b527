"""Files made to do harm are refused in one line, at no cost: each is read in a process of limited memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).parents[1] / "fuzz" / "fuzz_worker.py"
MEMBERS = {
    "png: 60,000 x 60,000 in 100 bytes": "60000 x 60000 pixels",
    "png: zTXt of 256 MiB": "the PNG is damaged",
    "png: iTXt of 256 MiB": "the PNG is damaged",
    "png: iCCP of 64 MiB": "the PNG is damaged",
    "jpeg: 60,000 x 60,000": "3600000000 pixels",
    "jpeg: 200 scans": "more than 100 scans",
    "webp: 60,000 x 60,000": "60000 x 60000 pixels",
    "webp: 16,384 x 16,384 without loss": "16384 x 16384 pixels",
    "flac: 2^36 - 1 samples": "longer than 60.0 s",
    "flac: no rate": "the recording is damaged",
    "wav: 60,000 channels": "Too many channels",
    "wav: 2^31 Hz": "the recording is damaged",
    "wav: not a number": "no numbers",
    "wav: no samples": "ends after 0",
    "json: 100,000 deep": "not JSON",
    "json: 100 deep": "max_json_depth",
    "json: a number of 100,000 digits": "not JSON",
    "json: 4 MiB": "max_json_bytes",
    "json: no object": "not a JSON object",
    "npy: 2^60 codes": "no array of uint16 or int32",
    "npy: objects": "no array of uint16 or int32",
    "npy: negative": "no array of uint16 or int32",
    "npy: a call": "no array of uint16 or int32",
}
TARS = {
    "parent folder": "('../../outside', 'tar path')",
    "parent folder within": "('a/../../b', 'tar path')",
    "absolute": "('/outside', 'tar path')",
    "symbolic link": "('a', 'tar member')",
    "hard link": "('a', 'tar member')",
    "device": "('a', 'tar member')",
}
SETS = {
    "a tar of the parent folder": "not a plain file name",
    "an absolute tar": "not a plain file name",
    "a tar that is the parent folder": "not a plain file name",
    "a tar without a name": "not a plain file name",
    "a name with an escape sequence": "not a plain file name",
    "2^60 rows": "cannot be",
    "-1 rows": "greater than or equal to 0",
    "-1 codes": "greater than or equal to 0",
    "a member of 2^60 bytes": "index.npy is damaged",
    "a member at 2^64 - 1": "index.npy is damaged",
}


@pytest.fixture(scope="module")
def outcomes():
    """Of every file, what each of its readers did."""
    done = subprocess.run([sys.executable, WORKER, "hostile"], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    events = map(json.loads, done.stdout.splitlines())
    return {event["hostile"]: event["outcomes"] for event in events if "hostile" in event}


@pytest.mark.parametrize(("name", "says"), MEMBERS.items(), ids=MEMBERS)
def test_a_hostile_member_is_refused(outcomes, name, says):
    (outcome,) = outcomes[name]
    assert outcome["kind"] == "refused"
    assert says in outcome["detail"]


@pytest.mark.parametrize(("name", "damaged"), TARS.items(), ids=TARS)
def test_a_hostile_member_of_a_tar_is_left_out_alone(outcomes, name, damaged):
    (outcome,) = outcomes[f"input tar: {name}"]
    assert (outcome["kind"], outcome["detail"]) == ("decoded", f"[{damaged}]")


@pytest.mark.parametrize("name", ["2^63 - 1 bytes", "pax size"])
def test_a_member_of_a_tar_beyond_its_end_is_damaged(outcomes, name):
    (outcome,) = outcomes[f"input tar: {name}"]
    assert outcome["kind"] == "decoded"


@pytest.mark.parametrize(("name", "says"), SETS.items(), ids=SETS)
def test_a_hostile_set_is_refused(outcomes, name, says):
    first = outcomes[f"set: {name}"][0]
    assert first["kind"] == "refused"
    assert says in first["detail"]


def test_codes_that_are_not_there_get_no_memory(outcomes):
    refused = [outcome["detail"] for outcome in outcomes["set: 2^60 codes"] if outcome["kind"] == "refused"]
    assert any("fewer text codes" in detail for detail in refused)


def test_nothing_hostile_is_a_crash_or_costs_memory(outcomes):
    harm = {"memory", "growth", "exception", "warnings", "printed", "wrong result"}
    assert [name for name, all_of in outcomes.items() if {outcome["kind"] for outcome in all_of} & harm] == []
