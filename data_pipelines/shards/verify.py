"""Whether a folder of shards still holds, byte for byte, what was written."""

import hashlib
from pathlib import Path

from triptych.data_pipelines.shards.manifest import Manifest, read_manifest
from triptych.data_pipelines.shards.reader import check_size


def verify(folder: Path) -> Manifest:
    """Compare every tar and index with its SHA-256 in the manifest, reading all of them once, a megabyte at a time.

    ValueError, naming the first file that is missing, of another size or of other contents.
    """
    manifest = read_manifest(folder)
    for shard in manifest.shards:
        check_size(folder, shard)
        for name, digest in ((shard.name, shard.sha256), (shard.index, shard.index_sha256)):
            with open(folder / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != digest:
                raise ValueError(
                    f"{folder / name} has SHA-256 {found[:12]}.., the manifest says {digest[:12]}..; "
                    "copy it again, or make the folder again"
                )
    return manifest
