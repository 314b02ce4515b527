"""Case `number` of `seed`: always the same bytes for the same target."""

import random
from functools import cache

from mutations import mutated
from reader_targets import TARGETS, Target


@cache
def _order(names):
    return tuple(target for target in TARGETS if not names or target.name in names for _ in range(target.weight))


def case(seed: int, number: int, names: frozenset[str] = frozenset()) -> tuple[Target, bytes]:
    """Target and mutated bytes. names: only these targets, all if empty."""
    order = _order(names)
    target = order[number % len(order)]
    draw = random.Random(f"{seed}/{number}")
    seeds = target.seeds()
    return target, mutated(draw.choice(seeds), draw, target.structured, seeds)
