"""Stage 4: the shards of all parts as one set, with a manifest that says what it was made of."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from triptych.data_pipelines.prepare.config import PrepareConfig
from triptych.data_pipelines.prepare.stages.scan import Summary, read_summary
from triptych.data_pipelines.prepare.work import Plan, WorkFolder, inputs_digest
from triptych.data_pipelines.shards.join import join_sets
from triptych.data_pipelines.shards.manifest import Damaged, Manifest, read_manifest

PREPARATION = "preparation"


def join(work: WorkFolder, plan: Plan, target: Path, config: PrepareConfig) -> Manifest:
    """Make `target` of all encoded parts, as hard links. ValueError if a part is damaged or on another file system."""
    numbers = range(len(plan.parts))
    scans = [read_summary(work.scanned(number)) for number in numbers]
    encodings = [read_summary(work.encoded(number)) for number in numbers]
    total = _total([*scans, *encodings, read_summary(work.decisions)])
    folders = [work.encoded(number) for number in numbers]
    num_tokens: Counter[str] = Counter()
    num_samples = 0
    for folder in folders:
        for shard in read_manifest(folder).shards:
            num_tokens.update(shard.num_codes)
            num_samples += shard.num_samples
    sha256 = {number: digest for scan in scans for number, digest in scan.sha256.items()}
    inputs = [
        {"name": file.name, "num_bytes": file.num_bytes, "sha256": sha256.get(number)}
        for number, file in enumerate(plan.files)
    ]
    about: dict[str, Any] = {
        "kind": config.kind,
        "digest": inputs_digest(plan.files, config),
        "settings": plan.settings,
        "versions": plan.versions,
        "inputs": inputs,
        "samples": {"read": sum(scan.num_samples for scan in scans), "written": num_samples},
        "tokens": dict(num_tokens),
        "left_out": dict(total.left_out),
        "damaged": dict(total.damaged),
    }
    named = total.named[: config.num_damaged_named]
    manifest = join_sets(
        folders,
        target,
        provenance={PREPARATION: about},
        damaged=[Damaged(key=where, reason=reason) for where, reason in named],
    )
    for leftover in work.leftovers():
        shutil.rmtree(leftover, ignore_errors=True)
    return manifest


def _total(summaries: list[Summary]) -> Summary:
    total = Summary()
    for summary in summaries:
        total.left_out += summary.left_out
        total.damaged += summary.damaged
        total.named += summary.named
    return total
