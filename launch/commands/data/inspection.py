"""`triptych data stats | inspect`: what sets of shards hold."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rich.console import Console

from triptych.configs.registry import named_run
from triptych.configs.token_data import read_tokenizers
from triptych.configs.tree import with_settings
from triptych.data_pipelines.shards.atomic import replace_file
from triptych.data_pipelines.shards.reader import ShardSet
from triptych.data_pipelines.statistics.sets import SetStatistics, set_statistics
from triptych.data_pipelines.tokenizers.protocol import Tokenizer
from triptych.data_pipelines.vocabulary import MODALITIES, Modality, Task
from triptych.launch.inspection.checks import VERDICTS, verdict
from triptych.launch.inspection.config import InspectionConfig
from triptych.launch.inspection.packing import PackedTask, packing_for, packing_under
from triptych.launch.inspection.page import inspect_set, render
from triptych.launch.inspection.tables import print_statistics


@dataclass(kw_only=True, slots=True, frozen=True)
class PackingOptions:
    """How packing is to be tried: under a run's settings, or for a task and row length; not at all if all are None."""

    run: str | None = None
    settings: tuple[str, ...] = ()
    task: str | None = None
    row_length: int | None = None

    def __post_init__(self) -> None:
        if self.task is not None and self.task not in get_args(Task):
            raise ValueError(f"there is no task {self.task}; there are: {', '.join(get_args(Task))}")
        if self.run is not None and self.row_length is not None:
            raise ValueError("--run has a row length of its own; change it with --set data.packing.row_length=N")
        if self.run is None and (self.task is None) != (self.row_length is None):
            raise ValueError("--task and --row-length go together; give both, or --run")
        if self.run is None and self.settings:
            raise ValueError("--set changes the settings of a run; name it with --run")

    def packed(self, shards: ShardSet, statistics: SetStatistics) -> list[PackedTask]:
        """What packing does with a set, for each task that is asked for."""
        task = next((task for task in get_args(Task) if task == self.task), None)
        if self.run is not None:
            return packing_under(with_settings(named_run(self.run), self.settings), shards, statistics, task)
        if task is not None and self.row_length is not None:
            return [packing_for(task, self.row_length, shards, statistics)]
        return []


def stats(folders: Sequence[str], packing: PackingOptions, *, as_json: bool, console: Console | None = None) -> None:
    """Print the statistics of each set, as tables or as JSON. ValueError for a set that is not whole."""
    found = []
    for folder in folders:
        shards = ShardSet.open(folder)
        statistics = set_statistics(shards)
        found.append((statistics, packing.packed(shards, statistics)))
    if as_json:
        every = [{**one.as_json(), "packing": [each.as_json() for each in packed]} for one, packed in found]
        print(json.dumps(every, indent=1))
        return
    console = console or Console(highlight=False)
    for statistics, packed in found:
        print_statistics(statistics, packed, console)


def inspect(folder: str, tokenizers: Path | None, out: Path, config: InspectionConfig) -> None:
    """Write the page of a set. tokenizers: folder of one folder per modality; those that are there are used.

    ValueError for a set or a tokenizer that cannot be read, or if `out` is not an .html file of a folder that is there.
    """
    if out.suffix not in (".html", ".htm") or out.is_dir():
        raise ValueError(f"--out {out} is no page; give the path of an .html file")
    shards = ShardSet.open(folder)
    seen = inspect_set(shards, _tokenizers_in(tokenizers), config)
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, render(seen, config).encode("utf-8", errors="replace"))
    level = verdict(seen.checks)
    print(f"{out}: {len(seen.found.indices):,} of {len(shards):,} samples read, {len(seen.samples)} shown")
    for check in seen.checks:
        if check.level in ("odd", "bad"):
            print(f"{check.title}{f' ({check.detail})' if check.detail else ''}")
    print(VERDICTS[level].lower())


def _tokenizers_in(folder: Path | None) -> dict[Modality, Tokenizer]:
    if folder is None:
        return {}
    there: list[Modality] = [modality for modality in MODALITIES if (folder / modality).is_dir()]
    if not there:
        raise ValueError(f"{folder} holds none of {', '.join(MODALITIES)}; give a folder of one folder per tokenizer")
    return read_tokenizers(folder, there)
