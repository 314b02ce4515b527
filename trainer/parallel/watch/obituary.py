"""What ends a run of many processes: which rank, where, why."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch.distributed as dist

FAILED, REFUSED, INTERRUPTED, TERMINATED = 1, 2, 130, 143
"""Exit codes: of a death or a mistake of ours, of what the user can mend, of Ctrl-C, of SIGTERM."""


class Diverged(RuntimeError):
    """The ranks do not hold the same run any more. Raised on all of them, with one text that names the odd ones."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Obituary:
    """The first failure of a run. rank: None where the cause names the ranks itself. place: where it was last seen.
    code: with which every process ends.
    """

    rank: int | None
    host: str = ""
    cause: str
    place: str = ""
    code: int = FAILED

    def __str__(self) -> str:
        if self.rank is None:
            return self.cause
        return f"rank {self.rank} ({self.host}): {self.cause}" + (f"; last seen {self.place}" if self.place else "")

    @property
    def is_of_the_silent(self) -> bool:
        """Whether its rank was found dead, rather than told of its failure."""
        return bool(self.place)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Obituary":
        return cls(**json.loads(text))


def is_secondary(error: BaseException) -> bool:
    """Whether an error is of a broken connection, hence most likely the shadow of another rank's death."""
    return any(isinstance(each, dist.DistError) or _is_of_gloo(each) for each in _chain(error))


def _is_of_gloo(error: BaseException) -> bool:
    """gloo's errors are plain RuntimeErrors that begin with the path of its source."""
    text = str(error)
    return isinstance(error, RuntimeError) and ("gloo/" in text or "Connection closed by peer" in text)


def _chain(error: BaseException) -> Iterator[BaseException]:
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__
