"""Mutations that know nothing of the format: bits, numbers, blocks, splices."""

import struct

MAX_BYTES = 1 << 20
NUMBERS = (
    0, 1, 2, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**36 - 1,
    2**48, 2**53, 2**60, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip


def mutated(data, draw, structured, others):
    """One to four mutations of `data`, at most MAX_BYTES long.

    draw: random.Random. structured: function(data, draw) that knows the format, or None. others: other seeds.
    """
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        if structured is not None and draw.random() < 0.6:
            data = structured(data, draw)
        elif draw.random() < 0.1:
            data = splice(data, draw, draw.choice(others))
        else:
            data = draw.choice(GENERIC)(data, draw)
        data = data[:MAX_BYTES]
    return data


def number(draw):
    """An integer that readers stumble over, or any."""
    return draw.choice(NUMBERS) if draw.random() < 0.7 else draw.getrandbits(draw.choice((8, 16, 32, 64)))


def flip_bits(data, draw):
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 8, 32)) if content else 0):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def set_bytes(data, draw):
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 3)) if content else 0):
        content[draw.randrange(len(content))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
    return bytes(content)


def set_number(data, draw):
    """Overwrite two, four or eight bytes by an integer, either end first."""
    width = draw.choice((2, 4, 8))
    if len(data) < width:
        return data
    packed = struct.pack(draw.choice("<>") + "Q", number(draw))
    packed = packed[:width] if draw.random() < 0.5 else packed[-width:]
    start = draw.randrange(len(data) - width + 1)
    return data[:start] + packed + data[start + width :]


def truncate(data, draw):
    start, stop = _span(data, draw)
    return draw.choice((data[:stop], data[start:], data[: len(data) - draw.randrange(1, 9)]))


def delete(data, draw):
    start, stop = _span(data, draw)
    return data[:start] + data[stop:]


def repeat(data, draw):
    start, stop = _span(data, draw)
    times = draw.choice((1, 2, 10, 1000))
    return data[:start] + data[start:stop] * min(times, MAX_BYTES // max(stop - start, 1)) + data[start:]


def insert(data, draw):
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.randbytes(draw.choice((1, 2, 4, 16, 300))) + data[at:]


def blank(data, draw):
    start, stop = _span(data, draw)
    return data[:start] + draw.choice((b"\0", b"\xff")) * (stop - start) + data[stop:]


def swap(data, draw):
    (a, b), (c, d) = sorted((_span(data, draw), _span(data, draw)))
    return data if c < b else data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def append(data, draw):
    return data + draw.choice((b"\0" * 512, draw.randbytes(64), data))


def splice(data, draw, other):
    """The beginning of one, the end of another."""
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


GENERIC = (
    flip_bits,
    flip_bits,
    set_bytes,
    set_number,
    set_number,
    truncate,
    delete,
    repeat,
    insert,
    blank,
    swap,
    append,
)


def _span(data, draw):
    start = draw.randrange(len(data) + 1)
    return start, min(len(data), start + draw.choice((1, 2, 4, 8, 64, 512, draw.randrange(1, len(data) + 2))))
