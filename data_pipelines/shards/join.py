"""Several sets of shards as one, without copying: how the parts that many machines encoded become one set."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from triptych.data_pipelines.shards.atomic import atomic_folder
from triptych.data_pipelines.shards.manifest import Damaged, Manifest, Shard, read_manifest, write_manifest
from triptych.data_pipelines.shards.writer import shard_names


def join_sets(
    folders: Sequence[Path],
    target: Path,
    *,
    provenance: Mapping[str, Any] | None = None,
    damaged: Sequence[Damaged] | None = None,
) -> Manifest:
    """Make `target` of all samples of `folders`, in that order. Files are hard links, so `folders` may go afterwards.

    provenance, damaged: what the manifest says in place of the parts' own, one after the other.

    ValueError if a folder is not whole, if their codes are of different tokenizers, or if `target` is on another file
    system.
    """
    manifests = [read_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        if manifest.tokenizers != manifests[0].tokenizers:
            raise ValueError(f"{folder} and {folders[0]} are of different tokenizers; encode one of them again")
    with atomic_folder(target) as partial:
        joined = Manifest(
            shards=tuple(_link_all(folders, manifests, partial)),
            provenance={"parts": [part.provenance for part in manifests]} if provenance is None else dict(provenance),
            tokenizers=manifests[0].tokenizers if manifests else {},
            damaged=tuple(entry for part in manifests for entry in part.damaged) if damaged is None else tuple(damaged),
        )
        write_manifest(partial, joined)
    return joined


def _link_all(folders: Sequence[Path], manifests: Sequence[Manifest], target: Path) -> Iterator[Shard]:
    number = 0
    for folder, manifest in zip(folders, manifests, strict=True):
        for shard in manifest.shards:
            _require_whole(folder, shard)
            name, index = shard_names(number)
            _link(folder / shard.name, target / name)
            _link(folder / shard.index, target / index)
            yield replace(shard, name=name, index=index)
            number += 1


def _require_whole(folder: Path, shard: Shard) -> None:
    mend = "copy it again, or make the folder again"
    for name in (shard.name, shard.index):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} is missing; {mend}")
    size = (folder / shard.name).stat().st_size
    if size != shard.num_bytes:
        what = "truncated" if size < shard.num_bytes else "too long"
        told = f"{size} bytes, the manifest says {shard.num_bytes}"
        raise ValueError(f"{folder / shard.name} is {what}: {told}; {mend}")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise ValueError(f"{source} is on another file system; choose a folder beside it") from error
        raise
