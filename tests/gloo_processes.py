"""A function on several ranks of one gloo group, for tests of anything distributed."""

import multiprocessing
import os
import pickle
import sys
import time
import traceback
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

import pytest

GRACE_SECONDS = 2.0  # after a rank has failed, the others get this long to say why they fail, too

PRELOADED = ("triptych.trainer.fit", "triptych.models.trimodal.model", "triptych.trainer.objectives.masked_diffusion")


class Processes:
    """Starts groups of processes; each call has a folder of its own under `folder` (files meet there: no ports).

    They are forked from a server of the standard library's that has imported the trainer and started no thread: ready
    in a tenth of a second, where a new process would import for five to fifteen. No GPU is seen in them.
    """

    def __init__(self, folder):
        self._folder = Path(folder)
        self._calls = 0

    def __call__(self, function, num_processes, *arguments, timeout_seconds=120):
        """What each rank returned (anything that can be pickled). Fails the test if a rank raises, dies or hangs."""
        self._calls += 1
        folder = self._folder / f"processes{self._calls}"
        folder.mkdir()
        server = _server()
        ranks = [
            server.Process(target=_rank_main, args=(rank, num_processes, folder, timeout_seconds, function, arguments))
            for rank in range(num_processes)
        ]
        for process in ranks:
            process.start()
        try:
            timed_out = not _wait(ranks, timeout_seconds)
            codes = [process.exitcode for process in ranks]
        finally:
            for process in ranks:
                process.kill()
                process.join()
        if any(code != 0 for code in codes):
            pytest.fail(_report(codes, folder, timed_out, timeout_seconds), pytrace=False)
        return [pickle.loads((folder / f"rank{rank}.result").read_bytes()) for rank in range(num_processes)]


def _server():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    with mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=""):
        forkserver.ensure_running()
    return context


def _wait(ranks, timeout_seconds):
    """True once all have ended, or GRACE_SECONDS after the first failed; False if time ran out."""
    deadline = time.monotonic() + timeout_seconds
    failing = False
    while time.monotonic() < deadline:
        codes = [process.exitcode for process in ranks]
        if all(code is not None for code in codes):
            return True
        if not failing and any(codes):
            failing, deadline = True, min(deadline, time.monotonic() + GRACE_SECONDS)
        time.sleep(0.02)
    return failing


def _report(codes, folder, timed_out, timeout_seconds):
    """One paragraph per rank that did not end well, the one that failed first at the top."""
    errors = sorted(folder.glob("rank*.error"), key=lambda path: path.stat().st_mtime_ns)
    lines = [f"{path.stem} of {len(codes)} raised:\n{path.read_text()}" for path in errors]
    told = {int(path.stem.removeprefix("rank")) for path in errors}
    for rank, code in enumerate(codes):
        if code is None:
            state = f"had not ended after {timeout_seconds} s" if timed_out else "was still waiting for the others"
            lines.append(f"rank{rank} of {len(codes)} {state}")
        elif code and rank not in told:
            lines.append(f"rank{rank} of {len(codes)} died with exit code {code} and no traceback")
    return "\n".join(lines)


def _rank_main(rank, num_processes, folder, timeout_seconds, function, arguments):
    """A child's life: join, call, leave the result or the traceback in a file."""
    from datetime import timedelta

    import torch
    from torch import distributed

    torch.set_num_threads(1)
    torch.manual_seed(0)
    # A rank that waits in vain is for the parent to report, so its own patience is longer.
    patience = timedelta(seconds=timeout_seconds + 60)
    # Some libraries read these even when a group is already there; none of them opens a port for it.
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_processes))
    try:
        store = distributed.FileStore(str(folder / "store"), num_processes)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=num_processes, timeout=patience)
        result = pickle.dumps(function(*arguments))
        (folder / f"rank{rank}.result").write_bytes(result)
        distributed.barrier()  # nobody tears the group down while another still uses it
    except BaseException:  # noqa: BLE001 - whatever ends a rank early, a SystemExit too, is its failure
        (folder / f"rank{rank}.error").write_text(traceback.format_exc())
        _save_coverage()
        # Without the usual clean-up: a group whose peers are gone may wait for them for ever.
        os._exit(1)
    _save_coverage()
    distributed.destroy_process_group()


def _save_coverage():
    """A forked process ends without the exit handler that would."""
    coverage = sys.modules.get("coverage")
    if coverage and (measured := coverage.Coverage.current()):
        measured.stop()
        measured.save()
