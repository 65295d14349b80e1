"""All latency tables that come with tinynas, made from the rows of `latency_models/evidence`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import hypot
from statistics import fmean

from tinynas.cost.latency_table import (
    ANY_VERSION,
    Entry,
    Model,
    Provenance,
    Validation,
    core_table_name,
    entries_csv,
    significant,
    table_yaml,
)
from tinynas.cost.op_shape import OpShape
from tinynas.lut.evidence import COLLECTED, operator_rows
from tinynas.lut.intervals import cell_spread, engine_spread, judged_rows
from tinynas.lut.models import (
    SPREADS,
    Cell,
    Checked,
    cell_of,
    fitted,
    flat_cycles,
    is_fitted,
    known_rows,
)
from tinynas.lut.names import OPERATOR_VERSION
from tinynas.lut.operators import BOARD_BUILDS, board_model, board_samples
from tinynas.lut.scores import scores

CORTEX_M = ("Cortex-M0+", "Cortex-M33", "Cortex-M4F", "Cortex-M7")
XTENSA = "Xtensa LX7"
# Cores that get a table of their own, and every chip that gets one though nothing was timed on it.
CORES = (*CORTEX_M, XTENSA)
CHIPS = {
    "nrf52832": "Cortex-M4F",
    "nrf52840": "Cortex-M4F",
    "rp2040": "Cortex-M0+",
    "stm32f412": "Cortex-M4F",
    "stm32f446": "Cortex-M4F",
    "stm32f765": "Cortex-M7",
    "stm32l552": "Cortex-M33",
}
TFLM = ("tflm-cmsis-nn", "tflm")
# A chip whose operators stand for another's: the same core, clock and kind of flash.
LIKE_BOARD = {"nrf52840": "nrf52832"}
# The model is read through a cache from external flash, which is in no instruction.
EXTERNAL_FLASH_SPREAD = {"rp2040": 0.3}
# Rows of a chip from which its cycles per instruction follow; fewer only move its core's.
EMULATED_FROM = 4
ENTRY_SOURCE = "MicroNas"
METHOD = "leave one architecture out"
HEADING = """\
Latency of {name}, made by `python -m experiments.latency_validation`: do not edit by hand.
A document for each runtime and version, the one known best first; cycles of an operator are the
sum over its group's features (tinynas/cost/latency_features.py), each times its coefficient."""


def build_tables() -> dict[str, str]:
    """The text of every file of `latency_models/tables`, by its name."""
    tables: dict[str, str] = {}
    for name, models in sorted(all_models().items()):
        tables[f"{name}.yaml"] = table_yaml(models, HEADING.format(name=name))
    for mcu in BOARD_BUILDS:
        tables[f"{mcu}.csv"] = entries_csv({("tflm-cmsis-nn", OPERATOR_VERSION): entries(mcu)})
    return tables


def all_models() -> dict[str, list[Model]]:
    """The models of every table, in the order that they are looked up in."""
    tables: dict[str, list[Model]] = {}
    for cell in sorted(cells()):
        name = cell.mcu or core_table_name(cell.core)
        tables.setdefault(name, []).append(model_of(cell))
    for mcu, board in ((m, LIKE_BOARD.get(m, m)) for m in (*BOARD_BUILDS, *LIKE_BOARD)):
        tables.setdefault(mcu, []).append(model_of_board(mcu, board))
    return {name: sorted(models, key=_rank) for name, models in tables.items()}


def _rank(model: Model) -> tuple[object, ...]:
    """Runtimes in turn; of each first what is seen most of, and of the newest version."""
    preferred = TFLM.index(model.runtime) if model.runtime in TFLM else len(TFLM)
    seen = max(model.architectures, model.rows if model.version == OPERATOR_VERSION else 0)
    numbers = tuple(-int(part) for part in model.version.split(".") if part.isdigit())
    unnamed = model.version == ANY_VERSION
    return preferred, model.runtime, unnamed, -seen, numbers, model.version


def cells() -> set[Cell]:
    """What there is a model of: every cell that was measured, and what is carried over."""
    measured = {cell_of(row) for row in known_rows()}
    found = set(measured)
    chips = {cell.mcu: cell.core for cell in measured if cell.core in CORTEX_M} | CHIPS
    operators = {(mcu, "tflm-cmsis-nn") for mcu in (*BOARD_BUILDS, *LIKE_BOARD)}
    known = {(cell.mcu, cell.runtime) for cell in measured} | operators
    for mcu, core in chips.items():
        found |= {Cell(core, mcu, r, ANY_VERSION) for r in TFLM if (mcu, r) not in known}
    for cell in measured:
        found.add(Cell(cell.core, cell.mcu, cell.runtime, ANY_VERSION))
        if cell.core in CORES:
            found.add(Cell(cell.core, "", cell.runtime, ANY_VERSION))
    found |= {Cell(core, "", runtime, ANY_VERSION) for core in CORTEX_M for runtime in TFLM}
    return found


