"""Mutations of JSON, of .npy files and of tars that keep the frame of the file."""

import json
import tarfile

from mutations import GENERIC, MAX_BYTES, number

_BLOCK = tarfile.BLOCKSIZE
_HOSTILE_NAMES = (
    "../../outside.txt", "/absolute.txt", "a/../../b.txt", "..", ".", "", "a\x1b[31mb.txt", "a\nb.txt", "é" * 30,
    "con.png", "manifest.json", "shard-000000.tar", "a" * 100, "a.txt", ".txt", "a.", "a.b.c.d.txt", "x/y/z.json",
)  # fmt: skip


def json_text(data, draw):
    """Change one value anywhere in it, or how it is spelt."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return data
    change = draw.randrange(8)
    if change == 0:
        depth = draw.choice((10, 900, 5000, 200_000))
        return data[:-1] + b', "deep": ' + draw.choice((b"[", b'{"a":')) * depth if data[:1] == b"{" else data
    if change == 1:
        return data.replace(b"{", b'{"label": 1, "label": ' + _spelling(draw) + b", ", 1)
    if change == 2:
        return data.decode(errors="ignore").encode(draw.choice(("utf-16", "utf-32", "utf-8-sig", "latin-1")), "ignore")
    return json.dumps(_changed(content, draw)).encode()


def json_line(data, draw):
    """Change one line of a file of JSON objects."""
    lines = data.split(b"\n")
    at = draw.randrange(len(lines))
    return b"\n".join((*lines[:at], json_text(lines[at], draw), *lines[at + 1 :]))


def _spelling(draw):
    return draw.choice(
        (b"NaN", b"-Infinity", b"1e999", b"1" * 5000, b'"\\ud800"', b"0.1e-400", b'"' + b"x" * 9000 + b'"')
    )


def _value(draw):
    some = (None, True, "", "../x", "a\x1b[0m\n", "x" * 3000, [], {}, -1, 0.5, float("nan"), "\ud800", [[]], {"": {}})
    return draw.choice((*some, number(draw), -number(draw), 10**30, str(number(draw))))


def _changed(content, draw):
    """A copy with one place changed."""
    if isinstance(content, dict) and content and draw.random() < 0.9:
        name = draw.choice(list(content))
        if draw.random() < 0.1:
            return {key: value for key, value in content.items() if key != name}
        if draw.random() < 0.1:
            return {**content, draw.choice(("extra", "", "a\nb", "shards", "key")): _value(draw)}
        return {**content, name: _changed(content[name], draw)}
    if isinstance(content, list) and content and draw.random() < 0.9:
        at = draw.randrange(len(content))
        if draw.random() < 0.1:
            return content * draw.choice((2, 300))
        return [*content[:at], _changed(content[at], draw), *content[at + 1 :]]
    return _value(draw)


def npy(data, draw):
    """Another header before the same array."""
    start = 10 + int.from_bytes(data[8:10], "little")
    header, body = data[10:start].decode("latin-1"), data[start:]
    change = draw.randrange(4)
    if change == 0:
        header = header.replace("(", f"({draw.choice((number(draw), -1, '1e9', '', 'True', '2, 3', '9' * 400))}, ", 1)
    elif change == 1:
        kind = draw.choice(
            ("|O", "<f8", ">i4", "<U9", "|V0", "<u8", "|S99999999", "<i4", "<u2", "<M8[ns]", "i4,i4", "x")
        )
        at = header.find("'descr': ") + 9
        header = header[:at] + repr(kind) + header[header.find(",", at) :]
    elif change == 2:
        header = draw.choice(
            ("", "{" * 3000, "[" * 90_000, "{'descr': '<u2'}", "\n" * 200, "-" * 60_000 + "1", "1+" * 9999 + "1")
        )
    else:
        header = draw.choice(GENERIC)(header.encode("latin-1"), draw).decode("latin-1")
    packed = header.encode("latin-1")[:65_535]
    version = data[:8] if draw.random() < 0.8 else data[:6] + bytes([draw.randrange(5), 0])
    return version + len(packed).to_bytes(2, "little") + packed + body


def tar(data, draw):
    """Change a field of one header and mend its checksum."""
    starts = [at for at in range(0, len(data) - _BLOCK + 1, _BLOCK) if data[at + 257 : at + 262] == b"ustar"]
    if not starts:
        return data
    at = draw.choice(starts)
    header = bytearray(data[at : at + _BLOCK])
    change = draw.randrange(6)
    if change == 0:
        header[0:100] = draw.choice(_HOSTILE_NAMES).encode()[:100].ljust(100, b"\0")
    elif change == 1:
        header[156] = draw.choice(b"01234567gxLKSDMV\0A")
        header[157:257] = draw.choice(_HOSTILE_NAMES).encode()[:100].ljust(100, b"\0")
    elif change == 2:
        header[124:136] = _size(draw)
    elif change == 3:
        start, width = draw.choice(((100, 8), (108, 8), (136, 12), (257, 8), (265, 32), (345, 155)))
        header[start : start + width] = draw.randbytes(width)
    elif change == 4:
        return (
            data[:at] + data[at : at + _BLOCK] * min(draw.choice((2, 500)), MAX_BYTES // _BLOCK) + data[at + _BLOCK :]
        )
    else:
        return data[:at] + draw.randbytes(_BLOCK) + data[at + _BLOCK :]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:at] + bytes(header) + data[at + _BLOCK :]


def _size(draw):
    octal = b"%011o\0" % (number(draw) & (2**33 - 1))
    binary = b"\x80" + (number(draw) & (2**88 - 1)).to_bytes(11, "big")
    return draw.choice((octal, binary, b"\xff" * 12, b"-0000000001\0", b"            ", b"99999999999\0"))
