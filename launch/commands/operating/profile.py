"""`triptych profile`: what a run costs on this hardware, and with `--sweep` which settings cost least."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from triptych.launch.environment import placement
from triptych.launch.profile.command import Asked
from triptych.launch.profile.command import profile as profile_one
from triptych.launch.profile.measuring import Passes

KINDS_OF_DATA = ("synthetic", "real")


def profile(
    name: str,
    settings: Sequence[str],
    *,
    out: Path,
    data: str,
    num_micro_batches: int | None,
    num_warmup: int,
    num_steps: int,
    trace: bool,
    checkpoint: bool,
    sweep: dict[str, Any] | None,
    code: str | None,
    command: str,
) -> int:
    """Profile a named run; the exit code. sweep: grids, world_size, memory_gib and minutes of one, or None.

    ValueError for settings or a layout that cannot run, before anything is written.
    """
    if data not in KINDS_OF_DATA:
        raise ValueError(f"--data {data} is none of {', '.join(KINDS_OF_DATA)}; give one of them")
    passes = Passes(num_warmup=num_warmup, num_steps=num_steps, trace=trace, checkpoint=checkpoint)
    asked = Asked(
        name=name,
        settings=tuple(settings),
        num_micro_batches=num_micro_batches,
        data=cast(Literal["synthetic", "real"], data),
        folder=out,
        code=code,
        command=command,
    )
    if sweep is None:
        profile_one(asked, passes, placement())
        return 0
    from triptych.launch.profile.sweep.command import SweepConfig, sweep_run

    return sweep_run(asked, passes, SweepConfig(**{**sweep, "grids": tuple(sweep["grids"])}), placement())
