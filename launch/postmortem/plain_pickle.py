"""Data in the pickle format, read without running any of it: what NCCL's flight recorder writes by itself.

A pickle is a program for a small stack machine; some of its instructions call functions. Here those that build plain
values are carried out, and any other one refuses the file. pickletools only takes instructions apart.
"""

import pickletools
from collections.abc import Callable
from typing import Any

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS_AND_TEXTS = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINBYTES", "SHORT_BINBYTES", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_MARK = object()
_MOST_VALUES = 20_000_000


def read_plain_pickle(content: bytes) -> Any:
    """The dicts, lists, tuples, texts, numbers and None in it. ValueError if there is anything else, or it is cut."""
    machine = _Machine()
    try:
        for number, (instruction, argument, _) in enumerate(pickletools.genops(content)):
            if number > _MOST_VALUES:
                raise ValueError("too many instructions")
            machine.do(instruction.name, argument)
        (value,) = machine.stack
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"no plain data ({error})") from None
    return value


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def do(self, name: str, argument: Any) -> None:
        if name in ("PROTO", "FRAME", "STOP"):
            return
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _NUMBERS_AND_TEXTS:
            self.stack.append(argument)
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[int(argument)] = self.stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self._memo[int(argument)])
        else:
            self._combine(name)

    def _combine(self, name: str) -> None:
        if name == "APPEND":
            value = self.stack.pop()
            self.stack[-1].append(value)
        elif name == "APPENDS":
            values = self._since_mark()
            self.stack[-1].extend(values)
        elif name == "SETITEM":
            value, key = self.stack.pop(), self.stack.pop()
            self.stack[-1][key] = value
        elif name == "SETITEMS":
            values = self._since_mark()
            self.stack[-1].update(zip(values[::2], values[1::2], strict=True))
        elif name in ("TUPLE", "LIST", "DICT"):
            values = self._since_mark()
            pairs = zip(values[::2], values[1::2], strict=False)
            self.stack.append(tuple(values) if name == "TUPLE" else values if name == "LIST" else dict(pairs))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(name[-1])
            values, self.stack[-size:] = tuple(self.stack[-size:]), []
            self.stack.append(values)
        else:
            raise ValueError(f"instruction {name} is not carried out")

    def _since_mark(self) -> list[Any]:
        at = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        values, self.stack[at:] = self.stack[at + 1 :], []
        return values
