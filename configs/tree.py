"""A run's tree of settings: changed by path, written as YAML, read back, every value checked against its type.

A tree is frozen dataclasses all the way down. YAML is only data here: nothing in it is evaluated.
"""

import dataclasses
import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

_Tree = TypeVar("_Tree")


def with_settings(tree: _Tree, assignments: Sequence[str]) -> _Tree:
    """The tree after `path=value` assignments, in order.

    A path is dotted, a value is YAML (`1e-3`, `true`, `cosine`, `[0.9, 0.95]`, `{kind: polynomial, power: 2}`). Setting
    a part's `kind` replaces the part. ValueError, in one line, for an unknown path (with the nearest one) or a value of
    the wrong type.
    """
    document = to_mapping(tree)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ValueError(f"--set {assignment} is no assignment; write --set path=value")
        _assign(document, path.split("."), parse_value(text), path)
    return from_mapping(type(tree), document, origin="--set")


def parse_value(text: str) -> Any:
    """A value as typed on a command line: JSON numbers first (YAML 1.1 reads 1e-3 as text), whole numbers as int, else
    YAML.
    """
    try:
        number = json.loads(text)
    except ValueError:
        number = None
    if isinstance(number, float):
        return int(number) if number.is_integer() and "." not in text else number
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def to_mapping(tree: Any) -> dict[str, Any]:
    """Plain dicts, lists and scalars."""
    return json.loads(json.dumps(dataclasses.asdict(tree)))


def to_yaml(tree: Any) -> str:
    """The tree as YAML, fields in their order."""
    return yaml.safe_dump(to_mapping(tree), sort_keys=False, allow_unicode=True)


def from_mapping(kind: type[_Tree], document: Mapping[str, Any], *, origin: str) -> _Tree:
    """A checked tree from plain data. ValueError naming the first wrong path; `origin` says where it came from."""
    try:
        tree = TypeAdapter(kind).validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        path, message, value = _what_is_wrong(error.errors(), document)
        mend = "" if "; " in message else "; give another value"
        raise ValueError(
            f"{origin}: {path}: {message[0].lower() + message[1:]} (given {_short(value)}){mend}"
        ) from None
    _refuse_unknown(document, to_mapping(tree), origin, "")
    return tree


def from_yaml(kind: type[_Tree], text: str, *, origin: str) -> _Tree:
    """A checked tree from YAML text. ValueError if it is no YAML, or as `from_mapping`."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{origin} is no YAML ({' '.join(str(error).split())}); restore it from the run") from None
    if not isinstance(document, dict):
        raise ValueError(f"{origin} holds no settings; restore it from the run")
    return from_mapping(kind, document, origin=origin)


def _assign(document: dict[str, Any], parts: Sequence[str], value: Any, path: str) -> None:
    node: Any = document
    for i, part in enumerate(parts):
        if not isinstance(node, dict) or part not in node:
            known = list(node) if isinstance(node, dict) else []
            whole = f"set {'.'.join(parts[:i])} whole, to {{{part}: ..}}"
            mend = whole if isinstance(node, dict) and not node else _suggest(part, known)
            raise ValueError(f"--set {path}: there is no {'.'.join(parts[: i + 1])}; {mend}")
        if i == len(parts) - 2 and parts[-1] == "kind" and isinstance(node[part], dict):
            node[part] = {"kind": value}
            return
        if i == len(parts) - 1:
            node[part] = value
        node = node[part]


def _what_is_wrong(errors: Sequence[Any], document: Any) -> tuple[str, str, Any]:
    """Where, what and which value: of the first error. Where a setting has several forms and each of them has been
    tried, of the one that was meant: one of ours, else the deepest inside, else all of them together.
    """
    beside = errors[0]["loc"][:-1]
    tried = [error for error in errors if error["loc"][: len(beside)] == beside]
    meant = max(tried, key=lambda error: (error["type"] == "value_error", len(error["loc"])))
    path, messages = _settings_path(meant, document), [meant["msg"].removeprefix("Value error, ")]
    if meant["type"] != "value_error":
        messages = [error["msg"] for error in tried if _settings_path(error, document) == path]
    text = messages[0] + "".join(f", or {message.removeprefix('Input should be ')}" for message in messages[1:])
    return ".".join(path) or "the run", text, meant["input"]


def _settings_path(error: Any, document: Any) -> list[str]:
    """Where an error is, as --set names it: without the names of the forms that were tried."""
    node, path = document, []
    for part in error["loc"]:
        if (isinstance(node, list) and isinstance(part, int)) or (isinstance(node, Mapping) and part in node):
            node = node[part]
        elif error["type"] != "missing" or part != error["loc"][-1]:
            continue
        path.append(str(part))
    return path


def _refuse_unknown(given: Any, known: Any, origin: str, path: str) -> None:
    """ValueError for keys that validation ignored."""
    if isinstance(given, Mapping) and isinstance(known, Mapping):
        for key, value in given.items():
            if key not in known:
                raise ValueError(f"{origin}: there is no {path}{key}; {_suggest(key, list(known))}")
            _refuse_unknown(value, known[key], origin, f"{path}{key}.")


def _suggest(part: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(part, known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are: {', '.join(known)}" if known else "it has no fields"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
