"""One sample that cannot be used, as opposed to a set that cannot be: raised, or given in the sample's place."""

from dataclasses import dataclass

_MAX_NAME = 120  # characters of a name that a file gives
_MAX_DETAIL = 400


def shown(text: str, max_characters: int = _MAX_NAME) -> str:
    """Words of a file that need not be trusted, fit for a terminal and a log: one line of bounded length, in which what
    cannot be printed is spelt as Python does.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:max_characters])
    return text if len(text) <= max_characters else f"{text[: max_characters - 2]}.."


class DamagedSample(ValueError):
    """One sample is unusable; the set around it is fine, so a caller may count it and go on.

    key: of the sample. reason: a short category to count by ("checksum", "image", "image too large", "empty caption",
    ...). detail: what is wrong, without the mend. Key and detail are held as they can be shown.
    """

    def __init__(self, key: str, reason: str, detail: str) -> None:
        self.key = shown(key)
        self.reason = reason
        self.detail = shown(detail, _MAX_DETAIL)
        super().__init__(f"sample {self.key}: {self.detail}; replace it, or raise max_damaged to skip more of them")

    def __reduce__(self) -> tuple[type["DamagedSample"], tuple[str, str, str]]:
        return DamagedSample, (self.key, self.reason, self.detail)


_MENDS = {
    "timeout": "see whether the store answers, or raise retry.timeout_seconds",
    "unreachable": "see whether the store answers, or raise retry.attempts",
    "forbidden": "see who may read it",
}


class UnreadableShard(ValueError):
    """A shard or its index cannot be read, or not as its manifest has it. reason: a short category to count by.

    detail: what is wrong, without the mend. attempts: reads that were tried.
    """

    def __init__(self, reason: str, detail: str, attempts: int) -> None:
        super().__init__(f"{detail}; {_MENDS.get(reason, 'copy it again, or make the folder again')}")
        self.reason = reason
        self.detail = detail
        self.attempts = attempts

    def __reduce__(self) -> tuple[type["UnreadableShard"], tuple[str, str, int]]:
        return UnreadableShard, (self.reason, self.detail, self.attempts)


@dataclass(kw_only=True, slots=True, frozen=True)
class Failure:
    """What stands in the place of a sample that cannot be used, so that a caller may skip, log and count it.

    sample: its absolute index in its set. key: "" if its row of the index cannot be read. shard: name of the tar.
    reason: a short category to count by. detail: what is wrong, in one line. attempts: reads that were tried.
    """

    sample: int
    key: str
    shard: str
    reason: str
    detail: str
    attempts: int
