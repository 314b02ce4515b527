"""When to write a checkpoint and which to keep."""

from dataclasses import dataclass
from typing import Literal


@dataclass(kw_only=True, slots=True, frozen=True)
class CheckpointConfig:
    """every_tokens: 0 writes only the last one. keep_last: how many of the newest stay. keep_every_tokens: the first
    at or past each multiple stays for good; 0 keeps none so.

    writing: in the background, from a copy in host memory as large as what the rank holds, while the training goes on;
    or before it goes on ("blocking"), without the copy.
    """

    every_tokens: int = 0
    keep_last: int = 2
    keep_every_tokens: int = 0
    writing: Literal["background", "blocking"] = "background"

    def __post_init__(self) -> None:
        if self.every_tokens < 0:
            raise ValueError(f"checkpoint.every_tokens is {self.every_tokens}; set it to 0 (the last one only) or more")
        if self.keep_last < 1:
            raise ValueError(f"checkpoint.keep_last is {self.keep_last}, which would keep none; set it to 1 or more")
        if self.keep_every_tokens < 0:
            raise ValueError(
                f"checkpoint.keep_every_tokens is {self.keep_every_tokens}; set it to 0 (none for good) or more"
            )
