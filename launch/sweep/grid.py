"""Which points a sweep has: variants times the product of grids, each point a list of settings."""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triptych.configs.tree import parse_value

SEED = "fit.seed"
"""The grid that results are grouped over."""

MAX_NAME_LENGTH = 200  # file systems take 255 bytes
_VARIANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")
_CLOSING = {"[": "]", "{": "}", "(": ")"}


@dataclass(kw_only=True, slots=True, frozen=True)
class Variant:
    """A named bundle of settings; the one that a sweep without variants has is nameless and empty."""

    name: str = ""
    settings: tuple[str, ...] = ()


@dataclass(kw_only=True, slots=True, frozen=True)
class Grid:
    """A path among the settings, and its values as they were typed."""

    path: str
    texts: tuple[str, ...]


@dataclass(kw_only=True, slots=True, frozen=True)
class Point:
    """One run of a sweep. name: a folder's. group: the name without the seed. values: of the grids, by path.

    settings: every assignment of this point: those of all points, its variant's, its values of the grids.
    """

    name: str
    group: str
    variant: str
    values: Mapping[str, Any]
    settings: tuple[str, ...]

    def label_without(self, path: str) -> str:
        """The group's name without the part that tells the value of `path`; empty if nothing else is in it."""
        paths = ["", *self.values] if self.variant else list(self.values)
        parts = zip(paths, self.name.split(","), strict=True) if paths else ()
        return ",".join(part for part_path, part in parts if part_path not in (path, SEED))


def parse_grid(text: str) -> Grid:
    """`path=value,value,...`, split at the commas that are in no brackets or quotes. ValueError for no value, an empty
    one, or one twice.
    """
    path, equals, values = text.partition("=")
    texts = tuple(part.strip() for part in _split(values, ","))
    if not equals or not path or not all(texts):
        raise ValueError(f"--grid {text} gives no values; write --grid path=value,value")
    if len({repr(parse_value(value)) for value in texts}) < len(texts):
        raise ValueError(f"--grid {text} has a value twice; give each once")
    return Grid(path=path, texts=texts)


def parse_variant(text: str) -> Variant:
    """`name: path=value path=value`, split at the spaces that are in no brackets or quotes. ValueError if it is not
    that.
    """
    name, colon, settings = text.partition(":")
    if not colon or not _VARIANT_NAME.fullmatch(name.strip()):
        raise ValueError(
            f"--variant {text} has no name of letters, digits and ._+- before a colon; "
            'write --variant "name: path=value"'
        )
    parts = [part for part in _split(settings, " ") if part.strip()]
    for part in parts:
        if "=" not in part:
            raise ValueError(f"--variant {text}: {part} is no assignment; write path=value, quotes around words")
    return Variant(name=name.strip(), settings=tuple(parts))


def sweep_points(
    run: str, *, settings: Sequence[str], variants: Sequence[Variant], grids: Sequence[Grid]
) -> list[Point]:
    """All points, the last grid running fastest. ValueError for a name or a path that occurs twice.

    run: its name, which a point without any other is called by. settings: of all points, before variants and grids.
    """
    _require_once("--variant", [variant.name for variant in variants])
    _require_once("--grid", [grid.path for grid in grids])
    shortened = _short_paths([grid.path for grid in grids])
    points = []
    for variant in variants or [Variant()]:
        for texts in itertools.product(*(grid.texts for grid in grids)):
            chosen = dict(zip((grid.path for grid in grids), texts, strict=True))
            parts = {path: f"{shortened[path]}={_safe(text)}" for path, text in chosen.items()}
            named = [variant.name] if variant.name else []
            points.append(
                Point(
                    name=",".join([*named, *parts.values()]) or run,
                    group=",".join([*named, *(part for path, part in parts.items() if path != SEED)]) or run,
                    variant=variant.name,
                    values={path: parse_value(text) for path, text in chosen.items()},
                    settings=(*settings, *variant.settings, *(f"{path}={text}" for path, text in chosen.items())),
                )
            )
    _require_folder_names([point.name for point in points])
    return points


def _split(text: str, separator: str) -> Iterator[str]:
    """The parts between separators at the top level."""
    part, awaited = "", []
    for letter in text:
        if awaited and letter == awaited[-1]:
            awaited.pop()
        elif letter in "\"'" and part.strip()[-1:] in ("", "="):  # elsewhere it is an apostrophe
            awaited.append(letter)
        elif letter in _CLOSING and (not awaited or awaited[-1] not in "\"'"):
            awaited.append(_CLOSING[letter])
        if letter == separator and not awaited:
            yield part
            part = ""
        else:
            part += letter
    yield part


def _short_paths(paths: Sequence[str]) -> dict[str, str]:
    """Each path's shortest end that no other path has."""
    short = {}
    for path in paths:
        parts = path.split(".")
        ends = [".".join(parts[start:]) for start in reversed(range(len(parts)))]
        others = [f".{other}" for other in paths if other != path]
        short[path] = next((end for end in ends if not any(other.endswith(f".{end}") for other in others)), path)
    return short


def _safe(text: str) -> str:
    """A value as part of a folder's name."""
    value = parse_value(text)
    shown = repr(value) if isinstance(value, float) else text
    return _UNSAFE.sub("_", shown).strip("_") or "_"


def _require_once(option: str, names: Iterable[str]) -> None:
    for name, number in Counter(names).items():
        if number > 1:
            raise ValueError(f"{option} {name} is given {number} times; give it once")


def _require_folder_names(names: Iterable[str]) -> None:
    for name, number in Counter(names).items():
        if number > 1:
            raise ValueError(f"{number} points would be called {name}; make variants with names of them")
        if len(name) > MAX_NAME_LENGTH:
            raise ValueError(f"{name} is too long for a folder; make a variant with a short name of it")
