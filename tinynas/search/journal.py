"""The journal of a search: a CSV file of all that was scored, good after a kill at any moment.

A generation is appended as one piece and flushed to the disk. Its rows say how many they are, so
that what a kill has cut off is known and left out when the file is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tinynas.cost.table import CostTable
from tinynas.errors import UsageError
from tinynas.search.problem import Scored
from tinynas.space.arch import Genes, gene_sizes

# Of scored subnets; a journal has one more, before the genes.
COLUMNS = (
    "accuracy",
    "correct",
    "count",
    "sram_bytes",
    "flash_bytes",
    "macs",
    "latency_ms_predicted",
    "generation",
    "genes",
)
SIZE = "generation_size"
JOURNAL_COLUMNS = (*COLUMNS[:-1], SIZE, COLUMNS[-1])


class Journal:
    """The file of one search, for one process at a time."""

    def __init__(self, path: Path, table: CostTable) -> None:
        self._path = path
        self._table = table

    def read(self) -> Scored | None:
        """All whole generations, None before the first; what follows them is cut off the file.

        Raises UsageError where the file is none, or that of another search.
        """
        if not self._path.exists():
            return None
        text = self._path.read_text(encoding="utf-8", errors="replace")
        lines = text.splitlines(keepends=True)
        if not lines or not lines[0].endswith("\n"):
            os.truncate(self._path, 0)
            return None
        scored, rows = read_rows(lines, self._table, str(self._path))
        os.truncate(self._path, sum(len(line.encode()) for line in lines[: 1 + rows]))
        return scored if rows else None

    def append(self, scored: Scored) -> None:
        """Write a generation down."""
        with self._path.open("ab") as file:
            if not file.tell():
                file.write((",".join(JOURNAL_COLUMNS) + "\n").encode())
            file.write("".join(csv_rows(scored, size=len(scored))).encode())
            file.flush()
            os.fsync(file.fileno())


def to_csv(scored: Scored) -> str:
    """Scored subnets as a CSV file with the columns in COLUMNS; genes are joined by blanks."""
    return "".join([",".join(COLUMNS) + "\n", *csv_rows(scored)])


def csv_rows(scored: Scored, size: int | None = None) -> list[str]:
    """A line for each subnet, with the size of its generation if that is given."""
    costs = scored.costs
    correct = np.rint(scored.accuracy * scored.count).astype(np.int64)
    columns: list[Iterable[object]] = [
        scored.accuracy.tolist(),
        *(values.tolist() for values in (correct, scored.count, costs.sram_bytes)),
        *(values.tolist() for values in (costs.flash_bytes, costs.macs, costs.latency_ms)),
        scored.generation.tolist(),
        *([[size] * len(scored)] if size is not None else []),
        _gene_texts(scored.genes),
    ]
    return [",".join(map(str, row)) + "\n" for row in zip(*columns, strict=True)]


def _gene_texts(genes: Genes) -> list[str]:
    if not genes.size or genes.max() >= 10:
        return [" ".join(map(str, row)) for row in genes.tolist()]
    # One digit each: all rows at once.
    text = np.full((len(genes), 2 * genes.shape[1]), ord(" "), np.uint8)
    text[:, ::2] = genes + ord("0")
    content, step = text.tobytes().decode("ascii"), text.shape[1]
    return [content[at : at + step - 1] for at in range(0, len(content), step)]


def read_rows(lines: list[str], table: CostTable, name: str) -> tuple[Scored, int]:
    """The scored subnets of a journal's lines, and how many rows they take.

    Rows from the first damaged one or from a generation that is not whole on are left out. Raises
    UsageError where the columns or the costs are those of another search.
    """
    if lines[0] != ",".join(JOURNAL_COLUMNS) + "\n":
        raise UsageError(f"{name} is not the record of a search; give another directory")
    rows = _whole(lines[1:], len(gene_sizes(table.space)))
    numbers = np.array([row[1] for row in rows], np.int64).reshape(len(rows), 6)
    genes = np.array([row[2] for row in rows], np.int64)
    genes = genes.reshape(len(rows), len(gene_sizes(table.space)))
    count, *recorded, generation, _ = numbers.T
    try:
        costs = table.evaluate(genes)
    except IndexError:
        costs = None
    if costs is None or not np.array_equal(
        recorded, [costs.sram_bytes, costs.flash_bytes, costs.macs]
    ):
        raise UsageError(
            f"the subnets in {name} are those of another search, begun with another space, budget "
            "or version; give another directory"
        )
    accuracy = np.array([row[0] for row in rows], np.float64)
    return (
        Scored(genes=genes, accuracy=accuracy, count=count, generation=generation, costs=costs),
        len(rows),
    )


Row = tuple[float, tuple[int, ...], list[int]]


def _whole(lines: list[str], genes: int) -> list[Row]:
    """The rows of all whole generations up to the first damaged line."""
    rows: list[Row] = []
    for line in lines:
        row = _row(line, genes)
        if row is None:
            break
        rows.append(row)
    whole = 0
    while whole < len(rows):
        generation, size = rows[whole][1][-2:]
        part = rows[whole : whole + size]
        if size < 1 or len(part) < size or {row[1][-2:] for row in part} != {(generation, size)}:
            break
        whole += size
    return rows[:whole]


def _row(line: str, genes: int) -> Row | None:
    """Accuracy; count, SRAM, flash, MACs, generation and its size; genes. None if damaged."""
    fields = line.rstrip("\n").split(",")
    try:
        accuracy, _, count, sram, flash, macs, _, generation, size, text = fields
        numbers = tuple(map(int, (count, sram, flash, macs, generation, size)))
        found = float(accuracy), numbers, [int(gene) for gene in text.split()]
    except ValueError:
        return None
    return found if line.endswith("\n") and len(found[2]) == genes else None
