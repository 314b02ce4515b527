"""Runs by name."""

import difflib
from collections.abc import Callable

from triptych.configs import trimodal
from triptych.configs.trimodal import TrimodalRun

RUNS: dict[str, Callable[[], TrimodalRun]] = {
    run.__name__: run
    for run in (trimodal.trimodal_demo, trimodal.trimodal_320m, trimodal.trimodal_1b, trimodal.trimodal_3b)
}


def named_run(name: str) -> TrimodalRun:
    """The settings of a run. ValueError, with the nearest name, if there is none of that name."""
    if name not in RUNS:
        near = difflib.get_close_matches(name, RUNS, n=1)
        mend = f"did you mean {near[0]}?" if near else f"there are: {', '.join(RUNS)}"
        raise ValueError(f"there is no run {name}; {mend}")
    return RUNS[name]()
