"""Stage 1: choose the width multiplier and resolution whose fitting subnets compute the most.

MCUNet (Lin et al. 2020, arXiv 2007.10319, section 3.1) argues that among spaces that fit a chip,
the one whose fitting subnets have the most multiply-accumulates holds the most accurate ones, and
estimates this from 1,000 random subnets per space. Here the subnets are counted (`exact`); the
paper's rule is there beside it (`sampled`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Literal

import numpy as np

from tinynas.budget import Budget
from tinynas.cost.bins import Count
from tinynas.cost.blocks import Memo
from tinynas.cost.counting import NOTHING, count_fitting
from tinynas.cost.fitting import fits, minimal_costs
from tinynas.cost.table import Costs, CostTable
from tinynas.errors import InfeasibleError
from tinynas.infeasible import explain
from tinynas.space.arch import encode, largest, random_genes
from tinynas.space.spec import SearchSpace
from tinynas.task import Task, compile_task

Method = Literal["exact", "sampled"]
SAMPLES = 1000
# A space with fewer fitting subnets leaves nothing to search; it is taken only if all have fewer.
WORTH_SEARCHING = 1000
# Rows and columns of patches to try, and the pixels from which on: smaller maps gain nothing that
# the runtime's records for more operators do not take.
PATCHES = (2, 3, 4)
PIXELS_ON_PATCHES = 96

CSV_COLUMNS = (
    "width",
    "resolution",
    "patches",
    "chosen",
    "subnets",
    "fitting",
    "fitting_lower",
    "fitting_upper",
    "share",
    "mean_macs",
    "mean_macs_sure",
    "mean_macs_possible",
    "max_macs",
    "max_macs_possible",
    "method",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is known of one (width multiplier, resolution), begun on patches x patches patches."""

    width: float
    resolution: int
    subnets: int
    count: Count
    patches: int = 1

    @property
    def share(self) -> float:
        """Fitting subnets as a fraction of all."""
        return self.count.estimate / self.subnets


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """All spaces looked at, in order of width, then resolution, and the one chosen.

    `in_time` is the fraction of the chosen space's subnets inside SRAM and flash that keep the
    limits on latency and energy too; None where there are none.
    """

    rows: tuple[Row, ...]
    chosen: Row
    table: CostTable
    method: Method
    in_time: float | None = None


def count_sampled(table: CostTable, budget: Budget, rng: np.random.Generator) -> Count:
    """The paper's estimate: how many of 1,000 random subnets fit, and what they compute."""
    costs = table.evaluate(random_genes(table.space, SAMPLES, rng))
    macs = costs.macs[fits(costs, budget)]
    if not len(macs):
        return NOTHING
    estimate = table.space.subnets() * len(macs) / SAMPLES
    mean = float(macs.mean())
    return Count(
        lower=float(len(macs)),
        estimate=estimate,
        upper=float(table.space.subnets()),
        mean_macs=mean,
        mean_macs_sure=mean,
        mean_macs_possible=mean,
        max_macs=float(macs.max()),
        max_macs_possible=float(macs.max()),
        exact=False,
    )


def shrink(
    space: SearchSpace,
    budget: Budget,
    task: Task,
    *,
    method: Method = "exact",
    rng: np.random.Generator,
    on_space: Callable[[int, int], None] | None = None,
) -> Shrunk:
    """The space whose fitting subnets have the largest mean number of MACs, and all the others.

    `rng` is used by the sampled method alone; `on_space` is told (spaces done, spaces in all).
    Raises InfeasibleError, with what would make it possible, when no subnet of any space fits.
    """
    memo: Memo = {}
    pairs = product(space.width_multipliers, space.resolutions)
    tables = [compile_task(space, task, width, pixels, memo) for width, pixels in pairs]
    tried = [(table, minimal_costs(table)) for table in tables]
    count = partial(_row, budget=budget, method=method, rng=rng)
    rows = []
    for number, (table, least) in enumerate(tried, start=1):
        rows.append(count(table, least))
        if on_space:
            on_space(number, len(tables))
    for table in _patched_tables(space, task, tables, rows, memo) if task.patch else ():
        least = minimal_costs(table)
        tried.append((table, least))
        if fits(least, budget).any():
            rows.append(count(table, least))
    _check_fitting(space, budget, task, tried, rows)
    chosen = choose(rows)
    table = next(table for table, _ in tried if _is_of(chosen, table))
    in_time = share_in_time(table, budget) if budget.timed else None
    return Shrunk(rows=tuple(rows), chosen=chosen, table=table, method=method, in_time=in_time)


