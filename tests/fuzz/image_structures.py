"""Mutations of PNG, JPEG and WebP that keep the frame of the file, so that they reach what lies behind it."""

import struct
import zlib
from functools import cache

from mutations import GENERIC, MAX_BYTES, number

_PNG_START = b"\x89PNG\r\n\x1a\n"


@cache
def bomb(kind, num_bytes):
    """A chunk of a PNG whose text inflates to so many zeros: "zTXt", "iTXt" or "iCCP"."""
    packed = zlib.compress(bytes(num_bytes), 9)
    return {"zTXt": b"Comment\0\0", "iTXt": b"Comment\0\1\0\0\0", "iCCP": b"profile\0\0"}[kind] + packed


def png_chunks(data):
    """[(type, payload)], as far as they can be read."""
    chunks, at = [], len(_PNG_START)
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        chunks.append((kind, data[at + 8 : at + 8 + size]))
        at += size + 12
    return chunks


def png_of(chunks):
    """A PNG of these chunks with right checksums."""
    return _PNG_START + b"".join(
        struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
        for kind, payload in chunks
    )


def png(data, draw):
    chunks = png_chunks(data)
    if not chunks:
        return data
    at = draw.randrange(len(chunks))
    kind, payload = chunks[at]
    change = draw.randrange(7)
    if change == 0 and len(chunks[0][1]) == 13:
        chunks[0] = (chunks[0][0], _header(chunks[0][1], draw))
    elif change == 1:
        chunks[at] = (kind, draw.choice(GENERIC)(payload, draw))
    elif change == 2:
        del chunks[at]
    elif change == 3:
        chunks[at:at] = [chunks[at]] * min(draw.choice((1, 3, 500, 5000)), MAX_BYTES // (len(payload) + 12))
    elif change == 4:
        other = draw.randrange(len(chunks))
        chunks[at], chunks[other] = chunks[other], chunks[at]
    elif change == 5:
        chunks.insert(at, _extra(draw))
    else:
        chunks[at] = (draw.choice((b"IDAT", b"PLTE", b"tRNS", b"IEND", b"IHDR", b"fdAT", b"xxxx", b"XXXX")), payload)
    return png_of(chunks)


def _header(payload, draw):
    fields = list(struct.unpack(">IIBBBBB", payload))
    at = draw.randrange(7)
    fields[at] = (
        number(draw) & (0xFFFFFFFF if at < 2 else 0xFF) if draw.random() < 0.5 else draw.choice((1, 2, 3, 4, 16))
    )
    return struct.pack(">IIBBBBB", *fields)


def _extra(draw):
    size = draw.choice((1 << 10, 1 << 20, 1 << 26))
    return draw.choice(
        (
            *((kind.encode(), bomb(kind, size)) for kind in ("zTXt", "iTXt", "iCCP")),
            (b"acTL", struct.pack(">II", number(draw) & 0xFFFFFFFF, number(draw) & 0xFFFFFFFF)),
            (b"fcTL", struct.pack(">IIIIIHHBB", 0, *(number(draw) & 0xFFFF for _ in range(6)), 1, 1)),
            (b"fdAT", struct.pack(">I", number(draw) & 0xFFFFFFFF) + draw.randbytes(30)),
            (b"eXIf", b"MM\0*" + draw.randbytes(60)),
            (b"tRNS", draw.randbytes(draw.choice((0, 1, 2, 6, 300)))),
            (b"PLTE", draw.randbytes(draw.choice((0, 1, 3, 768, 900)))),
            (b"pHYs", draw.randbytes(draw.choice((0, 8, 9)))),
            (b"sRGB", b""),
            (b"gAMA", draw.randbytes(draw.choice((0, 4)))),
            (b"cHRM", draw.randbytes(draw.choice((0, 31, 32)))),
        )
    )


def jpeg_segments(data):
    """[(marker, payload)] up to the scan, and all from the scan on."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        (size,) = struct.unpack(">H", data[at + 2 : at + 4])
        segments.append((data[at + 1], data[at + 4 : at + 2 + size]))
        at += 2 + max(size, 2)
    return segments, data[at:]


def jpeg_of(segments, scan):
    """A JPEG of these parts."""
    parts = (b"\xff" + bytes([m]) + struct.pack(">H", min(len(p) + 2, 65_535)) + p for m, p in segments)
    return b"\xff\xd8" + b"".join(parts) + scan


def jpeg(data, draw):
    segments, scan = jpeg_segments(data)
    if not segments:
        return data
    at = draw.randrange(len(segments))
    marker, payload = segments[at]
    change = draw.randrange(7)
    if change == 0:
        segments = [
            _frame(m, p, draw) if 0xC0 <= m <= 0xCF and m not in (0xC4, 0xC8, 0xCC) else (m, p) for m, p in segments
        ]
    elif change == 1:
        segments[at] = (marker, draw.choice(GENERIC)(payload, draw)[:65_000])
    elif change == 2:
        del segments[at]
    elif change == 3:
        segments[at:at] = [segments[at]] * min(draw.choice((1, 5, 2000)), MAX_BYTES // (len(payload) + 4))
    elif change == 4:
        scan = draw.choice(GENERIC)(scan, draw)
    elif change == 5:  # a progressive one may have any number of scans
        scan = scan.removesuffix(b"\xff\xd9") * min(draw.choice((2, 50, 2000)), MAX_BYTES // (len(scan) + 1) + 1)
    else:
        extra = (
            (0xDD, draw.randbytes(2)),
            (0xE1, b"Exif\0\0MM\0*" + draw.randbytes(80)),
            (0xEE, b"Adobe" + draw.randbytes(7)),
        )
        segments.insert(at, draw.choice((*extra, (0xE2, b"MPF\0" + draw.randbytes(60)), (0xED, draw.randbytes(70)))))
    return jpeg_of(segments, scan)


def _frame(marker, payload, draw):
    content = bytearray(payload)
    if len(content) < 6:
        return marker, payload
    at = draw.choice((0, 1, 3, 5, 7))
    if at in (1, 3):
        content[at : at + 2] = struct.pack(">H", number(draw) & 0xFFFF)
    elif at < len(content):
        content[at] = draw.randrange(256)
    return draw.choice((marker, marker, marker, 0xC0, 0xC2, 0xC9)), bytes(content)


def riff_chunks(data):
    """(form, [(type, payload)]) of WebP and WAV."""
    chunks, at = [], 12
    while at + 8 <= len(data):
        kind, size = struct.unpack("<4sI", data[at : at + 8])
        chunks.append((kind, data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    return data[8:12], chunks


def riff_of(form, chunks, claimed=None):
    """A RIFF file; claimed: the size in its head, the right one if None."""
    body = form + b"".join(
        kind + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2) for kind, payload in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) if claimed is None else claimed & 0xFFFFFFFF) + body


def webp(data, draw):
    form, chunks = riff_chunks(data)
    if not chunks:
        return data
    at = draw.randrange(len(chunks))
    kind, payload = chunks[at]
    change = draw.randrange(6)
    if change == 0:
        chunks[at] = (kind, draw.choice(GENERIC)(payload, draw))
    elif change == 1:
        chunks[at] = (kind, _size_in_webp(kind, payload, draw))
    elif change == 2:
        del chunks[at]
    elif change == 3:
        chunks[at:at] = [chunks[at]] * min(draw.choice((1, 5, 1000)), MAX_BYTES // (len(payload) + 8))
    elif change == 4:
        return riff_of(form, chunks, number(draw))
    else:
        flags = bytes([draw.randrange(256), 0, 0, 0])
        extra = (b"VP8X", flags + draw.randbytes(6)), (b"ANIM", draw.randbytes(6)), (b"ANMF", draw.randbytes(40))
        chunks.insert(at, draw.choice((*extra, (b"EXIF", draw.randbytes(50)), (b"ALPH", draw.randbytes(30)))))
    return riff_of(form, chunks)


def _size_in_webp(kind, payload, draw):
    content = bytearray(payload)
    at, width = {b"VP8 ": (6, 4), b"VP8L": (1, 4), b"VP8X": (4, 6), b"ANMF": (0, 12)}.get(kind, (0, 4))
    content[at : at + width] = draw.randbytes(width) if draw.random() < 0.5 else b"\xff" * width
    return bytes(content)
