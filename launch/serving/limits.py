"""How much a server takes on."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from triptych.configs.tree import with_settings


@dataclass(kw_only=True, slots=True, frozen=True)
class ServingLimitsConfig:
    """Bounds of a request, and of all of them together. The defaults fit a small model on two cores.

    body_bytes: of a request, files as base64 included. prompt_characters: of a text that comes in. pixels: of a
    picture, before it is resized. audio_seconds: of a recording. samples: that one request makes. steps: of the
    sampler, where a request asks for others than the run's own. waiting: requests that wait for the one that runs.
    request_seconds: from a request's arrival to its answer. grace_seconds: that what runs gets to finish when the
    server is stopped. connections: open at once. ValueError for a bound that lets nothing through.
    """

    body_bytes: int = 8 << 20
    prompt_characters: int = 4000
    pixels: int = 4_194_304
    audio_seconds: float = 60.0
    samples: int = 16
    steps: int = 256
    waiting: int = 8
    request_seconds: float = 60.0
    grace_seconds: float = 20.0
    connections: int = 128

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (value >= 0 if field.name in ("waiting", "grace_seconds") else value > 0):
                raise ValueError(f"{field.name} is {value}; raise it")


def limits_of(assignments: Sequence[str]) -> ServingLimitsConfig:
    """The defaults after `name=value` assignments. ValueError for an unknown name or a value of the wrong type."""
    try:
        return with_settings(ServingLimitsConfig(), assignments)
    except ValueError as error:
        raise ValueError(str(error).replace("--set", "--limit")) from None
