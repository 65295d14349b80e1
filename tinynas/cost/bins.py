"""Counting subnets by sums in bins: an estimate inside a bracket that surely holds the truth.

The head of the arena is a maximum, and head + tail share one limit. Head values that fit with
every tail form one group and those that fit with none are left out; only the values between couple
head and tail, and they form further groups. Flash, tail and latency, or MACs where these are
limited instead, are sums over blocks, each rounded to the nearest bin; how far off a subnet's bin
can be is added up and bounds the count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from tinynas.budget import Budget
from tinynas.cost.blocks import Floats, Ints
from tinynas.cost.cells import (
    AXES,
    Cells,
    Halves,
    Pairs,
    Step,
    all_pairs,
    extended,
    one,
    steps_of,
    together,
)
from tinynas.cost.fitting import (
    FLASH,
    MACS,
    Choices,
    TailLine,
    choices_by_position,
    tail_line,
    usable_sram,
)
from tinynas.cost.table import Costs, CostTable, costs_of

# Bins of flash, tail and effort, and groups of heads. A limit on effort adds an axis, so the
# others are coarser then: with the finer bins one count of mcunet took 25 s and 3 GB, with these
# 1 s and 0.3 GB, the mean MACs within 1 % of sampling either way.
FREE, LIMITED = (768, 48, 1, 10), (96, 24, 64, 6)
CERTAINTIES = (-1, 0, 1)  # surely fits, fits by its bins, possibly fits


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many subnets fit and how many multiply-accumulates they have.

    Where `exact`, lower, estimate and upper are one number, and so are the means. Else
    `mean_macs` is that of the subnets counted in `estimate`, beside those of the surely and of the
    possibly fitting; `max_macs` is reached by a subnet that surely fits, and no subnet that fits
    exceeds `max_macs_possible`.
    """

    lower: float
    estimate: float
    upper: float
    mean_macs: float
    mean_macs_sure: float
    mean_macs_possible: float
    max_macs: float
    max_macs_possible: float
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A sum over blocks in bins of `width` from `origin`, off by at most `error`.

    `steps` holds the bins of each choice, per stage and position.
    """

    steps: list[list[Ints]]
    width: float
    origin: float
    error: float
    size: int

    def bins_within(self, limit: float, certainty: int) -> int:
        """Number of bins inside `limit`, of those that surely, by themselves or possibly are."""
        if self.size == 1:
            return 1
        room = limit - self.origin + certainty * self.error
        return int(np.clip(np.floor(room / self.width + 1e-9) + 1, 0, self.size))


Values = list[list[Floats]]


def _axis(table: CostTable, values: Values, base: float, limit: float, bins: int) -> Axis:
    """The axis of a sum of `values` per stage and position on top of `base`, up to `limit`.

    A sum that cannot exceed the limit needs a single bin.
    """
    if _highest(values, base) <= limit:
        none = [[np.zeros(len(v), np.int64) for v in stage] for stage in values]
        return Axis(steps=none, width=1.0, origin=0.0, error=0.0, size=1)
    offsets = [
        [float(v.min()) if p < stage.depths[0] else 0.0 for p, v in enumerate(positions)]
        for stage, positions in zip(table.stages, values, strict=True)
    ]
    origin = base + sum(sum(stage) for stage in offsets)
    width = max(limit - origin, 1.0) / bins
    steps, error = [], 0.0
    for positions, stage_offsets in zip(values, offsets, strict=True):
        rounded = [
            np.rint((v - o) / width).astype(np.int64)
            for v, o in zip(positions, stage_offsets, strict=True)
        ]
        steps.append(rounded)
        error += sum(
            float(np.abs(v - o - r * width).max())
            for v, o, r in zip(positions, stage_offsets, rounded, strict=True)
        )
    size = bins + 2 + int(np.ceil(error / width))
    return Axis(steps=steps, width=width, origin=origin, error=error, size=size)


def _highest(values: Values, base: float) -> float:
    return base + sum(float(v.max()) for stage in values for v in stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadGroups:
    """Head values in ascending groups: group 0 fits with every tail.

    Heads of group g lie in [lowest[g], highest[g]]; `limit` is the largest that can fit at all.
    """

    lowest: Floats
    highest: Floats
    limit: float

    def of(self, heads: Ints) -> Ints:
        """Group of each head value, shape as given."""
        return np.searchsorted(self.highest, heads).astype(np.int64)


def _head_groups(
    choices: list[list[Choices]], base: int, free: float, limit: float, count: int
) -> HeadGroups:
    heads = np.unique(
        np.concatenate([[base], *(c.head_bytes for stage in choices for c in stage)])
    ).astype(float)
    between = heads[(heads > free) & (heads <= limit)]
    parts = [p for p in np.array_split(between, min(count, len(between)) or 1) if len(p)]
    return HeadGroups(
        lowest=np.array([0.0, *(p[0] for p in parts)]),
        highest=np.array([free, *(p[-1] for p in parts)]),
        limit=limit,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bins are held against: the budget's limits, and what stands between tail and SRAM.

    `effort` is latency in microseconds or, where that is not limited, MACs; `tail_slack_bytes` is
    the most that rounding adds to a tail's line, `planning_bytes` the most that allocation needs
    in place of the head.
    """

    sram_bytes: float
    flash_bytes: float
    effort: float
    tail_slack_bytes: float
    planning_bytes: float


