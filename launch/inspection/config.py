"""How much of a set is looked at, and how large its page may grow."""

from dataclasses import dataclass, field

from triptych.data_pipelines.shards.decode import DecodeConfig

_MOST_SHOWN = 500


@dataclass(kw_only=True, slots=True, frozen=True)
class InspectionConfig:
    """num_samples: shown with their contents. max_samples_read, max_bytes_read: what figures and checks are taken from;
    where samples hold images or recordings, which have to be decoded, at most `max_raw_read`. max_media_bytes: of all
    images and recordings on the page. max_characters: of one text. max_seconds: of one recording; max_side_pixels: of
    one image; what is larger is cut or made smaller, and says so.
    """

    num_samples: int = 24
    seed: int = 0
    max_samples_read: int = 4000
    max_bytes_read: int = 256 << 20
    max_raw_read: int = 400
    max_media_bytes: int = 24 << 20
    max_characters: int = 1500
    max_codes: int = 160
    max_seconds: float = 15.0
    max_side_pixels: int = 384
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.num_samples <= _MOST_SHOWN:
            raise ValueError(f"--num-samples {self.num_samples} is not within 1..{_MOST_SHOWN}; give another number")
