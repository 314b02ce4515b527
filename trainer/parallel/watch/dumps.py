"""Where every thread of this process is, and what its collectives are at, into files."""

import faulthandler
import importlib
import os
import shutil
import subprocess
from pathlib import Path

PY_SPY_SECONDS = 20.0


def dump_stacks(folder: Path, rank: int, why: str) -> list[Path]:
    """Write rankN.txt, and where they can be had rankN.pyspy.txt (with the frames of C++) and rankN.collectives.json
    (torch's flight recorder). Returns what was written; what a disk refuses is left out. Any thread may call it.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"rank{rank}.txt"
        with path.open("w", encoding="utf-8") as file:
            file.write(f"rank {rank}, process {os.getpid()}: {why}\n\n")
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
        written.append(path)
        for name, content in (
            (f"rank{rank}.collectives.json", _collectives()),
            (f"rank{rank}.pyspy.txt", _py_spy()),
        ):
            if content:
                (folder / name).write_bytes(content)
                written.append(folder / name)
    except OSError:
        pass  # a full disk must not keep the run from ending
    return written


def _collectives() -> bytes:
    """JSON of the flight recorder; empty where torch has none, or has recorded nothing."""
    import torch.distributed as dist

    if not dist.is_available():
        return b""
    dump = getattr(importlib.import_module("torch._C._distributed_c10d"), "_dump_fr_trace_json", None)
    if dump is None:
        return b""
    content = dump()
    return content if isinstance(content, bytes) and b'"entries"' in content else b""


def _py_spy() -> bytes:
    """What py-spy says of this process; empty where it is not installed or may not look."""
    program = shutil.which("py-spy")
    if program is None:
        return b""
    try:
        command = [program, "dump", "--native", "--pid", str(os.getpid())]
        done = subprocess.run(command, capture_output=True, check=False, timeout=PY_SPY_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout
