"""Predictions of what no fit has seen, with intervals, as CSV and as tables."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import exp

from scipy.stats import t as student

from tinynas.lut.evidence import ModelRow
from tinynas.lut.intervals import cell_spread, judged_rows
from tinynas.lut.models import (
    EXTERNAL_MEMORY,
    Checked,
    cell_of,
    checked_rows,
    fit,
    known_rows,
    predicted_cycles,
)
from tinynas.lut.scores import scores

CONFIDENCE = 0.9
COLUMNS = (
    "id",
    "mcu",
    "runtime",
    "version",
    "architecture",
    "held_out_with",
    "trust",
    "measured_ms",
    "predicted_ms",
    "low_ms",
    "high_ms",
    "error_percent",
    "baseline_ms",
)
HEADER = (
    "| MCU | runtime | version | rows | architectures | mean % | p90 % | within 10 % | tau "
    "| in 90 % interval | baseline mean % |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A row, its prediction, and the interval from errors on other architectures alone."""

    checked: Checked
    low: float
    high: float

    @property
    def row(self) -> ModelRow:
        return self.checked.row

    @property
    def ms_per_cycle(self) -> float:
        return 1e3 / self.row.clock_hz

    @property
    def measured_ms(self) -> float:
        return self.row.cycles * self.ms_per_cycle

    @property
    def predicted_ms(self) -> float:
        return self.checked.cycles * self.ms_per_cycle

    @property
    def holds(self) -> bool:
        return self.low <= self.measured_ms <= self.high


def judged() -> list[Judged]:
    """Every row that a fit may use, and those kept out of fits for their external memory."""
    used = judged_rows()
    extra = [c for c in checked_rows() if c.row.id in EXTERNAL_MEMORY]
    return [_judge(checked, used) for checked in [*used, *extra]]


def _judge(checked: Checked, used: Sequence[Checked]) -> Judged:
    others = [c for c in used if c.group != checked.group]
    spread, degrees = cell_spread(cell_of(checked.row), others)
    factor = exp(spread * float(student.ppf((1 + CONFIDENCE) / 2, degrees)))
    predicted_ms = checked.cycles * 1e3 / checked.row.clock_hz
    return Judged(checked=checked, low=predicted_ms / factor, high=predicted_ms * factor)


def predictions_csv(rows: Sequence[Judged]) -> str:
    """All predictions, a line for each row."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for j in sorted(rows, key=lambda j: j.row.id):
        c, row = j.checked, j.row
        baseline = "" if c.baseline is None else f"{c.baseline * j.ms_per_cycle:.5g}"
        names = (row.id, row.mcu, row.runtime, row.version, row.architecture, c.group, row.trust)
        error = 100 * (j.predicted_ms / j.measured_ms - 1)
        figures = (j.measured_ms, j.predicted_ms, j.low, j.high)
        table.writerow([*names, *(f"{x:.5g}" for x in figures), f"{error:.1f}", baseline])
    return text.getvalue()


def validation_table(rows: Sequence[Judged]) -> str:
    """Errors by MCU, runtime and version, and over all versions of a runtime."""
    lines = [HEADER]
    for (mcu, runtime), same in _grouped(rows, lambda j: (j.row.mcu, j.row.runtime)):
        versions = _grouped(same, lambda j: (j.row.version,))
        if len(versions) > 1:
            lines.append(_line(mcu, runtime, "all", same))
        lines += [_line(mcu, runtime, version, of) for (version,), of in versions]
    trusted = [j for j in rows if not j.row.trust.startswith("C")]
    lines.append(_line("all", "all", "trust A and B", trusted))
    return "".join(lines)


def _grouped(
    rows: Iterable[Judged], key: Callable[[Judged], tuple[str, ...]]
) -> list[tuple[tuple[str, ...], list[Judged]]]:
    found: dict[tuple[str, ...], list[Judged]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return sorted(found.items())


def _line(mcu: str, runtime: str, version: str, rows: Sequence[Judged]) -> str:
    s = scores([j.measured_ms for j in rows], [j.predicted_ms for j in rows])
    based = [(j.row.cycles, j.checked.baseline) for j in rows if j.checked.baseline]
    errors = [100 * abs(guess / truth - 1) for truth, guess in based]
    baseline = f"{sum(errors) / len(errors):.1f}" if errors else ""
    tau = "" if s.kendall_tau is None else f"{s.kendall_tau:.2f}"
    groups = len({j.checked.group for j in rows})
    holds = sum(j.holds for j in rows)
    return (
        f"| {mcu} | {runtime} | {version} | {s.count} | {groups} | {s.mean_percent:.1f} "
        f"| {s.p90_percent:.1f} | {s.within_10_percent:.0f} % | {tau} "
        f"| {100 * holds / len(rows):.0f} % | {baseline} |\n"
    )


def by_list_table() -> str:
    """Mean errors where only the layer list itself is held out, not its variants."""
    names = sorted({row.architecture for row in known_rows()})
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for name in names:
        deviations = fit(row for row in known_rows() if row.architecture != name)
        for row in (c.row for c in judged_rows() if c.row.architecture == name):
            error = 100 * abs(predicted_cycles(deviations, row) / row.cycles - 1)
            found[row.mcu, row.runtime, row.version].append(error)
    lines = ["| MCU | runtime | version | rows | mean % |\n|---|---|---|---|---|\n"]
    for key, errors in sorted(found.items()):
        lines.append(f"| {' | '.join(key)} | {len(errors)} | {sum(errors) / len(errors):.1f} |\n")
    return "".join(lines)
