"""A Slurm of our own on this machine: munged, one slurmctld and several slurmd, all under one folder.

    python tests/launch/slurm/slurm_cluster.py FOLDER [--nodes 3]

starts it, prints what to put into the environment, and ends it at Ctrl-C. As root, with Debian's or Ubuntu's packages
slurm-wlm and munge (apt-get install --no-install-recommends slurm-wlm munge); no systemd, no cgroups, nothing outside
the folder. Nodes are called 127.0.0.2, 127.0.0.3 and so on: names that need no entry in /etc/hosts.
"""

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
PLACES = "/usr/sbin:/sbin"
START_SECONDS = 30.0

CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmctldParameters=enable_configless
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until the credential of its last start has expired: 120 s where nothing is said.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=verbose
ProctrackType=proctrack/{proctrack}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,sched_min_interval=0
JobRequeue=1
KillWait=15
MinJobAge=3600
# Jobs past their limit are looked for once a minute; a signal before the limit is sent up to a minute early.
OverTimeLimit=0
SlurmdTimeout=20
SlurmctldTimeout=20
MessageTimeout=10
ReturnToService=2
InactiveLimit=0
TmpFS={folder}
NodeName=127.0.0.[2-{last}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first_port}-{last_port}] CPUs=2 \
RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not():
    """What is missing for a cluster of our own; "" if nothing is."""
    if os.geteuid() != 0:
        return "only root may start slurmd"
    missing = [name for name in PROGRAMS if _program(name) is None]
    return f"{', '.join(missing)} not installed (packages slurm-wlm and munge)" if missing else ""


def _program(name):
    return shutil.which(name, path=f"{os.environ['PATH']}:{PLACES}")


