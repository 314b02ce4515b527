"""Submit, profile, plan, convert, serve, look into a run that ended."""

from pathlib import Path
from typing import Annotated

import typer

from triptych.launch.command_line.options import RunFolder, Settings, Weights, given_command

app = typer.Typer()


@app.command()
def slurm(
    run: Annotated[str, typer.Argument(help="Name of a run, e.g. trimodal_320m.")],
    nodes: Annotated[int, typer.Option(help="Nodes of the job.")],
    gpus_per_node: Annotated[int, typer.Option(help="Processes on each, one per GPU.")],
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run goes, on a disk that all nodes see; runs/RUN if not given.")
    ] = None,
    settings: Settings = None,
    submit: Annotated[bool, typer.Option("--submit", help="Give it to sbatch; else it is printed.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Of a run that has begun: --set goes on top.")] = False,
    time: Annotated[str, typer.Option(help="Limit of one job: HH:MM:SS or D-HH:MM:SS.")] = "24:00:00",
    grace_seconds: Annotated[int, typer.Option(help="Time before the limit in which a checkpoint is saved.")] = 120,
    max_failures: Annotated[int, typer.Option(help="Starts in a row without a new checkpoint that are forgiven.")] = 3,
    chain: Annotated[int, typer.Option(help="Jobs of this run queued at once, one after the other.")] = 1,
    partition: Annotated[str | None, typer.Option(help="As sbatch has it.")] = None,
    account: Annotated[str | None, typer.Option(help="As sbatch has it.")] = None,
    qos: Annotated[str | None, typer.Option(help="As sbatch has it.")] = None,
    constraint: Annotated[str | None, typer.Option(help="As sbatch has it.")] = None,
    sbatch: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Any other option of sbatch. Repeatable.")
    ] = None,
    gpu_request: Annotated[str, typer.Option(help="gpus-per-node, gres, or none: how GPUs are asked for.")] = (
        "gpus-per-node"
    ),
    cpus_per_node: Annotated[int, typer.Option(help="Cores of a node; 0: the node for this job alone.")] = 0,
    container: Annotated[str | None, typer.Option(help="Image for pyxis, or an .sif file for apptainer.")] = None,
    mount: Annotated[list[str] | None, typer.Option(help="FROM:TO, in a container. Repeatable.")] = None,
    venv: Annotated[Path | None, typer.Option(help="Virtual environment to activate; else the present Python.")] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH=VALUE,VALUE", help="As `triptych sweep`: an array, a task a point."),
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(metavar='"NAME: PATH=VALUE ..."', help="As `triptych sweep`. Repeatable.")
    ] = None,
    at_once: Annotated[int, typer.Option(help="Points of a sweep trained at once; 0: no limit.")] = 0,
) -> None:
    """Write a batch script for a run, or for each point of a sweep, with the code and settings that it runs; print or
    submit it. The job saves before its limit, requeues itself, and goes on from the newest checkpoint.
    """
    from triptych.launch.slurm.command import slurm as command
    from triptych.launch.slurm.job import JobConfig, gpu_request_named

    named = {"partition": partition, "account": account, "qos": qos, "constraint": constraint}
    lines = [f"{key}={value}" for key, value in named.items() if value is not None]
    job = JobConfig(
        num_nodes=nodes,
        gpus_per_node=gpus_per_node,
        time=time,
        gpu_request=gpu_request_named(gpu_request),
        cpus_per_node=cpus_per_node,
        container=container,
        mounts=tuple(mount or ()),
        venv=venv.absolute() if venv is not None else None,
        grace_seconds=grace_seconds,
        max_failures=max_failures,
        chain=chain,
        sbatch=(*lines, *(sbatch or ())),
    )
    command(
        run,
        run_dir,
        settings or [],
        job,
        grids=grid or [],
        variants=variant or [],
        at_once=at_once,
        resume=resume,
        submit=submit,
        command=given_command(),
    )


