"""Documents that are rows of a parquet file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from triptych.data_pipelines.prepare.inputs.entries import Entry, InputConfig, as_text
from triptych.data_pipelines.prepare.inputs.streams import import_pyarrow
from triptych.data_pipelines.shards.errors import DamagedSample, shown

_ROWS_AT_ONCE = 256
_NAMES_SHOWN = 20
_SHOWN_CHARACTERS = 400


def row_group_bytes(path: Path, config: InputConfig) -> list[int]:
    """The share of the file's bytes that each row group has, about. ValueError if it is no parquet file, or has no text
    field.
    """
    pyarrow = import_pyarrow("parquet files")
    with _opened(pyarrow, path) as table:
        footer, schema = table.metadata, table.schema_arrow
        _check_field(pyarrow, path, schema, config.text_field)
        sizes = [footer.row_group(i).total_byte_size for i in range(footer.num_row_groups)]
    scale = path.stat().st_size / max(1, sum(sizes))
    return [round(size * scale) for size in sizes]


def read_table(path: Path, groups: range, num_bytes: int, config: InputConfig) -> Iterator[Entry]:
    """A document of each row of these row groups, a few hundred rows in memory at once.

    A row group that cannot be read is one damaged entry.
    """
    pyarrow = import_pyarrow("parquet files")
    with _opened(pyarrow, path) as table:
        rows = max(1, sum(table.metadata.row_group(i).num_rows for i in groups))
        for group in groups:
            try:
                batches = table.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=[config.text_field])
                row = 0
                for batch in batches:
                    column = batch.column(0).cast(pyarrow.large_binary())  # its UTF-8 is checked here, row by row
                    for value in column:
                        yield _entry(f"row {row} of group {group}", value.as_py(), num_bytes // rows, config)
                        row += 1
            except (pyarrow.ArrowException, OSError) as error:
                if _is_of_the_disk(error):
                    raise
                key = f"row group {group}"
                yield Entry(key, None, DamagedSample(key, "row group", f"it cannot be read ({_one_line(error)})"), 0)


@contextmanager
def _opened(pyarrow: ModuleType, path: Path) -> Iterator[Any]:
    """The file, its footer read. ValueError for whatever shows it to be damaged while it is open."""
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            yield table
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # names of columns need not be UTF-8
        if _is_of_the_disk(error):
            raise
        raise ValueError(f"{path} is no parquet file ({_one_line(error)}); copy it again, or leave it out") from None


def _is_of_the_disk(error: Exception) -> bool:
    """pyarrow raises OSError without a number for what it cannot make sense of."""
    return isinstance(error, OSError) and error.errno is not None


def _entry(key: str, value: bytes | None, num_bytes: int, config: InputConfig) -> Entry:
    try:
        if value is not None and len(value) > config.max_document_bytes:
            detail = f"the text is longer than max_document_bytes={config.max_document_bytes}"
            raise DamagedSample(key, "text too large", detail)
        return Entry(key, None, as_text(key, value or b""), num_bytes)
    except DamagedSample as error:
        return Entry(key, None, error, num_bytes)


def _check_field(pyarrow: ModuleType, path: Path, schema: Any, name: str) -> None:
    if name not in schema.names:
        names = shown(", ".join(map(shown, schema.names[:_NAMES_SHOWN])), _SHOWN_CHARACTERS)
        raise ValueError(f"{path} has no column {name!r}; give --text-field, one of {names}")
    if schema.names.count(name) > 1:
        raise ValueError(f"{path} has several columns {name!r}; give another --text-field")
    kind, types = schema.field(name).type, pyarrow.types
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind)):
        raise ValueError(f"{path}: column {name!r} holds {shown(str(kind))}, not text; give another --text-field")


def _one_line(error: BaseException) -> str:
    return shown(" ".join(str(error).split()), _SHOWN_CHARACTERS)
