"""What a checkpoint costs: one is written, of the state that is there, and removed again."""

import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from triptych.launch.profile.measure.alike import from_first
from triptych.launch.profile.measure.rig import Rig
from triptych.trainer.checkpoint.store import CheckpointStore


@dataclass(kw_only=True, slots=True, frozen=True)
class SaveTimes:
    """blocking_seconds: for which the training waits; background_seconds: from then until all is on disk."""

    blocking_seconds: float
    background_seconds: float
    num_bytes: int


def timed_save(rig: Rig, beside: Path) -> SaveTimes:
    """The second of two saves, since the first one takes memory for the copy. The folder is made in `beside`, which all
    processes see, and is removed.
    """
    groups = rig.groups
    folder = Path(from_first(groups, tempfile.mkdtemp(prefix=".checkpoint-", dir=beside) if groups.is_first else ""))
    try:
        with CheckpointStore(folder / "checkpoints", rig.run.fit.checkpoint, groups, identity={}) as store:
            _timed(rig, store)
            rig.step()
            blocking, background = _timed(rig, store)
            newest = max((folder / "checkpoints").iterdir())
            size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
            groups.barrier()
    finally:
        if groups.is_first:
            shutil.rmtree(folder, ignore_errors=True)
    return SaveTimes(blocking_seconds=blocking, background_seconds=background, num_bytes=size)


def _timed(rig: Rig, store: CheckpointStore) -> tuple[float, float]:
    rig.wait()
    rig.groups.barrier()
    started = time.perf_counter()
    store.save(rig.state_to_save())
    rig.wait()
    blocked = time.perf_counter()
    store.wait()
    return blocked - started, time.perf_counter() - blocked
