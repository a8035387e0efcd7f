"""CSV tables without surprises: names stay text, and no cell is a formula."""

import csv
import io
import re
from collections.abc import Iterable, Set
from pathlib import Path
from typing import TYPE_CHECKING

from cgeartheye.utils.io import write_text

if TYPE_CHECKING:
    import pyarrow as pa

# What spreadsheets take for the beginning of a formula, once the quotes before it are gone.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
_DECIMAL = r"^[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?$"
_LONG = r"^[+-]?[0-9]{16,}$"  # whole numbers of more digits than a float64 keeps


def guard(text: str) -> str:
    """Return a cell's text so that no spreadsheet runs it as a formula: with a quote before it."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguard(text: str) -> str:
    """Return what `guard` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def csv_text(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a CSV table; numbers are written as they are, everything else guarded.

    Args:
        head: names of the columns.
        rows: their cells.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (head, *rows):
        writer.writerow(
            [cell if isinstance(cell, int | float) else guard(str(cell)) for cell in row]
        )
    return text.getvalue()


def write_csv(path: Path, head: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV table whole or not at all; see `csv_text`.

    Args:
        path: of the file.
        head: names of the columns.
        rows: with a value for each column.
    """
    write_text(path, csv_text(head, rows))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV table that `write_csv` wrote: its rows, by column, as text.

    Raises:
        OSError: it cannot be read.
        csv.Error: it is no CSV.
        UnicodeDecodeError: it is not UTF-8.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        return [
            {name: unguard(cell or "") for name, cell in row.items() if name is not None}
            for row in csv.DictReader(file)
        ]


def read_csv(path: Path, names: Set[str]) -> "pa.Table":
    """Read a CSV table as Arrow.

    A place `3.10` is not the place `3.1`, `007` not `7`, a season `NA` is not missing: columns of
    names are text, letter by letter. Others become integers, numbers or truth values where each
    of their cells is one, written as a number is, and stay text where one is not: leading zeros or
    more than 18 digits make a name of a number too.

    Args:
        path: the file, UTF-8.
        names: columns of names.

    Raises:
        pyarrow.ArrowException: it is no CSV.
        OSError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    parse = pa.csv.ParseOptions(newlines_in_values=True)
    with pa.csv.open_csv(str(path), parse_options=parse) as reader:
        head = reader.schema.names
    text = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(head, pa.string()), strings_can_be_null=False
    )
    table = pa.csv.read_csv(str(path), parse_options=parse, convert_options=text)
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        column = pc.replace_substring_regex(column, rf"\A'({_FORMULA.pattern})", r"\1")
        columns.append(column if name in names else _typed(column))
    return pa.table(columns, names=table.column_names)


def _typed(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Return a column of text as what all of its cells are; empty ones are missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    filled = pc.if_else(pc.equal(column, ""), None, column)

    def all_match(pattern: str) -> bool:
        fits = pc.match_substring_regex(filled, pattern)
        return bool(pc.all(fits, min_count=1).as_py())

    if all_match(_INTEGER):
        return filled.cast(pa.int64())
    is_long = pc.any(pc.match_substring_regex(filled, _LONG)).as_py()
    if all_match(_DECIMAL) and not is_long:
        return filled.cast(pa.float64())
    if all_match("^(true|false)$"):
        return filled.cast(pa.bool_())
    return column