@app.command()
def profile(
    run: Annotated[str, typer.Argument(help="Name of a run, e.g. trimodal_320m.")],
    settings: Settings = None,
    out: Annotated[Path, typer.Option(help="Folder for JSON, page and trace; a sweep goes on if it holds one.")] = Path(
        "runs/profile"
    ),
    data: Annotated[
        str, typer.Option(help="synthetic (the run's mix of sequences, drawn here), or real.")
    ] = "synthetic",
    micro_batches: Annotated[
        int | None, typer.Option(help="Per step and data rank, instead of the run's batch.", show_default=False)
    ] = None,
    warmup: Annotated[int, typer.Option(help="Steps at the least before the clock runs; 0 does not wait.")] = 3,
    steps: Annotated[int, typer.Option(help="Timed steps.")] = 20,
    trace: Annotated[bool, typer.Option(help="Take a step under torch's profiler, and measure communication.")] = True,
    checkpoint: Annotated[bool, typer.Option(help="Write a checkpoint, and remove it again.")] = True,
    sweep: Annotated[bool, typer.Option("--sweep", help="Profile many settings, and name the best.")] = False,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH=VALUE,VALUE", help="With --sweep: values of a setting, not its own. Repeatable."),
    ] = None,
    world_size: Annotated[
        int | None, typer.Option(help="With --sweep: processes of each point; a device each if not given.")
    ] = None,
    memory_gib: Annotated[
        float | None, typer.Option(help="With --sweep: what a process may hold, instead of all that there is.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="With --sweep: longest that a point may take.")] = 15.0,
    commit: Annotated[str | None, typer.Option(help="Of the code, where it runs outside its checkout.")] = None,
) -> None:
    """Measure tokens/s, MFU, memory and time by part of a run on this hardware, alone or under torchrun; or sweep."""
    from triptych.launch.commands.operating.profile import profile as command

    code = command(
        run,
        settings or [],
        out=out,
        data=data,
        num_micro_batches=micro_batches,
        num_warmup=warmup,
        num_steps=steps,
        trace=trace,
        checkpoint=checkpoint,
        sweep={"grids": grid or [], "world_size": world_size, "memory_gib": memory_gib, "minutes": minutes}
        if sweep
        else None,
        code=commit,
        command=given_command(),
    )
    raise typer.Exit(code)


@app.command()
def plan(
    run: Annotated[str, typer.Argument(help="Name of a run, e.g. trimodal_3b.")],
    gpus: Annotated[int, typer.Option(help="How many.")] = 8,
    gpu: Annotated[
        str, typer.Option(help="a100-40gb, a100-80gb, h100, h100-pcie, h200, b200, or a .yaml file that describes one.")
    ] = "h100",
    settings: Settings = None,
    interconnect: Annotated[
        str | None,
        typer.Option(
            help="Between nodes: ndr, hdr, xdr, ethernet-400, -200, -100, -25, or GB/s for each GPU.",
            show_default=False,
        ),
    ] = None,
    calibrate: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="What `triptych profile` wrote on such a GPU. Repeatable.")
    ] = None,
    mtbf_hours_per_gpu: Annotated[
        float | None, typer.Option(help="Hours between failures of one GPU; Llama 3's 50,700.", show_default=False)
    ] = None,
    failures: Annotated[
        float | None, typer.Option(help="Instead: failures of the whole job a day.", show_default=False)
    ] = None,
    restart_minutes: Annotated[
        float | None, typer.Option(help="From a failure to the next step; 10.", show_default=False)
    ] = None,
    storage_gb_per_second: Annotated[
        float | None, typer.Option(help="To where checkpoints go, all processes together; 5.", show_default=False)
    ] = None,
    price_per_gpu_hour: Annotated[float | None, typer.Option(help="In any currency.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with everything that was assumed.")] = False,
) -> None:
    """Say whether a run fits on a cluster, its best layouts and speed, how often to save, and what it costs."""
    from triptych.launch.commands.operating.plan import FailureOptions
    from triptych.launch.commands.operating.plan import plan as command

    command(
        run,
        settings or [],
        gpus=gpus,
        gpu=gpu,
        interconnect=interconnect,
        calibrate=calibrate or [],
        failures=FailureOptions(
            mtbf_hours=mtbf_hours_per_gpu,
            failures_per_day=failures,
            restart_minutes=restart_minutes,
            storage_gb_per_second=storage_gb_per_second,
        ),
        price_per_gpu_hour=price_per_gpu_hour,
        as_json=as_json,
    )


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A run's directory, a checkpoint, or another's folder.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Folder to make; it must not exist.")],
    to: Annotated[str, typer.Option(help="hf (Hugging Face) or native (a run's directory).")],
    origin: Annotated[
        str | None,
        typer.Option("--from", help="native, hf, deepspeed, megatron or llama; looked at if not given."),
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="Run (a name, or a directory) of what does not say its own.")
    ] = None,
    weights: Weights = "weights",
    max_shard_gib: Annotated[float, typer.Option(help="hf: largest file of weights, in GiB.")] = 5.0,
    dtype: Annotated[str, typer.Option(help="hf: fp32 or bf16.")] = "fp32",
    verify: Annotated[
        bool, typer.Option(help="Compare all tensors and the logits of all tasks, bit for bit; code 1 if they differ.")
    ] = False,
    settings: Settings = None,
) -> None:
    """Convert checkpoints: to and from Hugging Face folders; from DeepSpeed, Megatron torch_dist, LLaDA and LLaMA."""
    from triptych.launch.commands.operating.convert import convert as command

    code = command(
        source,
        target,
        to=to,
        origin=origin,
        run=run,
        settings=settings or [],
        weights=weights,
        max_shard_gib=max_shard_gib,
        dtype=dtype,
        verify=verify,
        command=given_command(),
    )
    raise typer.Exit(code)


@app.command()
def serve(
    run_dir: RunFolder,
    host: Annotated[str, typer.Option(help="Address to answer at; 0.0.0.0 for every machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its port; 0 for any that is free.")] = 7860,
    seed: Annotated[int, typer.Option(help="Of requests that bring none.")] = 0,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Change a limit, e.g. request_seconds=30. Repeatable."),
    ] = None,
    weights: Weights = "weights",
    settings: Settings = None,
) -> None:
    """Serve a trained run: a page for text, images and speech, and an HTTP endpoint beside it."""
    from triptych.launch.commands.operating.serve import serve as command

    command(run_dir, host=host, port=port, weights=weights, seed=seed, limits=limit or [], settings=settings or [])


@app.command()
def postmortem(
    run_dir: Annotated[Path, typer.Argument(help="Directory of a run, dead or alive.")],
    out: Annotated[
        Path | None, typer.Option(help="The page; postmortem.html in the run directory if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what became of a run: the rank, step, collective or sample that went wrong first; one page with the rest."""
    from triptych.launch.commands.operating.postmortem import postmortem as command

    command(run_dir, out, as_json=as_json)
