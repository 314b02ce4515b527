"""Documents that are lines: JSON objects, or plain text; and .txt files that are one document."""

import json
from collections.abc import Callable, Iterator

from triptych.data_pipelines.prepare.inputs.entries import Entry, InputConfig, as_text, text_of
from triptych.data_pipelines.prepare.inputs.streams import DAMAGED_STREAM, Stream
from triptych.data_pipelines.shards.errors import DamagedSample


def read_json_lines(stream: Stream, start: int, stop: int, config: InputConfig) -> Iterator[Entry]:
    """A document of each line that begins in bytes start..stop; blank lines are none."""
    return _read_lines(stream, start, stop, config.max_document_bytes, lambda key, line: _json_text(key, line, config))


def read_text_lines(stream: Stream, start: int, stop: int, config: InputConfig) -> Iterator[Entry]:
    """As `read_json_lines`, of plain text."""
    return _read_lines(
        stream, start, stop, config.max_document_bytes, lambda key, line: as_text(key, line).rstrip("\r\n")
    )


def read_text_file(stream: Stream, num_bytes: int, config: InputConfig) -> Iterator[Entry]:
    """The whole file as one document."""
    try:
        data = stream.reader.read(config.max_document_bytes + 1)
        if len(data) > config.max_document_bytes:
            raise _too_long("the file", config.max_document_bytes)
        yield Entry("the file", None, as_text("the file", data), num_bytes)
    except DamagedSample as error:
        yield Entry(error.key, None, error, num_bytes)
    except DAMAGED_STREAM as error:
        yield _cut_off("the file", error, stream)


def _json_text(key: str, line: bytes, config: InputConfig) -> str:
    try:
        fields = json.loads(as_text(key, line))
    except DamagedSample:
        raise
    except (ValueError, RecursionError):
        raise DamagedSample(key, "json", "the line is not JSON") from None
    return text_of(key, fields, config.text_field)


def _read_lines(
    stream: Stream, start: int, stop: int, max_bytes: int, text: Callable[[str, bytes], str]
) -> Iterator[Entry]:
    """A line belongs to the piece that its first byte is in. A compressed stream is one piece, whatever start..stop."""
    position = 0
    if start and not stream.compressed:
        stream.seek(start - 1)  # a line that ends right before `start` is another piece's
        position = start - 1 + _rest_of_line(stream)
    told = start
    while stream.compressed or position < stop:
        try:
            line = stream.reader.readline(max_bytes + 1)
            size = len(line)
            if too_long := size > max_bytes and not line.endswith(b"\n"):
                size += _rest_of_line(stream)
        except DAMAGED_STREAM as error:
            yield _cut_off(f"byte {position}", error, stream)
            return
        if not line:
            return
        if line.strip():
            key, here = f"byte {position}", stream.tell() if stream.compressed else position + size
            try:
                content = _too_long(key, max_bytes) if too_long else text(key, line)
            except DamagedSample as error:
                content = error
            yield Entry(key, None, content, here - told)
            told = here
        position += size


def _rest_of_line(stream: Stream) -> int:
    size = 0
    while data := stream.reader.readline(1 << 20):
        size += len(data)
        if data.endswith(b"\n"):
            break
    return size


def _too_long(key: str, max_bytes: int) -> DamagedSample:
    return DamagedSample(key, "text too large", f"the text is longer than max_document_bytes={max_bytes}")


def _cut_off(key: str, error: BaseException, stream: Stream) -> Entry:
    if isinstance(error, OSError) and (error.errno is not None or not stream.compressed):
        raise error
    detail = f"the compressed stream ends early or is damaged ({' '.join(str(error).split())})"
    return Entry(key, None, DamagedSample(key, "compressed stream", detail), 0)
