"""`triptych plan`: what a run would need and cost on a cluster, before it is started."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.launch.planning.plan import as_document, make_plan
from triptych.launch.planning.reliability import FailureConfig
from triptych.launch.planning.report import print_plan


@dataclass(kw_only=True, slots=True, frozen=True)
class FailureOptions:
    """As given on the command line; None is the default. failures_per_day: of the whole job, for mtbf_hours."""

    mtbf_hours: float | None = None
    failures_per_day: float | None = None
    restart_minutes: float | None = None
    storage_gb_per_second: float | None = None

    def config(self, num_devices: int) -> FailureConfig:
        """ValueError for both rates, and for numbers that are not above 0."""
        if self.mtbf_hours is not None and self.failures_per_day is not None:
            raise ValueError("--mtbf-hours-per-gpu and --failures say the same thing; give one of them")
        given = {
            "--mtbf-hours-per-gpu": self.mtbf_hours,
            "--failures": self.failures_per_day,
            "--restart-minutes": self.restart_minutes,
            "--storage-gb-per-second": self.storage_gb_per_second,
        }
        for name, value in given.items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} {value:g} is not above 0; give a number that is")
        default = FailureConfig()
        hours = self.mtbf_hours or default.mtbf_hours_per_gpu
        if self.failures_per_day is not None:
            hours = 24 * num_devices / self.failures_per_day
        return FailureConfig(
            mtbf_hours_per_gpu=hours,
            restart_seconds=60 * self.restart_minutes if self.restart_minutes else default.restart_seconds,
            storage_gb_per_second=self.storage_gb_per_second or default.storage_gb_per_second,
        )


def plan(
    name: str,
    settings: Sequence[str],
    *,
    gpus: int,
    gpu: str,
    interconnect: str | None,
    calibrate: Sequence[Path],
    failures: FailureOptions,
    price_per_gpu_hour: float | None,
    as_json: bool,
    console: Console | None = None,
) -> None:
    """Print a plan of a named run. ValueError as `make_plan`, and as `triptych train` for the run's settings."""
    run = with_settings(named_run(name), settings)
    if gpus < 1:
        raise ValueError(f"--gpus {gpus} is none; give 1 or more")
    made = make_plan(
        run,
        num_devices=gpus,
        device_name=gpu,
        network=interconnect,
        profiles=calibrate,
        failures=failures.config(gpus),
        price_per_gpu_hour=price_per_gpu_hour,
    )
    if as_json:
        print(json.dumps(as_document(made), indent=2))
        return
    print_plan(made, console or Console(highlight=False))
