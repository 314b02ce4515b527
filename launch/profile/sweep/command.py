"""`triptych profile RUN --sweep`: points of settings, each in fresh processes, and the best of them."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.kernels.provenance import processor
from triptych.launch.commands.training.attention import request_of
from triptych.launch.errors import INTERRUPTED
from triptych.launch.profile.command import Asked, batch_at_start, sized
from triptych.launch.profile.measure.memory import machine_memory_bytes
from triptych.launch.profile.measuring import Passes
from triptych.launch.profile.predicted import predicted_bytes
from triptych.launch.profile.sweep.folder import Outcome, ProfileFolder
from triptych.launch.profile.sweep.pages import write_sweep
from triptych.launch.profile.sweep.points import Point, axes_of, changed_options, require_possible
from triptych.launch.profile.sweep.processes import Ending, Stopped, run_point
from triptych.launch.profile.sweep.reasons import told
from triptych.launch.profile.sweep.search import Search, best
from triptych.launch.run_directory import commit
from triptych.launch.signals import stop_requests
from triptych.launch.sweep.grid import parse_grid
from triptych.models.attention.registry.backends import REGISTRY
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.refusal import require_layout

NO_POINT = 1
_GIB = 2**30
_ASK_DEVICE = "import torch; found = torch.cuda.get_device_properties(0); print(found.total_memory, found.name)"


@dataclass(kw_only=True, slots=True, frozen=True)
class SweepConfig:
    """grids: `--grid`, values in the place of an axis' own. world_size: processes of each point; None is one for each
    device, or one. memory_gib: that a process may hold; None is all there is. minutes: that a point may take.
    """

    grids: tuple[str, ...] = ()
    world_size: int | None = None
    memory_gib: float | None = None
    minutes: float = 15.0

    def __post_init__(self) -> None:
        numbers = [number for number in (self.world_size, self.memory_gib, self.minutes) if number is not None]
        if min(numbers) <= 0:
            raise ValueError("--world-size, --minutes and --memory-gib are above 0; give such numbers")


def sweep_run(asked: Asked, passes: Passes, config: SweepConfig, placement: Placement) -> int:
    """Profile points until the best is known; the exit code: 1 if none came to its end, 130 if it was stopped.

    ValueError, before anything is written, for settings that cannot run, and a folder of another sweep.
    """
    if placement.world_size > 1:
        raise ValueError("a sweep starts processes of its own; start it without torchrun")
    world_size = config.world_size or max(1, torch.cuda.device_count())
    given = asked.settings
    run, asked = _fixed_batch(asked, world_size)
    grids = [parse_grid(text) for text in config.grids]
    axes = axes_of(run, world_size, _kernels(run), grids)
    require_possible(run, axes, grids, world_size)
    device, memory = _device(world_size)
    place = ProfileFolder(folder=asked.folder)
    question = {
        "run": asked.name,
        "options": list(asked.settings),
        "world_size": world_size,
        "data": asked.data,
        "steps": passes.num_steps,
        "warmup": passes.num_warmup,
        "device": device,
    }
    place.require_same(question)
    limit = memory if config.memory_gib is None else int(config.memory_gib * _GIB)
    code = asked.code or commit()

    with place.held(), stop_requests() as stop_requested:
        place.begin(question)

        def profile_point(point: Point) -> Outcome:
            run_here = partial(
                run_point, world_size=world_size, limit_seconds=60 * config.minutes, stop_requested=stop_requested
            )
            return _outcome(point, asked, passes, place, run_here, code)

        form = "cuda" if torch.cuda.is_available() else "cpu"
        search = Search(
            run=run,
            world_size=world_size,
            axes=axes,
            limit_bytes=limit,
            predict=lambda tree: predicted_bytes(tree, world_size, form),
            profile=profile_point,
        )
        stopped = False
        try:
            search()
        except Stopped:
            stopped = True
        outcomes = search.outcomes
        top = best(outcomes)
        options = [*given, *changed_options(run, top.point)] if top is not None else []
        facts = _facts(place, outcomes, code, world_size)
        lines = write_sweep(place, question, facts, outcomes, top, options)
    print("\n".join(["", *lines, *[f"--set {option}" for option in options], str(place.folder / "sweep.html")]))
    if stopped:
        print(f"stopped after {len(outcomes)} points; go on with: {asked.command}")
        return INTERRUPTED
    return 0 if top is not None else NO_POINT


def _fixed_batch(asked: Asked, world_size: int) -> tuple[TrimodalRun, Asked]:
    """The run, and what is asked, with one batch for all points, so that they do the same work: of a schedule, or an
    automatic one, that of the first step in the run's own layout, as is a number of micro-batches.
    """
    if asked.num_micro_batches is not None and asked.num_micro_batches < 1:
        raise ValueError("--micro-batches is 1 or more; give such a number")
    run = with_settings(named_run(asked.name), asked.settings)
    if asked.num_micro_batches is not None:
        run = sized(run, world_size, asked.num_micro_batches)
    require_layout(run.plan(world_size))
    size = batch_at_start(run, world_size)
    if (
        asked.num_micro_batches is None
        and run.fit.physical_batch in (size, "logical")
        and run.plan(world_size).batch == size
    ):
        return run, asked
    option = f"fit.physical_batch={size}"
    fixed = dataclasses.replace(asked, settings=(*asked.settings, option), num_micro_batches=None)
    return with_settings(run, [option]), fixed


def _outcome(
    point: Point,
    asked: Asked,
    passes: Passes,
    place: ProfileFolder,
    run_here: Callable[..., Ending],
    code: str,
) -> Outcome:
    """Of a point, from before or from new processes; kept as soon as it is known."""
    before = place.read(point, code)
    if before is not None:
        print(f"{told(point)}: {before.state} before", flush=True)
        return before
    folder = place.place(point)
    arguments = [asked.name, *(part for option in (*asked.settings, *point.options) for part in ("--set", option))]
    arguments += ["--out", str(folder), "--data", asked.data, "--commit", code, "--no-checkpoint"]
    arguments += ["--steps", str(passes.num_steps), "--warmup", str(passes.num_warmup)]
    arguments += ["--trace" if passes.trace else "--no-trace"]
    ending = run_here(arguments, folder)
    found = place.newest_record(point) if ending.state == "done" else None
    outcome = Outcome(point=point, state=ending.state, reason=ending.reason, commit=code)
    if found is not None:
        name, record = found
        outcome = Outcome(
            point=point,
            state="done",
            record=name,
            tokens_per_second=record.tokens / record.step_seconds,
            step_seconds=record.step_seconds,
            quartiles=record.step_seconds_quartiles,
            peak_bytes=record.peak_bytes,
            commit=code,
        )
    place.keep(outcome)
    shown = f"{outcome.speed:,.0f} tokens/s" if outcome.speed else f"{outcome.state}: {outcome.reason}"
    print(f"{told(point)}: {shown}", flush=True)
    return outcome


def _kernels(run: TrimodalRun) -> list[str]:
    """What attention can be computed by, the run's own first. Only sigmoid's can be named; on a GPU, which is not asked
    before its memory is needed, those that cannot run say so.
    """
    attention = run.model.attention
    if attention.function == "softmax":
        return ["auto"]
    names = [backend.name for backend in REGISTRY.backends("sigmoid")]
    if not torch.cuda.is_available():
        reasons = REGISTRY.reasons(request_of(run))
        names = [name for name in names if reasons[name] is None]
        automatic = REGISTRY.choose(request_of(run), "auto").backend.name
        names = [name for name in names if name != automatic]
    return list(dict.fromkeys([attention.kernel, "auto", *names]))


def _device(world_size: int) -> tuple[str, int]:
    """What points are profiled on, and the bytes that a process of it may hold. A GPU is asked by a process that ends,
    so that nothing of it is taken here.
    """
    if not torch.cuda.is_available():
        return f"CPU, {processor()}", machine_memory_bytes() // world_size
    told = subprocess.run([sys.executable, "-P", "-c", _ASK_DEVICE], capture_output=True, text=True, check=False)
    memory, _, name = told.stdout.strip().partition(" ")
    if told.returncode or not memory.isdecimal():
        raise ValueError("the GPU does not say what it is; see that `nvidia-smi` finds it")
    return name, int(memory)


def _facts(place: ProfileFolder, outcomes: Sequence[Outcome], code: str, world_size: int) -> dict[str, str]:
    """Of the first record there is."""
    facts = {"commit": code, "processes": str(world_size)}
    for outcome in outcomes:
        found = place.newest_record(outcome.point) if outcome.state == "done" else None
        if found is not None:
            record = found[1]
            facts |= {
                "hardware": f"{record.num_devices} x {record.device}, {record.processor}, {record.threads} threads a "
                "process",
                "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items() if version),
                "a step": f"{record.batch} rows of {record.row_length} positions, data {record.data}",
                "load": f"{record.load[0]:.1f} before the first point",
            }
            break
    return facts
