"""The text of a batch script: what Slurm is asked for, the environment, one step on all nodes, and what comes of it."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from triptych.launch.slurm.job import JobConfig

HANG_SECONDS = 60
"""After the first agent has ended the others end too; one that does not is killed."""


@dataclass(kw_only=True, slots=True, frozen=True)
class Script:
    """One script. folder: of the run, or of a sweep: then `points` is a file of run directories, one per line, and
    num_points of them are trained as an array, at most points_at_once at a time (0: as many as the cluster allows).
    settings: assignments on top of the run's own. python: the interpreter outside containers. workdir: where relative
    paths begin. command: that wrote this.
    """

    run: str
    folder: Path
    job: JobConfig
    name: str
    python: str
    workdir: Path
    command: str
    settings: tuple[str, ...] = ()
    points: Path | None = None
    num_points: int = 0
    points_at_once: int = 0

    @property
    def text(self) -> str:
        """The whole script."""
        parts = (self._head(), self._places(), self._environment(), self._decisions(), self._step(), _END)
        return "\n".join(part.strip("\n") + "\n" for part in parts)

    def _head(self) -> str:
        job = self.job
        folder = str(self.folder / "slurm").replace("%", "%%")  # in a file's name sbatch replaces %j and the like
        log = f"{folder}/{'%A_%a' if self.points else '%j'}.log"
        options = [
            f"job-name={self.name}",
            f"nodes={job.num_nodes}",
            "ntasks-per-node=1",
            *{
                "gpus-per-node": [f"gpus-per-node={job.gpus_per_node}"],
                "gres": [f"gres=gpu:{job.gpus_per_node}"],
                "none": [],
            }[job.gpu_request],
            *([f"cpus-per-task={job.cpus_per_node}"] if job.cpus_per_node else ["exclusive", "mem=0"]),
            f"time={job.time}",
            f"signal=B:USR1@{job.grace_seconds}",
            "requeue",
            "open-mode=append",
            f"output={log}",
            f"chdir={self.workdir}",
        ]
        if self.points is None:
            options.append("dependency=singleton")
        else:
            throttle = f"%{self.points_at_once}" if self.points_at_once else ""
            options.append(f"array=0-{self.num_points - 1}{throttle}")
        chosen = {line.partition("=")[0] for line in job.sbatch}
        options = [option for option in options if option.partition("=")[0] not in chosen] + list(job.sbatch)
        return "\n".join(
            [
                "#!/bin/bash",
                f"# {self.run}: {job.num_nodes} nodes of {job.gpus_per_node} processes. Written by",
                *(f"#   {line}" for line in self.command.splitlines()),
                "# What each line is for: launch/slurm/README.md. To go on by hand: sbatch this file again.",
                *(f"#SBATCH --{_quoted_option(option)}" for option in options),
            ]
        )

    def _places(self) -> str:
        if self.points is None:
            where = f"run_dir={shlex.quote(str(self.folder))}"
        else:
            where = f'run_dir=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {shlex.quote(str(self.points))})'
        return f"""
set -u
{where}
restarts=${{SLURM_RESTART_COUNT:-0}}
max_failures={self.job.max_failures}
say() {{ echo "triptych: $(date -u +%FT%TZ) job $SLURM_JOB_ID, start $((restarts + 1)): $*"; }}
"""

    def _environment(self) -> str:
        job = self.job
        activate = "" if job.venv is None else f"source {shlex.quote(str(job.venv / 'bin' / 'activate'))}\n"
        return f"""
# --- environment: what is set already stays, but for the code and where dumps go
{activate}export PYTHONPATH="$run_dir/code${{PYTHONPATH:+:$PYTHONPATH}}"
cores=$((${{SLURM_CPUS_ON_NODE:-1}} / {job.gpus_per_node}))
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-$((cores > 0 ? cores : 1))}}
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT={job.grace_seconds}
export NCCL_DEBUG=${{NCCL_DEBUG:-WARN}}
export TORCH_NCCL_ASYNC_ERROR_HANDLING=${{TORCH_NCCL_ASYNC_ERROR_HANDLING:-3}}
export TORCH_NCCL_TRACE_BUFFER_SIZE=${{TORCH_NCCL_TRACE_BUFFER_SIZE:-2000}}
export TORCH_NCCL_DUMP_ON_TIMEOUT=${{TORCH_NCCL_DUMP_ON_TIMEOUT:-1}}
export TORCH_NCCL_DEBUG_INFO_TEMP_FILE="$run_dir/dumps/nccl_trace_rank_"
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000))
export MASTER_ADDR MASTER_PORT
"""

    def _decisions(self) -> str:
        if self.points is None:
            others = """
successors() { squeue --noheader --user="$SLURM_JOB_USER" --name="$SLURM_JOB_NAME" --states=PENDING --format=%i; }
end_chain() { scancel --quiet --user="$SLURM_JOB_USER" --name="$SLURM_JOB_NAME" --state=PENDING; }
"""
        else:
            others = """
