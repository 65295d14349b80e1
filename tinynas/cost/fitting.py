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
from tinynas.cost.blocks import SUMS, TAIL_SUMS, Floats, Ints
from tinynas.cost.memory import ALIGNMENT, TailPart, tail_bytes
from tinynas.cost.table import Costs, CostTable, costs_of
from tinynas.space.arch import Genes

FLASH = SUMS.index("flash_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The choices of one block position: `sums` (choices, len(SUMS)), the others (choices,)."""

    sums: Ints
    head_bytes: Ints
    preparing_bytes: Ints
    latency_us: Floats


def choices_by_position(table: CostTable) -> list[list[Choices]]:
    """Per stage and position, the choices in order of kernel index, then expansion index."""
    return [
        [
            Choices(
                sums=stage.sums[position].reshape(-1, len(SUMS)),
                head_bytes=stage.head_bytes[position].reshape(-1),
                preparing_bytes=stage.preparing_bytes[position].reshape(-1),
                latency_us=stage.latency_us[position].reshape(-1),
            )
            for position in range(stage.depths[-1])
        ]
        for stage in table.stages
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TailLine:
    """The tail of a table's subnets as a line: `lowest_bytes` + sums @ `per_sum`.

    The line is never above the tail and at most `slack_bytes` below it.
    """

    per_sum: Floats
    lowest_bytes: float
    slack_bytes: float

    def of(self, sums: Ints) -> Floats:
        """What sums of shape (..., len(SUMS)) add to the line, shape (...)."""
        return sums @ self.per_sum


def tail_line(table: CostTable) -> TailLine:
    """The line below the tail, read off `tail_bytes`.

    A tail adds up its sums, each a whole number of times, some of them rounded up to 16 first. So
    16 more of one sum add 16 times its weight, and what rounding adds to one repeats every 16. A
    table's sums are multiples of a unit each; the first 16 multiples, all other sums zero, show
    the least and the most that rounding adds to a sum. Adding these up over the sums bounds
    rounding as a whole, even where several sums are rounded as one: of two units, the one with
    the smaller power of 2 then makes all remainders that both can make.
    """
    every = np.concatenate([np.array([table.base.sums]), *_all_sums(table)])
    units = np.gcd.reduce(every, axis=0)[-len(TAIL_SUMS) :]
    empty = int(_tail(np.zeros((1, len(TAIL_SUMS)), np.int64))[0])
    per_sum, lowest, slack = [0.0] * (len(SUMS) - len(TAIL_SUMS)), float(empty), 0.0
    for column, unit in enumerate(units):
        sums = np.zeros((ALIGNMENT + 1, len(TAIL_SUMS)), np.int64)
        sums[0, column] = ALIGNMENT
        sums[1:, column] = unit * np.arange(ALIGNMENT)
        added = _tail(sums) - empty
        weight = int(added[0]) // ALIGNMENT
        rounded = added[1:] - weight * sums[1:, column]
        per_sum.append(float(weight))
        lowest += float(rounded.min())
        slack += float(rounded.max() - rounded.min())
    return TailLine(per_sum=np.array(per_sum), lowest_bytes=lowest, slack_bytes=slack)


def _all_sums(table: CostTable) -> list[Ints]:
    return [stage.sums.reshape(-1, len(SUMS)) for stage in table.stages]


def _tail(sums: Ints) -> Ints:
    """The tails of sums of shape (N, len(TAIL_SUMS)), shape (N,)."""
    total: TailPart[Ints] = TailPart(**dict(zip(TAIL_SUMS, sums.T, strict=True)))
    return tail_bytes(total)


def fits(costs: Costs, budget: Budget) -> npt.NDArray[np.bool_]:
    """Which of N subnets keep every limit of the budget that a table knows, shape (N,)."""
    inside = (costs.sram_bytes <= budget.sram_bytes) & (costs.flash_bytes <= budget.flash_bytes)
    limit_ms = budget.predicted_ms
    if limit_ms is not None:
        inside &= costs.latency_ms <= limit_ms
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
    base, summed = table.base, len(SUMS) + 1
    maxima = [base.head_bytes, base.preparing_bytes]
    rows = np.array([[*base.sums, base.latency_us, *maxima]], float)
    for stage, positions in zip(table.stages, choices_by_position(table), strict=True):
        finished: list[Floats] = []
        for depth, choices in enumerate(positions, start=1):
            added = np.column_stack([choices.sums, choices.latency_us])
            most = np.column_stack([choices.head_bytes, choices.preparing_bytes])
            sums = rows[:, None, :summed] + added
            tops = np.maximum(rows[:, None, summed:], most)
            rows = np.concatenate([sums, tops], axis=2).reshape(-1, rows.shape[1])
            rows = rows[_undominated(rows)]
            if depth in stage.depths:
                finished.append(rows)
        rows = np.concatenate(finished)
        rows = rows[_undominated(rows)]
    *sums, head, preparing = np.delete(rows, len(SUMS), axis=1).T.astype(np.int64)
    return costs_of(sums, head, preparing, rows[:, len(SUMS)])


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
        base, budget, line = self.table.base, self.budget, tail_line(self.table)
        head_limit = budget.sram_bytes - int(minimal.tail_bytes.min())
        tail_limit = budget.sram_bytes - int(minimal.head_bytes.min())
        limit_ms = budget.predicted_ms
        room = np.array(
            [
                budget.flash_bytes - base.sums[FLASH],
                tail_limit - line.of(np.array(base.sums)) - line.lowest_bytes,
                np.inf if limit_ms is None else limit_ms * 1000 - base.latency_us,
            ]
        )
        bins = (256, 256, 0) if limit_ms is None else (96, 96, 96)
        width = np.maximum(room, 1e-9) / np.maximum(bins, 1)
        allowed, steps = [], []
        for positions in choices_by_position(self.table):
            keep = [np.flatnonzero(c.head_bytes <= head_limit) for c in positions]
            values = [
                np.stack([c.sums[:, FLASH], line.of(c.sums), c.latency_us], axis=1)[k]
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
