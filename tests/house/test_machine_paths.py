"""No file names a folder of somebody's machine."""

import re
from pathlib import PurePosixPath

import pytest
from project_sources import ROOT, tracked_files

TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".cfg", ".sh", ".html", ".svg", ".txt", ""}
# Written in two parts, so that this file passes its own check.
MACHINE_PATH = re.compile(r"(?<![\w.~$}<-])/" + r"(?:home|Users|root|work|workspace|mnt|scratch|opt)/\w")


def machine_paths(path, text):
    """`file:line what` of each absolute path below a folder that differs from machine to machine."""
    for number, line in enumerate(text.splitlines(), start=1):
        for match in MACHINE_PATH.finditer(line):
            yield f"{path}:{number} {match.group()}..."


def test_no_file_names_a_folder_of_a_machine():
    texts = ((path, (ROOT / path).read_text(errors="ignore")) for path in tracked_files() if path.suffix in TEXT)
    assert [line for path, text in texts for line in machine_paths(path, text)] == []


@pytest.mark.parametrize("start", ["home", "Users", "root", "work", "mnt"])
def test_a_machine_path_is_found(start):
    text = f'x = 1\nFOLDER = "/{start}/somebody/data"\n'
    assert list(machine_paths(PurePosixPath("a.py"), text)) == [f"a.py:2 /{start}/s..."]


@pytest.mark.parametrize("text", ["https://example.org/home/page", "runs/work/x", "/usr/bin/env", "$HOME/work/x"])
def test_other_paths_pass(text):
    assert list(machine_paths(PurePosixPath("a.py"), text)) == []
