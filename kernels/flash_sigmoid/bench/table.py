"""A document as markdown: what was measured, where, and the goals."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from triptych.kernels.flash_sigmoid.bench.cases import DIRECTIONS, Direction
from triptych.kernels.flash_sigmoid.bench.summary import Timing, ceiling, goals, num_left_out, results, timings


def markdown(found: Mapping[str, Any]) -> str:
    """The whole page. Goals are those of a GPU."""
    parts = [*_head(found)]
    if "multiprocessors" in found["hardware"]:
        parts += ["## Goals", "\n".join(f"- {goal}" for goal in goals(found))]
    for direction in DIRECTIONS:
        parts += [f"## {direction.capitalize()}", _times(found, direction)]
    parts += ["## Errors against fp64", _errors(found)]
    if results(found, "weights"):
        parts += ["## Errors of single weights", _weights(found)]
    for _, values, failed in results(found, "instructions"):
        parts += ["## The hardware's approximations", _instructions(values, failed)]
    return "\n\n".join(parts) + "\n"


def _head(found: Mapping[str, Any]) -> list[str]:
    hardware = ", ".join(f"{name} {_plain(value)}" for name, value in found["hardware"].items())
    versions = ", ".join(f"{name} {value}" for name, value in found["versions"].items() if value)
    top = ceiling(found)
    product = "not measured" if top is None else f"{top:.4g} TFLOP/s"
    return [
        "# FlashSigmoid, measured",
        f"{found['measured']}, commit {found['commit']}: `{found['command']}`",
        f"- hardware: {hardware}\n- versions: {versions}\n- operations: {found['convention']}\n"
        f"- large matrix product in the same run: {product}\n"
        f"- left out when time was up: {num_left_out(found)} of {len(found['records'])} measurements\n"
        "- columns with x: how many times as fast as that peer, median over rounds in which they take turns"
        + (f"\n- {found['note']}" if found["note"] else ""),
    ]


def _times(found: Mapping[str, Any], direction: Direction) -> str:
    """A row for each shape and contender: how often ours is faster than each peer, as a ratio of throughputs."""
    chosen = [timing for timing in timings(found) if timing.direction == direction]
    peers, top = found["peers"], ceiling(found)
    rows = []
    for shape in dict.fromkeys(timing.shape for timing in chosen):
        at_shape = {timing.contender: timing for timing in chosen if timing.shape == shape}
        for timing in at_shape.values():
            rows.append([*_time_cells(timing, top), *_ratios(timing, at_shape, peers, found["ours"])])
    head = ["shape", "", "ms", "spread", "TFLOP/s", "of the product", *(f"x {peer}" for peer in peers)]
    return _table(head, rows)


def _time_cells(timing: Timing, top: float | None) -> list[str]:
    if timing.milliseconds is None or timing.tflops is None or timing.spread is None:
        return [timing.shape.label, timing.contender, f"failed: {timing.failed}", "", "", ""]
    share = "" if top is None else f"{timing.tflops / top:.0%}"
    return [
        timing.shape.label,
        timing.contender,
        f"{timing.milliseconds:.4g}",
        f"{timing.spread:.2f}",
        f"{timing.tflops:.4g}",
        share,
    ]


def _ratios(timing: Timing, at_shape: Mapping[str, Timing], peers: Sequence[str], ours: Sequence[str]) -> list[str]:
    if timing.contender not in ours:
        return [""] * len(peers)
    ratios = [timing.ratio(at_shape[peer]) if peer in at_shape else None for peer in peers]
    return ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]


def _errors(found: Mapping[str, Any]) -> str:
    names = ("out", "dq", "dk", "dv", "out_max")
    rows = []
    for job, values, failed in results(found, "error"):
        assert job.shape is not None
        rows.append([job.shape.label, job.contender, *_value_cells(values, failed, names)])
    said = "Norm of the difference over the norm, of sampled positions of one head; last, the largest difference.\n\n"
    return said + _table(["shape", "", "out", "dq", "dk", "dv", "out, largest"], rows)


def _weights(found: Mapping[str, Any]) -> str:
    names = ("max", "mean", "row_sum", "negative")
    rows = [
        [str(job.num_keys), job.contender, *_value_cells(values, failed, names)]
        for job, values, failed in results(found, "weights")
    ]
    said = "Relative to fp64 at bias -log n; rounding of P to the inputs' dtype is part of it.\n\n"
    return said + _table(["keys", "", "largest", "mean", "mean of sum P", "negative weights"], rows)


def _instructions(values: Mapping[str, float] | None, failed: str | None) -> str:
    if values is None:
        return f"failed: {failed}"
    return _table(["", "error"], [[name, f"{value:.2e}"] for name, value in values.items()])


def _value_cells(values: Mapping[str, float] | None, failed: str | None, names: Sequence[str]) -> list[str]:
    if values is None:
        return [f"failed: {failed}", *[""] * (len(names) - 1)]
    return [f"{values[name]:.1e}" for name in names]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def _plain(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
