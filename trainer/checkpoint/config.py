"""When to write a checkpoint and which to keep."""

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True, frozen=True)
class CheckpointConfig:
    """every_tokens: 0 writes only the last one. keep_last: how many of the newest stay."""

    every_tokens: int = 0
    keep_last: int = 2

    def __post_init__(self) -> None:
        if self.every_tokens < 0:
            raise ValueError(f"checkpoint.every_tokens is {self.every_tokens}; set it to 0 (the last one only) or more")
        if self.keep_last < 1:
            raise ValueError(f"checkpoint.keep_last is {self.keep_last}, which would keep none; set it to 1 or more")
