"""`triptych data make | encode | verify`."""

from pathlib import Path


def make(folder: Path) -> None:
    """Make the demo's raw corpus."""
    from triptych.configs.digits import corpus_config
    from triptych.data_pipelines.corpus.make import make_corpus

    manifests = make_corpus(folder, corpus_config())
    for (source, split), manifest in manifests.items():
        print(f"{source}/{split}: {manifest.num_samples:,} samples")


def encode(source: Path, target: Path, tokenizers: Path, *, max_damaged: int) -> None:
    """Encode one set of shards with the tokenizers of a folder."""
    from triptych.configs.token_data import read_tokenizers
    from triptych.data_pipelines.shards.encode import EncodeConfig, encode_shards

    if max_damaged < 0:
        raise ValueError(f"--max-damaged {max_damaged} is below 0; give 0 to allow none")
    manifest = encode_shards(source, target, read_tokenizers(tokenizers), EncodeConfig(max_damaged=max_damaged))
    print(f"{target}: {manifest.num_samples:,} samples")
    for reason, number in manifest.damaged_by_reason.items():
        print(f"skipped {number} damaged: {reason}")


def verify(folder: Path) -> None:
    """Check a set of shards."""
    from triptych.data_pipelines.shards.verify import verify as verify_shards

    manifest = verify_shards(folder)
    print(f"{folder}: {manifest.num_samples:,} samples in {len(manifest.shards)} shards, every checksum right")
