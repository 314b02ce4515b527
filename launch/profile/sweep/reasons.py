"""Why the best point is the best: each of its values against the others that were tried beside it."""

from collections.abc import Iterator, Sequence
from typing import Any

from triptych.launch.profile.sweep.folder import Outcome
from triptych.launch.profile.sweep.points import LAYOUT, NAMES, STAGE_LAYERS, Point
from triptych.launch.profile.sweep.search import AS_GOOD

_GIB = 2**30


def reasons(top: Outcome, outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each point that differs from the best in one thing (a layout is one), and one for the choice."""
    lines = [
        f"{told(top.point)}: {top.speed:,.0f} tokens/s, {_gib(top.peak_bytes)}",
        _choice(top, outcomes),
    ]
    for other in outcomes:
        names = _differences(top.point, other.point)
        if other is not top and len(names) == 1:
            lines.append(_compared(names[0], top, other))
    rest = [other for other in outcomes if other.state == "done" and len(_differences(top.point, other.point)) > 1]
    if rest:
        lines.append(f"{len(rest)} points differ in more than one thing; the fastest of them: {_fastest(rest, top)}")
    return lines


def _choice(top: Outcome, outcomes: Sequence[Outcome]) -> str:
    """By which rule it is the best."""
    fastest = max(outcomes, key=lambda outcome: outcome.speed)
    if fastest.speed <= top.speed:
        return "It is the fastest."
    slower = 1 - top.speed / fastest.speed
    return (
        f"It is {slower:.1%} slower than the fastest, {told(fastest.point)}, and holds less: of what is within "
        f"{AS_GOOD:.0%} of the fastest, that which holds least is taken."
    )


def told(point: Point) -> str:
    """A point in words."""
    layout = "x".join(str(point.arm[path]) for path in LAYOUT[:2])
    parts = [f"layout {layout} (tensor x pipeline)"]
    others = [path for path in point.values if path not in LAYOUT and (path, point.values[path]) != (STAGE_LAYERS, [])]
    extra = [path for path in LAYOUT[2:] if point.arm[path] not in (1, False)]
    return ", ".join(parts + [f"{_name(path)} {point.values[path]}" for path in (*extra, *others)])


def _compared(name: str, top: Outcome, other: Outcome) -> str:
    mine, theirs = _value(name, top.point), _value(name, other.point)
    if other.state != "done":
        return f"{name} {theirs}: {other.state}: {other.reason}"
    gain, size = top.speed / other.speed - 1, (top.peak_bytes or 0) - (other.peak_bytes or 0)
    memory = f"{abs(size) / _GIB:.3g} GiB {'more' if size >= 0 else 'less'}"
    spread = ", within the spread of their steps" if _overlap(top, other) else ""
    if name == NAMES["fit.recompute"] and gain >= 0:
        return f"{name} {theirs} costs {1 - other.speed / top.speed:.1%} and holds {_opposite(memory)}{spread}"
    verb = "gains" if gain >= 0 else "loses"
    return f"{name} {mine} {verb} {abs(gain):.1%} over {theirs}, for {memory}{spread}"


def _overlap(one: Outcome, other: Outcome) -> bool:
    """Whether the quartiles of their steps' seconds do."""
    if one.quartiles is None or other.quartiles is None:
        return False
    return one.quartiles[0] <= other.quartiles[1] and other.quartiles[0] <= one.quartiles[1]


def _opposite(memory: str) -> str:
    return memory.replace("more", "less") if memory.endswith("more") else memory.replace("less", "more")


def _differences(one: Point, other: Point) -> list[str]:
    """Names of what they differ in."""
    paths = [path for path in one.values if one.values[path] != other.values.get(path)]
    return list(dict.fromkeys("layout" if path in (*LAYOUT, STAGE_LAYERS) else _name(path) for path in paths))


def _value(name: str, point: Point) -> Any:
    if name == "layout":
        short = [f"{NAMES[path]} {point.arm[path]}" for path in LAYOUT if point.arm[path] not in (1, False)]
        return f"({', '.join(short) or 'data parallel alone'})"
    return next(value for path, value in point.values.items() if _name(path) == name)


def _fastest(rest: Sequence[Outcome], top: Outcome) -> str:
    fastest = max(rest, key=lambda outcome: outcome.speed)
    return f"{told(fastest.point)}, {fastest.speed / top.speed - 1:+.1%}"


def table(outcomes: Sequence[Outcome], top: Outcome | None) -> Iterator[tuple[bool, list[str]]]:
    """Whether it is the best, and the cells of COLUMNS, of each point."""
    for outcome in outcomes:
        relative = "" if top is None or not outcome.speed else f"{outcome.speed / top.speed - 1:+.1%}"
        seconds = "" if outcome.step_seconds is None else f"{1e3 * outcome.step_seconds:.1f}"
        if outcome.quartiles is not None:
            seconds += f" ({1e3 * outcome.quartiles[0]:.1f} to {1e3 * outcome.quartiles[1]:.1f})"
        speed = f"{outcome.speed:,.0f}" if outcome.speed else ""
        memory = _gib(outcome.peak_bytes)
        ending = outcome.state if not outcome.reason else f"{outcome.state}: {outcome.reason}"
        yield outcome is top, [told(outcome.point), speed, relative, seconds, memory, ending]


COLUMNS = ("point", "tokens/s", "against the best", "ms a step (quartiles)", "GiB at most", "how it ended")


def _name(path: str) -> str:
    return NAMES.get(path, path)


def _gib(size: int | None) -> str:
    return "" if size is None else f"{size / _GIB:.3g} GiB"
