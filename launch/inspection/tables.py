"""Statistics of a set as tables on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from triptych.data_pipelines.statistics.sets import CodeStatistics, SetStatistics
from triptych.launch.inspection.packing import PackedTask
from triptych.launch.inspection.plain import binary, plain
from triptych.launch.report.numbers import NOTHING, percent

_MOST_CHARACTERS = 60  # of a name or reason that the set brings


def print_statistics(one: SetStatistics, packed: Sequence[PackedTask], console: Console) -> None:
    """Facts in a line, then tables of codes, of members and of packing."""
    facts = f"{one.num_samples:,} samples, {one.num_shards:,} shards, {binary(one.num_bytes)}"
    console.print(f"[bold]{escape(one.name)}[/bold]: {facts}", soft_wrap=True)
    if one.codes:
        console.print(_codes_table(one))
    console.print(_members_table(one))
    left_out = ", ".join(f"{number:,} {_shown(reason)}" for reason, number in one.damaged.items())
    console.print(f"left out when it was made: {left_out or 'none'}", soft_wrap=True)
    if packed:
        console.print(_packing_table(packed))


def _codes_table(one: SetStatistics) -> Table:
    """A column per modality, so that it fits a narrow terminal."""
    table = Table("codes of", *(_number(modality) for modality in one.codes))
    columns = [_codes_column(codes) for codes in one.codes.values()]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    return table


def _codes_column(codes: CodeStatistics) -> dict[str, str]:
    summary, tokenizer = codes.summary, codes.tokenizer
    lengths = [NOTHING] * 5
    if summary:
        ends = (summary.minimum, summary.p01, summary.median, summary.p99, summary.maximum)
        lengths = [f"{length:,}" for length in ends]
    return {
        "in all": f"{codes.num_codes:,}",
        "samples with": f"{len(codes.lengths):,}",
        "samples without": f"{codes.num_without:,}",
        **dict(zip(("shortest", "1 %", "median", "99 %", "longest"), lengths, strict=True)),
        "mean": f"{summary.mean:,.1f}" if summary else NOTHING,
        "vocabulary": f"{tokenizer.vocab_size:,}" if tokenizer else NOTHING,
        "tokenizer": _shown(tokenizer.fingerprint[:12]) if tokenizer else NOTHING,
    }


def _members_table(one: SetStatistics) -> Table:
    table = Table("member", _number("bytes"), _number("a sample"))
    for extension, number in one.member_bytes.items():
        table.add_row(f".{_shown(extension)}", binary(number), binary(number / max(1, one.num_samples)))
    return table


def _packing_table(packed: Sequence[PackedTask]) -> Table:
    names = ("row length", "windows", "documents a row", "padding")
    table = Table("packed", *(_number(name) for name in names), "cut")
    for one in packed:
        plan = one.packing
        cut = ", ".join(f"{number:,} {side}" for side, number in one.cut.items() if number)
        planned = f"{plan.num_windows:,} of {plan.windows_per_epoch:,}"
        numbers = (f"{plan.row_length:,}", planned, f"{plan.documents_per_row:,.2f}", percent(plan.padding, 2))
        table.add_row(one.task, *numbers, cut or "none")
    return table


def _number(name: str) -> Column:
    return Column(name, justify="right", no_wrap=True)


def _shown(text: str) -> str:
    return escape(plain(text, _MOST_CHARACTERS))
