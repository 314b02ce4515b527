"""Raw data to a tokenized set: which stages there are, and what is left to do of them.

Each stage goes on where it was: a part that is there is whole, and one that is not is done again. The set is the same,
byte for byte, whatever the number of processes, tasks and interruptions.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from triptych.data_pipelines.prepare.config import PrepareConfig
from triptych.data_pipelines.prepare.inputs.files import find_files
from triptych.data_pipelines.prepare.processes import Counts, Stage, run_jobs
from triptych.data_pipelines.prepare.stages.deduplicate import deduplicate
from triptych.data_pipelines.prepare.stages.encode import EncodeStage, TokenizerLoader
from triptych.data_pipelines.prepare.stages.join import PREPARATION, join
from triptych.data_pipelines.prepare.stages.scan import ScanStage, read_summary
from triptych.data_pipelines.prepare.work import Plan, WorkFolder, begin_work, inputs_digest, jobs
from triptych.data_pipelines.shards.manifest import FILE_NAME, Manifest, read_manifest, require_fingerprints
from triptych.data_pipelines.tokenizers.protocol import fingerprints_of

StageName = Literal["scan", "deduplicate", "encode", "join"]
STAGES: tuple[StageName, ...] = ("scan", "deduplicate", "encode", "join")


@dataclass(kw_only=True, slots=True, frozen=True)
class Share:
    """Task `part` of `num_parts` that share a stage. num_processes: of this task, on this machine."""

    part: int = 0
    num_parts: int = 1
    num_processes: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.part < self.num_parts:
            raise ValueError(
                f"--part {self.part} of --num-parts {self.num_parts} is none; give 0 to {self.num_parts - 1}"
            )
        if self.num_processes < 1:
            raise ValueError(f"--processes {self.num_processes} does no work; give 1 or more")


class Display(Protocol):
    """Shows what is done."""

    def stage(self, name: str, num_parts: int, num_bytes: int) -> AbstractContextManager[None]:
        """While it lasts, a stage has so many parts and bytes of input to go."""
        ...

    def advance(self, counts: Counts) -> None: ...

    def message(self, text: str) -> None: ...


class Preparation:
    """One target, its inputs and settings. work: the work folder; `<target>.work` if None.

    max_damaged: one more damaged sample than this ends the work; with a higher limit it goes on where it was.
    """

    def __init__(
        self,
        inputs: Sequence[Path],
        target: Path,
        config: PrepareConfig,
        load_tokenizers: TokenizerLoader,
        *,
        work: Path | None = None,
        max_damaged: int = 0,
    ) -> None:
        if max_damaged < 0:
            raise ValueError(f"--max-damaged {max_damaged} is below 0; give 0 to allow none")
        self._inputs, self._target, self._config = inputs, target, config
        self._load_tokenizers = load_tokenizers
        self._work = WorkFolder(target.with_name(f"{target.name}.work") if work is None else work)
        self._max_damaged = max_damaged

    def finished(self) -> Manifest | None:
        """The set, if it is there already. ValueError if what is there is something else."""
        if not self._target.exists():
            return None
        mend = "remove it, or give another --out"
        if not (self._target / FILE_NAME).is_file():
            raise ValueError(f"{self._target} is there, but is no set of shards; {mend}")
        manifest = read_manifest(self._target)
        about = manifest.provenance.get(PREPARATION, {})
        if about.get("digest") != inputs_digest(find_files(self._inputs, self._config.kind), self._config):
            raise ValueError(f"{self._target} was made of other inputs or with other settings; {mend}")
        require_fingerprints(self._target, manifest, fingerprints_of(self._load_tokenizers(self._config.kind, 0, 1)))
        return manifest

    def run(self, stage: StageName | None, share: Share, display: Display) -> Manifest | None:
        """One stage, or all of them if None; the set, once it is there.

        ValueError if a stage before is not finished, if inputs or settings are others than before, or if too many
        samples are damaged.
        """
        if share.num_parts > 1 and stage not in ("scan", "encode"):
            raise ValueError("--num-parts is for --stage scan and encode; the others run in one task, without it")
        plan = begin_work(self._work, self._inputs, self._config)
        for name in STAGES if stage is None else (stage,):
            manifest = self._run(name, plan, share, display)
            if manifest is not None:
                return manifest
        return None

    def _run(self, name: StageName, plan: Plan, share: Share, display: Display) -> Manifest | None:
        work, config = self._work, self._config
        for before in STAGES[: STAGES.index(name)]:
            self._require(before, plan)
        if name == "join":
            with display.stage(name, 0, 0):
                return join(work, plan, self._target, config)
        if name == "scan":
            self._parts(name, ScanStage(work=work.folder, config=config), plan, share, display)
        elif name == "encode":
            num_processes = min(share.num_processes, len(plan.parts))
            stage = EncodeStage(
                work=work.folder, config=config, load_tokenizers=self._load_tokenizers, num_processes=num_processes
            )
            self._parts(name, stage, plan, share, display)
        elif not work.decisions.exists():
            with display.stage(name, 0, 0):
                summary = deduplicate(work, len(plan.parts), config)
                display.advance(Counts(num_samples=summary.num_samples, left_out=summary.left_out))
        return None

    def _parts(self, name: StageName, stage: Stage, plan: Plan, share: Share, display: Display) -> None:
        """This share's parts of a stage that are not there yet."""
        own = range(share.part, len(plan.parts), share.num_parts)
        missing = list(self._missing(name, own))
        there = sorted(set(own) - set(missing))
        if there:
            display.message(f"{name}: {len(there)} of {len(own)} parts are there already")
        num_damaged = self._num_damaged(name, there)
        self._check_damaged(num_damaged)
        todo = jobs(plan, missing)
        if not todo:
            return
        with display.stage(name, len(todo), sum(job.num_bytes for job in todo)):
            for number in run_jobs(stage, todo, share.num_processes, display.advance):
                num_damaged += number
                self._check_damaged(num_damaged)

    def _num_damaged(self, name: StageName, numbers: Sequence[int]) -> int:
        folder = self._work.scanned if name == "scan" else self._work.encoded
        return sum(read_summary(folder(number)).num_damaged for number in numbers)

    def _check_damaged(self, number: int) -> None:
        if number > self._max_damaged:
            named = next(self._named(), None)
            example = "" if named is None else f", such as {named[0]} ({named[1]})"
            raise ValueError(
                f"{number} samples are damaged{example}, more than --max-damaged {self._max_damaged}; mend the inputs, "
                "or raise it to leave them out"
            )

    def _named(self) -> Iterator[tuple[str, str]]:
        for stage in ("scanned", "encoded"):
            for path in sorted((self._work.folder / stage).glob("part-*/summary.json")):
                yield from read_summary(path.parent).named

    def _missing(self, name: StageName, numbers: Sequence[int]) -> Iterator[int]:
        folder = self._work.scanned if name == "scan" else self._work.encoded
        return (number for number in numbers if not folder(number).exists())

    def _require(self, name: StageName, plan: Plan) -> None:
        """ValueError unless a stage is finished, within the limit of damaged samples over all tasks."""
        if name == "deduplicate":
            if not self._work.decisions.exists():
                raise ValueError(f"{self._work.folder} has not been deduplicated; run --stage deduplicate first")
            return
        missing = list(self._missing(name, range(len(plan.parts))))
        if missing:
            done = f"{len(missing)} of {len(plan.parts)} parts are missing, the first {missing[0]}"
            raise ValueError(f"{self._work.folder}: --stage {name} is not finished ({done}); run it first")
        stages = STAGES[: STAGES.index(name) + 1]
        numbers = range(len(plan.parts))
        self._check_damaged(sum(self._num_damaged(stage, numbers) for stage in stages if stage != "deduplicate"))
