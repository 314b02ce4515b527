"""A store in memory that does what stores do: it fails, hangs, cuts off and spoils what is read."""

import threading
from collections import Counter

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from triptych.data_pipelines.storage.retry import Clock

HANGS = threading.Event()  # set: what hangs comes back


class FlakyFiles(MemoryFileSystem):
    """`faults` of a file name: what its next reads do, first to last; None does nothing wrong."""

    protocol = "flaky"
    store: dict = {}  # noqa: RUF012 - as in the class above
    pseudo_dirs = [""]  # noqa: RUF012
    cachable = False
    faults: dict = {}  # noqa: RUF012
    num_reads: Counter = Counter()  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.replace("flaky://", "memory://"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        name = path.rsplit("/", 1)[-1]
        self.num_reads[name] += 1
        faults = self.faults.get(name, [])
        fault = faults.pop(0) if faults else None
        if isinstance(fault, Exception):
            raise fault
        if fault == "hang":
            HANGS.wait(10)
        data = super().cat_file(path, start, end)
        return {"cut": data[:-1], "spoil": bytes(len(data))}.get(fault, data)


class PatientClock:
    """A clock that waits in no time, and remembers for how long."""

    def __init__(self):
        self.time, self.delays = 0.0, []

    def sleep(self, seconds):
        self.delays.append(seconds)
        self.time += seconds

    def clock(self):
        return Clock(now=lambda: self.time, sleep=self.sleep)


def flaky_store(folder, faults=None):
    """Copy a local folder into the store; its URL there. faults: as in `FlakyFiles`."""
    fsspec.register_implementation("flaky", FlakyFiles, clobber=True)
    FlakyFiles.store.clear()
    FlakyFiles.num_reads.clear()
    FlakyFiles.faults = dict(faults or {})
    HANGS.clear()
    files = FlakyFiles()
    for path in folder.iterdir():
        files.pipe_file(f"/set/{path.name}", path.read_bytes())
    return "flaky://set"
