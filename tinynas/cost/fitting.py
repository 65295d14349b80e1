"""Which subnets fit a budget: does any, what is the least each cost can be, and draw some uniformly.

Nothing here guesses. Sums over blocks and a maximum over operators let dynamic
programming over the blocks answer for all subnets at once:

- `minimal_costs` keeps the Pareto-minimal partial sums of exact costs. Whether anything fits, and
  the least of each resource, follow exactly: a subnet that fits is never declared impossible.
- `FittingSampler` draws from a set that surely holds the fitting one, weighted so that each subnet
  is equally likely, and keeps what fits by exact costs: uniform over the fitting set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinynas.budget import Budget
from tinynas.cost.table import SUMS, Costs, CostTable, Floats, Ints, costs_of
from tinynas.space.arch import Genes

FLASH = SUMS.index("flash")


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

    Partial sums of flash and latency are kept in bins rounded down and blocks whose head alone
    breaks the limit are left out, so the set drawn from holds every fitting subnet; each is drawn
    with equal probability and kept if its exact costs fit.
    """

    BINS = 512
    BATCH = 1024

    def __init__(self, table: CostTable, budget: Budget) -> None:
        self.table = table
        self.budget = budget
        self._choices = choices_by_position(table)
        self._allowed, self._steps, self._capacity = self._discretise()
        self._ways = self._count_ways()

    def _discretise(self) -> tuple[list[list[Ints]], list[list[Ints]], tuple[int, int]]:
        """Allowed choices and their (flash, latency) in bins, and the bins that are free."""
        base, budget = self.table.base, self.budget
        head_limit = budget.sram_bytes - int(minimal_costs(self.table).tail_bytes.min())
        room = np.array([budget.flash_bytes - base.sums[FLASH], np.inf])
        if budget.latency_ms is not None:
            room[1] = budget.latency_ms * 1000 - base.latency_us
        width = np.maximum(room, 1) / self.BINS
        allowed, steps = [], []
        for positions in self._choices:
            keep = [np.flatnonzero(c.head_bytes <= head_limit) for c in positions]
            allowed.append(keep)
            steps.append(
                [
                    np.floor(np.stack([c.sums[k, FLASH], c.latency_us[k]], axis=1) / width).astype(
                        np.int64
                    )
                    for c, k in zip(positions, keep, strict=True)
                ]
            )
        bounded = budget.latency_ms is not None
        return allowed, steps, (self.BINS, self.BINS if bounded else 0)

    def _count_ways(self) -> list[Floats]:
        """Per stage, ways[r, f, l]: completions with r more blocks here, f and l bins left.

        Position 0 has costs of its own, so ways[0..deepest - 1] are of later positions and the
        last entries, one per depth, are of the whole stage at that depth.
        """
        shape = (self._capacity[0] + 1, self._capacity[1] + 1)
        after = np.ones(shape)
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
        rows, columns = ways.shape
        for f, x in steps:
            if f < rows and x < columns:
                total[f:, x:] += ways[: rows - f, : columns - x]
        return total

    def _draw(self, count: int, rng: np.random.Generator) -> Genes:
        """`count` subnets of the larger set, shape (count, genes)."""
        left = np.tile(np.array(self._capacity, np.int64), (count, 1))
        columns: list[Ints] = []
        for stage, ways, allowed, steps in zip(
            self.table.stages, self._ways, self._allowed, self._steps, strict=True
        ):
            deepest = stage.depths[-1]
            weights = ways[deepest:, left[:, 0], left[:, 1]].T
            depth_gene = _pick(weights, rng)
            depth = np.array(stage.depths)[depth_gene]
            columns.append(depth_gene)
            expansions = stage.head_bytes.shape[2]
            for position in range(deepest):
                exists = position < depth
                remaining = np.maximum(depth - 1 - position, 0)
                picked = self._pick_block(ways, steps[position], left, remaining, exists, rng)
                left = left - np.where(exists[:, None], steps[position][picked], 0)
                choice = np.where(exists, allowed[position][picked], 0)
                columns += [choice // expansions, choice % expansions]
        return np.stack(columns, axis=1)

    @staticmethod
    def _pick_block(
        ways: Floats,
        steps: Ints,
        left: Ints,
        remaining: Ints,
        exists: npt.NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> Ints:
        after = left[:, None, :] - steps[None, :, :]
        possible = (after >= 0).all(axis=2)
        clipped = np.maximum(after, 0)
        weights = ways[remaining[:, None], clipped[..., 0], clipped[..., 1]] * possible
        return _pick(np.where(exists[:, None], weights, 1.0), rng)

    def batches(self, rng: np.random.Generator) -> Iterator[Genes]:
        """Endless batches of fitting subnets, each of shape (0 or more, genes)."""
        if any(len(keep) == 0 for positions in self._allowed for keep in positions[:1]):
            return
        if not self._ways[0][self.table.stages[0].depths[-1] :, -1, -1].any():
            return
        while True:
            genes = self._draw(self.BATCH, rng)
            yield genes[fits(self.table.evaluate(genes), self.budget)]

    def sample(self, count: int, rng: np.random.Generator, *, max_batches: int = 500) -> Genes:
        """Up to `count` fitting subnets, shape (at most count, genes), duplicates kept.

        Fewer come back only when `max_batches` batches of 1,024 draws did not hold enough.
        """
        found: list[Genes] = []
        total = 0
        for number, genes in enumerate(self.batches(rng), start=1):
            found.append(genes)
            total += len(genes)
            if total >= count or number >= max_batches:
                break
        if not found:
            genes_per_subnet = sum(1 + 2 * stage.depths[-1] for stage in self.table.stages)
            return np.zeros((0, genes_per_subnet), np.int64)
        return np.concatenate(found)[:count]


def _pick(weights: Floats, rng: np.random.Generator) -> Ints:
    """One column per row with probability in proportion to its weight, shape (rows,)."""
    cumulative = np.cumsum(weights, axis=1)
    targets = rng.random(len(weights)) * cumulative[:, -1]
    return np.minimum((cumulative <= targets[:, None]).sum(axis=1), weights.shape[1] - 1).astype(
        np.int64
    )
