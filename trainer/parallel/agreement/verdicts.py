"""From what every rank says to what is wrong with which of them. No communication here."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

RELATIVE_TOLERANCE = 1e-6
"""Of numbers that every rank reduces for itself. gloo gives all ranks the same bits; a reduction in another order, as
NCCL may choose for another group, differs by a few roundings of fp32."""

_Value = TypeVar("_Value")


@dataclass(kw_only=True, slots=True, frozen=True)
class Standing:
    """Where one rank says it stands after a step.

    cursor: digest of the data cursor. loss, gradient_norm: after their reductions, so equal everywhere; loss is None
    if the step reports none. sound: whether every loss of this rank's own micro-batches was finite.
    """

    step: int
    tokens: int
    cursor: int
    loss: float | None
    gradient_norm: float
    sound: bool = True


def disagreement(standings: Sequence[Standing], labels: Sequence[str]) -> str | None:
    """In what the ranks differ, or None. labels: "rank 3 (node7)", one per standing.

    In the order in which one fault causes another: another place in the data makes another loss. Numbers that are not
    finite differ from none.
    """
    step = max(standing.step for standing in standings)
    for name in ("step", "tokens", "cursor"):
        if found := odd_ones(name, [getattr(standing, name) for standing in standings], labels):
            return f"ranks disagree in step {step}: {found}"
    if not_finite(standings, labels) is not None:
        return None
    for name in ("loss", "gradient_norm"):
        values = [getattr(standing, name) for standing in standings]
        if found := odd_ones(name, values, labels, same=_close):
            return f"ranks disagree in step {step}: {found}"
    return None


def not_finite(standings: Sequence[Standing], labels: Sequence[str]) -> str | None:
    """Whose loss or gradient norm is not, or None. A loss that is not finite on one rank makes the reduced numbers so
    on all, so that rank is named alone.
    """
    step = max(standing.step for standing in standings)
    unsound = [label for label, standing in zip(labels, standings, strict=True) if not standing.sound]
    if unsound:
        return f"the loss of {_some(unsound)} was not finite in step {step}"
    for name in ("loss", "gradient_norm"):
        values = [getattr(standing, name) for standing in standings]
        infinite = [label for label, value in zip(labels, values, strict=True) if value and not math.isfinite(value)]
        if infinite:
            where = "every rank" if len(infinite) == len(labels) else _some(infinite)
            return f"{name} is not finite on {where} in step {step}, though every rank's own losses were finite"
    return None


def different_facts(facts: Sequence[Mapping[str, str]], labels: Sequence[str]) -> str | None:
    """The first fact (settings, code, versions) in which the ranks differ, or None."""
    for name in facts[0]:
        if found := odd_ones(name, [each.get(name, "none") for each in facts], labels):
            return f"ranks do not run the same: {found}; start all of them from one checkout with one command"
    return None


def odd_ones(
    name: str,
    values: Sequence[_Value],
    labels: Sequence[str],
    same: Callable[[_Value, _Value], bool] = lambda first, second: first == second,
) -> str | None:
    """Who has another value than most, and both values; all sides if there is no majority. None if all agree."""
    sides: list[tuple[_Value, list[str]]] = []
    for value, label in zip(values, labels, strict=True):
        side = next((members for other, members in sides if same(other, value)), None)
        if side is None:
            sides.append((value, [label]))
        else:
            side.append(label)
    if len(sides) == 1:
        return None
    largest = max(sides, key=lambda side: len(side[1]))
    told = [f"{value} on {_some(members)}" for value, members in sides if members is not largest[1]]
    number = len(largest[1])
    others = f"the {number} others" if 2 * number > len(labels) and number > 1 else _some(largest[1])
    return f"{name} is {', '.join(told)}, but {largest[0]} on {others}"


def _close(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return True  # a rank that reports none does not contradict
    return math.isclose(first, second, rel_tol=RELATIVE_TOLERANCE)


def _some(labels: Sequence[str], most: int = 4) -> str:
    return ", ".join(labels[:most]) + (f" and {len(labels) - most} more" if len(labels) > most else "")
