"""Mutations of FLAC, WAV, Ogg and MP3 that keep the frame of the file."""

import struct
from functools import cache, lru_cache

from image_structures import riff_chunks, riff_of
from mutations import GENERIC, MAX_BYTES, number


def flac_blocks(data):
    """([(type, payload)], the frames)."""
    blocks, at, last = [], 4, False
    while not last and at + 4 <= len(data):
        last, kind, size = data[at] >> 7, data[at] & 127, int.from_bytes(data[at + 1 : at + 4], "big")
        blocks.append((kind, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return blocks, data[at:]


def flac_of(blocks, frames):
    """A FLAC of these parts."""
    parts = []
    for place, (kind, payload) in enumerate(blocks):
        last = 128 if place == len(blocks) - 1 else 0
        parts.append(bytes([last | kind & 127]) + len(payload[: 2**24 - 1]).to_bytes(3, "big") + payload)
    return b"fLaC" + b"".join(parts) + frames


def stream_info(payload, **changes):
    """The 34 bytes of STREAMINFO with some of rate_hertz, channels, bits and samples changed."""
    packed = int.from_bytes(payload[10:18], "big")
    fields = {"rate_hertz": (44, 20), "channels": (41, 3), "bits": (36, 5), "samples": (0, 36)}
    for name, value in changes.items():
        shift, width = fields[name]
        mask = (1 << width) - 1
        packed = packed & ~(mask << shift) | (value & mask) << shift
    return payload[:10] + packed.to_bytes(8, "big") + payload[18:]


def flac(data, draw):
    blocks, frames = flac_blocks(data)
    if not blocks:
        return data
    at = draw.randrange(len(blocks))
    kind, payload = blocks[at]
    change = draw.randrange(7)
    if change <= 1 and len(blocks[0][1]) == 34:
        field = draw.choice(("rate_hertz", "channels", "bits", "samples", "samples"))
        blocks[0] = (blocks[0][0], stream_info(blocks[0][1], **{field: number(draw)}))
    elif change == 2:
        blocks[at] = (kind, draw.choice(GENERIC)(payload, draw))
    elif change == 3:
        blocks[at:at] = [blocks[at]] * min(draw.choice((1, 3, 3000)), MAX_BYTES // (len(payload) + 4))
    elif change == 4:
        frames = draw.choice(GENERIC)(frames, draw)
    elif change == 5:
        counts = struct.pack("<II", number(draw) & 0xFFFFFFFF, number(draw) & 0xFFFFFFFF)
        extra = (
            (4, counts + draw.randbytes(20)),
            (6, draw.randbytes(60)),
            (3, draw.randbytes(36)),
            (5, draw.randbytes(400)),
        )
        blocks.insert(draw.randrange(1, len(blocks) + 1), draw.choice(extra))
    else:
        blocks[at] = (draw.randrange(128), payload)
    return flac_of(blocks, frames)


def wav(data, draw):
    form, chunks = riff_chunks(data)
    if not chunks:
        return data
    at = draw.randrange(len(chunks))
    kind, payload = chunks[at]
    change = draw.randrange(6)
    if change == 0:
        chunks[at] = (kind, draw.choice(GENERIC)(payload, draw))
    elif change == 1:
        chunks = [(k, _format(p, draw)) if k == b"fmt " else (k, p) for k, p in chunks]
    elif change == 2:
        chunks[at:at] = [chunks[at]] * min(draw.choice((1, 5, 3000)), MAX_BYTES // (len(payload) + 8))
    elif change == 3:
        return draw.choice((b"RIFF", b"RIFX", b"RF64")) + riff_of(form, chunks, number(draw))[4:]
    elif change == 4:
        special = draw.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f", b"\0\0\0\0\0\0\xf0\x7f"))
        chunks = [(k, special * 40 + p if k == b"data" else p) for k, p in chunks]
    else:
        del chunks[at]
    return riff_of(form, chunks)


def _format(payload, draw):
    fields = list(struct.unpack("<HHIIHH", payload[:16].ljust(16, b"\0")))
    at = draw.randrange(6)
    fields[at] = number(draw) & (0xFFFFFFFF if at in (2, 3) else 0xFFFF)
    if draw.random() < 0.3:
        fields[0] = draw.choice((1, 2, 3, 6, 7, 17, 49, 85, 0xFFFE))
    return struct.pack("<HHIIHH", *fields) + payload[16:]


def ogg_pages(data):
    """[(head of 27 bytes, segment table, body)]."""
    pages, at = [], 0
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        num_segments = data[at + 26]
        table = data[at + 27 : at + 27 + num_segments]
        body = data[at + 27 + num_segments : at + 27 + num_segments + sum(table)]
        pages.append((data[at : at + 27], table, body))
        at += 27 + num_segments + sum(table)
    return pages


def ogg_of(pages):
    """An Ogg stream of these pages with right checksums."""
    parts = []
    for head, table, body in pages:
        page = head[:22] + bytes(4) + head[26:] + table + body
        parts.append(page[:22] + struct.pack("<I", _ogg_crc(page)) + page[26:])
    return b"".join(parts)


def ogg(data, draw):
    pages = ogg_pages(data)
    if not pages:
        return data
    at = draw.randrange(len(pages))
    head, table, body = pages[at]
    change = draw.randrange(6)
    if change == 0:
        changed = draw.choice(GENERIC)(body, draw)[: len(body)]
        pages[at] = (head, table, changed.ljust(len(body), b"\0"))
    elif change == 1:
        pages[at] = (head[:6] + struct.pack("<Q", number(draw) & 0xFFFFFFFFFFFFFFFF) + head[14:], table, body)
    elif change == 2:
        pages[at:at] = [pages[at]] * min(draw.choice((1, 5, 500)), MAX_BYTES // (len(body) + 27))
    elif change == 3:
        del pages[at]
    elif change == 4:
        pages[at] = (head[:5] + bytes([draw.randrange(8)]) + head[6:14] + draw.randbytes(4) + head[18:], table, body)
    else:
        pages[at] = (head[:26] + bytes([draw.randrange(256)]), draw.choice(GENERIC)(table, draw)[:255], body)
    return ogg_of(pages)


def mp3(data, draw):
    change = draw.randrange(4)
    if change == 0:
        size = bytes(draw.randrange(128) for _ in range(4))
        return b"ID3" + bytes([draw.choice((2, 3, 4)), 0, draw.randrange(256)]) + size + draw.randbytes(40) + data
    at = max(data.find(b"Info"), data.find(b"Xing"))
    if change == 1 and at >= 0:
        return data[: at + 8] + struct.pack(">II", *(number(draw) & 0xFFFFFFFF for _ in range(2))) + data[at + 16 :]
    if change == 2:
        return data + b"TAG" + draw.randbytes(125)
    return data[:4] + draw.choice(GENERIC)(data[4:], draw)


@lru_cache(256)  # a page may be repeated hundreds of times
def _ogg_crc(data):
    crc, table = 0, _crc_table()
    for byte in data:
        crc = (crc << 8 & 0xFFFFFFFF) ^ table[crc >> 24 ^ byte]
    return crc


@cache
def _crc_table():
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(crc)
    return table
