"""Checkpoints carried from layout to layout by the real engine and store, without training in between."""

import json
import os
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import alongside  # noqa: F401 - before what it makes importable
import layout_run
import tiny_run
import torch
from forked_ranks import Ranks
from layout_run import Cell
from torch import distributed

from triptych.trainer.checkpoint.config import CheckpointConfig
from triptych.trainer.checkpoint.disk.folders import complete_checkpoints
from triptych.trainer.checkpoint.disk.reading import read_part
from triptych.trainer.checkpoint.store import CheckpointStore
from triptych.trainer.engine.engine import Engine
from triptych.trainer.fit import fit
from triptych.trainer.health.policy import HealthPolicy
from triptych.trainer.loader.losses import LossBudget
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.state import TrainState

PARTS = ("weights", "exp_avg", "exp_avg_sq")
TOTAL_TOKENS = 600
"""Three steps."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Stop:
    """Load what lies at `source` (none: train) in a cell's layout, and save it to `target`."""

    cell: Cell
    source: Path | None
    target: Path


def pass_through(stops, folder):
    """All stops, one after the other, in processes as many as their cells have; what each stop found, as a dict of
    names to whether it is right on every rank, or to a number.
    """
    (num_processes,) = {stop.cell.num_processes for stop in stops}
    folder.mkdir()
    with Ranks(_rank_main, num_processes, num_processes, stops, folder) as ranks:
        assert ranks.wait(120), "had not ended"
    errors = sorted(folder.glob("*.error"))
    assert not any(ranks.codes), "\n".join(path.read_text() for path in errors)
    return json.loads((folder / "found.json").read_text())


def _rank_main(rank, num_processes, stops, folder):
    torch.set_num_threads(1)
    with (folder / f"rank{rank}.out").open("w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(num_processes))
    store = distributed.FileStore(str(folder / "store"), num_processes)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=num_processes)
    placement = Placement(rank=rank, world_size=num_processes, local_rank=rank)
    try:
        found = [_pass(stop, placement) for stop in stops]
        if rank == 0:
            (folder / "found.json").write_text(json.dumps(found))
        distributed.barrier()
    except BaseException:  # noqa: BLE001 - told in a file
        (folder / f"rank{rank}.error").write_text(traceback.format_exc())
        os._exit(1)
    distributed.destroy_process_group()


def _pass(stop, placement):
    with process_groups(placement, stop.cell.layout) as groups:
        if stop.source is None:
            state = _trained(stop, groups)
        else:
            config = layout_run.settings(stop.cell)
            state = TrainState(engine=Engine(layout_run.build_chunks(groups, stop.cell), config.engine, groups))
            state.carried["loss_divisor"] = state.engine.divisor
            state.carried["lost_samples"] = LossBudget(config.loader)
            state.carried["health"] = HealthPolicy(config.health)
            with CheckpointStore(stop.source, CheckpointConfig(), groups, tiny_run.IDENTITY) as store:
                store.load_newest(state)
            with CheckpointStore(stop.target, CheckpointConfig(), groups, tiny_run.IDENTITY) as store:
                store.save(state)
        written = complete_checkpoints(stop.target)[-1]
        held = tiny_run.whole_state(state.engine, groups)
        files = {part: read_part(written, part) for part in PARTS}
        mine = {
            "engine": all(_equal(held[part], files[part]) for part in PARTS),
            "module": _module_is(state.engine, files["weights"]),
        }
        everyones = [None] * placement.world_size
        distributed.all_gather_object(everyones, mine)
        right = {name: all(each[name] for each in everyones) for name in mine}
        clock = {
            "tokens": state.tokens,
            "step": state.step,
            "logical_updates": state.logical_updates,
            "batch": state.batch,
            "loss_divisor": state.engine.divisor.document(),
        }
        return right | clock | {"cursor": dict(state.cursor)}


def _trained(stop, groups):
    return fit(
        replace(layout_run.settings(stop.cell), total_tokens=TOTAL_TOKENS),
        chunks=layout_run.build_chunks(groups, stop.cell),
        objective=MaskedDiffusion(MaskedDiffusionConfig(), tiny_run.VOCABULARY, groups.collection.tp),
        data=layout_run.mixture(),
        groups=groups,
        checkpoints=stop.target,
        identity=tiny_run.IDENTITY,
    )


def bit_equal(tensor, other):
    """Also of zeros' signs."""
    bits = {torch.float32: torch.int32, torch.bfloat16: torch.int16}[other.dtype]
    return tensor.dtype == other.dtype and torch.equal(tensor.contiguous().view(bits), other.contiguous().view(bits))


def _equal(tensors, others):
    return tensors.keys() == others.keys() and all(bit_equal(tensors[name], others[name]) for name in tensors)


def _module_is(engine, weights):
    """Whether what this rank's forward pass reads is its part of the weights, in its precision."""
    for name, held in engine.module_weights().items():
        for box in held.boxes:
            window = tuple(slice(at, at + size) for at, size in zip(box.offsets, box.sizes, strict=True))
            if not bit_equal(box.tensor, weights[name][window].to(box.tensor.dtype)):
                return False
    return True
