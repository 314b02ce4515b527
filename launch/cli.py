"""The console script `triptych`. Commands import what they need when they run, so that --help is quick."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from triptych.launch.environment import is_first_process, prepare_libraries
from triptych.launch.errors import one_line_errors, silent_usage_errors

app = typer.Typer(
    name="triptych",
    help="Masked diffusion transformers over text, image and audio tokens.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Make, prepare, encode, verify, count shards; account for runs.", no_args_is_help=True)
tokenizer_app = typer.Typer(help="Train tokenizers, or adopt pretrained ones.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(tokenizer_app, name="tokenizer")

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change a setting, e.g. fit.physical_batch=32. Repeatable."),
]
RunFolder = Annotated[Path, typer.Argument(help="Directory of a trained run.")]
Weights = Annotated[str, typer.Option(metavar="NAME", help="Which of its weights: its own, or an average's name.")]


@app.command()
def demo(
    run_dir: Annotated[Path, typer.Option(help="Where the run and its report go.")] = Path("runs/demo"),
    data_dir: Annotated[Path, typer.Option(help="Where data and tokenizers go; reused if there.")] = Path("data/demo"),
    settings: Settings = None,
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted demo.")] = False,
) -> None:
    """Make data, train tokenizers and the small model, sample all three modalities, write report.html: minutes on 2 CPU
    cores.
    """
    from triptych.launch.commands.demo import demo as command

    command(run_dir, data_dir, settings or [], resume=resume, command=_command_line())


@app.command()
def train(
    run: Annotated[str, typer.Argument(help="Name of a run, e.g. trimodal_demo.")],
    run_dir: Annotated[Path | None, typer.Option(help="Where the run goes; runs/RUN if not given.")] = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint in the run directory.")] = False,
    resume_if_started: Annotated[
        bool,
        typer.Option("--resume-if-started", help="The same where there is one; else begin. For jobs."),
    ] = False,
    describe: Annotated[
        bool, typer.Option(help="Print settings, exact parameter counts, and what each process would hold; stop.")
    ] = False,
    explain: Annotated[
        bool, typer.Option(help="Print every group's values, from base to logical to physical batch; stop.")
    ] = False,
    world_size: Annotated[
        int | None,
        typer.Option(help="With --describe or --explain: of a run on so many processes.", show_default=False),
    ] = None,
) -> None:
    """Train a run, alone or under torchrun."""
    from triptych.launch.commands.train import train as command

    command(
        run,
        run_dir,
        settings or [],
        going_on="if started" if resume_if_started else "always" if resume else "never",
        show="explanation" if explain else "description" if describe else None,
        world_size=world_size,
        command=_command_line(),
    )


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
    max_failures: Annotated[int, typer.Option(help="Starts in a row without a new checkpoint before giving up.")] = 3,
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
    from triptych.launch.commands.slurm import slurm as command
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
        command=shlex.join(["triptych", *sys.argv[1:]]),
    )


@app.command()
def attention(
    run: Annotated[str, typer.Argument(help="Name of a run, e.g. trimodal_demo.")] = "trimodal_demo",
    settings: Settings = None,
    explain: Annotated[
        bool, typer.Option(help="Say what is asked of them too, which the other function has, and the variables.")
    ] = False,
) -> None:
    """Print which backend computes a run's attention on this machine, and why not another."""
    from triptych.launch.commands.attention import attention as command

    command(run, settings or [], explain=explain)


@app.command()
def sweep(
    run: Annotated[str, typer.Argument(help="Name of a run, e.g. trimodal_demo.")],
    out: Annotated[Path, typer.Option(help="Where points, tables and figures go; go on there if it holds some.")],
    settings: Settings = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH=VALUE,VALUE", help="Values of a setting; all grids are multiplied. Repeatable."),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(metavar='"NAME: PATH=VALUE ..."', help="Settings that go together, by name. Repeatable."),
    ] = None,
    processes: Annotated[int, typer.Option(help="Points trained at once; they share the cores.")] = 1,
    last_fraction: Annotated[float, typer.Option(help="Share of tokens that the final loss is the mean over.")] = 0.1,
    windows: Annotated[int, typer.Option(help="Equal windows of tokens that a curve is averaged in.")] = 60,
    reference: Annotated[
        str | None, typer.Option(metavar="GROUP", help="Compare with the spread of this group's seeds.")
    ] = None,
) -> None:
    """Train a run at every point of a grid of settings, several at once; tables and figures. Repeat the command to go
    on.
    """
    from triptych.launch.commands.sweep import sweep as command
    from triptych.launch.sweep.results import Reading

    code = command(
        run,
        out,
        settings=settings or [],
        grids=grid or [],
        variants=variant or [],
        num_processes=processes,
        reading=Reading(last_fraction=last_fraction, num_windows=windows),
        reference=reference,
        command=shlex.join(["triptych", *sys.argv[1:]]),
    )
    raise typer.Exit(code)


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
    from triptych.launch.commands.profile import profile as command

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
        command=shlex.join(["triptych", *sys.argv[1:]]),
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
    from triptych.launch.commands.plan import FailureOptions
    from triptych.launch.commands.plan import plan as command

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
def sample(
    run_dir: RunFolder,
    task: Annotated[str, typer.Option(help="t2i, t2s, i2t, s2t or text.")] = "t2i",
    prompt: Annotated[
        list[str] | None, typer.Option(help="Caption (t2i, t2s) or beginning (text). Repeatable.")
    ] = None,
    file: Annotated[list[Path] | None, typer.Option(help="Image (i2t) or recording (s2t). Repeatable.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for what is generated.")] = Path("samples"),
    num: Annotated[int, typer.Option(help="Samples per prompt or file.")] = 1,
    seed: Annotated[int, typer.Option(help="The same seed gives the same samples.")] = 0,
    weights: Weights = "weights",
    settings: Settings = None,
) -> None:
    """Generate from a trained run: images, speech, captions, transcripts, text."""
    from triptych.launch.commands.sample import sample as command

    command(run_dir, task, prompt or [], file or [], out, num=num, seed=seed, settings=settings or [], weights=weights)


