"""What this process is told by its environment, and what it tells the libraries: read and written here alone."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from triptych.trainer.parallel.placement import Placement


def prepare_libraries() -> None:
    """Quiet what megatron-core and DeepSpeed say about packages that are not installed; give DeepSpeed the local rank
    it asserts. Must come before the first import of either, and of torch.
    """
    os.environ.setdefault("LOCAL_RANK", "0")
    # How long a thread of torch's OpenMP spins before it sleeps. On 2 cores the demo's training runs at 10,000 tokens a
    # second with this as with the default; with one core busy elsewhere at 4,000, and with the default at almost none.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    os.environ.setdefault("TRITON_PRINT_AUTOTUNING", "0")
    # A lost connection to the store is told in one line of ours; torch's own warning is a page of C++ frames each time.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    warnings.filterwarnings("ignore", module=r"megatron\..*")
    warnings.filterwarnings("ignore", module=r"deepspeed\..*")
    warnings.filterwarnings("ignore", message=r".*(Transformer Engine|Apex).*")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\..*")  # of DeepSpeed's calls
    for name in ("DeepSpeed", "deepspeed", "megatron", "torch.distributed"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        logger.addFilter(_is_error)  # DeepSpeed sets its own level when it is imported; a filter stays


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def is_first_process() -> bool:
    """Whether this process speaks for its run: what all find wrong with one command line is said once."""
    return os.environ.get("RANK", "0") == "0"


def placement() -> Placement:
    """This process's place: torchrun's variables, or a run of one process. ValueError if they are damaged."""
    try:
        return Placement(
            rank=int(os.environ.get("RANK", "0")),
            world_size=int(os.environ.get("WORLD_SIZE", "1")),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        )
    except ValueError as error:
        raise ValueError(
            f"RANK, WORLD_SIZE or LOCAL_RANK is no number ({error}); start with torchrun, or unset them"
        ) from None


@dataclass(kw_only=True, slots=True, frozen=True)
class Rendezvous:
    """Where the processes of a run meet. served_by_launcher: the store is torchrun's; else rank 0 serves it."""

    address: str
    port: int
    served_by_launcher: bool


def rendezvous() -> Rendezvous:
    """torchrun's variables, or those that a Slurm script sets. ValueError if they are missing or damaged."""
    try:
        return Rendezvous(
            address=os.environ["MASTER_ADDR"],
            port=int(os.environ["MASTER_PORT"]),
            served_by_launcher=os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        )
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is not set, but WORLD_SIZE is; start with torchrun, or set it") from None
    except ValueError as error:
        raise ValueError(f"MASTER_PORT is no number ({error}); set a free port") from None


def environment_of_child(num_sharing: int) -> dict[str, str]:
    """This environment for one of `num_sharing` runs of one process each that share this machine's cores: an even part
    of them, or fewer where OMP_NUM_THREADS says so already. Of a torchrun around this process it knows nothing.
    """
    num_threads = max(1, len(os.sched_getaffinity(0)) // num_sharing)
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        num_threads = min(num_threads, int(given))
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**kept, "OMP_NUM_THREADS": str(num_threads)}


@dataclass(kw_only=True, slots=True, frozen=True)
class ArrayTask:
    """Task `number`, from 0, of the `count` of a Slurm array."""

    number: int
    count: int


def array_task() -> ArrayTask | None:
    """This process's task of a Slurm array; None outside of one. ValueError if the variables are damaged."""
    if "SLURM_ARRAY_TASK_ID" not in os.environ:
        return None
    try:
        task, first, step = (
            int(os.environ.get(f"SLURM_ARRAY_TASK_{name}", default))
            for name, default in (("ID", ""), ("MIN", "0"), ("STEP", "1"))
        )
        return ArrayTask(number=(task - first) // step, count=int(os.environ["SLURM_ARRAY_TASK_COUNT"]))
    except (ValueError, KeyError, ZeroDivisionError):
        raise ValueError(
            "SLURM_ARRAY_TASK_ID and _COUNT are damaged; say the part yourself (--part and --num-parts)"
        ) from None


@contextmanager
def shared_cores(num_processes: int) -> Iterator[None]:
    """Processes that start meanwhile share the cores: torch's threads, and those of the text tokenizer."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // max(1, num_processes)))
    names = [name for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS") if num_processes > 1 and name not in os.environ]
    os.environ.update(dict.fromkeys(names, threads))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
