"""What is asked of Slurm for a run."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

GpuRequest = Literal["gpus-per-node", "gres", "none"]
"""How a cluster is asked for GPUs: --gpus-per-node=8, --gres=gpu:8, or not at all (whole nodes, or no GPUs)."""

SET_BY_US = {
    "job-name": "the run directory",
    "nodes": "--nodes",
    "ntasks": "--nodes",
    "ntasks-per-node": "--nodes",
    "gpus-per-node": "--gpus-per-node",
    "gres": "--gpus-per-node",
    "cpus-per-task": "--cpus-per-node",
    "exclusive": "--cpus-per-node",
    "time": "--time",
    "signal": "--grace-seconds",
    "requeue": "--max-failures",
    "no-requeue": "--max-failures",
    "open-mode": "the run directory",
    "output": "the run directory",
    "error": "the run directory",
    "chdir": "the folder that you are in",
    "array": "--grid",
    "dependency": "--chain",
}
"""Options of sbatch that the script relies on, and what decides them."""

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
_KEY = re.compile(r"[a-z][a-z-]*")


@dataclass(kw_only=True, slots=True, frozen=True)
class JobConfig:
    """num_nodes nodes of gpus_per_node processes, one GPU each, for `time` (as Slurm writes it: minutes, HH:MM:SS or
    D-HH:MM:SS) at a time.

    gpu_request: how the cluster is asked for them. cpus_per_node: 0 takes whole nodes. container: an image for pyxis,
    or an .sif file for apptainer; mounts: what it sees beside the run directory and the folder of submission. venv: to
    activate; neither: the Python that wrote the script. grace_seconds: before the limit, for a save. max_failures:
    starts in a row without a new checkpoint that are forgiven; after one more it is left alone. chain: jobs of this
    run, one after another. sbatch: more options, KEY=VALUE or KEY.
    """

    num_nodes: int
    gpus_per_node: int
    time: str = "24:00:00"
    gpu_request: GpuRequest = "gpus-per-node"
    cpus_per_node: int = 0
    container: str | None = None
    mounts: tuple[str, ...] = ()
    venv: Path | None = None
    grace_seconds: int = 120
    max_failures: int = 3
    chain: int = 1
    sbatch: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for option, value in (("--nodes", self.num_nodes), ("--gpus-per-node", self.gpus_per_node)):
            if value < 1:
                raise ValueError(f"{option} {value} trains nothing; give 1 or more")
        if self.chain < 1:
            raise ValueError(f"--chain {self.chain} submits nothing; give 1 or more")
        if self.cpus_per_node < 0 or self.max_failures < 0:
            raise ValueError("--cpus-per-node and --max-failures must be 0 or more; raise them")
        if not 0 < self.grace_seconds <= 65535:  # the range that sbatch takes
            raise ValueError(f"--grace-seconds {self.grace_seconds} must be from 1 to 65535; change it")
        if self.grace_seconds >= (seconds := seconds_of(self.time)):
            raise ValueError(f"--grace-seconds {self.grace_seconds} leaves nothing of --time ({seconds} s); lower it")
        self._require_sbatch()
        if self.container is not None and self.venv is not None:
            raise ValueError("--container and --venv both say which Python runs; give one of them")
        if self.mounts and self.container is None:
            raise ValueError("--mount is for a container; add --container")
        if self.venv is not None and not (self.venv / "bin" / "activate").is_file():
            raise ValueError(f"--venv {self.venv} is no virtual environment (no bin/activate); name its folder")

    def _require_sbatch(self) -> None:
        for line in self.sbatch:
            key, _, value = line.partition("=")
            if not _KEY.fullmatch(key) or "\n" in value:
                raise ValueError(f"--sbatch {line} is no option of sbatch; write it as in --sbatch mail-type=END")
            if key in SET_BY_US:
                raise ValueError(f"--sbatch {key} would overrule what the script relies on; use {SET_BY_US[key]}")


def gpu_request_named(text: str) -> GpuRequest:
    """ValueError for another word than these."""
    for known in get_args(GpuRequest):
        if text == known:
            return known
    raise ValueError(f"--gpu-request {text} is unknown; give {' or '.join(get_args(GpuRequest))}")


def seconds_of(time: str) -> int:
    """Slurm's notation of a time limit, in seconds. ValueError for another."""
    found = _TIME.fullmatch(time)
    if found is None:
        raise ValueError(f"--time {time} is no time limit; write minutes, HH:MM:SS or D-HH:MM:SS")
    days = found["days"]
    numbers = [int(found[name] or 0) for name in ("first", "second", "third")]
    if days is not None:  # D-HH, D-HH:MM, D-HH:MM:SS
        hours, minutes, seconds = numbers
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds
    if found["third"] is not None:
        return (numbers[0] * 60 + numbers[1]) * 60 + numbers[2]
    return numbers[0] * 60 + numbers[1]  # MM, MM:SS
