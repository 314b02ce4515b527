"""Help and usage errors: quick, readable, without torch."""

import json
import subprocess
import sys

import pytest
from tiny_world import environment

from triptych.launch.cli import main

pytest_plugins = ["command_fixtures"]

VERBS = [
    [],
    ["demo"],
    ["train"],
    ["attention"],
    ["sweep"],
    ["sample"],
    ["evaluate"],
    ["data"],
    ["data", "make"],
    ["data", "encode"],
    ["data", "verify"],
    ["tokenizer"],
    ["tokenizer", "train"],
    ["tokenizer", "adopt"],
]

# Shows the help of every command in one process; prints {command: processor seconds} and which engines came along.
ALL_HELP = """
import contextlib, io, json, sys, time
sys.argv = ["triptych"]
seconds = {}
for verb in json.loads(sys.argv_json):
    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        from triptych.launch.cli import main
        main([*verb, "--help"])
    seconds[" ".join(verb)] = time.process_time() - began
print(json.dumps([seconds, sorted({"torch", "deepspeed", "megatron", "numpy"} & set(sys.modules))]))
"""


@pytest.fixture(scope="module")
def all_help(tmp_path_factory):
    script = ALL_HELP.replace("sys.argv_json", repr(json.dumps(VERBS)))
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path_factory.mktemp("help"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_is_quick(all_help):
    assert max(all_help[0].values()) < 1.5


def test_help_imports_no_engine(all_help):
    assert all_help[1] == []


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_command_has_help(command, verb):
    done = command(*verb, "--help")
    assert (done.code, done.err) == (0, "")
    assert "Usage: triptych" in " ".join(done.out.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--bogus"], "No such option"),
        (["train"], "Missing argument"),
        (["trian"], "No such command"),
        (["sample", "run", "--num", "many"], "integer"),
        (["data", "encode", "raw"], "Missing argument"),
        (["sample", "run", "--seed"], "requires an argument"),
    ],
)
def test_usage_errors_are_readable(command, arguments, says):
    done = command(*arguments)
    assert done.code == 2
    assert says in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_traceback_shows_where_an_error_came_from():
    with pytest.raises(ValueError, match="did you mean trimodal_demo") as caught:
        main(["train", "trimodal_dmo", "--traceback"])
    assert len(caught.traceback) > 3
