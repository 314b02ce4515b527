"""A stop that is asked for while data does not come: all ranks end with a checkpoint of the last whole step."""

import threading
import time
from dataclasses import replace
from functools import partial

import pytest
import tiny_run
import torch.distributed as dist
from test_loader_workers import _fork_server  # noqa: F401 - the fixture

from triptych.models.trimodal.model import TrimodalTransformer
from triptych.trainer.checkpoint.disk.document import read_document
from triptych.trainer.checkpoint.loading import newest_checkpoint
from triptych.trainer.fit import fit
from triptych.trainer.loader.config import LoaderConfig
from triptych.trainer.loader.stream_data import StreamData
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement


class Silent(StreamData):
    """A stream that gives so many batches and then never answers."""

    def __init__(self, build, answers):
        super().__init__(build)
        self._answers = answers

    def batch(self, cursor, size, rank, num_ranks):
        self._answers -= 1
        if self._answers < 0:
            threading.Event().wait()
        return super().batch(cursor, size, rank, num_ranks)

    def __reduce__(self):
        return type(self), (self._build, self._answers)


def stopped(folder, num_processes, num_workers, silent_ranks):
    """Steps done, and the step and tokens of the checkpoint, of a run whose data falls silent after two steps."""
    rank = dist.get_rank() if num_processes > 1 else 0
    records = []
    asked = threading.Event()

    def note(record):
        records.append(record)
        if len(records) == 2:
            threading.Timer(0.3, asked.set).start()

    with process_groups(Placement(rank=rank, world_size=num_processes, local_rank=rank)) as groups:
        model = TrimodalTransformer(tiny_run.MODEL, groups.collection)
        model.initialise(seed=3)
        config = replace(tiny_run.config(10**6), loader=LoaderConfig(num_workers=num_workers))
        state = fit(
            config,
            chunks=[model],
            objective=MaskedDiffusion(MaskedDiffusionConfig(), tiny_run.VOCABULARY),
            data=Silent(tiny_run.mixture, 2 if rank in silent_ranks else 10**6),
            groups=groups,
            checkpoints=folder,
            identity=tiny_run.IDENTITY,
            reporters=[note],
            stop_requested=asked.is_set,
        )
        header = read_document(newest_checkpoint(folder, "weights", warn=pytest.fail)).header
    return len(records), state.step, header.step, header.tokens - records[-1].tokens


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_stop_interrupts_the_wait_for_data(tmp_path, num_workers):
    began = time.monotonic()
    assert stopped(tmp_path, 1, num_workers, {0}) == (2, 2, 2, 0)
    assert time.monotonic() - began < 60


def test_ranks_stop_together_though_one_has_its_data(run_processes, tmp_path):
    assert run_processes(partial(stopped, tmp_path, 2, 0, {1}), 2) == [(2, 2, 2, 0)] * 2
