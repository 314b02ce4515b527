"""One checkpoint written by all ranks together, or none."""

import shutil
from pathlib import Path

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException

from triptych.trainer.checkpoint.disk.document import Header
from triptych.trainer.checkpoint.disk.folders import partial_folder
from triptych.trainer.checkpoint.disk.storage import FILE_BYTES, FolderWriter
from triptych.trainer.checkpoint.planning import HeldSavePlanner, flat_state
from triptych.trainer.checkpoint.ranks import Ranks
from triptych.trainer.checkpoint.shards import State


def write_checkpoint(folder: Path, state: State, header: Header, ranks: Ranks, *, file_bytes: int = FILE_BYTES) -> None:
    """Write what all ranks hold to `folder`, atomically. Every rank calls it, also from a thread.

    On every rank OSError, naming the rank and the cause, if any rank's disk refuses; RuntimeError if a rank fails
    otherwise or is gone. What was at `folder` before is then still there.
    """
    writer = FolderWriter(folder, header, ranks.number, file_bytes=file_bytes)
    try:
        dcp.save(flat_state(state), storage_writer=writer, planner=HeldSavePlanner(), process_group=ranks.group)
    except CheckpointException as error:
        if ranks.is_first:  # every rank has stopped writing
            shutil.rmtree(partial_folder(folder), ignore_errors=True)
        raise _explained(folder, error) from error
    except RuntimeError as error:
        raise RuntimeError(
            f"checkpoint {folder} could not be written: a rank is gone ({_line(error)}); go on from the last whole one"
        ) from error


def _explained(folder: Path, error: CheckpointException) -> OSError | RuntimeError:
    failures = {rank: failure for rank, (failure, _) in sorted(error.failures.items())}
    causes = ", ".join(f"rank {rank}: {type(failure).__name__}: {_line(failure)}" for rank, failure in failures.items())
    if all(isinstance(failure, OSError) for failure in failures.values()):
        return OSError(
            f"checkpoint {folder} could not be written ({causes}); free disk space or choose another run directory"
        )
    return RuntimeError(f"checkpoint {folder} could not be written ({causes}); go on from the last whole one")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
