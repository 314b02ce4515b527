"""`triptych convert`."""

import sys
import time
from pathlib import Path
from typing import TypeVar, get_args

from triptych.launch.conversion.convert import ConversionConfig, Different, Target
from triptych.launch.conversion.convert import convert as convert_folder
from triptych.launch.conversion.hugging_face import FolderConfig, Precision
from triptych.launch.conversion.sources import Origin, SourceConfig

_Name = TypeVar("_Name", bound=str)
DIFFERENT = 1


def convert(
    source: Path,
    target: Path,
    *,
    to: str,
    origin: str | None,
    run: str | None,
    settings: list[str],
    weights: str,
    max_shard_gib: float,
    dtype: str,
    verify: bool,
    command: str,
) -> int:
    """Convert a checkpoint; returns the exit code, 1 where both sides were compared and differ. ValueError for options
    and folders that do not fit.
    """
    config = ConversionConfig(
        source=SourceConfig(
            folder=source,
            origin=None if origin is None else _one_of("--from", origin, get_args(Origin)),
            run=run,
            settings=settings,
            weights=weights,
        ),
        target=_one_of("--to", to, get_args(Target)),
        folder=FolderConfig(max_shard_gib=max_shard_gib, precision=_one_of("--dtype", dtype, get_args(Precision))),
        verify=verify,
        command=command,
    )
    started = time.perf_counter()
    try:
        verified = convert_folder(config, target, say=lambda line: print(f"triptych: note: {line}", file=sys.stderr))
    except Different as error:
        for line in str(error).splitlines():
            print(f"triptych: different: {line}", file=sys.stderr)
        return DIFFERENT
    if verified is not None:
        print(f"{verified.num_tensors} tensors, {verified.num_parameters:,} parameters: equal, {verified.digest[:16]}")
        logits = ", ".join(f"{task} {number:,}" for task, number in verified.num_logits.items())
        print(f"logits equal to the bit in fp32: {logits}")
    print(f"written to {target} in {time.perf_counter() - started:.1f} s")
    return 0


def _one_of(option: str, given: str, known: tuple[_Name, ...]) -> _Name:
    for name in known:
        if name == given:
            return name
    raise ValueError(f"{option} {given} is unknown; use one of {', '.join(known)}")
