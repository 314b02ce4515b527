"""What passes is tried again, with growing delays; what does not is left; what hangs is abandoned."""

import dataclasses
import threading
import time

import pytest
from flaky_store import HANGS, FlakyFiles, PatientClock, flaky_store

from triptych.data_pipelines.storage.folder import Range
from triptych.data_pipelines.storage.location import open_folder
from triptych.data_pipelines.storage.retry import PatientFolder, RetryConfig, Unread

_IMPATIENT = RetryConfig(timeout_seconds=0.2)


@pytest.fixture
def clock():
    return PatientClock()


@pytest.fixture
def store(tmp_path, clock):
    for name in "abcdef":
        (tmp_path / name).write_bytes(b"0123456789")
    url = flaky_store(tmp_path)
    yield lambda config=None: PatientFolder(open_folder(url), config or RetryConfig(), clock.clock())
    HANGS.set()


def _read(folder, *names):
    return folder.read_ranges([Range(name, 2, 6) for name in names])


@pytest.mark.parametrize("fault", [OSError("reset"), ConnectionError(), RuntimeError("503"), "cut", "hang"])
def test_what_passes_is_tried_again(store, fault):
    FlakyFiles.faults = {"a": [fault, fault]}
    assert _read(store(_IMPATIENT), "a") == [b"2345"]


def test_delays_grow_and_are_the_same_each_time(store, clock):
    FlakyFiles.faults = {"a": [OSError()] * 9}
    config = RetryConfig(attempts=5, first_delay_seconds=1.0, factor=3.0, max_delay_seconds=10.0)
    _read(store(config), "a")
    assert len(clock.delays) == 4
    for delay, longest in zip(clock.delays, [1.0, 3.0, 9.0, 10.0], strict=True):
        assert longest / 2 <= delay <= longest
    first, clock.delays = clock.delays, []
    _read(store(config), "a")
    assert clock.delays == first


@pytest.mark.parametrize(
    ("fault", "reason", "detail"),
    [
        (OSError("reset by\npeer"), "unreachable", "flaky://set/a is not read: reset by peer"),
        (KeyError("odd"), "unreachable", "flaky://set/a is not read: flaky://set/a: KeyError: 'odd'"),
        ("cut", "unreachable", "flaky://set/a is not read: 3 bytes came for 4"),
        ("hang", "timeout", "flaky://set/a is not read: no answer within 0.2 s"),
    ],
)
def test_what_does_not_pass_is_given_up(store, fault, reason, detail):
    FlakyFiles.faults = {"a": [fault] * 9}
    assert _read(store(_IMPATIENT), "a", "b") == [Unread(reason=reason, detail=detail, attempts=4), b"2345"]


@pytest.mark.parametrize(("fault", "reason"), [(FileNotFoundError(), "missing"), (PermissionError(), "forbidden")])
def test_what_is_for_good_is_not_tried_again(store, clock, fault, reason):
    FlakyFiles.faults = {"a": [fault]}
    (found,) = _read(store(), "a")
    assert (found.reason, found.attempts, clock.delays) == (reason, 1, [])


def test_a_file_that_is_too_short_is_looked_at_twice(store):
    (found,) = store().read_ranges([Range("a", 8, 20)])
    assert found == Unread(reason="truncated", detail="flaky://set/a ends early", attempts=2)


def test_a_range_that_may_be_short(store):
    assert store().read_ranges([Range("a", 8, 20, exact=False)]) == [b"89"]


def test_only_what_failed_is_read_again(store):
    FlakyFiles.faults = {"b": [OSError()]}
    assert _read(store(), "a", "b", "c") == [b"2345"] * 3
    assert FlakyFiles.num_reads == {"a": 1, "b": 2, "c": 1}


def test_a_file_that_fails_in_a_row_is_left_alone_for_a_while(store, clock):
    FlakyFiles.faults = {"a": [OSError("gone")] * 12}
    folder = store()
    for _ in range(3):
        _read(folder, "a")
    clock.delays.clear()
    refused, other = _read(folder, "a", "b")
    assert refused.attempts == 0
    assert refused.detail.endswith("a is left alone for a while: flaky://set/a is not read: gone")
    assert (other, clock.delays, FlakyFiles.num_reads["a"]) == (b"2345", [], 12)


def test_after_the_while_it_is_tried_once(store, clock):
    FlakyFiles.faults = {"a": [OSError("gone")] * 13}
    folder = store()
    for _ in range(3):
        _read(folder, "a")
    clock.time += 60.0
    assert _read(folder, "a")[0].attempts == 1
    assert _read(folder, "a")[0].attempts == 0
    clock.time += 60.0
    assert _read(folder, "a") == [b"2345"]


def test_a_dead_store_is_left_alone_whatever_the_file(store):
    FlakyFiles.faults = {name: [OSError("down")] * 99 for name in "abcdef"}
    folder = store()
    attempts = [_read(folder, name)[0].attempts for name in "abcdef"]
    assert attempts == [4, 4, 4, 0, 0, 0]


def test_one_dead_file_does_not_close_the_store(store):
    FlakyFiles.faults = {"a": [OSError("gone")] * 99}
    folder = store()
    for _ in range(9):
        _read(folder, "a")
    assert _read(folder, "b") == [b"2345"]


def test_what_hangs_holds_up_a_bounded_time(store):
    FlakyFiles.faults = {name: ["hang"] * 9 for name in "abcd"}
    found = _read(store(dataclasses.replace(_IMPATIENT, attempts=1)), "a", "a", "b", "c", "d", "e")
    assert [part.reason for part in found] == ["timeout"] * 6
    assert FlakyFiles.num_reads == {"a": 1, "b": 1, "c": 1}  # then it is hopeless


def test_reads_that_hang_leave_few_threads_and_none_in_the_end(store):
    FlakyFiles.faults = {name: ["hang"] * 99 for name in "abcdef"}
    config = dataclasses.replace(_IMPATIENT, attempts=1, timeout_seconds=0.001, max_failures=99)
    before = {*threading.enumerate()}
    folder = store(config)
    for _ in range(40):
        _read(folder, "a")
    assert FlakyFiles.num_reads == {"a": 32}
    assert "32 earlier reads still hang" in _read(folder, "a")[0].detail
    HANGS.set()
    del folder
    end = time.monotonic() + 10
    while {*threading.enumerate()} - before and time.monotonic() < end:
        time.sleep(0.01)
    assert {*threading.enumerate()} <= before


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"factor": 0.5}, {"timeout_seconds": 0.0}, {"cool_down_seconds": -1}]
)
def test_numbers_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=rf"^retry.{next(iter(wrong))} is .*; set it"):
        RetryConfig(**wrong)