def count_in_bins(table: CostTable, budget: Budget, minimal: Costs) -> Count:
    """The count of fitting subnets; `minimal` are the table's minimal costs.

    Bins have one axis for latency and MACs. The two grow together, so that what keeps limits on
    both is nearly what keeps the tighter one; but none of that is sure to keep the other.
    """
    if budget.timed and budget.macs is not None:
        untimed = replace(budget, latency_ms=None, energy_mj=None)
        parts = [count_in_bins(table, b, minimal) for b in (replace(budget, macs=None), untimed)]
        tighter = min(parts, key=lambda count: count.estimate)
        return replace(tighter, lower=0.0, mean_macs_sure=0.0, max_macs=0.0)
    choices, line = choices_by_position(table), tail_line(table)
    largest, effort = _largest_costs(table, choices), _effort(budget)
    limits = Limits(
        sram_bytes=usable_sram(budget),
        flash_bytes=budget.flash_bytes,
        effort=effort,
        tail_slack_bytes=line.slack_bytes,
        planning_bytes=float(largest.sram_bytes[0] - largest.tail_bytes[0]),
    )
    *bins, head_groups = LIMITED if np.isfinite(effort) else FREE
    groups = _head_groups(
        choices,
        table.base.head_bytes,
        limits.sram_bytes - float(largest.tail_bytes[0]),
        limits.sram_bytes - float(minimal.tail_bytes.min()),
        head_groups,
    )
    axes = _axes(table, choices, line, limits, groups, bins, timed=budget.timed)
    return _read(_halves(table, choices, groups, axes), groups, axes, limits)


def _effort(budget: Budget) -> float:
    """The limit on latency in microseconds, or else that on MACs, infinite without one."""
    if budget.predicted_ms is not None:
        return budget.predicted_ms * 1000
    return np.inf if budget.macs is None else float(budget.macs)


def _axes(
    table: CostTable,
    choices: list[list[Choices]],
    line: TailLine,
    limits: Limits,
    groups: HeadGroups,
    bins: Sequence[int],
    *,
    timed: bool,
) -> tuple[Axis, ...]:
    """The axes of flash, tail and effort, which is latency if `timed`, else MACs."""
    flash = [[c.sums[:, FLASH].astype(float) for c in stage] for stage in choices]
    tails = [[line.of(c.sums) for c in stage] for stage in choices]
    effort = [
        [c.latency_us if timed else c.sums[:, MACS].astype(float) for c in stage]
        for stage in choices
    ]
    base_effort = table.base.latency_us if timed else table.base.sums[MACS]
    base_tail = line.lowest_bytes + float(line.of(np.array(table.base.sums)))
    coupled = len(groups.highest) > 1 or groups.highest[0] < limits.planning_bytes
    # Group 0 takes every tail, so the axis must reach the highest: 1 byte less keeps its bins.
    tail_limit = _highest(tails, base_tail) - 1 if coupled else np.inf
    return (
        _axis(table, flash, table.base.sums[FLASH], limits.flash_bytes, bins[0]),
        _axis(table, tails, base_tail, tail_limit, bins[1]),
        _axis(table, effort, base_effort, limits.effort, bins[2]),
    )


