"""What a refusal must read like: one line of bounded length that names the mend and cannot harm a terminal."""

import unicodedata

MAX_MESSAGE = 1000


def fault_of(message: str) -> str | None:
    """What is wrong with it, or None."""
    if len(message) > MAX_MESSAGE:
        return f"{len(message)} characters: {message[:300]!a}"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in message):
        return f"control characters or half a character: {message[:300]!a}"
    if "; " not in message:
        return f"names no mend: {message[:300]!a}"
    return None