successors() { :; }  # the other tasks of this array are other runs
end_chain() { :; }
"""
        return "# --- what may come after this start" + others + _COME_BACK

    def _step(self) -> str:
        job = self.job
        more = "".join(f" --set {shlex.quote(setting)}" for setting in self.settings)
        cpus = f" --cpus-per-task={job.cpus_per_node}" if job.cpus_per_node else ""
        python, wrapped, inside = self._python()
        return f"""
# --- one agent per node, and this shell between it and Slurm
stopping='' ending=''
trap stopping=1 USR1
trap ending=1 TERM
began_at=$(newest)
mkdir -p "$run_dir/dumps"
say "on $SLURM_JOB_NODELIST, from ${{began_at:-the beginning}}"
srun --ntasks-per-node=1 --cpu-bind=none{cpus} --kill-on-bad-exit=0 --wait={HANG_SECONDS}{wrapped} \\
    {inside}bash -c 'trap "" USR1; exec "$@"' agent {python} -m triptych.launch.slurm.agent \\
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node={job.gpus_per_node} \\
    --rdzv-backend=c10d --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT" --rdzv-id="$SLURM_JOB_ID-$restarts" \\
    -m triptych.launch.train {shlex.quote(self.run)} --run-dir "$run_dir" --resume-if-started{more} \\
    < /dev/null &
step=$!
while kill -0 "$step" 2> /dev/null; do
    if [ -n "$stopping" ]; then
        kill -USR1 "$step"  # srun hands it on to the agents, they to the processes that train
        sleep 5 &
        wait -n
    else
        wait "$step"
    fi
done
wait "$step"
code=$?
"""

    def _python(self) -> tuple[str, str, str]:
        """The interpreter, srun's options of a container, and what is to stand before the interpreter."""
        job = self.job
        if job.container is None:
            return ("python" if job.venv is not None else shlex.quote(self.python)), "", ""
        pairs = [f"{place}:{place}" for place in dict.fromkeys((str(self.workdir), str(self.folder)))]
        if job.container.endswith(".sif"):
            binds = shlex.quote(",".join([*pairs, *job.mounts]))
            image = shlex.quote(job.container)
            return "python", "", f"apptainer exec --nv --pwd {shlex.quote(str(self.workdir))} --bind {binds} {image} "
        options = [
            f"--container-image={job.container}",
            f"--container-mounts={','.join([*pairs, *job.mounts])}",
            f"--container-workdir={self.workdir}",
        ]
        return "python", "".join(f" {shlex.quote(option)}" for option in options), ""


def _quoted_option(option: str) -> str:
    """sbatch takes double quotes in the lines of a script."""
    key, equals, value = option.partition("=")
    return f'{key}="{value}"' if " " in value else key + equals + value


_COME_BACK = """
newest() { find "$run_dir/checkpoints" -maxdepth 1 -name 'tokens-*' -printf '%f\\n' 2> /dev/null | sort | tail -n 1; }
come_back() {  # with the exit code of giving up
    fruitless=0
    if [ "$(newest)" = "$began_at" ]; then
        fruitless=$(($(cat "$run_dir/slurm/fruitless" 2> /dev/null || echo 0) + 1))
    fi
    if ! echo "$fruitless" > "$run_dir/slurm/fruitless"; then  # uncounted, it would come back for ever
        say "$run_dir takes no more (a full disk?): given up"
        end_chain
        exit "$1"
    fi
    if [ "$fruitless" -gt "$max_failures" ]; then
        say "$fruitless starts in a row without a new checkpoint: given up"
        end_chain
        exit "$1"
    fi
    if [ -n "$(successors)" ]; then
        say "the next job of the chain goes on"
        exit 0
    fi
    say "requeued, to go on from $(newest)"
    scontrol requeue "$SLURM_JOB_ID" || exit "$1"
    exit 0
}
if [ -e "$run_dir/finished" ]; then
    say "the run is finished already"
    end_chain
    exit 0
fi
"""

_END = """
# --- what came of it
if [ -e "$run_dir/finished" ]; then
    say "finished at $(cat "$run_dir/finished") tokens"
    end_chain
    exit 0
elif [ -n "$ending" ]; then  # SIGKILL follows: KillWait, 30 s mostly
    reason=$(scontrol --oneliner show job "$SLURM_JOB_ID" | grep -o ' Reason=[A-Za-z]*')
    say "ended by Slurm:$reason"
    if [ "$reason" = " Reason=TimeLimit" ]; then come_back 143; fi
    exit 143  # cancelled or preempted: Slurm decides whether it comes back
elif [ "$code" -eq 2 ]; then
    say "refused: see the error above; a restart mends nothing"
    end_chain
    exit 2
elif [ -n "$stopping" ] || [ "$code" -eq 0 ] || [ "$code" -eq 143 ]; then
    say "stopped before its end at $(newest)"
    come_back 1
fi
say "failed with exit code $code"
come_back "$code"
"""
