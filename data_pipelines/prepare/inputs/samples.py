"""What the samples of a webdataset tar hold: a text, or an image or recording with its text."""

from collections.abc import Iterator

from triptych.data_pipelines.prepare.inputs.entries import MEDIA, Entry, InputConfig, Kind, Pair, as_text, text_of
from triptych.data_pipelines.prepare.inputs.streams import Stream
from triptych.data_pipelines.prepare.inputs.tars import TarSample, read_samples
from triptych.data_pipelines.shards.decode import RAW_EXTENSIONS, DecodeConfig, decode_json
from triptych.data_pipelines.shards.errors import DamagedSample


def read_tar(stream: Stream, kind: Kind, config: InputConfig, decode: DecodeConfig) -> Iterator[Entry]:
    """A document or pair of each sample. The text is in its .txt, or in the text field of its .json."""
    media = MEDIA[kind]
    extensions = RAW_EXTENSIONS[media] if media else ()
    for sample in read_samples(stream, ("txt", "json", *extensions), config.max_member_bytes):
        try:
            if sample.damage is not None:
                raise sample.damage
            text = _text(sample, config, decode)
            content = text if media is None else _pair(sample, extensions, text, decode)
        except DamagedSample as error:
            content = error
        yield Entry(sample.key, sample.key, content, sample.num_bytes)


def _text(sample: TarSample, config: InputConfig, decode: DecodeConfig) -> str:
    if "txt" in sample.members:
        if len(sample.members["txt"]) > config.max_document_bytes:
            detail = f"the text is longer than max_document_bytes={config.max_document_bytes}"
            raise DamagedSample(sample.key, "text too large", detail)
        return as_text(sample.key, sample.members["txt"])
    if "json" in sample.members:
        return text_of(sample.key, decode_json(sample.key, sample.members["json"], decode), config.text_field)
    raise DamagedSample(sample.key, "member missing", "it has neither .txt nor .json")


def _pair(sample: TarSample, extensions: tuple[str, ...], text: str, decode: DecodeConfig) -> Pair:
    media = next((sample.members[extension] for extension in extensions if extension in sample.members), None)
    if media is None:
        raise DamagedSample(sample.key, "member missing", f"it has none of {', '.join(extensions)}")
    labels = sample.members.get("json")
    if labels is not None and "txt" in sample.members:
        decode_json(sample.key, labels, decode)
    return Pair(media, text, labels)
