"""Checkpoints and failures: how often to save, and what is lost."""

import math
from dataclasses import dataclass, fields

DAY_SECONDS = 86_400.0


@dataclass(kw_only=True, slots=True, frozen=True)
class FailureConfig:
    """mtbf_hours_per_gpu: mean hours between failures that end the job, of one device with its share of the rest; they
    come independently. The default is Llama 3 405B's: 419 unexpected interruptions in 54 days on 16,384 H100 (arXiv
    2407.21783, section 3.3.4). restart_seconds: from a failure to the first step again, queue and loading among it: a
    guess. copy_gb_per_second: from one device to its host, for which the training waits: PCIe 5's half. storage_gb_
    per_second: of all processes together, to where checkpoints go: a guess.

    ValueError for a number that is not above 0.
    """

    mtbf_hours_per_gpu: float = 16_384 * 54 * 24 / 419
    restart_seconds: float = 600.0
    save_seconds: float = 2.0
    copy_gb_per_second: float = 20.0
    storage_gb_per_second: float = 5.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; give a number above 0")


@dataclass(kw_only=True, slots=True, frozen=True)
class Reliability:
    """mean_seconds: between failures of the whole job. write_seconds: until a checkpoint is safe; blocked_seconds: for
    which training waits. young_seconds, daly_seconds: intervals between checkpoints, by Young's and by Daly's formula;
    interval_seconds: Daly's, no shorter than a write takes. lost_seconds: of a failure, on average, restart among it.
    goodput: share of the time that makes progress that stays.
    """

    mean_seconds: float
    failures_per_day: float
    checkpoint_bytes: int
    write_seconds: float
    blocked_seconds: float
    young_seconds: float
    daly_seconds: float
    interval_seconds: float
    lost_seconds: float
    goodput: float


def reliability(
    *, num_devices: int, checkpoint_bytes: int, bytes_per_device: int, background: bool, config: FailureConfig
) -> Reliability:
    """What failures cost a job. bytes_per_device: that the fullest one copies to its host. background: whether training
    goes on while a checkpoint is written.
    """
    mean = config.mtbf_hours_per_gpu * 3600 / num_devices
    write = config.save_seconds + checkpoint_bytes / (config.storage_gb_per_second * 1e9)
    copy = config.save_seconds + bytes_per_device / (config.copy_gb_per_second * 1e9)
    blocked = copy if background else write
    young = math.sqrt(2 * blocked * mean)
    interval = max(daly_interval(blocked, mean), write if background else 0.0)
    # What a background write has not finished is lost with the rest.
    unsafe = write if background else 0.0
    return Reliability(
        mean_seconds=mean,
        failures_per_day=DAY_SECONDS / mean,
        checkpoint_bytes=checkpoint_bytes,
        write_seconds=write,
        blocked_seconds=blocked,
        young_seconds=young,
        daly_seconds=daly_interval(blocked, mean),
        interval_seconds=interval,
        lost_seconds=(interval + blocked) / 2 + unsafe + config.restart_seconds,
        goodput=goodput(interval, blocked, unsafe + config.restart_seconds, mean),
    )


def daly_interval(save_seconds: float, mean_seconds: float) -> float:
    """The time between the end of one checkpoint and the start of the next that loses least: Daly 2006, "A higher order
    estimate of the optimum checkpoint interval for restart dumps", equation 37. Young 1974 is its first term.
    """
    if save_seconds >= 2 * mean_seconds:
        return mean_seconds
    ratio = save_seconds / (2 * mean_seconds)
    return math.sqrt(2 * save_seconds * mean_seconds) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - save_seconds


def goodput(interval: float, save_seconds: float, restart_seconds: float, mean_seconds: float) -> float:
    """Useful over all time, failures exponential and possible at any time: Daly 2006, equation 20, for each interval
    M e^(R/M) (e^((t + d)/M) - 1) seconds pass.
    """
    exponent = (interval + save_seconds) / mean_seconds
    if exponent + restart_seconds / mean_seconds > 700:  # a float's largest exponential: no progress at all
        return 0.0
    passed = mean_seconds * math.exp(restart_seconds / mean_seconds) * math.expm1(exponent)
    return interval / passed
