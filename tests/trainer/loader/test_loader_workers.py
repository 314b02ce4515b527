"""Worker processes: the same batches whatever their number, and one clear error for each way to fail."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import lossy_streams
import pytest
from gloo_processes import PRELOADED
from lossy_streams import Troubled, Unmakeable, Wayward, equal

from triptych.trainer.loader.config import LoaderConfig
from triptych.trainer.loader.stream_data import StreamData
from triptych.trainer.loader.worker import Request
from triptych.trainer.loader.workers import Workers

DATA = partial(lossy_streams.mixture, unreadable=(3, 7))


@pytest.fixture(autouse=True, scope="module")
def _fork_server():
    """The one that tests of several ranks use, too: whoever starts it says what it has imported."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(PRELOADED))
    forkserver.ensure_running()


def config(num_workers=1, **options):
    return LoaderConfig(num_workers=num_workers, **{"timeout_seconds": 20.0} | options)


def taken(workers, sizes, cursor=None, rank=0, num_ranks=1):
    """(size, batch, cursor before, cursor after) of one batch after another."""
    cursor = cursor or {}
    for size in sizes:
        batch, after = workers.take(Request(cursor, size, rank, num_ranks))
        yield size, batch, cursor, after
        cursor = after


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids, seconds=10.0):
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_batches_are_those_of_the_data_itself(num_workers):
    data = StreamData(DATA)
    before = descriptors()
    with Workers(data, config(num_workers)) as workers:
        steps = list(taken(workers, [4, 4, 4, 8, 8, 2, 2, 2, 2, 6]))
        back = steps[2][2]  # as a resume from a checkpoint asks, and on another rank
        steps_back = list(taken(workers, [4, 6, 6], back, rank=1, num_ranks=2))
    assert descriptors() == before
    for rank, num_ranks, taken_steps in ((0, 1, steps), (1, 2, steps_back)):
        for size, batch, cursor, after in taken_steps:
            expected, expected_after = data.batch(cursor, size, rank, num_ranks)
            assert equal(batch, expected)
            assert after == expected_after
    assert sum(len(batch.lost) for _, batch, _, _ in steps) > 0


def test_a_plan_that_contradicts_what_is_built_costs_time_and_nothing_else():
    with Workers(Wayward(DATA), config(2)) as workers:
        steps = list(taken(workers, [4, 4, 4, 4]))
    data = StreamData(DATA)
    assert all(equal(batch, data.batch(cursor, size, 0, 1)[0]) for size, batch, cursor, _ in steps)


def test_batches_wait_ready():
    with Workers(StreamData(DATA), config(2)) as workers:
        ((_, _, _, after),) = taken(workers, [4])
        request = Request(after, 4, 0, 1)
        deadline = time.monotonic() + 20
        while not workers.is_ready(request) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert workers.is_ready(request)
        assert not workers.is_ready(request._replace(size=6))


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (ValueError("shard 7 is torn; copy it again"), ValueError, r"^data worker 1 of 2 .*: shard 7 is torn; copy it"),
        (OSError(5, "no answer", "s3://x"), OSError, r"data worker 1 of 2 .*no answer.*s3://x'; check what it reads"),
        (KeyError("planted"), RuntimeError, r"data worker 1 of 2 .*KeyError: 'planted'\nTraceback(.*\n)*.*in batch"),
    ],
)
def test_an_error_of_the_data_comes_in_its_turn_with_its_text(raised, kind, message):
    with Workers(Troubled(DATA, ("raise", raised)), config(2)) as workers:
        ((_, _, _, after),) = taken(workers, [4])
        for _ in range(2):  # asked again it says so again
            with pytest.raises(kind, match=message.replace("1 of 2", "[01] of 2")):
                workers.take(Request(after, 4, 0, 1))


def test_a_killed_worker_is_named():
    with Workers(StreamData(DATA), config(2)) as workers:
        first, second = workers.pids
        *_, (_, _, _, after) = taken(workers, [4, 4])
        for number in (signal.SIGTERM, signal.SIGINT):  # these are the trainer's to answer
            os.kill(first, number)
        *_, (_, _, _, after) = taken(workers, [4, 4], after)
        os.kill(second, signal.SIGKILL)
        with pytest.raises(ChildProcessError, match=rf"data worker 1 of 2 \(process {second}\) died .*signal 9.*; if"):
            list(taken(workers, [4] * 6, after))
    assert gone([first])


def test_a_hung_worker_is_named_and_ended(tmp_path):
    data = Troubled(DATA, ("hang", tmp_path / "pid"))
    with Workers(data, config(1, timeout_seconds=1.0)) as workers:
        with pytest.raises(TimeoutError, match=r"data worker 0 of 1 .* no batch for 1 seconds; look for a source"):
            list(taken(workers, [4, 4]))
        pids = workers.pids
    assert gone(pids)


def test_data_that_cannot_be_sent_or_made_are_refused():
    with pytest.raises(ValueError, match=r"cannot be sent .*; set fit\.loader\.num_workers=0"):
        Workers(StreamData(lambda: DATA(copies=1)), config()).__enter__()
    with (
        Workers(Unmakeable(), config()) as workers,
        pytest.raises(ValueError, match=r"worker 0 .*: planted at birth; "),
    ):
        workers.take(Request({}, 4, 0, 1))


TRAINER = """
import signal
import sys
from functools import partial
from pathlib import Path

import lossy_streams
from triptych.trainer.loader.config import LoaderConfig
from triptych.trainer.loader.worker import Request
from triptych.trainer.loader.workers import Workers

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    data = lossy_streams.Troubled(lossy_streams.mixture, ("hang", Path(sys.argv[1])))
    with Workers(data, LoaderConfig(num_workers=2)) as workers:
        workers.take(Request({}, 4, 0, 1))
        print(*workers.pids, flush=True)
        sys.stdin.read()
"""


def test_workers_end_with_the_trainer(tmp_path):
    """However it ends, and though they are blocked in reading."""
    (tmp_path / "trainer.py").write_text(TRAINER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    trainers = [
        subprocess.Popen(
            [sys.executable, tmp_path / "trainer.py", tmp_path / str(number)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for number in range(2)
    ]
    for trainer, number in zip(trainers, (signal.SIGKILL, signal.SIGINT), strict=True):
        with trainer:
            pids = [int(pid) for pid in trainer.stdout.readline().split()]
            assert len(pids) == 2
            assert all(map(alive, pids))
            trainer.send_signal(number)
            trainer.wait(20)
            assert gone(pids)