def _row(
    table: CostTable, least: Costs, *, budget: Budget, method: Method, rng: np.random.Generator
) -> Row:
    """What the method finds in one space, whose minimal costs are `least`."""
    found = (
        count_fitting(table, budget, minimal=least)
        if method == "exact"
        else count_sampled(table, budget, rng)
    )
    return Row(
        width=table.width,
        resolution=table.resolution,
        patches=table.patches,
        subnets=table.space.subnets(),
        count=found,
    )


def _is_of(row: Row, table: CostTable) -> bool:
    return (row.width, row.resolution, row.patches) == (
        table.width,
        table.resolution,
        table.patches,
    )


def _check_fitting(
    space: SearchSpace,
    budget: Budget,
    task: Task,
    tried: Sequence[tuple[CostTable, Costs]],
    rows: Sequence[Row],
) -> None:
    """Raise InfeasibleError unless some subnet of some space fits and was found."""
    if not any(fits(least, budget).any() for _, least in tried):
        raise InfeasibleError(explain(space, budget, task, *zip(*tried, strict=True)))
    if not any(row.count.estimate for row in rows):
        raise InfeasibleError(
            f"none of {SAMPLES:,} sampled subnets fits in any of {len(rows)} spaces, though some "
            "subnets do fit; use --shrink exact, which finds them"
        )


def share_in_time(table: CostTable, budget: Budget) -> float:
    """Of the subnets inside SRAM and flash, the fraction inside latency and energy too."""
    inside = count_fitting(table, replace(budget, latency_ms=None, energy_mj=None))
    return min(count_fitting(table, budget).estimate / inside.estimate, 1.0)


def _patched_tables(
    space: SearchSpace,
    task: Task,
    tables: Sequence[CostTable],
    rows: list[Row],
    memo: Memo,
) -> Iterator[CostTable]:
    """Tables on patches of the spaces in which not all fits and that could be better than `rows`.

    `rows` may grow meanwhile. No space is better whose largest subnet computes less than the mean
    subnet of the best one.
    """
    whole = list(zip(tables, rows, strict=True))
    for table, row in sorted(whole, key=lambda pair: -_most_macs(pair[0])):
        if row.resolution < PIXELS_ON_PATCHES or row.count.lower == row.subnets:
            continue
        for patches in PATCHES:
            best = max((r.count.mean_macs for r in _worth_searching(rows)), default=0.0)
            if _most_macs(table) > best:
                yield compile_task(space, task, row.width, row.resolution, memo, patches)


def _most_macs(table: CostTable) -> int:
    """Multiply-accumulates of the largest subnet."""
    arch = largest(table.space, width=table.width, resolution=table.resolution)
    return int(table.evaluate(encode(table.space, arch)).macs[0])


def _worth_searching(rows: Sequence[Row]) -> list[Row]:
    """Those with enough fitting subnets; where none has, those with any."""
    enough = [row for row in rows if row.count.estimate >= WORTH_SEARCHING]
    return enough or [row for row in rows if row.count.estimate > 0]


def choose(rows: Sequence[Row]) -> Row:
    """The row with the largest mean MACs among those with enough fitting subnets to search.

    Enough is 1,000 by the estimate; where no space has that many, any fitting subnet will do.
    Ties go to fewer patches, the smaller resolution, then the larger width.
    """
    return max(
        _worth_searching(rows),
        key=lambda row: (row.count.mean_macs, -row.patches, -row.resolution, row.width),
    )


def to_csv(shrunk: Shrunk) -> str:
    """The table of all spaces as CSV, columns as in CSV_COLUMNS."""
    lines = [",".join(CSV_COLUMNS)]
    for row in shrunk.rows:
        count = row.count
        method = "sampled" if shrunk.method == "sampled" else "exact" if count.exact else "binned"
        values = (
            row.width,
            row.resolution,
            row.patches,
            int(row is shrunk.chosen),
            row.subnets,
            *(f"{x:.6g}" for x in (count.estimate, count.lower, count.upper, row.share)),
            *(
                round(x)
                for x in (
                    count.mean_macs,
                    count.mean_macs_sure,
                    count.mean_macs_possible,
                    count.max_macs,
                    count.max_macs_possible,
                )
            ),
            method,
        )
        lines.append(",".join(str(value) for value in values))
    return "\n".join(lines) + "\n"
