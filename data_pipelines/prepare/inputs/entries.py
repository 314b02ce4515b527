"""One sample as it is found in an input."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from triptych.data_pipelines.shards.errors import DamagedSample
from triptych.data_pipelines.vocabulary import Modality

Kind = Literal["text", "image-text", "audio-text"]
# Of each kind, the modality that the text goes with.
MEDIA: dict[Kind, Modality | None] = {"text": None, "image-text": "image", "audio-text": "audio"}


@dataclass(kw_only=True, slots=True, frozen=True)
class InputConfig:
    """How inputs are read.

    text_field: of a line, a table or a .json member, what holds the text or caption. txt_documents: whether a .txt file
    is one document, or each of its lines is. part_bytes: about how much input is read and encoded as one piece of work,
    which gives one shard or more. max_document_bytes, max_member_bytes: what is longer is damaged, and is never in
    memory whole.
    """

    text_field: str = "text"
    txt_documents: Literal["file", "line"] = "file"
    part_bytes: int = 256 << 20
    max_document_bytes: int = 64 << 20
    max_member_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        for name in ("part_bytes", "max_document_bytes", "max_member_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} leaves no room; give 1 or more")


class Pair(NamedTuple):
    """media: an encoded image or recording. labels: what came with it, JSON, or None."""

    media: bytes
    caption: str
    labels: bytes | None


class Entry(NamedTuple):
    """A sample of an input.

    name: where it is, for people. own_key: the one that its tar gives it, else None. content: a text, a pair, or why it
    is neither. num_bytes: of input that were read since the entry before.
    """

    name: str
    own_key: str | None
    content: str | Pair | DamagedSample
    num_bytes: int


def as_text(key: str, data: bytes) -> str:
    """UTF-8. DamagedSample if it is not."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedSample(key, "text", f"the text is not UTF-8 at byte {error.start}") from None


def text_of(key: str, fields: object, name: str) -> str:
    """The text in a field of a JSON object; null is an empty one.

    DamagedSample if there is no such field, or no text that UTF-8 can hold.
    """
    if not isinstance(fields, dict) or name not in fields:
        raise DamagedSample(key, "no text field", f"there is no field {name!r}: see --text-field")
    text = fields[name]
    if text is None:
        return ""
    if not isinstance(text, str):
        raise DamagedSample(key, "no text field", f"field {name!r} holds no text")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON may spell half of a surrogate pair
            raise DamagedSample(key, "text", f"field {name!r} holds half a character") from None
    return text
