"""The agent: a stop reaches what it started, and its exit code is that of what it started."""

import os
import signal
import subprocess
import sys
import time

import pytest
from tiny_world import environment

from triptych.launch.slurm.agent import code_in_words, exit_code

PROGRAM = """
import os, pathlib, signal, subprocess, sys, time
here = pathlib.Path(sys.argv[1], "rank" + os.environ["RANK"])
stopped = []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
reader = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
here.write_text(str(reader.pid))
while not stopped:
    time.sleep(0.05)
time.sleep(1.5)  # a save; a second signal would be noted
reader_lives = reader.poll() is None
reader.kill()
here.write_text(f"{len(stopped)} {reader_lives}")
sys.exit(int(sys.argv[2]) if os.environ["RANK"] == "1" else 0)
"""


@pytest.fixture
def start(tmp_path):
    """`start(code)`: an agent with two processes, of which the second ends with this code once it is told to stop."""
    started = []
    (tmp_path / "program.py").write_text(PROGRAM)

    def call(code):
        agent = [sys.executable, "-m", "triptych.launch.slurm.agent", "--standalone", "--nproc-per-node", "2"]
        started.append(
            subprocess.Popen(
                [*agent, str(tmp_path / "program.py"), str(tmp_path), str(code)],
                env=environment(),
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        end = time.monotonic() + 60
        while not all((tmp_path / f"rank{rank}").exists() for rank in range(2)):
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.2)
        return started[-1]

    yield call
    for each in started:
        each.kill()
        each.wait()


def test_a_stop_sent_to_all_reaches_only_what_trains_and_once(start, tmp_path):
    """To the whole session, as Slurm does without cgroups, and again, as our script does."""
    agent = start(0)
    for _ in range(2):
        os.killpg(agent.pid, signal.SIGUSR1)
        time.sleep(0.3)
    _, err = agent.communicate(timeout=60)
    assert (agent.returncode, [(tmp_path / f"rank{rank}").read_text() for rank in range(2)]) == (0, ["1 True"] * 2), err


def test_its_exit_code_is_that_of_what_it_started(start):
    agent = start(2)
    agent.send_signal(signal.SIGUSR1)
    _, err = agent.communicate(timeout=60)
    assert (agent.returncode, "rank 1: exit code 2" in err) == (2, True), err


@pytest.mark.parametrize(("codes", "code"), [([1, -9], 137), ([2, 1], 2), ([-9, 2], 2), ([1, 1], 1), ([143, 1], 143)])
def test_of_several_codes_the_telling_one(codes, code):
    assert exit_code(codes) == code


def test_codes_in_words():
    assert [code_in_words(code) for code in (1, -9, -99)] == ["exit code 1", "killed by SIGKILL", "killed by signal 99"]
