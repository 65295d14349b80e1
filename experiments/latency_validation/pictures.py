"""Pictures of predicted against measured, one file for each MCU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from math import ceil
from pathlib import Path

import matplotlib

from experiments.latency_validation.report import Judged
from tinynas.lut.nonnegative import cross_predicted
from tinynas.lut.operators import (
    BOARD_BUILDS,
    BOARD_CACHES,
    board_prior,
    board_samples,
    fit_board,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 - the backend comes first
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter  # noqa: E402

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKS = "osD^vP*X<>"
ENOUGH_ROWS = 3
COLUMNS = 3
PANEL = 3.6  # inches
DPI = 110


def draw_models(rows: Sequence[Judged], folder: Path) -> None:
    """A panel for each runtime of every MCU that has at least ENOUGH_ROWS of one."""
    folder.mkdir(exist_ok=True)
    found: dict[str, dict[str, list[Judged]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row.row.mcu][row.row.runtime].append(row)
    for mcu, runtimes in sorted(found.items()):
        shown = {name: of for name, of in sorted(runtimes.items()) if len(of) >= ENOUGH_ROWS}
        if shown:
            _draw(mcu, shown, folder / f"{mcu}.png")


def _draw(mcu: str, runtimes: dict[str, list[Judged]], path: Path) -> None:
    columns = min(COLUMNS, len(runtimes))
    lines = ceil(len(runtimes) / columns)
    size = (PANEL * columns, PANEL * lines + 0.3)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False)
    for axis in axes.flat[len(runtimes) :]:
        axis.axis("off")
    for axis, (runtime, rows) in zip(axes.flat, runtimes.items(), strict=False):
        _panel(axis, runtime, rows)
    figure.suptitle(f"{mcu}: networks that no fit has seen", fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def _panel(axis: Axes, runtime: str, rows: Sequence[Judged]) -> None:
    versions = sorted({j.row.version for j in rows})
    for number, version in enumerate(versions):
        here = [j for j in rows if j.row.version == version]
        axis.errorbar(
            [j.measured_ms for j in here],
            [j.predicted_ms for j in here],
            yerr=[
                [j.predicted_ms - j.low for j in here],
                [j.high - j.predicted_ms for j in here],
            ],
            fmt=MARKS[number % len(MARKS)],
            color=COLOURS[number % len(COLOURS)],
            markersize=4.5,
            elinewidth=0.5,
            label=version,
        )
    _frame(axis, [j.measured_ms for j in rows], [j.predicted_ms for j in rows], "ms")
    axis.set_title(runtime, fontsize=10)
    axis.legend(fontsize=6, loc="upper left", frameon=False)


def _frame(axis: Axes, measured: Sequence[float], guessed: Sequence[float], unit: str) -> None:
    """Log axes of one length, the diagonal and a band of 10 % around it."""
    low, high = min(*measured, *guessed) / 1.5, max(*measured, *guessed) * 1.5
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(low, high)
    axis.set_ylim(low, high)
    axis.plot([low, high], [low, high], color="0.4", linewidth=0.8)
    axis.fill_between(
        [low, high], [0.9 * low, 0.9 * high], [1.1 * low, 1.1 * high], color="0.85", zorder=0
    )
    axis.set_xlabel(f"measured {unit}", fontsize=8)
    axis.set_ylabel(f"predicted {unit}", fontsize=8)
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_minor_formatter(NullFormatter())
        direction.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.tick_params(labelsize=7)


def draw_operators(folder: Path) -> None:
    """A panel for each board with single operators."""
    figure, axes = plt.subplots(1, len(BOARD_BUILDS), figsize=(PANEL * len(BOARD_BUILDS), PANEL))
    for axis, mcu in zip(axes, BOARD_BUILDS, strict=True):
        samples = [(row.shape, row.cycles) for row in board_samples(mcu)]
        fit = partial(fit_board, known=board_prior(mcu), caches=BOARD_CACHES[mcu])
        measured, guessed = [cycles for _, cycles in samples], cross_predicted(samples, fit)
        axis.plot(measured, guessed, ".", color=COLOURS[0], markersize=2.5)
        _frame(axis, measured, guessed, "cycles")
        axis.set_title(f"{mcu}, single operators", fontsize=10)
    figure.tight_layout()
    figure.savefig(folder / "operators.png", dpi=DPI, metadata={"Software": None})
    plt.close(figure)
