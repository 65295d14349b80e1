"""Rows of measurements in a CSV file, as people publish them; nothing in one is taken on trust."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from tinynas.cost.op_shape import SIZES, OpShape, read_op_shape
from tinynas.errors import UsageError

LARGEST_BYTES = 2**28
LARGEST_SIZE = 2**16
Row = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFile:
    """The columns of a CSV file and its rows, each with the number of its line."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Row], ...]


def read_text(path: Path) -> str:
    """The text of a file that a person gave; bytes that are no UTF-8 become question marks.

    Raises UsageError for a file that cannot be read.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise UsageError(f"{path} has more than {LARGEST_BYTES:,} bytes, too many to be rows")
        return path.read_bytes().decode("utf-8-sig", errors="replace").replace("\0", "")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def read_rows(path: Path) -> RowFile:
    """The rows of a CSV file whose first line names the columns.

    Raises UsageError for a file that cannot be read or has no such line.
    """
    return parse_rows(read_text(path), path)


def parse_rows(text: str, path: Path) -> RowFile:
    """The rows in a text; errors name the file."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        columns = tuple(name.strip() for name in next(reader, []))
        rows = tuple(_numbered(reader, columns))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}, is no row of CSV: {error}") from None
    if not any(columns):
        raise UsageError(f"{path} is empty; its first line must name the columns")
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if twice:
        raise UsageError(f"{path} has more than one column {twice!r}")
    return RowFile(path=path, columns=columns, rows=rows)


def _numbered(reader: Iterator[list[str]], columns: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
    """Rows that hold anything, empty where they are too short."""
    for number, cells in enumerate(reader, start=2):
        if any(cell.strip() for cell in cells):
            filled = [*cells, *[""] * (len(columns) - len(cells))]
            yield number, dict(zip(columns, filled, strict=False))


def shape_of(row: Mapping[str, str]) -> OpShape:
    """The operator's configuration in a row; ValueError says what is wrong with it."""
    try:
        shape = read_op_shape(row)
    except KeyError:
        raise ValueError("there is no column 'op' or 'kind'") from None
    except OverflowError:
        raise ValueError("a size is not finite") from None
    if not shape.kind:
        raise ValueError("the kind of the operator is missing")
    wrong = next((name for name in SIZES if not 1 <= getattr(shape, name) <= LARGEST_SIZE), None)
    if wrong or shape.runs < 0:
        name = wrong or "runs"
        raise ValueError(f"{name} is {getattr(shape, name)}, not from 1 to {LARGEST_SIZE:,}")
    return shape


def positive(row: Mapping[str, str], name: str) -> float | None:
    """A number above zero in a row, None where the cell is empty or missing; else ValueError."""
    text = (row.get(name) or "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}, which is no number") from None
    if not isfinite(value) or value <= 0:
        raise ValueError(f"{name} is {text}, which is not above 0")
    return value
