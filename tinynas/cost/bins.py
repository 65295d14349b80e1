"""Counting subnets by sums in bins: an estimate inside a bracket that surely holds the truth.

The head of the arena is a maximum, and head + tail share one limit. Head values that fit with
every tail form one group and those that fit with none are left out; only the values between couple
head and tail, and they form further groups. Flash, tail and latency are sums over blocks, each
rounded to the nearest bin; how far off a subnet's bin can be is added up and bounds the count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinynas.budget import Budget
from tinynas.cost.fitting import (
    TAIL_ALIGNMENT_BYTES,
    TAIL_BASE_BYTES,
    Choices,
    choices_by_position,
    raw_tail,
)
from tinynas.cost.memory import ALIGNMENT
from tinynas.cost.table import SUMS, Costs, CostTable, Floats, Ints, costs_of

MACS, FLASH = SUMS.index("macs"), SUMS.index("flash")
# Bins of flash, tail and latency, and groups of heads. A latency limit adds an axis, so the others
# are coarser then: with the finer bins one count of mcunet took 25 s and 3 GB, with these 1 s and
# 0.3 GB, the mean MACs within 1 % of sampling either way.
UNTIMED, TIMED = (768, 48, 1, 10), (96, 24, 64, 6)
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


class _Sums:
    """Counts, sums and maxima of MACs by (head group, flash bin, tail bin, latency bin)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = np.zeros(shape)
        self.macs = np.zeros(shape)
        self.max_macs = np.full(shape, -np.inf)
        self.used: tuple[int, ...] = (1, 1, 1)

    def add(self, other: _Sums) -> None:
        """Put in the subnets of another."""
        part = (slice(None), *(slice(0, n) for n in other.used))
        self.count[part] += other.count[part]
        self.macs[part] += other.macs[part]
        np.maximum(self.max_macs[part], other.max_macs[part], out=self.max_macs[part])
        self.used = _larger(self.used, other.used)

    def extended(self, macs: Ints, groups: Ints, steps: Ints, group_count: int) -> _Sums:
        """Every subnet so far with every choice of one more block; `steps` is (choices, 3)."""
        result = _Sums(self.count.shape)
        used = (slice(None), *(slice(0, n) for n in self.used))
        count, sums, most = self.count[used], self.macs[used], self.max_macs[used]
        below = np.cumsum(count, axis=0), np.cumsum(sums, axis=0), np.maximum.accumulate(most)
        sizes = self.count.shape[1:]
        for amount, group, step in zip(macs, groups, steps, strict=True):
            if group >= group_count or (step >= sizes).any():
                continue
            ends = [min(s + n, size) for s, n, size in zip(step, self.used, sizes, strict=True)]
            to = tuple(slice(s, e) for s, e in zip(step, ends, strict=True))
            part = tuple(slice(0, e - s) for s, e in zip(step, ends, strict=True))
            for here, (c, m, x) in (
                (slice(group, group + 1), tuple(b[group : group + 1] for b in below)),
                (
                    slice(group + 1, None),
                    (count[group + 1 :], sums[group + 1 :], most[group + 1 :]),
                ),
            ):
                at, of = (here, *to), (slice(None), *part)
                result.count[at] += c[of]
                result.macs[at] += m[of] + amount * c[of]
                np.maximum(result.max_macs[at], x[of] + amount, out=result.max_macs[at])
            result.used = _larger(result.used, tuple(ends))
        return result


