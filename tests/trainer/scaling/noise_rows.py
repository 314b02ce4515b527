"""Gradients of single rows, the long way, and engines at some weights, to hold the noise scale against."""

import sys
from contextlib import contextmanager
from pathlib import Path

import torch

sys.path += [str(Path(__file__).resolve().parents[1] / "layouts")]
import layout_run
import tiny_run

from triptych.kernels.philox import Stream
from triptych.trainer.fit import fit
from triptych.trainer.objectives.masked_diffusion import MaskedDiffusion, MaskedDiffusionConfig
from triptych.trainer.parallel.groups import process_groups
from triptych.trainer.parallel.placement import Placement

STREAM = Stream(seed=11)


@contextmanager
def groups_of(cell, rank=0):
    placement = Placement(rank=rank, world_size=cell.num_processes, local_rank=rank)
    with process_groups(placement, cell.layout) as groups:
        yield groups


def objective(groups):
    return MaskedDiffusion(MaskedDiffusionConfig(), tiny_run.VOCABULARY, groups.collection.tp)


def trained(cell, groups, **options):
    """Where a short run of a cell has come to."""
    return fit(
        layout_run.settings(cell),
        chunks=layout_run.build_chunks(groups, cell),
        objective=objective(groups),
        data=layout_run.mixture(),
        groups=groups,
        checkpoints=None,
        identity=tiny_run.IDENTITY,
        **options,
    )


def row_gradients(module, objective, rows):
    """Name to float64 [rows, size]: the gradient of each row's summed loss, one row at a time; and [rows], weights."""
    named = dict(module.named_parameters())
    found, weights = {name: [] for name in named}, []
    module.train()
    for i in range(len(rows)):
        inputs, targets = objective.prepare(rows.rows(i, i + 1), STREAM)
        gradients = torch.autograd.grad(objective.loss(module(inputs), targets).sum, list(named.values()))
        for name, gradient in zip(named, gradients, strict=True):
            found[name].append(gradient.double().flatten())
        weights.append(targets.weight.double())
    return {name: torch.stack(parts) for name, parts in found.items()}, torch.stack(weights)


def flat(by_name, prefix=""):
    """[rows, sizes of the parameters whose names begin so]."""
    return torch.cat([rows for name, rows in by_name.items() if name.startswith(prefix)], 1)


def forget_gradients(engine):
    """Where the engine keeps them in the parameters."""
    for _, parameter in engine.named_parameters():
        parameter.grad = None
