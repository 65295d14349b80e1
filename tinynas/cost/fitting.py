"""Which subnets fit a budget: is there any, how little can each cost be, and uniform samples.

Nothing here guesses. Sums over blocks and a maximum over operators let dynamic
programming over the blocks answer for all subnets at once:

- `minimal_costs` keeps the Pareto-minimal partial sums of exact costs. Whether anything fits, and
  the least of each resource, follow exactly: a subnet that fits is never declared impossible.
- `FittingSampler` draws from a set that surely holds the fitting one, weighted so that each subnet
  is equally likely, and keeps what fits by exact costs: uniform over the fitting set.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinynas.budget import Budget
from tinynas.cost.memory import (
    ALLOCATOR_BYTES,
    HANDLE_BASE_BYTES,
    HANDLE_BYTES,
    IO_TENSORS_BYTES,
    MARGIN_BYTES,
)
from tinynas.cost.table import SUMS, Costs, CostTable, Floats, Ints, costs_of
from tinynas.space.arch import Genes

FLASH, STRUCT, KERNEL, SCRATCH = (
    SUMS.index(name) for name in ("flash", "struct", "kernel", "scratch")
)
# The tail's two alignments add 0 to 12 bytes each to the sum of its unaligned parts.
TAIL_BASE_BYTES = ALLOCATOR_BYTES + HANDLE_BASE_BYTES + IO_TENSORS_BYTES + MARGIN_BYTES
TAIL_ALIGNMENT_BYTES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The choices of one block position: `sums` (choices, len(SUMS)), the others (choices,)."""

    sums: Ints
    head_bytes: Ints
    latency_us: Floats


def choices_by_position(table: CostTable) -> list[list[Choices]]:
    """Per stage and position, the choices in order of kernel index, then expansion index."""
    return [
        [
            Choices(
                sums=stage.sums[position].reshape(-1, len(SUMS)),
                head_bytes=stage.head_bytes[position].reshape(-1),
                latency_us=stage.latency_us[position].reshape(-1),
            )
            for position in range(stage.depths[-1])
        ]
        for stage in table.stages
    ]


def raw_tail(sums: Ints) -> Floats:
    """What sums of shape (..., len(SUMS)) add to the tail before alignment, shape (...).

    The tail itself is TAIL_BASE_BYTES more, and up to TAIL_ALIGNMENT_BYTES on top.
    """
    added = sums[..., STRUCT] + sums[..., KERNEL] + HANDLE_BYTES * sums[..., SCRATCH]
    return added.astype(float)


def fits(costs: Costs, budget: Budget) -> npt.NDArray[np.bool_]:
    """Which of N subnets keep every limit of the budget that a table knows, shape (N,)."""
    inside = (costs.sram_bytes <= budget.sram_bytes) & (costs.flash_bytes <= budget.flash_bytes)
    if budget.latency_ms is not None:
        inside &= costs.latency_ms <= budget.latency_ms
    return inside


def _undominated(rows: Floats) -> npt.NDArray[np.intp]:
    """Indices of the rows that no other row undercuts or equals in every column."""
    order = np.lexsort(rows.T[::-1])
    kept: list[int] = []
    for index in order:
        if not kept or not (rows[kept] <= rows[index]).all(axis=1).any():
            kept.append(int(index))
    return np.array(kept, np.intp)


def minimal_costs(table: CostTable) -> Costs:
    """Costs of the subnets that no other subnet undercuts in every part of every cost.

    They hold, exactly, the least SRAM, flash, latency and MACs, and a subnet inside any limits on
    them if there is one at all. MACs break ties only, so their values belong to some such subnet.
    """
    base = table.base
    rows = np.array([[*base.sums, base.head_bytes, base.latency_us]], float)
    for stage, positions in zip(table.stages, choices_by_position(table), strict=True):
        finished: list[Floats] = []
        for depth, choices in enumerate(positions, start=1):
            added = np.concatenate([choices.sums, choices.latency_us[:, None]], axis=1)
            sums = rows[:, None, [*range(len(SUMS)), len(SUMS) + 1]] + added
            head = np.maximum(rows[:, None, len(SUMS)], choices.head_bytes)
            rows = np.concatenate([sums[..., :-1], head[..., None], sums[..., -1:]], axis=2)
            rows = rows.reshape(-1, len(SUMS) + 2)
            rows = rows[_undominated(rows)]
            if depth in stage.depths:
                finished.append(rows)
        rows = np.concatenate(finished)
        rows = rows[_undominated(rows)]
    return costs_of(
        rows[:, : len(SUMS)].astype(np.int64),
        rows[:, len(SUMS)].astype(np.int64),
        rows[:, len(SUMS) + 1],
    )


