"""How long an MP3 is. Its frames say so; its header may not, and then decoders guess from the bit rate and stop there.

Layout of frames: ISO/IEC 11172-3 and 13818-3, layer III. Header of variable bit rates ("Xing", "Info"): by convention.
"""

from collections.abc import Iterator
from typing import NamedTuple

from triptych.data_pipelines.shards.errors import DamagedSample

_BIT_RATES = {  # kbit/s by index, of MPEG-1 and of MPEG-2 and 2.5
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")
_MAX_TAGS = 4  # at the start
_ROOMY = 8  # a bit rate of which every frame holds a header of ours
_TRIMMED_FRAMES = 4  # what a header may take off for the encoder's delay and padding, and one for a cut last frame


class _Frame(NamedTuple):
    """num_bytes: of the whole frame. side_bytes: between its header and what a "Xing" header replaces."""

    start: int
    num_bytes: int
    side_bytes: int


def is_mp3(data: bytes) -> bool:
    """Whether this begins as an MP3 does."""
    return data[:3] == b"ID3" or _frame(data, 0) is not None


def with_length(key: str, data: bytes) -> bytes:
    """The frames, without tags around them, behind a header that states their number, which they may have already.

    DamagedSample if there are no frames, if something else is between them, if the last is cut off, or if the header
    states another number.
    """
    first = last = None
    num_frames = 0
    for last in _frames(data):
        first = first or last
        num_frames += 1
    if first is None or last is None:
        raise DamagedSample(key, "audio", "the MP3 has no frame")
    end = last.start + last.num_bytes
    if end > len(data):
        raise DamagedSample(key, "audio", f"the MP3 ends {end - len(data)} bytes early")
    rest = data[end:]
    if rest.strip(b"\0") and not rest.startswith(_TAGS):
        raise DamagedSample(key, "audio", f"the MP3 has no frame at byte {end}")
    stated = _stated_frames(data, first)
    if stated is None:
        return _header(data, first, num_frames) + data[first.start : end]
    if abs(stated - (num_frames - 1)) > _TRIMMED_FRAMES:
        raise DamagedSample(key, "audio", f"the MP3 has {num_frames - 1} frames, its header says {stated}")
    return data[first.start : end]


def _frames(data: bytes) -> Iterator[_Frame]:
    """One after the other, from behind the tags at the start to whatever is no frame."""
    position = 0
    for _ in range(_MAX_TAGS):
        if data[position : position + 3] != b"ID3" or len(data) < position + 10:
            break
        size = 0
        for byte in data[position + 6 : position + 10]:
            size = size << 7 | byte & 0x7F
        position += 10 + size + (10 if data[position + 5] & 0x10 else 0)  # with a footer
    if data[position : position + 1] == b"\0":  # tags are padded, and some do not count that
        position = len(data) - len(data[position:].lstrip(b"\0"))
    while (frame := _frame(data, position)) is not None:
        yield frame
        position += frame.num_bytes


def _frame(data: bytes, start: int) -> _Frame | None:
    header = data[start : start + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:  # synchronised, and of layer III
        return None
    version, rate, bits = header[1] >> 3 & 3, header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or rate == 3 or bits in (0, 15):
        return None
    samples = 1152 if version == 3 else 576
    bit_rate = 1000 * _BIT_RATES[1 if version == 3 else 2][bits]
    num_bytes = samples // 8 * bit_rate // _SAMPLE_RATES[version][rate] + (header[2] >> 1 & 1)
    mono = header[3] >> 6 == 3
    side_bytes = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return _Frame(start, num_bytes, side_bytes)


def _stated_frames(data: bytes, first: _Frame) -> int | None:
    """What the first frame says, if it is a header and no sound."""
    place = first.start + 4 + first.side_bytes
    if data[place : place + 4] in (b"Xing", b"Info") and data[place + 7 : place + 8] and data[place + 7] & 1:
        return int.from_bytes(data[place + 8 : place + 12], "big")
    if data[first.start + 36 : first.start + 40] == b"VBRI":
        return int.from_bytes(data[first.start + 50 : first.start + 54], "big")
    return None


def _header(data: bytes, first: _Frame, num_frames: int) -> bytes:
    """A frame without sound that states the number of those that follow."""
    start = data[first.start : first.start + 4]
    start = bytes((0xFF, start[1] | 1, start[2] & 0x0D | _ROOMY << 4, start[3]))  # no checksum, no padding
    frame = _frame(start, 0)
    assert frame is not None
    body = start + bytes(first.side_bytes) + b"Xing" + (1).to_bytes(4, "big") + num_frames.to_bytes(4, "big")
    return body.ljust(frame.num_bytes, b"\0")