@app.command()
def evaluate(
    run_dir: RunFolder,
    out: Annotated[Path | None, typer.Option(help="Where to write the scores as JSON.")] = None,
    weights: Weights = "weights",
    settings: Settings = None,
) -> None:
    """Score a trained run on held-out data: likelihood bound per modality, judged samples, character errors."""
    from triptych.launch.commands.evaluate import evaluate as command

    command(run_dir, out, settings or [], weights)


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
    from triptych.launch.commands.convert import convert as command

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
        command=_command_line(),
    )
    raise typer.Exit(code)


@app.command()
def postmortem(
    run_dir: Annotated[Path, typer.Argument(help="Directory of a run, dead or alive.")],
    out: Annotated[
        Path | None, typer.Option(help="The page; postmortem.html in the run directory if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what became of a run: the rank, step, collective or sample that went wrong first; one page with the rest."""
    from triptych.launch.commands.postmortem import postmortem as command

    command(run_dir, out, as_json=as_json)


@data_app.command("make")
def data_make(folder: Annotated[Path, typer.Argument(help="Where the raw shards go.")] = Path("data/demo/raw")) -> None:
    """Make the demo's raw data on this machine: prose, digits with captions, spoken digits."""
    from triptych.launch.commands.data import make as command

    command(folder)


@data_app.command("encode")
def data_encode(
    source: Annotated[Path, typer.Argument(help="Folder of raw shards (one set).")],
    target: Annotated[Path, typer.Argument(help="Folder for the encoded shards.")],
    tokenizers: Annotated[Path, typer.Option(help="Folder with one tokenizer per modality.")] = Path(
        "data/demo/tokenizers"
    ),
    max_damaged: Annotated[int, typer.Option(help="Damaged samples to skip before giving up.")] = 0,
) -> None:
    """Encode raw shards to shards of codes."""
    from triptych.launch.commands.data import encode as command

    command(source, target, tokenizers, max_damaged=max_damaged)


@data_app.command("prepare")
def data_prepare(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Files, or folders of them.")],
    kind: Annotated[str, typer.Option(help="text, image-text or audio-text.")],
    out: Annotated[Path, typer.Option(help="Folder for the set, e.g. codes/mine/train.")],
    tokenizers: Annotated[Path, typer.Option(help="Folder with one tokenizer per modality.")],
    work: Annotated[
        Path | None, typer.Option(help="Where parts go meanwhile; OUT.work if not given.", show_default=False)
    ] = None,
    processes: Annotated[int, typer.Option(help="Processes on this machine.")] = 1,
    stage: Annotated[
        str | None, typer.Option(help="Only scan, deduplicate, encode or join; all if not given.", show_default=False)
    ] = None,
    part: Annotated[
        int | None, typer.Option(help="Of --stage scan or encode: which share, from 0.", show_default=False)
    ] = None,
    num_parts: Annotated[
        int | None,
        typer.Option(help="How many shares; both are those of a Slurm array if not given.", show_default=False),
    ] = None,
    near_duplicates: Annotated[
        float | None, typer.Option(help="Texts this similar are kept once, 0.8; 0 for none.", show_default=False)
    ] = None,
    text_field: Annotated[
        str | None, typer.Option(help="Of JSON or a table, what holds the text: text.", show_default=False)
    ] = None,
    max_damaged: Annotated[int, typer.Option(help="Damaged samples to skip before giving up.")] = 0,
    settings: Settings = None,
) -> None:
    """Raw data to a filtered, deduplicated, tokenized set. Repeat the command to go on.

    Text: .jsonl, .txt, .parquet, .tar; pairs: .tar of .jpg, .png, .webp, or .flac, .wav, .mp3, .ogg, each with .txt or
    .json; also with .gz or .zst. On a Slurm cluster every task of an array does its share of a stage: sbatch
    --array=0-63 --wrap "triptych data prepare ... --stage scan", one task of --stage deduplicate, an array of --stage
    encode, one task of --stage join, each with --dependency=afterok on the one before.
    """
    from triptych.launch.commands.preparation import prepare as command

    command(
        inputs,
        kind,
        out,
        tokenizers,
        settings or [],
        work=work,
        stage=stage,
        processes=processes,
        part=part,
        num_parts=num_parts,
        near_duplicates=near_duplicates,
        text_field=text_field,
        max_damaged=max_damaged,
    )


@data_app.command("verify")
def data_verify(folder: Annotated[Path, typer.Argument(help="Folder of shards (one set).")]) -> None:
    """Check every byte of a set of shards against its manifest."""
    from triptych.launch.commands.data import verify as command

    command(folder)


@data_app.command("stats")
def data_stats(
    sets: Annotated[list[str], typer.Argument(metavar="SET...", help="Folders of shards, or their URLs.")],
    run: Annotated[str | None, typer.Option(metavar="NAME", help="Say what packing does under this run.")] = None,
    settings: Settings = None,
    task: Annotated[str | None, typer.Option(help="Say what packing does for text, t2i, i2t, t2s or s2t.")] = None,
    row_length: Annotated[int | None, typer.Option(help="Positions of a row, where no run says it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count what sets hold, from manifest and index alone: lengths, damage, tokenizers, and padding once packed."""
    from triptych.launch.commands.inspection import PackingOptions
    from triptych.launch.commands.inspection import stats as command

    packing = PackingOptions(run=run, settings=tuple(settings or ()), task=task, row_length=row_length)
    command(sets, packing, as_json=as_json)


@data_app.command("inspect")
def data_inspect(
    folder: Annotated[str, typer.Argument(metavar="SET", help="Folder of shards, or its URL.")],
    out: Annotated[Path, typer.Option(help="The page to write, an .html file.")],
    tokenizers: Annotated[
        Path | None, typer.Option(help="Folder with one tokenizer per modality; without, codes stay numbers.")
    ] = None,
    num_samples: Annotated[int, typer.Option(help="Samples shown on the page.")] = 24,
    seed: Annotated[int, typer.Option(help="Which samples are read; the same seed gives the same page.")] = 0,
) -> None:
    """Write one page about a set: whether it is sound, lengths, use of codes, samples decoded back."""
    from triptych.launch.commands.inspection import inspect as command
    from triptych.launch.inspection.config import InspectionConfig

    command(folder, tokenizers, out, InspectionConfig(num_samples=num_samples, seed=seed))


@data_app.command("account")
def data_account(
    run_dir: RunFolder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say where every document that a run planned has gone: planned = seen + lost, per source and epoch, from plan and
    logs.

    Exit code 1 if it does not add up.
    """
    from triptych.launch.accounting.account import account as command

    raise typer.Exit(command(run_dir, as_json=as_json))


@tokenizer_app.command("train")
def tokenizer_train(
    modality: Annotated[str, typer.Argument(help="text, image or audio.")],
    data: Annotated[Path, typer.Option(help="Raw corpus, as `triptych data make` writes it.")] = Path("data/demo/raw"),
    out: Annotated[Path, typer.Option(help="Folder for the tokenizers.")] = Path("data/demo/tokenizers"),
    settings: Settings = None,
) -> None:
    """Train a tokenizer: byte-level BPE for text, FSQ autoencoders for image and audio."""
    from triptych.launch.commands.tokenizer import train as command

    command(modality, data, out, settings or [])


@tokenizer_app.command("adopt")
def tokenizer_adopt(
    modality: Annotated[str, typer.Argument(help="text, image or audio.")],
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of the model; of text also a file, or a tiktoken encoding.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tokenizers.")],
    image_size: Annotated[int | None, typer.Option(help="Image: side of the square pictures, in pixels.")] = None,
    codebooks: Annotated[str | None, typer.Option(help="Audio: flattened, delayed or parallel.")] = None,
    num_codebooks: Annotated[int | None, typer.Option(help="Audio: only the first so many; all if not given.")] = None,
    sample_rate_hertz: Annotated[int | None, typer.Option(help="Audio: of the raw audio; 16000 if not given.")] = None,
    precision: Annotated[str | None, typer.Option(help="Image, audio: float64 (exact) or float32 (faster).")] = None,
) -> None:
    """Make a tokenizer of a pretrained model on this machine: tokenizer.json, tiktoken, VQ images, audio codecs."""
    from triptych.launch.commands.tokenizer import adopt as command

    choices = {
        "image_size": image_size,
        "codebooks": codebooks,
        "num_codebooks": num_codebooks,
        "sample_rate_hertz": sample_rate_hertz,
        "precision": precision,
    }
    command(modality, source, out, choices)


def main(arguments: Sequence[str] | None = None, prefix: Sequence[str] = ()) -> None:
    """Entry point. `--traceback` anywhere shows where an error came from."""
    given = [*prefix, *(sys.argv[1:] if arguments is None else arguments)]
    show_traceback = "--traceback" in given
    prepare_libraries()
    with one_line_errors(show_traceback=show_traceback):
        arguments = [argument for argument in given if argument != "--traceback"]
        if is_first_process():
            app(args=arguments, prog_name="triptych")
        else:
            with silent_usage_errors():
                app(args=arguments, prog_name="triptych", standalone_mode=False)


def _command_line() -> str:
    return " ".join(["triptych", *sys.argv[1:]])