class FittingSampler:
    """Draws subnets uniformly from those that fit a budget.

    Partial sums of flash, tail and latency are kept in bins rounded down, and blocks whose head
    alone breaks the limit are left out, so the set drawn from holds every fitting subnet; each is
    drawn with equal probability and kept if its exact costs fit.
    """

    LARGEST_BATCH = 1024

    def __init__(self, table: CostTable, budget: Budget) -> None:
        self.table = table
        self.budget = budget
        minimal = minimal_costs(table)
        self._possible = bool(fits(minimal, budget).any())
        self._allowed, self._steps, self._capacity = self._discretise(minimal)
        self._ways = self._count_ways()

    def _discretise(
        self, minimal: Costs
    ) -> tuple[list[list[Ints]], list[list[Ints]], tuple[int, ...]]:
        """Allowed choices, their (flash, tail, latency) in bins, and the bins there are."""
        base, budget = self.table.base, self.budget
        head_limit = budget.sram_bytes - int(minimal.tail_bytes.min())
        tail_limit = budget.sram_bytes - int(minimal.head_bytes.min())
        timed = budget.latency_ms is not None
        room = np.array(
            [
                budget.flash_bytes - base.sums[FLASH],
                tail_limit - raw_tail(np.array(base.sums)) - TAIL_BASE_BYTES,
                budget.latency_ms * 1000 - base.latency_us
                if budget.latency_ms is not None
                else np.inf,
            ]
        )
        bins = (96, 96, 96) if timed else (256, 256, 0)
        width = np.maximum(room, 1e-9) / np.maximum(bins, 1)
        allowed, steps = [], []
        for positions in choices_by_position(self.table):
            keep = [np.flatnonzero(c.head_bytes <= head_limit) for c in positions]
            values = [
                np.stack([c.sums[:, FLASH], raw_tail(c.sums), c.latency_us], axis=1)[k]
                for c, k in zip(positions, keep, strict=True)
            ]
            allowed.append(keep)
            steps.append([np.floor(v / width).astype(np.int64) for v in values])
        return allowed, steps, bins

    def _count_ways(self) -> list[Floats]:
        """Per stage, ways[r, f, t, l]: completions with r more blocks and so many bins left.

        Position 0 has costs of its own, so ways[0..deepest - 1] are of later positions and the
        last entries, one per depth, are of the whole stage at that depth.
        """
        after = np.ones(tuple(bins + 1 for bins in self._capacity))
        result: list[Floats] = []
        for stage, steps in zip(reversed(self.table.stages), reversed(self._steps), strict=True):
            tail = [after]
            for position in range(stage.depths[-1] - 1, 0, -1):
                tail.append(self._before(tail[-1], steps[position]))
            whole = [self._before(tail[depth - 1], steps[0]) for depth in stage.depths]
            result.append(np.stack([*tail, *whole]))
            after = np.sum(whole, axis=0)
        return result[::-1]

    @staticmethod
    def _before(ways: Floats, steps: Ints) -> Floats:
        total = np.zeros_like(ways)
        for step in steps:
            if (step < ways.shape).all():
                to = tuple(slice(n, None) for n in step)
                total[to] += ways[
                    tuple(slice(0, size - n) for n, size in zip(step, ways.shape, strict=True))
                ]
        return total

    def _draw(self, count: int, rng: np.random.Generator) -> Genes:
        """`count` subnets of the larger set, shape (count, genes)."""
        left = np.tile(np.array(self._capacity, np.int64), (count, 1))
        columns: list[Ints] = []
        for stage, ways, allowed, steps in zip(
            self.table.stages, self._ways, self._allowed, self._steps, strict=True
        ):
            deepest = stage.depths[-1]
            whole_stages = (slice(deepest, None), *left.T)
            depth_gene = _pick(ways[whole_stages].T, rng)
            depth = np.array(stage.depths)[depth_gene]
            columns.append(depth_gene)
            expansions = stage.head_bytes.shape[2]
            for position in range(deepest):
                exists = position < depth
                choice = np.zeros(count, np.int64)
                if exists.any():
                    remaining = depth[exists] - 1 - position
                    picked = self._pick_block(ways, steps[position], left[exists], remaining, rng)
                    left[exists] -= steps[position][picked]
                    choice[exists] = allowed[position][picked]
                columns += [choice // expansions, choice % expansions]
        return np.stack(columns, axis=1)

    @staticmethod
    def _pick_block(
        ways: Floats, steps: Ints, left: Ints, remaining: Ints, rng: np.random.Generator
    ) -> Ints:
        """A choice per subnet, weighted by the completions that it leaves, shape (n,)."""
        after = left[:, None, :] - steps[None, :, :]
        possible = (after >= 0).all(axis=2)
        completions = (remaining[:, None], *np.moveaxis(np.maximum(after, 0), 2, 0))
        return _pick(ways[completions] * possible, rng)

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Genes]:
        """Endless batches of fitting subnets, each of shape (0 or more, genes).

        `size` is how many are drawn for the first batch, twice as many for each further one up to
        LARGEST_BATCH. Ends at once when no subnet fits.
        """
        while self._possible:
            genes = self._draw(min(size, self.LARGEST_BATCH), rng)
            yield genes[fits(self.table.evaluate(genes), self.budget)]
            size *= 2

    def sample(
        self,
        count: int,
        rng: np.random.Generator,
        *,
        seen: Container[tuple[int, ...]] = (),
        barren_batches: int = 200,
    ) -> Genes:
        """Up to `count` different fitting subnets that are not in `seen`, shape (n, genes).

        Fewer come back only when so many batches in a row hold no new one.
        """
        found: dict[tuple[int, ...], None] = {}
        barren = 0
        for genes in self.batches(rng, max(16, 4 * count)) if count else ():
            before = len(found)
            for row in map(tuple, genes.tolist()):
                if len(found) < count and row not in seen:
                    found.setdefault(row)
            barren = barren + 1 if len(found) == before else 0
            if len(found) >= count or barren >= barren_batches:
                break
        genes_per_subnet = sum(1 + 2 * stage.depths[-1] for stage in self.table.stages)
        return np.array(list(found), np.int64).reshape(len(found), genes_per_subnet)


def _pick(weights: Floats, rng: np.random.Generator) -> Ints:
    """One column per row with probability in proportion to its weight, shape (rows,)."""
    cumulative = np.cumsum(weights, axis=1)
    targets = rng.random(len(weights)) * cumulative[:, -1]
    last = weights.shape[1] - 1
    picked: Ints = np.minimum((cumulative <= targets[:, None]).sum(axis=1), last).astype(np.int64)
    return picked
