"""Stage 1: choose the width multiplier and resolution whose fitting subnets compute the most.

MCUNet (Lin et al. 2020, arXiv 2007.10319, section 3.1) argues that among spaces that fit a chip,
the one whose fitting subnets have the most multiply-accumulates holds the most accurate ones, and
estimates this from 1,000 random subnets per space. Here the subnets are counted (`exact`); the
paper's rule is there beside it (`sampled`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from tinynas.budget import Budget, format_bytes
from tinynas.cost.bins import Count
from tinynas.cost.blocks import Memo, OpLatency
from tinynas.cost.counting import NOTHING, count_fitting
from tinynas.cost.fitting import fits, minimal_costs
from tinynas.cost.kernels import Kernels
from tinynas.cost.memory import head_by_op
from tinynas.cost.planned import Plan
from tinynas.cost.table import Costs, CostTable, compile_costs
from tinynas.errors import InfeasibleError
from tinynas.space.arch import encode, largest, random_genes, smallest
from tinynas.space.lower import lower
from tinynas.space.spec import SearchSpace

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
class Task:
    """What every subnet of a run has in common: the data's shape and what executes the model.

    `patch` allows spaces whose subnets begin on patches, where that lets better ones fit.
    """

    classes: int
    channels: int
    kernels: Kernels
    latency: OpLatency
    plan: Plan = "overlap"
    patch: bool = False


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
    """All spaces looked at, in order of width, then resolution, and the one chosen."""

    rows: tuple[Row, ...]
    chosen: Row
    table: CostTable
    method: Method


def compile_task(
    space: SearchSpace,
    task: Task,
    width: float,
    resolution: int,
    memo: Memo | None = None,
    patches: int = 1,
) -> CostTable:
    """The cost table of one (width, resolution) for a task, begun on that many patches squared.

    Tables that share a `memo`, a dict that starts empty, are compiled faster.
    """
    return compile_costs(
        space,
        width=width,
        resolution=resolution,
        classes=task.classes,
        channels=task.channels,
        kernels=task.kernels,
        latency=task.latency,
        plan=task.plan,
        patches=patches,
        memo=memo,
    )


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
    pairs = [(w, r) for w in space.width_multipliers for r in space.resolutions]
    memo: Memo = {}
    tables = [compile_task(space, task, w, r, memo) for w, r in pairs]
    minimal = [minimal_costs(table) for table in tables]
    possible = any(fits(costs, budget).any() for costs in minimal)

    def count(table: CostTable, least: Costs) -> Row:
        found = (
            count_fitting(table, budget, minimal=least)
            if method == "exact"
            else count_sampled(table, budget, rng)
        )
        return Row(
            width=table.width,
            resolution=table.resolution,
            patches=table.patches,
            subnets=space.subnets(),
            count=found,
        )

    rows = []
    for number, (table, least) in enumerate(zip(tables, minimal, strict=True), start=1):
        rows.append(count(table, least))
        if on_space:
            on_space(number, len(tables))
    for table in _patched_tables(space, task, tables, rows, memo) if task.patch else ():
        least = minimal_costs(table)
        minimal.append(least)
        if fits(least, budget).any():
            possible = True
            tables.append(table)
            rows.append(count(table, least))
    if not possible:
        raise InfeasibleError(explain(space, budget, task, tables, minimal))
    if not any(row.count.estimate for row in rows):
        raise InfeasibleError(
            f"none of {SAMPLES:,} sampled subnets fits in any of {len(rows)} spaces, though some "
            "subnets do fit; use --shrink exact, which finds them"
        )
    chosen = choose(rows)
    return Shrunk(rows=tuple(rows), chosen=chosen, table=tables[rows.index(chosen)], method=method)


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


def _least(costs: Sequence[Costs], budget: Budget, column: str) -> float | None:
    """The least of one cost among the subnets that keep all other limits; None if none does."""
    free = {
        "sram_bytes": Budget(
            sram_bytes=2**62, flash_bytes=budget.flash_bytes, latency_ms=budget.latency_ms
        ),
        "flash_bytes": Budget(
            sram_bytes=budget.sram_bytes, flash_bytes=2**62, latency_ms=budget.latency_ms
        ),
        "latency_ms": Budget(sram_bytes=budget.sram_bytes, flash_bytes=budget.flash_bytes),
    }[column]
    found = [getattr(c, column)[fits(c, free)] for c in costs]
    values = np.concatenate(found)
    return float(values.min()) if len(values) else None


def _smaller_resolution(space: SearchSpace, budget: Budget, task: Task) -> int | None:
    """The largest resolution below the space's smallest at which something fits."""
    memo: Memo = {}
    for resolution in range(space.resolutions[0] - 4, 7, -4):
        for width in space.width_multipliers:
            table = compile_task(space, task, width, resolution, memo)
            if fits(minimal_costs(table), budget).any():
                return resolution
    return None


