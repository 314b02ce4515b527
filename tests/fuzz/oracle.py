"""What a reader may do with any bytes: give what it promises, or refuse in one line. All else is a finding."""

import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict, dataclass

from messages import fault_of
from reader_targets import Target, WrongResult

from triptych.data_pipelines.shards.errors import DamagedSample, UnreadableShard

_REFUSALS = (ValueError, DamagedSample, UnreadableShard)
MAX_SECONDS = 2.0  # of the processor
MAX_GROWTH_BYTES = 256 << 20
MAX_WARNINGS = 4
MAX_PRINTED_BYTES = 1000


@dataclass
class Outcome:
    """kind: "decoded", "refused", or what went wrong. detail: the message, or where it happened."""

    kind: str
    detail: str = ""
    seconds: float = 0.0

    @property
    def is_finding(self):
        return self.kind not in ("decoded", "refused")

    def as_json(self):
        return asdict(self)


class Oracle:
    """Judges reads, one after the other. Meanwhile the process's standard error goes into a file, to be measured."""

    def __init__(self):
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this process
        self._stderr = os.dup(2)

    def judge(self, target: Target, data: bytes) -> list[Outcome]:
        """An outcome per stage of the target's reader."""
        return self.judge_stages(target.stages(data))

    def judge_stages(self, stages) -> list[Outcome]:
        """An outcome of each."""
        return [self._judge(stage) for stage in stages]

    def _judge(self, stage):
        self._printed.seek(0)
        self._printed.truncate()
        before, began = _peak_bytes(), time.process_time()
        os.dup2(self._printed.fileno(), 2)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            outcome = _outcome(stage)
        os.dup2(self._stderr, 2)
        outcome.seconds = time.process_time() - began
        growth, num_printed = _peak_bytes() - before, os.fstat(self._printed.fileno()).st_size
        if outcome.is_finding:
            return outcome
        if growth > MAX_GROWTH_BYTES:
            return Outcome("growth", f"{growth >> 20} MiB more; {outcome.detail}", outcome.seconds)
        if outcome.seconds > MAX_SECONDS:
            return Outcome("slow", f"{outcome.seconds:.1f} s of the processor; {outcome.detail}", outcome.seconds)
        if len(warned) > MAX_WARNINGS:
            return Outcome("warnings", f"{len(warned)}, such as: {warned[0].message}", outcome.seconds)
        if num_printed > MAX_PRINTED_BYTES:
            said = os.pread(self._printed.fileno(), 200, 0).decode(errors="replace")
            return Outcome("printed", f"{num_printed} bytes on standard error: {said}", outcome.seconds)
        return outcome


def _outcome(stage):
    try:
        given = stage()
    except (ValueError, OSError) as error:
        return _refusal(error)
    except WrongResult as error:
        return Outcome("wrong result", str(error))
    except MemoryError:
        return Outcome("memory", f"MemoryError {_where()}")
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return Outcome("exception", f"{type(error).__name__}: {str(error)[:300]} {_where()}")
    return Outcome("decoded", "" if given is None else str(given)[:1000])


def _refusal(error):
    message = str(error)
    if type(error) not in _REFUSALS:
        return Outcome("exception", f"{type(error).__name__}: {message[:300]} {_where()}")
    if fault := fault_of(message):
        return Outcome("message", f"{fault} {_where()}")
    return Outcome("refused", message)


def _where():
    frames = traceback.extract_tb(sys.exc_info()[2])
    return "at " + " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames[:-6:-1])


def _peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
