"""`python -m triptych.launch.slurm.agent`: torchrun, that understands the time limit and hands on exit codes.

It takes torchrun's options and is torchrun (`torch.distributed.run`) but for three things. SIGUSR1, which Slurm sends
before the time limit, asks the processes that train for a stop, and torchrun waits for them however long they save: by
itself it dies of that signal, or, told to handle it, kills them after 30 seconds. It ends with the code with which its
processes ended, so that a script can tell what a restart mends from what it does not: torchrun always ends with 1. And
after a restart the processes meet at a new store: torchrun's own goes on holding what the ones before them left there,
and is lost with its node.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

STOP = signal.SIGUSR1
SIGNALLED = 128  # a shell's exit code of what a signal ended is this and the signal's number
POLL_SECONDS = 0.1
DEFAULTS = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def main(arguments: Sequence[str]) -> int:
    """Run torchrun's command line; the exit code."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    _hand_on_stops()
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.run import parse_args, run

    try:
        run(parse_args([*_where_it_is(arguments), *arguments]))
    except ChildFailedError as error:
        code = exit_code([failure.exitcode for failure in error.failures.values()])
        # Every process has said by itself why it ended, but one that was killed.
        killed = [f"rank {rank}: {code_in_words(each.exitcode)}" for rank, each in sorted(error.failures.items())]
        print(f"triptych: {socket.gethostname()} ends: {', '.join(killed)}", file=sys.stderr)
        return code
    except RendezvousError as error:
        print(f"triptych: {socket.gethostname()} ends: the agent where all meet is gone ({error})", file=sys.stderr)
        return 1
    except SignalException as error:
        return SIGNALLED + error.sigval
    return 0


def exit_code(codes: Sequence[int]) -> int:
    """Of an agent whose processes ended so (negative: by that signal): 2, which no restart mends, before all others;
    then what is not merely the shadow of another's death.
    """
    told = [code for code in codes if code > 0]
    killed = [SIGNALLED - code for code in codes if code < 0]
    return 2 if 2 in told else max([*killed, *told], default=1)


def code_in_words(code: int) -> str:
    """ "exit code 1", "killed by SIGKILL"."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def children() -> list[int]:
    """Process ids of this process's children."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                # The name in brackets may hold anything; after the last bracket come state and parent.
                if int((path / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                    found.append(int(path.name))
    return found


def _hand_on_stops() -> None:
    """From the first SIGUSR1 on each process that trains is sent one SIGTERM, also those that have just been started.

    Blocked, not handled: a thread that waits for it cannot interrupt torchrun, and whatever this process starts
    inherits the block. Some configurations of Slurm send a step's signal to every process in it, down to those that
    read data; others only to this one.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {STOP})
    signal.signal(STOP, signal.SIG_DFL)  # the script starts this ignoring it, and what is ignored is not waited for

    def hand_on() -> None:
        told: set[int] = set()
        signal.sigwait({STOP})
        while True:
            for pid in set(children()) - told:
                if _listens(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGTERM)
                    told.add(pid)
            time.sleep(POLL_SECONDS)

    threading.Thread(target=hand_on, daemon=True, name="hand on stops").start()


def _listens(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM: one that has not, yet, would die where the others wait for it."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


def _where_it_is(arguments: Sequence[str]) -> list[str]:
    """The name by which Slurm's other nodes know this one: what a host calls itself need not resolve on the others."""
    named = any(argument.replace("_", "-").startswith("--local-addr") for argument in arguments)
    node = os.environ.get("SLURMD_NODENAME", "")
    return [] if named or not node else ["--local-addr", node]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
