"""Foreign text and amounts as they may stand on a terminal or a page."""

import unicodedata

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_SHOWN_CONTROLS = "\n\t"


def binary(num_bytes: float) -> str:
    """1536 as "1.5 KiB"."""
    unit = 0
    while num_bytes >= 1023.95 and unit < len(_UNITS) - 1:
        num_bytes, unit = num_bytes / 1024, unit + 1
    return f"{num_bytes:,.1f} {_UNITS[unit]}" if unit else f"{num_bytes:,.0f} bytes"


def counted(number: int, noun: str) -> str:
    """1 as "1 code", 2 as "2 codes"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def plain(text: str, max_characters: int, keep: str = "") -> str:
    """Control characters, but those of `keep`, and halves of characters as U+FFFD; cut, and says so, if too long."""
    rest = len(text) - max_characters
    shown = "".join(
        "\ufffd" if unicodedata.category(character) in ("Cc", "Cs") and character not in keep else character
        for character in text[:max_characters]
    )
    return f"{shown}… ({rest:,} more characters)" if rest > 0 else shown


def prose(text: str, max_characters: int) -> str:
    """`plain`, with lines and tabs as they are."""
    return plain(text.replace("\r\n", "\n"), max_characters, keep=_SHOWN_CONTROLS)
