"""Importing does no work: every module imports in silence and starts nothing, and `--help` waits for no engine."""

import ast
import json
import subprocess
import sys

from project_sources import package_sources, plain_environment

TIMEOUT_SECONDS = 180  # a few alone, nearly all inside other people's packages; the processor may be busy

# Imports the modules of argv[1], which may be noisy, then each of argv[2], and prints {module: [what it did]}.
IMPORT_ALL = """
import contextlib, importlib, io, json, multiprocessing, os, random, sys, threading, time
with contextlib.redirect_stdout(io.StringIO()):
    for name in json.loads(sys.argv[1]):
        importlib.import_module(name)
import torch

def state():
    return {
        "started a process group": torch.distributed.is_initialized(),
        "started a thread": threading.active_count(),
        "started a process": len(multiprocessing.active_children()),
        "changed the environment": dict(os.environ),
        "drew from or seeded random": hash(random.getstate()),
        "drew from or seeded torch": torch.get_rng_state().tolist(),
        "changed the number of torch's threads": torch.get_num_threads(),
        "changed torch's default type": str(torch.get_default_dtype()),
    }

acts = {}
for name in json.loads(sys.argv[2]):
    before, output, began = state(), io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        importlib.import_module(name)
    seconds, after = time.process_time() - began, state()
    acts[name] = [act for act in before if before[act] != after[act]]
    acts[name] += ["took over a second of the processor"] if seconds > 1 else []
    acts[name] += [f"printed {output.getvalue()!r}"] if output.getvalue() else []
print(json.dumps({name: done for name, done in acts.items() if done}))
"""

HELP = """
import contextlib, io, sys
sys.argv = ["triptych", "--help"]
text = io.StringIO()
with contextlib.redirect_stdout(text):
    try:
        from triptych.launch.cli import main
        main()
    except SystemExit as end:
        assert not end.code, end.code
assert "Usage" in text.getvalue(), text.getvalue()
print(*sorted({"deepspeed", "megatron", "torch"} & set(sys.modules)))
"""


def acts_at_import(others, names, folder):
    """{module: what it did besides defining names} for `names`, imported in `folder` one by one after `others`."""
    environment = plain_environment(PYTHONPATH=str(folder))
    command = [sys.executable, "-W", "ignore", "-c", IMPORT_ALL, json.dumps(others), json.dumps(names)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def module_names():
    """`triptych.models.fsq` and so on, of every tracked file of the floors."""
    parts = (source.path.with_suffix("").parts for source in package_sources())
    return sorted(".".join(("triptych", *(part for part in each if part != "__init__"))) for each in parts)


def imported_packages():
    """Other people's modules that the floors import at the top of a file."""
    names = set()
    for source in package_sources():
        for node in source.tree.body:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module)
    return sorted(name for name in names if not name.startswith("triptych"))


def test_no_module_works_at_import(tmp_path):
    assert acts_at_import(imported_packages(), module_names(), tmp_path) == {}


def test_work_at_import_is_found(tmp_path):
    planted = {
        "planted_print": ("print('hello')", "printed 'hello\\n'"),
        "planted_work": (
            "import time\nend = time.process_time() + 1.1\nwhile time.process_time() < end: pass",
            "took over a second of the processor",
        ),
        "planted_seed": ("import random; random.seed(3)", "drew from or seeded random"),
        "planted_draw": ("import torch; torch.rand(1)", "drew from or seeded torch"),
        "planted_environment": ("import os; os.environ['PLANTED'] = '1'", "changed the environment"),
        "planted_threads": ("import torch; torch.set_num_threads(2)", "changed the number of torch's threads"),
        "planted_group": (
            "import torch.distributed as d; d.init_process_group('gloo', store=d.HashStore(), rank=0, world_size=1)",
            "started a process group",
        ),
    }
    for name, (text, _act) in planted.items():
        (tmp_path / f"{name}.py").write_text(text)
    found = acts_at_import([], list(planted), tmp_path)
    assert {name: acts[:1] for name, acts in found.items()} == {name: [act] for name, (_text, act) in planted.items()}


def test_help_waits_for_no_engine(tmp_path):
    command, environment = [sys.executable, "-c", HELP], plain_environment()
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
