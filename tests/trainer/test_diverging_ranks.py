"""Ranks that are no longer one run: the loop ends on all of them, by one text that names the odd one."""

from dataclasses import replace

import pytest
import tiny_run
import torch
import torch.distributed as dist

from triptych.trainer.health.config import HealthConfig
from triptych.trainer.health.policy import Unhealthy
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.watch.obituary import Diverged
from triptych.trainer.parallel.watch.ring import WatchConfig


def _verdicts(num_processes):
    """What ends a run in which rank 1 alone changes: a weight after step 3; all of one to not-a-number after step 1."""
    rank = dist.get_rank()

    def nudge(state):
        if rank == 1 and state.step == 3:
            with torch.no_grad():
                next(iter(state.engine.named_parameters()))[1].view(-1)[0] += 1e-3

    def poison(state):
        if rank == 1 and state.step == 1:
            with torch.no_grad():
                next(iter(state.engine.named_parameters()))[1].fill_(torch.nan)

    texts = []
    with process_groups(Placement(rank=rank, world_size=num_processes, local_rank=rank)) as groups:
        watch, health = WatchConfig(parameters_every_steps=4), HealthConfig(max_skips_in_a_row=1)
        settings = replace(tiny_run.config(2000, zero=0, batch=9), watch=watch, health=health)
        for change in (nudge, poison):
            with pytest.raises((Diverged, Unhealthy)) as raised:
                tiny_run.run(groups, settings, after_step=[change])
            texts.append(f"{raised.type.__name__}: {raised.value}")
    return texts


def test_a_rank_that_diverges_is_named_on_every_rank(run_processes):
    first, second, third = run_processes(_verdicts, 3, 3)
    assert first == second == third
    changed, poisoned = first
    assert changed.startswith("Diverged: ") and "after step 4" in changed and "on rank 1 (" in changed
    assert (
        poisoned.startswith("Unhealthy: the loss of rank 1 (") and "not finite in step 3, after 1 skipped" in poisoned
    )
