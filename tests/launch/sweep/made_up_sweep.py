"""Sweeps whose runs were never trained: logs with losses of one's choice."""

import json
from dataclasses import asdict

from triptych.launch.sweep.folder import Call, SweepFolder, asked_for
from triptych.launch.sweep.grid import parse_grid, parse_variant, sweep_points
from triptych.trainer.metrics import StepRecord


def step(tokens, batch_tokens, loss, total_tokens=1000, **metrics):
    return StepRecord(
        step=1,
        tokens=tokens,
        total_tokens=total_tokens,
        batch_tokens=batch_tokens,
        batch=1,
        kappa=1.0,
        seconds=1.0,
        learning_rate=0.1,
        gradient_norm=1.0,
        metrics={"loss": loss, **metrics},
    )


def steps(losses, batch_tokens=100):
    """A run of steps of one size."""
    total = len(losses) * batch_tokens
    return [step((i + 1) * batch_tokens, batch_tokens, loss, total) for i, loss in enumerate(losses)]


def make_sweep(folder, *, grids=(), variants=(), losses, failed=()):
    """A sweep's folder. losses: point to the losses of its ten steps; a point that `losses` has None for has not
    ended.
    """
    place = SweepFolder(folder=folder)
    named = [parse_variant(text) for text in variants]
    points = sweep_points("trimodal_demo", settings=[], variants=named, grids=[parse_grid(text) for text in grids])
    folder.mkdir(parents=True, exist_ok=True)
    place.write(asked_for("trimodal_demo", [], named, points, call()))
    for point in points:
        found = losses(point)
        if found is not None:
            write_point(place.point(point.name), steps(found), failed=point.name in failed)
    return place


def write_point(place, records, *, failed=False):
    log = place.run.log(0)
    log.parent.mkdir(parents=True)
    log.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))
    place.record("failed" if failed else "done", "the disk is full; free some" if failed else "")


def call(command="triptych sweep"):
    return Call(command=command, version="0", commit="unknown")
