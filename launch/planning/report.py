"""A plan on the terminal."""

import math

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from triptych.launch.planning.model.memory import GIB
from triptych.launch.planning.plan import RunPlan
from triptych.launch.planning.search import Candidate, too_large_by, why_not

_SMALL_PRICE = 100


def print_plan(plan: RunPlan, console: Console) -> None:
    """Whether it fits, layouts, memory, time, failures, cost, and what was assumed."""
    console.print(_headline(plan), soft_wrap=True)
    if plan.calibration is not None:
        console.print(_calibration(plan))
    _print_layouts(plan, console)
    if plan.ranking.too_large is not None:
        larger = plan.ranking.too_large
        what = "faster, but does not fit" if plan.ranking.best else "holds least, and does not fit"
        console.print(f"{what}: {_split(larger)}: {too_large_by(larger)}", soft_wrap=True)
    console.print(_memory(plan))
    console.print(_step(plan))
    console.print(_totals(plan))
    console.print(
        f"assumed: {plan.device.source}. Fields of Assumptions, with --json: efficiency "
        f"{plan.assumptions.matmul_efficiency:.3g} of the peak in matrix products, "
        f"{plan.assumptions.attention_efficiency:.3g} in attention"
        + ("" if plan.calibration else "; not calibrated on this machine: `triptych profile`, then --calibrate")
        + ".",
        soft_wrap=True,
        style="dim",
    )


def _headline(plan: RunPlan) -> str:
    memory, shape = plan.chosen.memory, plan.chosen.work.shape
    fits = "fits" if memory.fits else "does not fit"
    settings = " ".join(f"--set {name}={_text(value)}" for name, value in plan.chosen.settings.items())
    legal = f"{plan.ranking.num_fitting} of {plan.ranking.num_legal} legal layouts fit"
    return (
        f"{plan.run.name}: {shape.parameters / 1e6:,.0f}M parameters on {plan.num_devices} x {plan.device.name} "
        f"{fits}: {memory.total / GIB:.1f} of {memory.capacity / GIB:.1f} GiB; {legal}\n"
        + (f"best: {settings}" if memory.fits else f"take more or larger GPUs, or a smaller model; below: {settings}")
    )


def _print_layouts(plan: RunPlan, console: Console) -> None:
    """Narrow enough for 80 columns; what each loses by stands below, by its number. micro: so many micro-batches of so
    many rows.
    """
    table = Table(title="layouts, the best of each split", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("", "TP", "PP", "VP", "DP", "ZeRO", "recompute", "micro", "tokens/s", "MFU", "GiB"):
        table.add_column(name, justify="left" if name == "recompute" else "right", no_wrap=True)
    reasons = []
    for number, (each, why) in enumerate(_compared(plan), start=1):
        time, memory = each.time, each.memory
        numbers = (f"{time.tokens_per_second:,.0f}", f"{time.mfu:.1%}", f"{memory.total / GIB:.1f}")
        table.add_row(f"{number}", *_cells(each), *numbers)
        reasons += [f"{number}: {why}"] if why else []
    console.print(table)
    for reason in reasons:
        console.print(reason, soft_wrap=True)


def _compared(plan: RunPlan) -> list[tuple[Candidate, str]]:
    """The best layouts, then the one that the run states, if it is none of them; and what each loses by."""
    best, given = plan.ranking.best, plan.ranking.given
    rows = [(each, why_not(each, best[0]) if each is not best[0] else "") for each in best]
    if given is not None and all(given.settings != each.settings for each in best):
        why = why_not(given, best[0]) if given.memory.fits and best else f"does not fit: {too_large_by(given)}"
        rows.append((given, f"as it is set; {why}"))
    return rows


def _cells(candidate: Candidate) -> tuple[str, ...]:
    work, layout = candidate.work, candidate.work.layout
    split = (layout.tensor, layout.pipeline, layout.virtual, layout.data, layout.zero_stage)
    return (*(f"{number}" for number in split), work.recompute, f"{work.num_micro_batches} of {work.micro_batch}")


def _split(candidate: Candidate) -> str:
    tensor, pipeline, virtual, data, zero, recompute, micro = _cells(candidate)
    return (
        f"tensor {tensor}, pipeline {pipeline} x {virtual}, data {data}, ZeRO-{zero}, recompute {recompute}, "
        f"micro-batches {micro}"
    )


def _memory(plan: RunPlan) -> Table:
    memory = plan.chosen.memory
    table = Table(title=f"GiB of the fullest rank, of stage {memory.stage}", show_header=False)
    for name, size in memory.parts.items():
        table.add_row(name, f"{size / GIB:.2f}")
    table.add_section()
    table.add_row("sum", f"{memory.total / GIB:.2f}")
    table.add_row("device", f"{memory.capacity / GIB:.2f}")
    return table


def _step(plan: RunPlan) -> Table:
    time = plan.chosen.time
    table = Table(title=f"a step of {time.tokens:,.0f} tokens", show_header=False)
    for name, seconds in time.parts.items():
        if seconds / time.seconds >= 0.0005:
            table.add_row(name, f"{1e3 * seconds:,.1f} ms", f"{seconds / time.seconds:.1%}")
    table.add_section()
    table.add_row("sum", f"{1e3 * time.seconds:,.1f} ms", "")
    return table


def _totals(plan: RunPlan) -> Table:
    totals, safe = plan.totals, plan.reliability
    table = Table(title="the run", show_header=False)
    table.add_row("tokens", f"{totals.tokens:,}")
    table.add_row("tokens/s", f"{plan.chosen.time.tokens_per_second:,.0f}")
    table.add_row("days", f"{totals.days:,.2f}, with failures {_number(totals.days_with_failures, 2)}")
    table.add_row("GPU-hours", f"{totals.gpu_hours:,.0f}, with failures {_number(totals.gpu_hours_with_failures, 0)}")
    if totals.price is not None:
        table.add_row("cost", _number(totals.price, 2 if totals.price < _SMALL_PRICE else 0))
    table.add_row("from storage", f"{totals.data_bytes_per_second / 1e6:,.2f} MB/s of codes")
    table.add_section()
    table.add_row(
        "failures", f"one in {safe.mean_seconds / 3600:,.1f} h, {safe.failures_per_day:.2g} a day, of all devices"
    )
    table.add_row(
        "checkpoint",
        f"{safe.checkpoint_bytes / GIB:.1f} GiB, safe after {safe.write_seconds:,.1f} s, training waits "
        f"{safe.blocked_seconds:,.2f} s",
    )
    table.add_row(
        "save every",
        f"{safe.interval_seconds / 60:,.1f} min (Daly; Young {safe.young_seconds / 60:,.1f})\n"
        f"--set fit.checkpoint.every_tokens={totals.interval_tokens:.0f}",
    )
    table.add_row(
        "a failure loses",
        f"{safe.lost_seconds / 60:,.1f} min, restart of {plan.failures.restart_seconds / 60:g} among it",
    )
    table.add_row("goodput", f"{safe.goodput:.2%}")
    return table


def _calibration(plan: RunPlan) -> Table:
    assert plan.calibration is not None
    table = Table("calibration", "before", "after", title="fitted to profiles")
    for name, (before, after) in plan.calibration.changed.items():
        table.add_row(name, f"{before:.3g}", f"{after:.3g}")
    table.add_section()
    for name, before in plan.calibration.before.items():
        table.add_row(f"predicted / measured, {name}", f"{before:.2f}", f"{plan.calibration.after[name]:.2f}")
    return table


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else "it is never done"


def _text(value: object) -> str:
    return str(value).lower()
