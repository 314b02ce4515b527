"""`triptych data prepare`."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from triptych.launch.environment import array_task, shared_cores
from triptych.launch.report.numbers import duration, short

if TYPE_CHECKING:
    from triptych.data_pipelines.prepare.config import PrepareConfig
    from triptych.data_pipelines.prepare.inputs.entries import Kind
    from triptych.data_pipelines.prepare.preparation import Share, StageName
    from triptych.data_pipelines.prepare.processes import Counts
    from triptych.data_pipelines.shards.manifest import Manifest
    from triptych.data_pipelines.tokenizers.protocol import Tokenizer
    from triptych.data_pipelines.vocabulary import Modality

_SECONDS_BETWEEN_LINES = 10.0


def prepare(
    inputs: Sequence[Path],
    kind: str,
    target: Path,
    tokenizers: Path,
    settings: Sequence[str],
    *,
    work: Path | None,
    stage: str | None,
    processes: int,
    part: int | None,
    num_parts: int | None,
    near_duplicates: float | None,
    text_field: str | None,
    max_damaged: int,
) -> None:
    """Make a set of codes of raw data, or do one stage of it."""
    from triptych.data_pipelines.prepare.preparation import Preparation

    named = _stage(stage)
    shortcuts = {"deduplication.near_duplicates": near_duplicates, "inputs.text_field": text_field}
    given = [f"{path}={value}" for path, value in shortcuts.items() if value is not None]
    config = _config(kind, [*given, *settings])
    share = _share(named, processes, part, num_parts)
    loader = LocalTokenizers(folder=tokenizers)
    preparation = Preparation(inputs, target, config, loader, work=work, max_damaged=max_damaged)
    display = PreparationDisplay()
    if preparation.finished() is not None:
        display.message(f"{target} is finished already, of the same inputs and settings; nothing to do")
        return
    if named in (None, "encode"):  # it is the last but one of all stages, hours from now
        loader.require(config.kind)
    with shared_cores(processes):
        manifest = preparation.run(named, share, display)
    if manifest is not None:
        _summarize(target, manifest, display)


@dataclass(kw_only=True, slots=True, frozen=True)
class LocalTokenizers:
    """Loads tokenizers of a folder, in whichever process; networks go to the machine's GPUs in turn, if there are any.

    A `TokenizerLoader`.
    """

    folder: Path

    def require(self, kind: "Kind") -> None:
        """ValueError unless they are there; nothing is loaded."""
        from triptych.models.tokenizers.registry import require_tokenizer

        for modality in self._modalities(kind):
            require_tokenizer(self.folder / modality, modality)

    def __call__(self, kind: "Kind", number: int, num_processes: int) -> "Mapping[Modality, Tokenizer]":
        import torch

        from triptych.configs.token_data import read_tokenizers

        count = torch.cuda.device_count()
        return read_tokenizers(self.folder, self._modalities(kind), f"cuda:{number % count}" if count else "cpu")

    def _modalities(self, kind: "Kind") -> "list[Modality]":
        from triptych.data_pipelines.prepare.inputs.entries import MEDIA

        media = MEDIA[kind]
        return ["text"] if media is None else ["text", media]


class PreparationDisplay:
    """Bars on a terminal; elsewhere a plain line every ten seconds. Implements `Display`."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    @contextmanager
    def stage(self, name: str, num_parts: int, num_bytes: int) -> Iterator[None]:
        """Show how far a stage is, and at its end what it came to."""
        self._name, self._num_parts, self._num_bytes = name, num_parts, num_bytes
        self._parts = self._samples = self._bytes = self._tokens = 0
        self._left_out: Counter[str] = Counter()
        self._begun = self._last_line = time.monotonic()
        if self._console.is_terminal:
            columns = (TextColumn("{task.fields[line]}"), BarColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._task = self._progress.add_task(name, total=max(1, num_bytes), line=name)
            self._progress.start()
        finished = False
        try:
            yield
            finished = True
        finally:
            if self._progress is not None:
                self._progress.stop()
                self._progress = None
            took = duration(time.monotonic() - self._begun)
            self.message(f"{name}: {'done' if finished else 'stopped'} after {took}{self._counted()}")

    def advance(self, counts: "Counts") -> None:
        """Add what has been done."""
        self._parts += counts.num_parts
        self._samples += counts.num_samples
        self._bytes += counts.num_bytes
        self._tokens += counts.num_tokens
        self._left_out += counts.left_out
        now = time.monotonic()
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._bytes, line=self._line(now))
        elif now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self.message(self._line(now))

    def message(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, markup=False, soft_wrap=True)

    def _line(self, now: float) -> str:
        seconds = max(now - self._begun, 1e-9)
        left = (self._num_bytes - self._bytes) * seconds / self._bytes if self._bytes else None
        rates = f"{short(self._samples / seconds)} samples/s"
        if self._tokens:
            rates += f", {short(self._tokens / seconds)} tokens/s"
        return f"{self._name}: {self._parts}/{self._num_parts} parts{self._counted()}; {rates}; {duration(left)} left"

    def _counted(self) -> str:
        text = f", {self._samples:,} samples" if self._samples else ""
        text += f", {self._tokens:,} tokens" if self._tokens else ""
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in self._left_out.most_common() if number)
        return f"{text}; left out: {reasons}" if reasons else text


def _stage(name: str | None) -> "StageName | None":
    from triptych.data_pipelines.prepare.preparation import STAGES, StageName

    found = next((stage for stage in get_args(StageName) if stage == name), None)
    if found is None and name is not None:
        raise ValueError(f"--stage {name} is none; give one of {', '.join(STAGES)}, or leave it out for all")
    return found


def _config(kind: str, settings: Sequence[str]) -> "PrepareConfig":
    from triptych.configs.tree import with_settings
    from triptych.data_pipelines.prepare.config import default_config
    from triptych.data_pipelines.prepare.inputs.entries import Kind

    known = next((one for one in get_args(Kind) if one == kind), None)
    if known is None:
        raise ValueError(f"--kind {kind} is none; give one of {', '.join(get_args(Kind))}")
    config = with_settings(default_config(known), settings)
    if config.kind != known:
        raise ValueError(f"filters.kind={config.kind} contradicts --kind {known}; leave one of them out")
    return config


def _share(stage: "StageName | None", processes: int, part: int | None, num_parts: int | None) -> "Share":
    """This task's share of a stage: as given, else that of a task of a Slurm array."""
    from triptych.data_pipelines.prepare.preparation import Share

    if (part is None) != (num_parts is None):
        raise ValueError("--part and --num-parts go together; give both or none")
    task = array_task() if part is None and stage in ("scan", "encode") else None
    if task is not None:
        part, num_parts = task.number, task.count
    return Share(part=part or 0, num_parts=1 if num_parts is None else num_parts, num_processes=processes)


def _summarize(target: Path, manifest: "Manifest", display: PreparationDisplay) -> None:
    from triptych.data_pipelines.prepare.stages.join import PREPARATION

    about = manifest.provenance[PREPARATION]
    tokens = ", ".join(f"{number:,} {modality} tokens" for modality, number in about["tokens"].items())
    display.message(f"{target}: {manifest.num_samples:,} of {about['samples']['read']:,} samples, {tokens}")
    for reason, number in about["left_out"].items():
        if number:
            display.message(f"left out {number:,}: {reason}")
    for reason, number in about["damaged"].items():
        display.message(f"skipped {number:,} damaged: {reason}")
