"""Every operator that the subnets of a space are made of, with its latency."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tinynas.cost.blocks import Memo
from tinynas.cost.kernels import Kernels
from tinynas.cost.latency import US_PER_S, Timer
from tinynas.cost.latency_table import PROVENANCES, Provenance
from tinynas.cost.op_shape import KEY, OpShape, op_shape
from tinynas.cost.table import compile_costs
from tinynas.graph import Graph, Op
from tinynas.space.spec import SearchSpace

COLUMNS = ("runtime", "version", *KEY, "cycles", "provenance", "us")
# Kernels decide memory alone; any will do to go through the operators of a space.
ANY_KERNELS: Kernels = "reference"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """An operator's configuration with its cycles and where they come from, if they are known."""

    shape: OpShape
    cycles: float | None
    provenance: Provenance | None


def operators_of(space: SearchSpace, *, classes: int, channels: int) -> list[OpShape]:
    """All configurations at all widths and resolutions, sorted.

    Of patches only those that the space says its networks begin on.
    """
    found: set[OpShape] = set()

    def note(graph: Graph, op: Op) -> float:
        found.add(op_shape(graph, op))
        return 0.0

    memo: Memo = {}
    for width in space.width_multipliers:
        for resolution in space.resolutions:
            compile_costs(
                space,
                width=width,
                resolution=resolution,
                classes=classes,
                channels=channels,
                kernels=ANY_KERNELS,
                latency=note,
                patches=space.patches,
                memo=memo,
            )
    return sorted(found)


def expand(timer: Timer, shapes: Iterable[OpShape]) -> list[Timed]:
    """The latency of each configuration."""
    return [_timed(timer, shape) for shape in shapes]


def _timed(timer: Timer, shape: OpShape) -> Timed:
    try:
        cycles, provenance = timer.cycles(shape)
    except ValueError:
        return Timed(shape=shape, cycles=None, provenance=None)
    return Timed(shape=shape, cycles=cycles, provenance=provenance)


def shares(rows: Sequence[Timed]) -> dict[str, float]:
    """The fraction of the configurations of each provenance, `unknown` among them."""
    counts = Counter(row.provenance or UNKNOWN for row in rows)
    return {name: counts[name] / len(rows) for name in (*PROVENANCES, UNKNOWN) if counts[name]}


def to_csv(rows: Sequence[Timed], timer: Timer) -> str:
    """The columns of a table of entries, and microseconds at the timer's clock.

    Cells are empty where nothing is known.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    model, us_per_cycle = timer.known.model, US_PER_S / timer.clock_hz
    for row in rows:
        key = (getattr(row.shape, name) for name in KEY)
        figures: tuple[str, ...] = ("", "", "")
        if row.cycles is not None and row.provenance:
            figures = (f"{row.cycles:.7g}", row.provenance, f"{row.cycles * us_per_cycle:.7g}")
        table.writerow((model.runtime, model.version, *key, *figures))
    return text.getvalue()
