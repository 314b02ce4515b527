"""Everything that decides what a prepared set holds."""

from dataclasses import dataclass, field

from triptych.data_pipelines.prepare.duplicates.signatures import DeduplicationConfig
from triptych.data_pipelines.prepare.filters.pairs import AudioTextFilterConfig, ImageTextFilterConfig
from triptych.data_pipelines.prepare.filters.text import TextFilterConfig
from triptych.data_pipelines.prepare.images import ImageFitConfig
from triptych.data_pipelines.prepare.inputs.entries import InputConfig, Kind
from triptych.data_pipelines.shards.decode import DecodeConfig
from triptych.data_pipelines.shards.writer import ShardConfig


@dataclass(kw_only=True, slots=True, frozen=True)
class PrepareConfig:
    """filters: of the kind of data, which they name. batch_samples, batch_bytes: what a tokenizer gets at once ends at
    whichever comes first; bytes are of the decoded texts, images or recordings. num_damaged_named: how many damaged
    samples the manifest names; all are counted.
    """

    filters: TextFilterConfig | ImageTextFilterConfig | AudioTextFilterConfig
    inputs: InputConfig = field(default_factory=InputConfig)
    deduplication: DeduplicationConfig = field(default_factory=DeduplicationConfig)
    images: ImageFitConfig = field(default_factory=ImageFitConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    shards: ShardConfig = field(default_factory=ShardConfig)
    batch_samples: int = 256
    batch_bytes: int = 64 << 20
    num_damaged_named: int = 100

    def __post_init__(self) -> None:
        if self.batch_samples < 1:
            raise ValueError(f"batch_samples={self.batch_samples} leaves nothing to encode; give 1 or more")

    @property
    def kind(self) -> Kind:
        return self.filters.kind


def default_config(kind: Kind) -> PrepareConfig:
    """The settings of a kind of data before any is changed."""
    filters: dict[Kind, TextFilterConfig | ImageTextFilterConfig | AudioTextFilterConfig] = {
        "text": TextFilterConfig(),
        "image-text": ImageTextFilterConfig(),
        "audio-text": AudioTextFilterConfig(),
    }
    return PrepareConfig(filters=filters[kind])
