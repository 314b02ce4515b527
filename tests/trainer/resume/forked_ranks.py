"""Processes that may be killed: forked, so ready within a tenth of a second, from one that has imported everything."""

import multiprocessing
import os
import signal
import time
from multiprocessing import forkserver
from unittest import mock

PRELOADED = (
    "triptych.trainer.fit",
    "triptych.models.trimodal.model",
    "triptych.trainer.objectives.masked_diffusion",
    "triptych.trainer.parallel.groups",
    "triptych.data_pipelines.stream.mixture",
)


class Ranks:
    """`function(rank, *arguments)` in processes of their own, which nothing but the function joins.

    The server is the standard library's; it imports and starts no thread, so a fork of it is as good as a new process.
    It sees no GPU: ranks of one machine, more than it may have, and the gloo that they meet in are the same everywhere.
    """

    def __init__(self, function, num_processes, *arguments):
        server = multiprocessing.get_context("forkserver")
        server.set_forkserver_preload(list(PRELOADED))
        with mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=""):
            # Coverage would slow the ranks down for nothing: they end without writing theirs.
            os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
            forkserver.ensure_running()
        self.processes = [server.Process(target=function, args=(rank, *arguments)) for rank in range(num_processes)]
        for process in self.processes:
            process.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        for process in self.processes:
            process.join()

    @property
    def codes(self):
        return [process.exitcode for process in self.processes]

    def wait(self, timeout_seconds):
        """Whether all have ended in time."""
        deadline = time.monotonic() + timeout_seconds
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        return all(code is not None for code in self.codes)

    def kill(self, ranks=None):
        """SIGKILL to those of these ranks (all) that live, in that order."""
        for rank in range(len(self.processes)) if ranks is None else ranks:
            self.signal(rank, signal.SIGKILL)

    def signal(self, rank, number):
        process = self.processes[rank]
        if process.exitcode is None:
            os.kill(process.pid, number)
