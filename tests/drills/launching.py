"""What starts the ranks of a drill and restarts them: one machine, plain processes or torchrun's agents."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from multiprocessing import forkserver
from pathlib import Path

from rank_process import Life, rank_main

POLL_SECONDS = 0.02
SRUN_WAIT_SECONDS = 30.0
AGENT_POLL_SECONDS = 0.1  # torchrun's own interval
HERE = Path(__file__).parent

_NEXT_PORT = [20_000 + os.getpid() * 37 % 9_000]
_PORTS = threading.Lock()


def prepare_server(code):
    """The server that ranks are forked from imports the copy of the code in `code`, once."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(code), str(HERE)])
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
    multiprocessing.get_context("forkserver").set_forkserver_preload(["fork_server"])
    forkserver.ensure_running()


def free_port():
    """One that nobody else of this process is given, below those that the system gives to connections."""
    with _PORTS:
        while True:
            _NEXT_PORT[0] = 20_000 + (_NEXT_PORT[0] - 19_999) % 11_000
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", _NEXT_PORT[0]))
                return _NEXT_PORT[0]


class Forked:
    """Ranks as Slurm's srun starts them, rank 0 serving the store; or, with `served`, as torchrun's agent does: it
    serves the store, and sends SIGTERM to the others as soon as one has failed.

    lives: one per rank. clock: a rank that runs in a new process with a clock of its own, and that clock.
    """

    def __init__(self, lives, *, served=False, address="127.0.0.1", clock=None):
        self._lives = lives
        world = {"WORLD_SIZE": str(len(lives)), "MASTER_ADDR": address, "MASTER_PORT": str(free_port())}
        self._store = None
        if len(lives) > 1 and served:
            from torch.distributed import TCPStore

            world["TORCHELASTIC_USE_AGENT_STORE"] = "True"
            port, size = int(world["MASTER_PORT"]), len(lives)
            self._store = TCPStore(address, port, size, True, timedelta(seconds=300), wait_for_workers=False)
        self._told_to_end = False
        context = multiprocessing.get_context("forkserver")
        self._processes = []
        for life in lives:
            variables = {**world, "RANK": str(life.rank), "LOCAL_RANK": str(life.rank)} if len(lives) > 1 else {}
            life.environment.update(variables)
            if clock is not None and clock.rank == life.rank:
                self._processes.append(_Started(life, clock.environment))
                continue
            process = context.Process(target=rank_main, args=(life,))
            process.start()
            self._processes.append(process)

    @property
    def codes(self):
        return [process.exitcode for process in self._processes]

    @property
    def pids(self):
        return [process.pid for process in self._processes]

    def signal(self, rank, number):
        if self._processes[rank].exitcode is None:
            os.kill(self._processes[rank].pid, number)

    def signal_all(self, number):
        for rank in range(len(self._processes)):
            self.signal(rank, number)

    def wait(self, deadline_seconds, *, besides=()):
        """Whether all ranks but `besides` have ended in time. An agent ends those that are left once one has failed."""
        end = time.monotonic() + deadline_seconds
        while time.monotonic() < end:
            codes = self.codes
            if all(code is not None for rank, code in enumerate(codes) if rank not in besides):
                return True
            if self._store is not None and not self._told_to_end and any(codes):
                time.sleep(AGENT_POLL_SECONDS)
                self._told_to_end = True
                self.signal_all(signal.SIGTERM)
            time.sleep(POLL_SECONDS)
        return False

    def close(self):
        self.signal_all(signal.SIGCONT)
        self.signal_all(signal.SIGKILL)
        for process in self._processes:
            process.join(10)
        self._store = None


class _Started:
    """A rank in a new process, where one must be: what is preloaded into it cannot be forked."""

    def __init__(self, life, more):
        (life.folder / "life.pickle").write_bytes(pickle.dumps(life))
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "torchrun_rank.py"), str(life.folder)],
            cwd=life.folder,
            env={**os.environ, **life.environment, **more},
        )
        self.pid = self._process.pid

    @property
    def exitcode(self):
        return self._process.poll()

    def join(self, seconds):
        self._process.wait(seconds)


class Agents:
    """One `python -m triptych.launch.slurm.agent` (torchrun) per node, each with as many ranks as it has lives of.

    life: of every rank, but for its number. networks: the nodes' namespaces, None for this machine's own.
    """

    def __init__(self, life, num_ranks, *, networks=(None,), address="127.0.0.1", environment=None):
        port, folder = free_port(), life.folder
        (folder / "life.pickle").write_bytes(pickle.dumps(life))
        self._processes = []
        for number, network in enumerate(networks):
            rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint={address}:{port}", f"--rdzv-id={port}"]
            each = [f"--nnodes={len(networks)}", f"--nproc-per-node={num_ranks // len(networks)}"]
            inside = ["ip", "netns", "exec", network] if network else []
            agent = [sys.executable, "-m", "triptych.launch.slurm.agent", *each, *rendezvous]
            with (folder / f"agent{number}").open("a") as told:
                process = subprocess.Popen(
                    [
                        *inside,
                        *agent,
                        f"--rdzv-conf=is_host={number == 0}",
                        f"--local-addr={_address(address, number)}",
                        HERE / "torchrun_rank.py",
                        folder,
                    ],
                    cwd=folder,
                    env={**os.environ, **(environment or {})},
                    stdout=told,
                    stderr=told,
                    start_new_session=True,
                )
            self._processes.append(process)

    @property
    def codes(self):
        return [process.poll() for process in self._processes]

    def signal(self, node, number):
        if self._processes[node].poll() is None:
            os.kill(self._processes[node].pid, number)

    def signal_all(self, number):
        for node in range(len(self._processes)):
            self.signal(node, number)

    def wait(self, deadline_seconds, *, besides=()):
        """Whether all agents have ended in time. As with `srun --wait` those that are left are killed some time after
        the first has ended: one that is parted from the others waits for minutes.
        """
        end, others_end = time.monotonic() + deadline_seconds, None
        while time.monotonic() < end:
            codes = self.codes
            if all(code is not None for code in codes):
                return True
            if others_end is None and any(code is not None for code in codes):
                others_end = time.monotonic() + SRUN_WAIT_SECONDS
            if others_end is not None and time.monotonic() > others_end:
                self._kill()
            time.sleep(POLL_SECONDS)
        return False

    def close(self):
        """Kill the agents and all that they have started."""
        self._kill()

    def _kill(self):
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _address(first, number):
    """The address of node `number`, nodes being numbered on from the first."""
    beginning, _, last = first.rpartition(".")
    return f"{beginning}.{int(last) + number}"


def run_command(arguments, folder, name):
    """`triptych` with these arguments in a forked process: (exit code, what it printed, its errors)."""
    place = folder / name
    place.mkdir(exist_ok=True)
    process = multiprocessing.get_context("forkserver").Process(
        target=rank_main, args=(Life(rank=0, arguments=tuple(map(str, arguments)), folder=place),)
    )
    for each in ("out0", "err0"):
        (place / each).unlink(missing_ok=True)
    process.start()
    process.join(300)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode, (place / "out0").read_text(), (place / "err0").read_text()