def model_of(cell: Cell) -> Model:
    """The model of a cell, from what all rows say."""
    rows = [c for c in judged_rows() if cell_of(c.row) == cell]
    cycles, per_inference = flat_cycles(fitted(), cell)
    spread, degrees = cell_spread(cell, judged_rows())
    return Model(
        runtime=cell.runtime,
        version=cell.version,
        provenance=_provenance(cell, rows),
        source=_source(cell, rows),
        fitted=COLLECTED,
        rows=len(rows),
        architectures=len({c.group for c in rows}),
        spread=significant(hypot(spread, EXTERNAL_FLASH_SPREAD.get(cell.mcu, 0.0)), 3),
        degrees=degrees,
        validation=(validation(rows),) if rows else (),
        per_inference=significant(per_inference),
        cycles={
            group: {name: significant(x) for name, x in known.items() if x}
            for group, known in cycles.items()
        },
    )


def _provenance(cell: Cell, rows: Sequence[Checked]) -> Provenance:
    if not rows:
        return "estimated"
    return "emulated" if cell.runtime in TFLM and len(rows) >= EMULATED_FROM else "calibrated"


def _source(cell: Cell, rows: Sequence[Checked]) -> str:
    fitted_to = sum(is_fitted(row) for row in known_rows())
    pooled = f"{cell.build} instructions, pooled over {fitted_to} rows of all engines and chips"
    if not rows:
        return f"carried over: {pooled}"
    return f"{_named(sorted({c.row.group for c in rows}))}; {pooled}"


def _named(groups: Iterable[str]) -> str:
    return ", ".join(groups)


def validation(rows: Sequence[Checked]) -> Validation:
    """How far off the fits that did not see a row's architecture were on it."""
    found = scores([c.row.cycles for c in rows], [c.cycles for c in rows])
    based = [(c.row.cycles, c.baseline) for c in rows if c.baseline]
    baseline = [100 * abs(guess / truth - 1) for truth, guess in based]
    return Validation(
        of="models",
        count=found.count,
        groups=len({c.group for c in rows}),
        method=METHOD,
        mean_percent=significant(found.mean_percent, 3),
        p90_percent=significant(found.p90_percent, 3),
        max_percent=significant(found.max_percent, 3),
        within_10_percent=significant(found.within_10_percent, 3),
        kendall_tau=None if found.kendall_tau is None else significant(found.kendall_tau, 4),
        spread=significant(found.spread, 3),
        baseline_mean_percent=significant(fmean(baseline), 3) if baseline else None,
    )


def model_of_board(mcu: str, board: str) -> Model:
    """The model of a chip from the single operators of a board.

    No whole network was timed there: the spread is that of TFLM with CMSIS-NN elsewhere.
    """
    model = board_model(board)
    cell = Cell(_board_core(board), mcu, model.runtime, model.version)
    spread, degrees = engine_spread(cell, judged_rows())
    changed: dict[str, object] = {"spread": significant(spread, 3), "degrees": degrees}
    if mcu != board:
        changed |= {
            "spread": significant(hypot(spread, SPREADS["chip"]), 3),
            "provenance": "estimated",
            "source": f"carried over from {board}: {model.source}",
            "rows": 0,
            "validation": (),
        }
    return model.model_copy(update=changed)


def _board_core(board: str) -> str:
    return next(row.core for row in operator_rows() if row.mcu == board)


def entries(mcu: str) -> dict[OpShape, Entry]:
    """The operators of a board as they were measured, both of its clocks in one mean."""
    cycles: dict[OpShape, list[float]] = {}
    for row in board_samples(mcu):
        cycles.setdefault(row.shape, []).append(row.cycles)
    return dict(_entries(cycles))


def _entries(cycles: dict[OpShape, list[float]]) -> Iterator[tuple[OpShape, Entry]]:
    for shape, found in cycles.items():
        mean = significant(sum(found) / len(found), 7)
        yield shape, Entry(cycles=mean, provenance="measured", source=ENTRY_SOURCE)
