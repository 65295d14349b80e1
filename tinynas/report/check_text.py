"""The summary of a check of latency tables, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from tinynas.cost.interval import CONFIDENCE
from tinynas.lut.summary import Group, Summary

SHOWN_IDS = 12


def groups_table(summary: Summary) -> Table:
    """A line for each MCU and runtime, and one for each of several versions."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("MCU", "runtime", "version"):
        table.add_column(name, no_wrap=True)
    inside = f"in {CONFIDENCE:.0%} interval"
    for name in ("rows", "entries", "mean %", "p90 %", "within 10 %", "tau", inside):
        table.add_column(name, justify="right", no_wrap=True)
    before = None
    for group in summary.groups:
        again = (group.mcu, group.runtime) == before
        before = (group.mcu, group.runtime)
        names = ("", "") if again else before
        table.add_row(*names, group.version or "all", *_figures(group))
    return table


def _figures(group: Group) -> tuple[str, ...]:
    found = group.scores
    return (
        f"{found.count:,}",
        f"{group.entries:,}",
        f"{found.mean_percent:.1f}",
        f"{found.p90_percent:.1f}",
        f"{found.within_10_percent:.0f} %",
        "-" if found.kendall_tau is None else f"{found.kendall_tau:.2f}",
        f"{group.inside_percent:.0f} %",
    )


def check_lines(summary: Summary, *, entries: bool) -> Iterator[str]:
    """What the table leaves out: rows of other models, and rows without a prediction."""
    yield f"{summary.predicted:,} of {summary.rows:,} rows are predicted."
    hits = sum(g.entries for g in summary.groups if g.version is not None)
    if entries and hits:
        yield (
            f"{hits:,} rows are entries of the tables themselves, or models with some, and right "
            "because of that; --no-entries leaves entries aside."
        )
    if summary.unmeasured:
        yield f"{summary.unmeasured:,} of them have no measurement to compare with."
    others = summary.other_models
    if others:
        yield (
            f"{others.scores.count:,} rows are marked A*: not the nominal model ran. They are "
            f"predicted, off by {others.scores.mean_percent:.1f} % on average, and left out above."
        )
    for why, ids in summary.why_not.items():
        shown = ", ".join(ids[:SHOWN_IDS])
        more = f" and {len(ids) - SHOWN_IDS:,} more" if len(ids) > SHOWN_IDS else ""
        yield f"not predicted, {len(ids):,}: {why} ({shown}{more})"
