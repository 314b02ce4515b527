"""How inputs are cut into parts, the pieces of work that processes share.

A part depends on the inputs and on `part_bytes` alone, never on how many processes there are.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.data_pipelines.prepare.inputs.entries import Entry, InputConfig, Kind
from triptych.data_pipelines.prepare.inputs.files import InputFile
from triptych.data_pipelines.prepare.inputs.lines import read_json_lines, read_text_file, read_text_lines
from triptych.data_pipelines.prepare.inputs.samples import read_tar
from triptych.data_pipelines.prepare.inputs.streams import open_stream
from triptych.data_pipelines.prepare.inputs.tables import read_table, row_group_bytes
from triptych.data_pipelines.shards.decode import DecodeConfig


@dataclass(kw_only=True, slots=True, frozen=True)
class Piece:
    """Of input file number `file`: bytes start..stop of plain lines, row groups start..stop of a table, or all of it.

    num_bytes: of the file, about.
    """

    file: int
    start: int
    stop: int
    num_bytes: int


Part = tuple[Piece, ...]


def cut_parts(files: Sequence[InputFile], config: InputConfig) -> tuple[Part, ...]:
    """Parts of about `part_bytes`, in the order of the files: small files go together, long ones are cut where they can
    be, between lines or row groups.

    ValueError for a table that cannot be read.
    """
    parts: list[Part] = []
    open_part: list[Piece] = []
    num_bytes = 0
    for piece in (piece for number, file in enumerate(files) for piece in _pieces(number, file, config)):
        if open_part and num_bytes + piece.num_bytes > config.part_bytes:
            parts.append(tuple(open_part))
            open_part, num_bytes = [], 0
        open_part.append(piece)
        num_bytes += piece.num_bytes
    return (*parts, tuple(open_part))


def read_piece(file: InputFile, piece: Piece, kind: Kind, config: InputConfig, decode: DecodeConfig) -> Iterator[Entry]:
    """The samples of a piece, in order, one by one. OSError if the file is gone."""
    path = Path(file.name)
    if file.format == "table":
        yield from read_table(path, range(piece.start, piece.stop), piece.num_bytes, config)
        return
    with open_stream(path) as stream:
        if file.format == "tar":
            yield from read_tar(stream, kind, config, decode)
        elif file.format == "lines":
            yield from read_json_lines(stream, piece.start, piece.stop, config)
        elif config.txt_documents == "line":
            yield from read_text_lines(stream, piece.start, piece.stop, config)
        else:
            yield from read_text_file(stream, piece.num_bytes, config)


def _pieces(number: int, file: InputFile, config: InputConfig) -> Iterator[Piece]:
    if file.format == "table":
        yield from _row_groups(number, row_group_bytes(file.path, config), config)
    elif file.compressed or file.format == "tar" or (file.format == "text" and config.txt_documents == "file"):
        yield Piece(file=number, start=0, stop=file.num_bytes, num_bytes=file.num_bytes)
    else:
        count = max(1, -(-file.num_bytes // config.part_bytes))
        cuts = [file.num_bytes * i // count for i in range(count + 1)]
        for start, stop in itertools.pairwise(cuts):
            yield Piece(file=number, start=start, stop=stop, num_bytes=stop - start)


def _row_groups(number: int, sizes: Sequence[int], config: InputConfig) -> Iterator[Piece]:
    start = total = 0
    for group, size in enumerate(sizes):
        if group > start and total + size > config.part_bytes:
            yield Piece(file=number, start=start, stop=group, num_bytes=total)
            start, total = group, 0
        total += size
    yield Piece(file=number, start=start, stop=len(sizes), num_bytes=total)
