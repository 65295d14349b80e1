"""Measurements of a user's own board, made into a latency table or added to one.

A later import wins over an earlier one where both have an operator.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tinynas.cost.latency_choice import Known, known_of
from tinynas.cost.latency_table import (
    ANY_VERSION,
    Entry,
    Model,
    Table,
    core_table_name,
    entries_csv,
    find_table,
    merged,
    read_table,
    table_yaml,
)
from tinynas.cost.op_shape import OpShape
from tinynas.errors import UsageError
from tinynas.lut.board import Board
from tinynas.lut.measured import Measured
from tinynas.lut.refine import LEAST_SPREAD, Refined, refine

# How the source of a model begins that an import made.
IMPORTED = "imported: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The table that came out, as far as it is the user's own, and how the model was moved.

    Without a `base` there was no model to begin with; without `refined` none was moved.
    """

    table: Table
    base: Known | None
    refined: Refined | None


def add_to_table(
    measured: Measured, board: Board, folder: Path, devices: Path | None = None
) -> Imported:
    """The user's table of the board with these measurements in it, not written yet.

    The model starts from what would answer without imports, of the chip or of its core, so that
    importing twice is importing once. Where nothing does, the entries are all there is. Raises
    UsageError for a model in the way that no import made.
    """
    device, key = board.device, (board.runtime, ANY_VERSION)
    own = read_table(folder / "tables", device.name)
    if key in own.models and not _is_imported(own.models[key]):
        raise UsageError(
            f"{folder / 'tables' / device.name}.yaml has a model of {board.runtime} for any "
            "version that no import made and this one would replace; give it a version, and the "
            "import starts from it"
        )
    base = _starting_point(board, devices)
    new = {
        shape: Entry(cycles=round(cycles, 1), provenance="measured", source=measured.source)
        for shape, cycles in measured.cycles.items()
    }
    own = merged(own, Table(mcu=device.name, entries={key: new}))
    entries = own.entries[key]
    source = IMPORTED + ", ".join(sorted({entry.source for entry in entries.values()}))
    refined = refine(base, entries, source) if base else None
    model = refined.model if refined else None if base else _without_model(board, entries, source)
    if model:
        own = merged(own, Table(mcu=device.name, models={key: model}))
    return Imported(table=own, base=base, refined=refined)


def _is_imported(model: Model) -> bool:
    return model.source.startswith(IMPORTED)


def _starting_point(board: Board, devices: Path | None) -> Known | None:
    """What answers for the board's runtime without models that imports made; None for nothing."""
    table = find_table(board.device.name, devices, entries=False)
    models = {key: model for key, model in table.models.items() if not _is_imported(model)}
    core = find_table(core_table_name(board.device.core), devices, entries=False)
    return known_of(replace(table, models=models), core, board.runtime)


def _without_model(board: Board, entries: Mapping[OpShape, Entry], source: str) -> Model:
    """A model that knows the latency of nothing but the entries."""
    return Model(
        runtime=board.runtime,
        version=ANY_VERSION,
        provenance="estimated",
        source=f"{source}; nothing is known of operators that were not measured",
        rows=0,
        architectures=0,
        spread=LEAST_SPREAD,
        degrees=max(len(entries) - 1, 1),
        cycles={},
    )


def write_table(table: Table, folder: Path) -> Iterator[Path]:
    """Write the files of a table into a user's folder; yields their paths.

    Raises UsageError where that is not possible.
    """
    heading = f"Latency models of {table.mcu}, made by tinynas lut import."
    files = {f"{table.mcu}.csv": entries_csv(table.entries)}
    if table.models:
        files[f"{table.mcu}.yaml"] = table_yaml(list(table.models.values()), heading)
    for name, text in files.items():
        path = folder / "tables" / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{name}.tmp")
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from None
        yield path
