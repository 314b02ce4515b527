"""Where a run's tokens come from: shards of codes, the tokenizers that made them, and the mixture of tasks over them.

Under a data folder are `tokenizers/<modality>/` and `codes/<shards>/<split>/`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from triptych.data_pipelines.corpus.splits import Split
from triptych.data_pipelines.shards.manifest import require_fingerprints
from triptych.data_pipelines.shards.reader import ShardSet, check_size
from triptych.data_pipelines.stream.cursor import require_name
from triptych.data_pipelines.stream.mixture import Mixture, WeightedSource
from triptych.data_pipelines.stream.sequences import SIDES, RegionSizes, SequenceLayout
from triptych.data_pipelines.stream.shares import Weight
from triptych.data_pipelines.stream.sources import CodeReader, PairSource, Source, TextSource
from triptych.data_pipelines.stream.windows import PackingConfig
from triptych.data_pipelines.tokenizers.protocol import Tokenizer
from triptych.data_pipelines.vocabulary import MODALITIES, Modality, Task, Vocabulary
from triptych.models.tokenizers.registry import load_tokenizer

Tokenizers = Mapping[Modality, Tokenizer]
Fingerprints = Mapping[Modality, str]
_TOKENIZERS = "tokenizers"
_MAX_CHECKED_SHARDS = 1000  # two looks each: milliseconds on a disk; of larger sets, shards are looked at when read


@dataclass(kw_only=True, slots=True, frozen=True)
class SourceConfig:
    """One task over one set of shards: a name under codes/, or a URL such as s3://bucket/codes/mine, with a folder per
    split. weight: share of the tokens, relative to the other sources, or a schedule of it over the run's tokens.
    """

    task: Task
    shards: str
    weight: Weight = 1.0


@dataclass(kw_only=True, slots=True, frozen=True)
class TokenDataConfig:
    """folder: holds tokenizers/ and codes/. regions: positions per side of a pair. sources: name to source.
    packing: how documents share rows.
    """

    folder: str
    regions: RegionSizes
    sources: dict[str, SourceConfig]
    packing: PackingConfig = field(default_factory=PackingConfig)

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("data.sources is empty; name at least one source")
        for name in self.sources:
            require_name(name)

    def row_length(self, sequence_length: int) -> int:
        """Positions of a row. ValueError if a document of `sequence_length` does not fit."""
        row_length = self.packing.row_length or sequence_length
        if row_length < sequence_length:
            raise ValueError(
                f"data.packing.row_length is {row_length}, a document may take {sequence_length}; raise it, or lower "
                "model.sequence_length"
            )
        return row_length


def tokenizer_folder(folder: Path, modality: Modality) -> Path:
    """Where a modality's tokenizer is."""
    return folder / _TOKENIZERS / modality


def codes_folder(folder: Path) -> Path:
    """Where the encoded shards are."""
    return folder / "codes"


def load_tokenizers(folder: Path) -> dict[Modality, Tokenizer]:
    """The tokenizers under a data folder. ValueError, naming the folder, if one is missing or damaged."""
    return read_tokenizers(folder / _TOKENIZERS)


def read_tokenizers(
    folder: Path, modalities: Sequence[Modality] = MODALITIES, device: str = "cpu"
) -> dict[Modality, Tokenizer]:
    """As `load_tokenizers`, of any kind, from the folder that holds one folder per modality.

    device: where networks run. ValueError, naming the folder, also if one is for another modality.
    """
    return {modality: load_tokenizer(folder / modality, device, modality) for modality in modalities}


def require_vocabulary(vocabulary: Vocabulary, tokenizers: Tokenizers) -> None:
    """ValueError unless the model's vocabulary is that of the tokenizers."""
    for modality, tokenizer in tokenizers.items():
        wanted = vocabulary.num_outputs(modality) - 1
        if tokenizer.vocab_size != wanted:
            raise ValueError(
                f"the {modality} tokenizer has {tokenizer.vocab_size} codes, model.vocabulary.{modality} is {wanted}; "
                f"use --set model.vocabulary.{modality}={tokenizer.vocab_size} or another tokenizer"
            )


def build_mixture(
    config: TokenDataConfig,
    layout: SequenceLayout,
    fingerprints: Fingerprints,
    *,
    split: Split,
    seed: int,
    copies: int = 1,
) -> Mixture:
    """The mixture of a split. fingerprints: of the tokenizers that the codes must be of.

    ValueError for manifests that are missing, damaged or of foreign tokenizers, and for an empty source. Indices are
    read for the first rows of each source; other shards of large sets when they are wanted.
    """
    row_length = config.row_length(layout.sequence_length)
    sources = {}
    for name, entry in config.sources.items():
        codes = _codes(_set_folder(config, entry, split), entry.task, fingerprints)
        source = build_source(entry.task, codes, layout, row_length)
        sources[name] = WeightedSource(source=source, weight=entry.weight)
    mixture = Mixture(
        sources,
        seed=seed,
        row_length=row_length,
        pad=layout.vocabulary.special("pad"),
        packing=config.packing,
        copies=copies,
    )
    mixture.plan_beginnings()
    return mixture


def build_source(task: Task, codes: CodeReader, layout: SequenceLayout, row_length: int) -> Source:
    """One task over codes. Texts are cut so that pieces fill a row."""
    if task == "text":
        return TextSource(codes, layout, row_length // -(-row_length // layout.sequence_length))
    return PairSource(task, codes, layout)


def _set_folder(config: TokenDataConfig, entry: SourceConfig, split: Split) -> str | Path:
    if "://" in entry.shards:
        return f"{entry.shards.rstrip('/')}/{split}"
    return codes_folder(Path(config.folder)) / entry.shards / split


def _codes(folder: str | Path, task: Task, fingerprints: Fingerprints) -> ShardSet:
    """The shards, read as they are wanted. ValueError if one of a small local set is missing or not of its size."""
    shards = ShardSet.open(folder)
    require_fingerprints(folder, shards.manifest, fingerprints)
    if isinstance(folder, Path) and len(shards.manifest.shards) <= _MAX_CHECKED_SHARDS:
        for shard in shards.manifest.shards:
            check_size(folder, shard)
    for modality in ("text",) if task == "text" else SIDES[task]:
        if len(shards) and not any(modality in shard.num_codes for shard in shards.manifest.shards):
            raise ValueError(f"{folder} has no {modality} codes; encode the shards with that tokenizer")
    return shards