def explain(
    space: SearchSpace,
    budget: Budget,
    task: Task,
    tables: Sequence[CostTable],
    minimal: Sequence[Costs],
) -> str:
    """Why nothing fits: what the smallest subnet needs, where its peak is, what would help."""
    at = min(range(len(tables)), key=lambda i: int(minimal[i].sram_bytes.min()))
    table, costs = tables[at], minimal[at]
    least = int(np.argmin(costs.sram_bytes))
    arch = smallest(space, width=table.width, resolution=table.resolution)
    graph = lower(space, arch, classes=task.classes, channels=task.channels)
    heads = head_by_op(graph, task.kernels)
    limits = f"SRAM {format_bytes(budget.sram_bytes)}, flash {format_bytes(budget.flash_bytes)}"
    needs = (
        f"{format_bytes(int(costs.sram_bytes[least]))} of SRAM "
        f"({int(costs.tail_bytes[least]):,} of them the runtime's own records; the activations "
        f"peak at operator {graph.ops[heads.index(max(heads))].name}) and "
        f"{format_bytes(int(costs.flash_bytes[least]))} of flash"
    )
    if budget.latency_ms is not None:
        limits += f", latency {budget.latency_ms:g} ms"
        needs += f", and takes an estimated {float(costs.latency_ms[least]):.3g} ms"
    changes = _changes(space, budget, task, minimal)
    together = f"--sram {int(costs.sram_bytes[least])} --flash {int(costs.flash_bytes[least])}"
    if budget.latency_ms is not None:
        together += f" --latency {_round_up(float(costs.latency_ms[least]))}"
    help_ = " or ".join(changes) if changes else f"no single change, but {together} together"
    return (
        f"no subnet of {space.name} fits {limits}: the smallest (width {table.width:g}, "
        f"resolution {table.resolution}) needs {needs}; what would make it possible: {help_}"
    )


def _round_up(latency_ms: float) -> str:
    """A latency as people type it, never below the value."""
    return f"{ceil(latency_ms * 100) / 100:.2f}ms"


def _changes(
    space: SearchSpace, budget: Budget, task: Task, minimal: Sequence[Costs]
) -> list[str]:
    """Every single change that makes the budget possible, as a person would type it."""
    changes = []
    sram = _least(minimal, budget, "sram_bytes")
    if sram is not None:
        changes.append(f"--sram {int(sram)}")
    flash = _least(minimal, budget, "flash_bytes")
    if flash is not None:
        changes.append(f"--flash {int(flash)}")
    if budget.latency_ms is not None:
        latency = _least(minimal, budget, "latency_ms")
        if latency is not None:
            changes.append(f"--latency {_round_up(latency)}")
    resolution = _smaller_resolution(space, budget, task)
    if resolution is not None:
        changes.append(
            f"a space with a resolution of {resolution} pixels "
            f"(the smallest of {space.name} is {space.resolutions[0]})"
        )
    return changes
