"""Files that somebody made to do harm: each by its name, and the calls that read it."""

import io
import json
import struct
import tarfile
import zlib

import numpy as np
import seed_files
from audio_structures import flac_blocks, flac_of, stream_info
from image_structures import bomb, jpeg_of, jpeg_segments, png_chunks, png_of, riff_of
from PIL import Image
from reader_targets import BY_NAME, changed_set

_SIDE = 60_000
_HUGE = 1 << 60


def cases():
    """(name, stages) of each, one at a time."""
    for kind, files in FILES.items():
        for name, data in files.items():
            yield f"{kind}: {name}", BY_NAME[kind].stages(data())
    for name, files in SETS.items():
        yield f"set: {name}", changed_set(files())


def _png_bomb():
    """A hundred bytes that promise 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    return png_of([(b"IHDR", header), (b"IDAT", zlib.compress(bytes(40))), (b"IEND", b"")])


def _png_with(kind):
    """Four chunks of text, or a colour profile, that inflate to 64 MiB each."""
    chunks = png_chunks(seed_files.images("png")[0])
    number = 1 if kind == "iCCP" else 4
    return png_of([chunks[0], *[(kind.encode(), bomb(kind, 1 << 26))] * number, *chunks[1:]])


def _jpeg_bomb():
    segments, scan = jpeg_segments(seed_files.images("jpeg")[0])
    size = struct.pack(">HH", _SIDE, _SIDE)
    return jpeg_of([(m, p[:1] + size + p[5:]) if m in (0xC0, 0xC2) else (m, p) for m, p in segments], scan)


def _jpeg_of_scans():
    """A progressive one whose last scan, some bytes for millions of pixels, comes hundreds of times."""
    buffer = io.BytesIO()
    Image.new("L", (4096, 4096), 128).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:].removesuffix(b"\xff\xd9") * 200 + b"\xff\xd9"


def _webp_bomb():
    size = (_SIDE - 1).to_bytes(3, "little")
    return riff_of(b"WEBP", [(b"VP8X", bytes(4) + size + size), (b"VP8L", b"\x2f" + b"\xff" * 20)])


def _webp_lossless_bomb():
    return riff_of(b"WEBP", [(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(40))])  # 16,384 x 16,384


def _flac(**changes):
    blocks, frames = flac_blocks(seed_files.recordings("flac")[0])
    return flac_of([(blocks[0][0], stream_info(blocks[0][1], **changes)), *blocks[1:]], frames)


def _wav(kind=1, channels=1, rate=16_000, bits=16, data=bytes(3200), claimed=None):
    width = max(1, channels * bits // 8) & 0xFFFF
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * width & 0xFFFFFFFF, width, bits)
    whole = riff_of(b"WAVE", [(b"fmt ", head), (b"data", data)])
    return whole if claimed is None else whole[:40] + struct.pack("<I", claimed) + whole[44:]


def _npy(header):
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(64)


def _tar(*members, kind=tarfile.USTAR_FORMAT):
    """members: (name, what to set of its header, data). A sound sample comes first and last."""
    buffer = io.BytesIO()
    sound = [(f"sound-{at}.{extension}", {}, data) for at in (0, 1) for extension, data in _SOUND.items()]
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, fields, data in (*sound[:2], *members, *sound[2:]):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for field, value in fields.items():
                setattr(member, field, value)
            archive.addfile(member, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def _huge_tar():
    """A member that claims 2^63 - 1 bytes, in base 256."""
    data = bytearray(_tar(("huge.txt", {}, b"x")))
    at = data.index(b"huge.txt")
    data[at + 124 : at + 136] = b"\x80\0\0\0" + ((1 << 63) - 1).to_bytes(8, "big")
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


_SOUND = {"jpg": seed_files.images("jpeg")[0], "txt": b"a caption"}
FILES = {
    "png": {
        "60,000 x 60,000 in 100 bytes": _png_bomb,
        "zTXt of 256 MiB": lambda: _png_with("zTXt"),
        "iTXt of 256 MiB": lambda: _png_with("iTXt"),
        "iCCP of 64 MiB": lambda: _png_with("iCCP"),
    },
    "jpeg": {"60,000 x 60,000": _jpeg_bomb, "200 scans": _jpeg_of_scans},
    "webp": {"60,000 x 60,000": _webp_bomb, "16,384 x 16,384 without loss": _webp_lossless_bomb},
    "flac": {
        "2^36 - 1 samples": lambda: _flac(samples=2**36 - 1),
        "no rate": lambda: _flac(rate_hertz=0),
        "655,350 Hz": lambda: _flac(rate_hertz=655_350),
    },
    "wav": {
        "4 GiB": lambda: _wav(claimed=0xFFFFFFF0),
        "60,000 channels": lambda: _wav(channels=60_000),
        "2^31 Hz": lambda: _wav(rate=2**31),
        "not a number": lambda: _wav(kind=3, bits=32, data=np.full(800, np.nan, np.float32).tobytes()),
        "no samples": lambda: _wav(data=b""),
    },
    "json": {
        "100,000 deep": lambda: b'{"a":' * 100_000,
        "100 deep": lambda: b'{"a":' * 100 + b"1" + b"}" * 100,
        "a number of 100,000 digits": lambda: b'{"a": ' + b"9" * 100_000 + b"}",
        "4 MiB": lambda: b'{"a": [' + b"0," * (1 << 21) + b"0]}",
        "no object": lambda: b"[1]",
    },
    "npy": {
        "2^60 codes": lambda: _npy(f"{{'descr': '<u2', 'fortran_order': False, 'shape': ({_HUGE},), }}"),
        "objects": lambda: _npy("{'descr': '|O', 'fortran_order': False, 'shape': (8,), }"),
        "negative": lambda: _npy("{'descr': '<u2', 'fortran_order': False, 'shape': (-1,), }"),
        "a call": lambda: _npy("{'descr': '<u2', 'fortran_order': False, 'shape': (exit(),), }"),
    },
    "input tar": {
        "parent folder": lambda: _tar(("../../outside.txt", {}, b"x")),
        "parent folder within": lambda: _tar(("a/../../b.txt", {}, b"x")),
        "absolute": lambda: _tar(("/outside.txt", {}, b"x")),
        "symbolic link": lambda: _tar(("a.txt", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, b"")),
        "hard link": lambda: _tar(("a.txt", {"type": tarfile.LNKTYPE, "linkname": "sound-0.txt"}, b"")),
        "device": lambda: _tar(("a.txt", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5}, b"")),
        "2^63 - 1 bytes": _huge_tar,
        "pax size": lambda: _tar(("a.txt", {"pax_headers": {"size": "9" * 19}}, b"x" * 20), kind=tarfile.PAX_FORMAT),
    },
}


def _manifest(change):
    """The manifest, changed by a function of its content."""
    content = json.loads(seed_files.set_files()["manifest.json"])
    change(content)
    return {"manifest.json": json.dumps(content).encode()}


def _renamed(name):
    return lambda: _manifest(lambda content: content["shards"][0].update(name=name))


def _rows(number):
    """Index and manifest that agree on so many rows."""
    data = seed_files.set_files()["shard-000000.index.npy"]
    start = 10 + int.from_bytes(data[8:10], "little")
    header = data[10:start].replace(b"(3,)", f"({number},)".encode()).rstrip().ljust(start - 11) + b"\n"
    index = data[:8] + len(header).to_bytes(2, "little") + header + data[start:]
    files = _manifest(lambda content: content["shards"][0].update(num_samples=number))
    return {**files, "shard-000000.index.npy": index}


def _spans(offset, size):
    """An index whose first member lies elsewhere."""
    data = seed_files.set_files()["shard-000000.index.npy"]
    start = 10 + int.from_bytes(data[8:10], "little")
    table = np.load(io.BytesIO(data)).copy()
    first = table.dtype.names[1]
    table[first]["offset"][0], table[first]["size"][0] = offset, size
    return {"shard-000000.index.npy": data[:start] + table.tobytes()}


SETS = {
    "a tar of the parent folder": _renamed("../outside.tar"),
    "an absolute tar": _renamed("/outside.tar"),
    "a tar that is the parent folder": _renamed(".."),
    "a tar without a name": _renamed(""),
    "a name with an escape sequence": _renamed("\x1b[2J.tar"),
    "2^60 rows": lambda: _rows(_HUGE),
    "-1 rows": lambda: _rows(-1),
    "2^60 codes": lambda: _manifest(lambda content: content["shards"][0]["num_codes"].update(text=_HUGE)),
    "-1 codes": lambda: _manifest(lambda content: content["shards"][0]["num_codes"].update(text=-1)),
    "a member of 2^60 bytes": lambda: _spans(512, _HUGE),
    "a member at 2^64 - 1": lambda: _spans(2**64 - 1, 2),
}
