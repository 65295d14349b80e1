"""Counting by sums in bins: partial networks in dense arrays, block by block, half by half.

A network is put together from two halves of its stages. Each half is counted on its own, and of
the whole only those pairs of halves are added up whose bins together stay within limits: running
totals over one half's bins give them for every bin of the other. So the early stages, whose heads
differ, never meet the many flash bins of the late ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinynas.cost.blocks import Floats, Ints

AXES = 3  # flash, tail and effort, see bins.py


@dataclass(frozen=True, slots=True)
class Cells:
    """Partial networks by (head group, flash bin, tail bin, effort bin).

    Their number, the sum of their multiply-accumulates and the most that one of them has, -inf
    where there is none. Three arrays of one shape, which reaches as far as there is anything.
    """

    count: Floats
    macs: Floats
    most: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        """Groups and bins in use."""
        return self.count.shape

    def part(self, at: tuple[slice, ...]) -> Cells:
        """Some of the cells, not copied."""
        return Cells(self.count[at], self.macs[at], self.most[at])

    def up_to(self, group: int) -> Cells:
        """All groups up to one as a single group."""
        part = self.part((slice(0, group + 1),))
        return Cells(
            part.count.sum(axis=0, keepdims=True),
            part.macs.sum(axis=0, keepdims=True),
            part.most.max(axis=0, keepdims=True),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """Choices of one block that lead to the same group and bins."""

    group: int
    bins: tuple[int, ...]
    choices: int
    macs: float
    most: float


@dataclass(frozen=True, slots=True)
class Pairs:
    """How many networks there are, the sum of their multiply-accumulates and the most of one."""

    count: float
    macs: float
    most: float

    @property
    def mean_macs(self) -> float:
        """Multiply-accumulates of a network on average, 0 where there is none."""
        return self.macs / self.count if self.count else 0.0


def nothing(shape: Sequence[int]) -> Cells:
    """Cells without a network."""
    return Cells(np.zeros(shape), np.zeros(shape), np.full(shape, -np.inf))


def one(group: int, macs: float) -> Cells:
    """A single network in bin 0 of every axis."""
    cells = nothing((group + 1, *[1] * AXES))
    cells.count[group], cells.macs[group], cells.most[group] = 1.0, macs, macs
    return cells


def steps_of(
    macs: Ints, groups: Ints, bins: Ints, group_count: int, sizes: Sequence[int]
) -> list[Step]:
    """The choices of a block, `bins` of shape (choices, AXES), without those beyond all limits."""
    merged: dict[tuple[int, ...], list[float]] = {}
    for amount, *key in zip(macs.tolist(), groups.tolist(), *bins.T.tolist(), strict=True):
        merged.setdefault(tuple(key), []).append(amount)
    return [
        Step(group, tuple(to), len(amounts), sum(amounts), max(amounts))
        for (group, *to), amounts in merged.items()
        if group < group_count and all(b < size for b, size in zip(to, sizes, strict=True))
    ]


def extended(cells: Cells, steps: Sequence[Step], sizes: Sequence[int]) -> Cells:
    """Every network with every choice of one more block, as far as `sizes` bins per axis."""
    groups = max([cells.shape[0], *(step.group + 1 for step in steps)])
    reach = [max((step.bins[axis] for step in steps), default=0) for axis in range(AXES)]
    used = [min(n + r, size) for n, r, size in zip(cells.shape[1:], reach, sizes, strict=True)]
    result = nothing((groups, *used))
    below = {group: cells.up_to(group) for group in {step.group for step in steps} if group}
    for step in steps:
        if step.group:
            _put(result, below[step.group], step, step.group)
            if step.group + 1 < cells.shape[0]:
                _put(result, cells.part((slice(step.group + 1, None),)), step, step.group + 1)
        else:
            _put(result, cells, step, 0)
    return result


def _put(result: Cells, cells: Cells, step: Step, group: int) -> None:
    """Add cells, a step further, to the groups of `result` from `group` on."""
    kept = [
        min(n, size - b)
        for n, b, size in zip(cells.shape[1:], step.bins, result.shape[1:], strict=True)
    ]
    source = cells.part((slice(None), *(slice(0, n) for n in kept)))
    to = result.part(
        (
            slice(group, group + cells.shape[0]),
            *(slice(b, b + n) for b, n in zip(step.bins, kept, strict=True)),
        )
    )
    many = step.choices > 1
    np.add(to.count, source.count * step.choices if many else source.count, out=to.count)
    np.add(to.macs, source.macs * step.choices if many else source.macs, out=to.macs)
    np.add(to.macs, source.count * step.macs, out=to.macs)
    np.maximum(to.most, source.most + step.most, out=to.most)


def together(parts: Sequence[Cells]) -> Cells:
    """The networks of several arrays of cells in one."""
    result = nothing(np.max([part.shape for part in parts], axis=0))
    for part in parts:
        to = result.part(tuple(slice(0, n) for n in part.shape))
        to.count[...] += part.count
        to.macs[...] += part.macs
        np.maximum(to.most, part.most, out=to.most)
    return result


class Halves:
    """All pairs of a network of one half with one of the other."""

    def __init__(self, early: Cells, late: Cells) -> None:
        self._early = early
        groups = range(late.shape[0])
        self._late_in = [_running(late.part((slice(g, g + 1),))) for g in groups]
        self._late_up_to = [_running(late.up_to(g)) for g in groups]

    def within(self, group: int, limits: Sequence[int]) -> Pairs:
        """The pairs whose higher group is `group` and whose bins add up to less than `limits`."""
        found = []
        if group < self._early.shape[0]:
            late = self._late_up_to[min(group, len(self._late_up_to) - 1)]
            found.append(_pairs(self._early.part((slice(group, group + 1),)), late, limits))
        if 0 < group < len(self._late_in):
            found.append(_pairs(self._early.up_to(group - 1), self._late_in[group], limits))
        return all_pairs(found)


def _running(cells: Cells) -> Cells:
    """Totals of all bins up to each bin."""
    count, macs, most = cells.count, cells.macs, cells.most
    for axis in range(1, 1 + AXES):
        count, macs = np.cumsum(count, axis=axis), np.cumsum(macs, axis=axis)
        most = np.maximum.accumulate(most, axis=axis)
    return Cells(count, macs, most)


def _pairs(early: Cells, late: Cells, limits: Sequence[int]) -> Pairs:
    """Each early cell with the late ones that its bins leave room for, of which `late` has totals.

    Both are of one group.
    """
    sizes = [min(n, limit) for n, limit in zip(early.shape[1:], limits, strict=True)]
    if min(sizes) <= 0:
        return Pairs(0.0, 0.0, 0.0)
    part = early.part((slice(None), *(slice(0, n) for n in sizes)))
    left = [
        np.minimum(limit - 1 - np.arange(n), size - 1)
        for n, limit, size in zip(sizes, limits, late.shape[1:], strict=True)
    ]
    room = np.ix_(*left)
    count, macs, most = (array[0][room] for array in (late.count, late.macs, late.most))
    return Pairs(
        float((part.count * count).sum()),
        float((part.macs * count + part.count * macs).sum()),
        max(float((part.most + most).max()), 0.0),
    )


def all_pairs(parts: Sequence[Pairs]) -> Pairs:
    """Pairs that have nothing in common together."""
    return Pairs(
        sum(part.count for part in parts),
        sum(part.macs for part in parts),
        max((part.most for part in parts), default=0.0),
    )