class SlurmCluster:
    """A context manager. environment: in which sbatch, squeue and the like speak to this cluster."""

    def __init__(self, folder, num_nodes=3, proctrack="linuxproc"):
        self.folder, self.num_nodes, self.proctrack = Path(folder).resolve(), num_nodes, proctrack
        self.nodes = [f"127.0.0.{2 + number}" for number in range(num_nodes)]
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        for name in [name for name in self.environment if name.startswith(("SLURM_J", "SLURM_N", "SBATCH_"))]:
            del self.environment[name]
        self._daemons = {}

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception):
        self.close()

    def _start(self):
        for name in ("munge", "state", "spool", "log"):
            (self.folder / name).mkdir(parents=True, mode=0o700)
        self._start_munge()
        ports = free_ports(1 + self.num_nodes)
        text = CONFIG.format(
            folder=self.folder,
            host=socket.gethostname().partition(".")[0],
            port=ports[0],
            last=1 + self.num_nodes,
            first_port=ports[1],
            last_port=ports[-1],
            proctrack=self.proctrack,
        )
        (self.folder / "slurm.conf").write_text(text)
        self._daemons["slurmctld"] = self._daemon("slurmctld", "-D", "-f", self.folder / "slurm.conf")
        for node in self.nodes:
            self.start_node(node)
        self._wait(lambda: all(self.state_of(node) == "idle" for node in self.nodes), "nodes are not idle")

    def _start_munge(self):
        folder = self.folder / "munge"
        (folder / "key").write_bytes(secrets.token_bytes(128))
        (folder / "key").chmod(0o600)
        # Munge asks for a socket that everybody may reach, in folders that nobody else may write to.
        folder.chmod(0o711)
        options = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        paths = [f"--{option}={folder / name}" for option, name in options.items()]
        self._daemons["munged"] = self._daemon("munged", "--foreground", "--force", "--num-threads=2", *paths)
        self._wait((folder / "socket").exists, "munged has opened no socket")

    def start_node(self, node):
        """One more slurmd."""
        (self.folder / "spool" / node).mkdir(exist_ok=True)
        self._daemons[node] = self._daemon("slurmd", "-D", "-N", node, "-f", self.folder / "slurm.conf")

    def lose_node(self, node):
        """Kill everything that runs on a node at once, as when its power is cut."""
        daemon = self._daemons.pop(node)
        steps = [pid for pid in processes() if command_of(pid).startswith("slurmstepd") and node_of(pid) == node]
        doomed = [daemon.pid, *steps, *(pid for step in steps for pid in descendants(step))]
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        daemon.wait()

    def call(self, *arguments, check=True, cwd=None, **more):
        """One of Slurm's commands; what it printed."""
        done = subprocess.run(
            [str(argument) for argument in arguments],
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stderr}{done.stdout}"
        return done.stdout

    def state_of(self, node):
        return self.call("sinfo", "--noheader", "--nodes", node, "--format", "%t", check=False).strip()

    def job(self, number):
        """What the controller knows of a job, by the names that scontrol gives them."""
        text = self.call("scontrol", "--oneliner", "show", "job", number)
        return dict(part.split("=", 1) for part in text.split() if "=" in part)

    def wait_for_job(self, number, states, seconds):
        """Until the job is in one of the states; what is known of it."""
        self._wait(lambda: self.job(number)["JobState"] in states, f"job {number} is not {states}", seconds)
        return self.job(number)

    def wait_until_idle(self):
        """Until no job is left, and every node that is up has nothing to do."""
        self._wait(lambda: not self.call("squeue", "--noheader").strip(), "jobs are left", 120)
        self._wait(lambda: all(self.state_of(node) == "idle" for node in self.nodes), "nodes are not idle", 120)

    def _daemon(self, name, *arguments):
        program = _program(name)
        assert program is not None, f"{name} is not installed"
        with (self.folder / "log" / f"{name}.out").open("ab") as out:
            return subprocess.Popen(
                [program, *map(str, arguments)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait(self, condition, complaint, seconds=START_SECONDS):
        end = time.monotonic() + seconds
        while not condition():
            for name, daemon in self._daemons.items():
                assert daemon.poll() is None, f"{name} has ended with {daemon.returncode}: see {self.folder}/log"
            assert time.monotonic() < end, f"{complaint} after {seconds:g} s: see {self.folder}/log"
            time.sleep(0.2)

    def close(self):
        """End everything that was started, jobs first."""
        if "slurmctld" in self._daemons:
            self.call("scancel", "--user=root", "--signal=KILL", "--full", check=False)
        children = [pid for daemon in self._daemons.values() for pid in descendants(daemon.pid)]
        steps = [pid for pid in processes() if self._is_step_of_ours(pid)]
        for pid in (*children, *steps, *(pid for step in steps for pid in descendants(step))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for daemon in reversed(self._daemons.values()):
            daemon.kill()
            daemon.wait()
        self._daemons.clear()

    def _is_step_of_ours(self, pid):
        return command_of(pid).startswith("slurmstepd") and variable_of(pid, "SLURM_CONF") in (
            self.environment["SLURM_CONF"],
            "",
        )


def free_ports(number):
    """That many ports in a row, below those that the system gives to connections."""
    for first in range(12_000 + os.getpid() % 8000, 32_000):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + number):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return list(range(first, first + number))
    raise AssertionError("no free ports")


def processes():
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def parents():
    """Parent of every process."""
    found = {}
    for pid in processes():
        with contextlib.suppress(OSError):
            found[pid] = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def descendants(pid):
    """Children, their children and so on."""
    tree, found, waiting = parents(), [], [pid]
    while waiting:
        parent = waiting.pop()
        children = [child for child, of in tree.items() if of == parent]
        found += children
        waiting += children
    return found


def command_of(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def variable_of(pid, name):
    """A variable of a process's environment; "" if it has none."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if entry.startswith(name.encode() + b"="):
                return entry.partition(b"=")[2].decode()
    return ""


def node_of(step):
    """The node that a slurmstepd works for: its children are told."""
    names = [variable_of(pid, "SLURMD_NODENAME") for pid in descendants(step)]
    return next(filter(None, names), "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--proctrack", default="linuxproc", choices=["linuxproc", "pgid"])
    given = parser.parse_args()
    if missing := why_not():
        sys.exit(f"no Slurm can be started here: {missing}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with SlurmCluster(given.folder, given.nodes, given.proctrack) as cluster, contextlib.suppress(KeyboardInterrupt):
        print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
