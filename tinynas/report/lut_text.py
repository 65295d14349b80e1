"""What an import of measurements came to, and a space written out, in sentences and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tinynas.cost.interval import CONFIDENCE, interval_factor
from tinynas.cost.latency import Timer
from tinynas.cost.latency_choice import Known
from tinynas.lut.board import Board
from tinynas.lut.expand import UNKNOWN, Timed, shares
from tinynas.lut.importing import Imported
from tinynas.lut.measured import Measured
from tinynas.lut.refine import Refined
from tinynas.space.spec import SearchSpace


def import_lines(
    measured: Measured, board: Board, imported: Imported, paths: Sequence[Path]
) -> Iterator[str]:
    """What was read, what became of the model, and where it is."""
    chip = f"{board.device.name} at {board.clock_hz / 1e6:g} MHz with {board.runtime}"
    yield f"{measured.source}: {len(measured.cycles):,} operators of {chip}"
    yield from (f"  {note}" for note in measured.notes)
    if imported.base is None:
        yield (
            f"  nothing is known of {board.runtime} on a {board.device.core}: operators that were "
            "not measured cannot be predicted"
        )
    elif imported.refined is None:
        yield (
            "  none of them is of a kind that the model knows: they are entries of the table, the "
            f"model stays {imported.base.words()}"
        )
    else:
        yield from (f"  {line}" for line in _model_lines(imported.base, imported.refined))
    yield f"written: {', '.join(map(str, paths))}"
    yield f"use them with --mcu {board.device.name} --devices {paths[0].parent.parent}"


def _model_lines(base: Known, refined: Refined) -> Iterator[str]:
    yield (
        f"model: {base.words()} times {refined.scale:.3g}, from {refined.rows:,} measured "
        f"operator{'' if refined.rows == 1 else 's'}"
    )
    yield "  " + ", ".join(f"{name} times {f:.3g}" for name, f in refined.groups.items())
    if refined.fitted:
        yield f"  with rows enough for costs of their own: {', '.join(refined.fitted)}"
    for checked in refined.model.validation:
        yield (
            f"operators predicted from others: off by {checked.mean_percent:.1f} % on average, "
            f"by at most {checked.p90_percent:.1f} % on nine in ten"
        )
    factor = interval_factor(refined.model.spread, refined.model.degrees, CONFIDENCE)
    yield f"interval of a prediction at {CONFIDENCE:.0%}: divided and multiplied by {factor:.2f}"


def import_json(
    measured: Measured, board: Board, imported: Imported, paths: Sequence[Path]
) -> dict[str, Any]:
    """The same as JSON."""
    refined = imported.refined
    return {
        "mcu": board.device.name,
        "runtime": board.runtime,
        "clock_hz": board.clock_hz,
        "operators": len(measured.cycles),
        "notes": list(measured.notes),
        "base": imported.base and imported.base.words(),
        "scale": refined and refined.scale,
        "groups": refined.groups if refined else {},
        "fitted": list(refined.fitted) if refined else [],
        "model": refined and refined.model.model_dump(mode="json"),
        "files": [str(path.resolve()) for path in paths],
    }


def build_line(rows: Sequence[Timed], timer: Timer, space: SearchSpace, classes: int) -> str:
    """How many operators a space has, and where their latency is from."""
    found = shares(rows)
    line = (
        f"{len(rows):,} operators of {space.name} ({classes:,} classes, RGB) on {timer.known.mcu} "
        f"at {timer.clock_hz / 1e6:g} MHz, {timer.known.words()}; "
    ) + ", ".join(f"{share:.1%} {name}" for name, share in found.items())
    if UNKNOWN in found:
        line += "; cells are empty where it is unknown: measure these operators and import them"
    return line


def build_json(rows: Sequence[Timed]) -> dict[str, Any]:
    """The same as JSON."""
    return {"operators": len(rows), "shares": shares(rows)}
