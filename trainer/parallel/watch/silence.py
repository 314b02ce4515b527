"""How long a rank has given no sign of life, as another one can know it."""


class Silence:
    """Adds up the time over which a sign of life was looked at and found unchanged.

    Of the time between two looks at most `most_seconds` counts: a watcher that was itself stopped or starved for a
    minute has seen nothing of that minute, and must not take it for the other's silence.
    """

    def __init__(self, most_seconds: float) -> None:
        self._most = most_seconds
        self._sign: object = None
        self._seen: float | None = None
        self._silent = 0.0

    def look(self, sign: object, now: float) -> float:
        """Seconds of silence up to `now`, on a clock that never goes back. sign: any value; a new one is life."""
        if self._seen is None or sign != self._sign:
            self._silent = 0.0
        else:
            self._silent += min(now - self._seen, self._most)
        self._sign, self._seen = sign, now
        return self._silent
