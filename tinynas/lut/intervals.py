"""How far predictions may be off: spreads of models from the errors of their validation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from math import log, sqrt

from tinynas.lut.models import SPREADS, Cell, Checked, cell_of, checked_rows, is_fitted

# A cell's own errors count beside so many of its engine's: with two the intervals hold nine rows
# in ten that nobody fitted to (experiments/latency_validation).
ENGINE_ROWS = 2
# Architectures from which the errors of an engine on one core are known.
ENOUGH_GROUPS = 4
# Without any row of the engine.
UNKNOWN_SPREAD = 0.3


def log_error(checked: Checked) -> float:
    """The logarithm of measured over predicted."""
    return log(checked.row.cycles / checked.cycles)


def _mean_square(checked: Iterable[Checked]) -> float | None:
    squares = [log_error(c) ** 2 for c in checked]
    return sum(squares) / len(squares) if squares else None


@cache
def judged_rows() -> tuple[Checked, ...]:
    """The rows that errors are taken of: those that a fit may use."""
    return tuple(c for c in checked_rows() if is_fitted(c.row))


def engine_spread(cell: Cell, checked: Sequence[Checked]) -> tuple[float, int]:
    """The same as `cell_spread` of an engine on whatever chip, of the cell's core if it is known.

    Rows of trust C are left out.
    """
    trusted = [c for c in checked if not c.row.trust.startswith("C")]
    same = [c for c in trusted if cell_of(c.row).engine == cell.engine]
    here = [c for c in same if c.row.core == cell.core]
    if len(_groups(here)) >= ENOUGH_GROUPS:
        same = here
    square = _mean_square(same)
    spread = UNKNOWN_SPREAD if square is None else sqrt(square)
    return spread, max(len(_groups(same)), 1)


def _groups(checked: Iterable[Checked]) -> set[str]:
    return {c.group for c in checked}


def cell_spread(cell: Cell, checked: Sequence[Checked]) -> tuple[float, int]:
    """Standard deviation of log(measured / predicted) in a cell, and its degrees of freedom.

    `checked` are the rows that it is known from; what the cell has none of adds what its levels
    may deviate by.
    """
    here = [c for c in checked if _same(cell_of(c.row), cell)]
    groups = len(_groups(here))
    square = ENGINE_ROWS * engine_spread(cell, checked)[0] ** 2
    square += groups * (_mean_square(here) or 0.0)
    square = square / (ENGINE_ROWS + groups) + sum(s * s for s in _unseen(cell, checked))
    return sqrt(square), ENGINE_ROWS + groups


def _same(first: Cell, second: Cell) -> bool:
    key = ("mcu", "engine", "release")
    return all(getattr(first, name) == getattr(second, name) for name in key)


def _unseen(cell: Cell, checked: Sequence[Checked]) -> Iterable[float]:
    """Spreads of the levels of a cell that no row has been measured at."""
    cells = {cell_of(c.row) for c in checked}
    known = [c for c in cells if c.engine == cell.engine]
    if not known:
        yield SPREADS["engine"]
    if not any(c.core == cell.core for c in known):
        yield SPREADS["engine core"]
    if not any(c.core == cell.core for c in cells):
        yield SPREADS["core"]
    if not any(c.release == cell.release for c in known):
        yield SPREADS["version"]
    if not any(c.mcu == cell.mcu for c in cells):
        yield SPREADS["chip"]
    if not any(c.mcu == cell.mcu for c in known):
        yield SPREADS["chip engine"]
    if not any(_same(c, cell) for c in known):
        yield SPREADS["cell"]