def _largest_costs(table: CostTable, choices: list[list[Choices]]) -> Costs:
    """Upper bounds of every cost; their head is 0, so that what remains is the planning need."""
    every = [choice for stage in choices for choice in stage]
    sums = np.array(table.base.sums) + sum(choice.sums.max(axis=0) for choice in every)
    preparing = max(table.base.preparing_bytes, *(int(c.preparing_bytes.max()) for c in every))
    return costs_of(sums[:, None], np.zeros(1, np.int64), np.array([preparing]), np.zeros(1))


def _halves(
    table: CostTable,
    choices: list[list[Choices]],
    groups: HeadGroups,
    axes: tuple[Axis, ...],
) -> Halves:
    """The early and the late stages, split where that is the least work."""
    group_count, sizes = len(groups.highest), [axis.size for axis in axes]
    stages = [
        [
            steps_of(
                choice.sums[:, MACS],
                groups.of(choice.head_bytes),
                np.stack([axis.steps[number][position] for axis in axes], axis=1),
                group_count,
                sizes,
            )
            for position, choice in enumerate(positions)
        ]
        for number, positions in enumerate(choices)
    ]
    depths = [stage.depths for stage in table.stages]
    split = min(
        range(len(stages) + 1),
        key=lambda at: _work(stages[:at], sizes) + _work(stages[at:], sizes),
    )
    first = int(groups.of(np.array([table.base.head_bytes]))[0])
    start = one(first, table.base.sums[MACS])
    return Halves(
        _networks(start, stages[:split], depths[:split], sizes),
        _networks(one(0, 0.0), stages[split:], depths[split:], sizes),
    )


def _work(stages: list[list[list[Step]]], sizes: list[int]) -> int:
    """About how many cells are written while some stages are put together."""
    groups, used, work = 1, [1] * AXES, 0
    for steps in (steps for stage in stages for steps in stage):
        groups = max([groups, *(step.group + 1 for step in steps)])
        reach = [max((step.bins[axis] for step in steps), default=0) for axis in range(AXES)]
        used = [min(n + r, size) for n, r, size in zip(used, reach, sizes, strict=True)]
        work += groups * prod(used) * len(steps)
    return work


def _networks(
    start: Cells, stages: list[list[list[Step]]], depths: list[tuple[int, ...]], sizes: list[int]
) -> Cells:
    """`start` with all choices of some stages, at all their depths."""
    cells = start
    for positions, stage_depths in zip(stages, depths, strict=True):
        finished = []
        for depth, steps in enumerate(positions, start=1):
            cells = extended(cells, steps, sizes)
            if depth in stage_depths:
                finished.append(cells)
        cells = together(finished)
    return cells


def _fitting(
    halves: Halves, groups: HeadGroups, axes: tuple[Axis, ...], limits: Limits, certainty: int
) -> Pairs:
    """What fits, with each bin's error taken against, as, or for the subnet."""
    flash, tail, effort = axes
    found = []
    for group, (low, high) in enumerate(zip(groups.lowest, groups.highest, strict=True)):
        head = {-1: max(high, limits.planning_bytes), 0: (low + high) / 2, 1: low}[certainty]
        slack = {-1: 1.0, 0: 0.5, 1: 0.0}[certainty] * limits.tail_slack_bytes
        any_tail = group == 0 and limits.planning_bytes <= high
        room = limits.sram_bytes - head - slack
        bins = (
            flash.bins_within(limits.flash_bytes, certainty),
            tail.size if any_tail else tail.bins_within(room, certainty),
            effort.bins_within(limits.effort, certainty),
        )
        found.append(halves.within(group, bins))
    return all_pairs(found)


def _read(halves: Halves, groups: HeadGroups, axes: tuple[Axis, ...], limits: Limits) -> Count:
    sure, binned, possible = (
        _fitting(halves, groups, axes, limits, certainty) for certainty in CERTAINTIES
    )
    return Count(
        lower=sure.count,
        estimate=binned.count,
        upper=possible.count,
        mean_macs=binned.mean_macs,
        mean_macs_sure=sure.mean_macs,
        mean_macs_possible=possible.mean_macs,
        max_macs=sure.most,
        max_macs_possible=possible.most,
        exact=False,
    )
