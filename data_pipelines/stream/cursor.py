"""Where a run stands in its sources, as the integers that a checkpoint keeps.

Of each source: its place, the tokens that were planned from it, what the mixture owes it, and which order its place is
of. All are independent of ranks, workers and batches. A source that leaves the mixture keeps its entries, and goes on
from them if it comes back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_TOKENS, _OWED, _ORDER = ":tokens", ":owed", ":order"


@dataclass(kw_only=True, slots=True)
class SourcePlace:
    """place: window << ROW_BITS | rows taken from it. tokens: planned so far, without padding. owed: tokens that the
    source is behind its share, times 2**SHARE_BITS; it starts at 0, whenever the source joins. order: fingerprint of
    the order that the place is of, 0 where none is known.
    """

    place: int = 0
    tokens: int = 0
    owed: int = 0
    order: int = 0


def places_of(cursor: Mapping[str, int], names: Iterable[str]) -> dict[str, SourcePlace]:
    """The named sources' places; those that the cursor does not know begin."""
    return {
        name: SourcePlace(
            place=cursor.get(name, 0),
            tokens=cursor.get(name + _TOKENS, 0),
            owed=cursor.get(name + _OWED, 0),
            order=cursor.get(name + _ORDER, 0),
        )
        for name in names
    }


def total_tokens(cursor: Mapping[str, int]) -> int:
    """Tokens that were planned so far from all sources, those that have left among them."""
    return sum(value for name, value in cursor.items() if name.endswith(_TOKENS))


def cursor_of(places: Mapping[str, SourcePlace]) -> dict[str, int]:
    """The cursor of these places."""
    cursor: dict[str, int] = {}
    for name, place in places.items():
        cursor |= {
            name: place.place,
            name + _TOKENS: place.tokens,
            name + _OWED: place.owed,
            name + _ORDER: place.order,
        }
    return cursor


def require_name(name: str) -> None:
    """ValueError for a source's name that the cursor cannot keep apart."""
    if ":" in name or not name:
        raise ValueError(f"source {name!r} has no usable name; use one without a colon")
