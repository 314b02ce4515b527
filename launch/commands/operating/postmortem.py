"""`triptych postmortem`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from triptych.launch.run_directory import RunDirectory

_STYLES = {"good": "green", "odd": "yellow", "bad": "red"}
_MARKS = {"good": "✓", "odd": "!", "bad": "✗"}


def postmortem(run_dir: Path, out: Path | None, *, as_json: bool) -> None:
    """Say what became of a run and write the page about it. ValueError if the directory holds no run."""
    from triptych.data_pipelines.shards.atomic import replace_file
    from triptych.launch.postmortem.evidence import gather
    from triptych.launch.postmortem.page import render
    from triptych.launch.postmortem.verdict import judge

    directory = RunDirectory(folder=run_dir)
    evidence = gather(directory)
    verdict = judge(evidence)
    target = out or directory.postmortem
    is_written = True
    try:
        replace_file(target, render(evidence, verdict).encode())
    except OSError as error:
        if out is not None:
            raise
        # A full disk is one of the things that this is asked about: the verdict is told all the same.
        is_written = False
        print(f"{target} could not be written ({error.strerror}); name another place with --out", file=sys.stderr)
    if as_json:
        print(json.dumps({"run": str(run_dir), **asdict(verdict)}, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    style = _STYLES[verdict.grade]
    console.print(Text.assemble((f"{_MARKS[verdict.grade]} ", style), (verdict.headline, f"bold {style}")))
    about = {
        "place": verdict.place,
        "collective": verdict.collective,
        "samples": verdict.sample,
        "in its words": verdict.cause,
        "known": verdict.certainty,
        "to do": verdict.mend,
    }
    for name, value in about.items():
        if value:
            console.print(Text.assemble((f"  {name}: ", "dim"), value))
    for finding in verdict.findings:
        console.print(Text.assemble((f"  {_MARKS[finding.grade]} ", _STYLES[finding.grade]), finding.text))
    if is_written:
        console.print(Text(f"  {target}", "dim"))