def _larger(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


def count_in_bins(table: CostTable, budget: Budget, minimal: Costs) -> Count:
    """The count of fitting subnets; `minimal` are the table's minimal costs."""
    choices = choices_by_position(table)
    latency_limit = np.inf if budget.latency_ms is None else budget.latency_ms * 1000
    bins = UNTIMED if budget.latency_ms is None else TIMED
    flash_bins, tail_bins, latency_bins, head_groups = bins
    base = table.base
    tails = [[raw_tail(c.sums) for c in stage] for stage in choices]
    tail_base = TAIL_BASE_BYTES + float(raw_tail(np.array(base.sums)))
    largest = _largest_costs(table, choices)
    planning = float(largest.sram_bytes[0] - largest.tail_bytes[0])
    highest_tail = float(largest.tail_bytes[0])
    groups = _head_groups(
        choices,
        base.head_bytes,
        usable_sram(budget) - highest_tail,
        usable_sram(budget) - float(minimal.tail_bytes.min()),
        head_groups,
    )
    coupled = len(groups.highest) > 1 or groups.highest[0] < planning
    flash = _axis(
        table,
        [[c.sums[:, FLASH].astype(float) for c in stage] for stage in choices],
        base.sums[FLASH],
        budget.flash_bytes,
        flash_bins,
    )
    # Group 0 takes every tail, so the axis must reach the highest: 1 byte less keeps its bins.
    tail_limit = _highest(tails, tail_base) - 1 if coupled else np.inf
    tail = _axis(table, tails, tail_base, tail_limit, tail_bins)
    latency = _axis(
        table,
        [[c.latency_us for c in stage] for stage in choices],
        base.latency_us,
        latency_limit,
        latency_bins,
    )
    axes = (flash, tail, latency)
    sums = _run(table, choices, groups, axes)
    return _read(sums, groups, axes, budget, latency_limit, planning)


def usable_sram(budget: Budget) -> int:
    """The SRAM budget as a multiple of 16 bytes, which every arena is."""
    return budget.sram_bytes // ALIGNMENT * ALIGNMENT


def _largest_costs(table: CostTable, choices: list[list[Choices]]) -> Costs:
    """Upper bounds of every cost; their head is 0, so that what remains is the planning need."""
    sums = np.array(table.base.sums) + sum(c.sums.max(axis=0) for stage in choices for c in stage)
    return costs_of(sums[None], np.zeros(1, np.int64), np.zeros(1))


def _run(
    table: CostTable,
    choices: list[list[Choices]],
    groups: HeadGroups,
    axes: tuple[Axis, Axis, Axis],
) -> _Sums:
    group_count = len(groups.highest)
    shape = (group_count, *(axis.size for axis in axes))
    sums = _Sums(shape)
    first = int(groups.of(np.array([table.base.head_bytes]))[0])
    if first < group_count:
        sums.count[first, 0, 0, 0] = 1.0
        sums.macs[first, 0, 0, 0] = sums.max_macs[first, 0, 0, 0] = table.base.sums[MACS]
    for number, (stage, positions) in enumerate(zip(table.stages, choices, strict=True)):
        finished = _Sums(shape)
        for position, choice in enumerate(positions):
            steps = np.stack([axis.steps[number][position] for axis in axes], axis=1)
            sums = sums.extended(
                choice.sums[:, MACS], groups.of(choice.head_bytes), steps, group_count
            )
            if position + 1 in stage.depths:
                finished.add(sums)
        sums = finished
    return sums


def _read(
    sums: _Sums,
    groups: HeadGroups,
    axes: tuple[Axis, Axis, Axis],
    budget: Budget,
    latency_limit: float,
    planning: float,
) -> Count:
    """Add up what fits, with each bin's error taken against, as, and for the subnet."""
    flash, tail, latency = axes
    counts, macs, most = [], [], {certainty: 0.0 for certainty in CERTAINTIES}
    for certainty in CERTAINTIES:
        total = total_macs = 0.0
        for group, (low, high) in enumerate(zip(groups.lowest, groups.highest, strict=True)):
            head = {-1: max(high, planning), 0: (low + high) / 2, 1: low}[certainty]
            slack = {-1: TAIL_ALIGNMENT_BYTES, 0: TAIL_ALIGNMENT_BYTES / 2, 1: 0}[certainty]
            any_tail = group == 0 and planning <= high
            room = usable_sram(budget) - head - slack
            inside = (
                group,
                slice(0, flash.bins_within(budget.flash_bytes, certainty)),
                slice(0, tail.size if any_tail else tail.bins_within(room, certainty)),
                slice(0, latency.bins_within(latency_limit, certainty)),
            )
            total += float(sums.count[inside].sum())
            total_macs += float(sums.macs[inside].sum())
            if sums.max_macs[inside].size:
                most[certainty] = max(most[certainty], float(sums.max_macs[inside].max()))
        counts.append(total)
        macs.append(total_macs)
    lower, estimate, upper = counts
    return Count(
        lower=lower,
        estimate=estimate,
        upper=upper,
        mean_macs=macs[1] / estimate if estimate else 0.0,
        mean_macs_sure=macs[0] / lower if lower else 0.0,
        mean_macs_possible=macs[2] / upper if upper else 0.0,
        max_macs=most[-1],
        max_macs_possible=most[1],
        exact=False,
    )
