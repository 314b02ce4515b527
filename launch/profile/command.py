"""One profile from its settings to its files."""

import dataclasses
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from triptych.configs.registry import named_run
from triptych.configs.tree import with_settings
from triptych.configs.trimodal import TrimodalRun
from triptych.data_pipelines.shards.atomic import replace_file
from triptych.launch.many_processes import all_processes
from triptych.launch.profile.document import device_name, record_of, summary
from triptych.launch.profile.measure.alike import from_first
from triptych.launch.profile.measure.synthetic import synthetic_mixture
from triptych.launch.profile.measuring import Passes, Report, measure
from triptych.launch.profile.page.render import render
from triptych.launch.profile.record import ProfileRecord
from triptych.launch.run_directory import commit
from triptych.trainer.loader.loader import Loader
from triptych.trainer.parallel.groups import Groups, process_groups
from triptych.trainer.parallel.placement import Placement
from triptych.trainer.parallel.refusal import require_layout
from triptych.trainer.scaling.scaling import scaling_of
from triptych.trainer.seams import Data

DataKind = Literal["synthetic", "real"]


@dataclass(kw_only=True, slots=True, frozen=True)
class Asked:
    """What a profile is of. num_micro_batches: per step and data rank, instead of the run's batch. code: the commit,
    where the code runs outside its checkout.
    """

    name: str
    settings: tuple[str, ...]
    num_micro_batches: int | None
    data: DataKind
    folder: Path
    code: str | None
    command: str

    def run(self, world_size: int) -> TrimodalRun:
        """Its settings. ValueError as `triptych train`, for a number of micro-batches that makes no sense, and for a
        layout that cannot run.
        """
        if self.num_micro_batches is not None and self.num_micro_batches < 1:
            raise ValueError("--micro-batches is 1 or more; give such a number")
        run = sized(with_settings(named_run(self.name), self.settings), world_size, self.num_micro_batches)
        require_layout(run.plan(world_size))
        return run


def profile(asked: Asked, passes: Passes, placement: Placement) -> None:
    """Profile a named run, alone or as one of many processes. ValueError, before anything is built."""
    processes = all_processes(placement)
    with processes.failing_together():
        run = asked.run(placement.world_size)
        with (
            processes.watched(run.fit.watch),
            process_groups(placement, run.fit.parallel, store=processes.store) as groups,
            processes.failing_together(),  # again: groups whose processes are gone may never close
        ):
            profile_run(run, groups, asked, passes)


def profile_run(run: TrimodalRun, groups: Groups, asked: Asked, passes: Passes) -> ProfileRecord | None:
    """Measure and write JSON, page and trace into the folder; the record on the first process."""
    say: Report = print if groups.is_first else _ignore
    moment = time.strftime("%Y%m%d-%H%M%S")  # clocks, and how far processes are, differ
    slug = re.sub(r"[^a-z0-9]+", "-", device_name(groups.device).lower()).strip("-")
    base = asked.folder / from_first(groups, f"{asked.name}-{slug}-{groups.placement.world_size}-{moment}")
    with batches(run, groups, asked.data) as data:
        asked.folder.mkdir(parents=True, exist_ok=True)
        measured = measure(run, groups, data, passes, base=base, report=say)
    if not groups.is_first:
        return None
    record = record_of(
        run,
        groups,
        measured,
        base=base,
        options=asked.settings,
        data=asked.data,
        command=asked.command,
        commit=asked.code or commit(),
    )
    record.write(base.with_name(f"{base.name}.json"))
    replace_file(base.with_name(f"{base.name}.html"), render(record).encode())
    say("\n".join([*summary(record), f"{base}.json", f"{base}.html"]))
    return record


@contextmanager
def batches(run: TrimodalRun, groups: Groups, data: DataKind) -> Iterator[Data]:
    """Made up with the run's mix of sequences, or the run's own through its loader. ValueError if these are not
    there.
    """
    if data == "synthetic":
        yield synthetic_mixture(run)
        return
    from triptych.configs.token_data import load_tokenizers
    from triptych.launch.training import training_data

    stream = training_data(run, load_tokenizers(run.data_folder))
    with Loader(stream, run.fit.loader, groups, lambda event, facts: None) as loader:
        yield loader


def sized(run: TrimodalRun, world_size: int, num_micro_batches: int | None) -> TrimodalRun:
    """With a batch of so many micro-batches on each data-parallel rank; as it is for None."""
    if num_micro_batches is None:
        return run
    data_ranks = world_size // run.fit.parallel.model_ranks
    batch = num_micro_batches * run.fit.micro_batch_per_dp_rank * max(1, data_ranks)
    return dataclasses.replace(run, fit=dataclasses.replace(run.fit, physical_batch=batch))


def batch_at_start(run: TrimodalRun, world_size: int) -> int:
    """Sequences of the first step over all processes, which is what is profiled."""
    layout = run.fit.parallel
    sizes = scaling_of(run.fit, run.facts, layout, world_size // layout.model_ranks).sizes
    return sizes.at(0, None)


def _ignore(line: str) -> None:
    """What other processes than the first have to say."""
