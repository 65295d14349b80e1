"""Which subnets fit a budget: is there any, how little can each cost be, and uniform samples.

Nothing here guesses. Sums over blocks and a maximum over operators let dynamic
programming over the blocks answer for all subnets at once:

- `minimal_costs` keeps the Pareto-minimal partial sums of exact costs. Whether anything fits, and
  the least of each resource, follow exactly: a subnet that fits is never declared impossible.
- `FittingSampler` has all fitting subnets as paths of a diagram, and few paths that do not fit
  among them: it lists the fitting ones where they are few, else draws paths, each equally likely,
  and keeps what fits by exact costs: uniform over the fitting set.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from tinynas.budget import Budget
from tinynas.cost.blocks import SUMS, TAIL_SUMS, Floats, Ints
from tinynas.cost.diagram import Diagram, Limits, StageChoices
from tinynas.cost.memory import ALIGNMENT, REQUEST_BYTES, TailPart, tail_bytes
from tinynas.cost.table import Costs, CostTable, costs_of
from tinynas.space.arch import Genes, gene_keys, gene_sizes

MACS, FLASH = SUMS.index("macs"), SUMS.index("flash_bytes")
PLANNING, SCRATCH = SUMS.index("planning_bytes"), SUMS.index("scratch_buffers")
PER_US = 1_000_000  # latencies are added up in whole picoseconds
NO_LIMIT = 2**61


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
    if budget.macs is not None:
        inside &= costs.macs <= budget.macs
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


def fitting_diagram(table: CostTable, budget: Budget, width: int) -> Diagram:
    """All fitting subnets as paths, and those that differ from them by rounding alone.

    A top is the head of the arena or what preparing an operator takes in its place, and shares the
    SRAM with the tail, of which the line below it counts.
    """
    base, line = table.base, tail_line(table)
    weights = line.per_sum.astype(np.int64)
    positions = choices_by_position(table)
    scratch = _least_total(table, positions, SCRATCH)
    stages = [
        StageChoices(
            depths=stage.depths,
            expansions=stage.head_bytes.shape[2],
            sums=[_summed(c.sums, c.latency_us, weights) for c in choices],
            shared=[c.sums @ weights for c in choices],
            tops=[_top(c.head_bytes, c.preparing_bytes, scratch) for c in choices],
        )
        for stage, choices in zip(table.stages, positions, strict=True)
    ]
    latency_us = np.inf if budget.predicted_ms is None else budget.predicted_ms * 1000
    most = [
        budget.flash_bytes,
        usable_sram(budget) - int(line.lowest_bytes),
        min(NO_LIMIT, ceil(min(latency_us, NO_LIMIT) * PER_US) + PER_US // 1000),
        NO_LIMIT if budget.macs is None else budget.macs,
    ]
    used = _summed(np.array([base.sums]), np.array([base.latency_us]), weights)[0]
    return Diagram(
        stages,
        Limits(
            sums=np.array(most) - used,
            room=most[1] - int(base.sums @ weights),
            top=int(_top(np.array(base.head_bytes), np.array(base.preparing_bytes), scratch)),
        ),
        width=width,
    )


def _summed(sums: Ints, latency_us: Floats, tail_weights: Ints) -> Ints:
    """What is limited of rows of sums: flash, tail and planning, latency, MACs; shape (rows, 4).

    Latency is rounded down to whole picoseconds.
    """
    planning = sums @ tail_weights + sums[:, PLANNING]
    picoseconds = np.floor(latency_us * PER_US).astype(np.int64)
    return np.column_stack([sums[:, FLASH], planning, picoseconds, sums[:, MACS]])


def _top(head_bytes: Ints, preparing_bytes: Ints, scratch_buffers: int) -> Ints:
    top: Ints = np.maximum(head_bytes, preparing_bytes + REQUEST_BYTES * scratch_buffers)
    return top


def _least_total(table: CostTable, positions: list[list[Choices]], column: int) -> int:
    """No subnet has less of a sum than this."""
    least = [
        int(choices[position].sums[:, column].min())
        for stage, choices in zip(table.stages, positions, strict=True)
        for position in range(stage.depths[0])
    ]
    return int(table.base.sums[column] + sum(least))


def usable_sram(budget: Budget) -> int:
    """The SRAM budget as a multiple of 16 bytes, which every arena is."""
    return budget.sram_bytes // ALIGNMENT * ALIGNMENT


class FittingSampler:
    """The subnets that fit a budget: how many, all of them where they are few, uniform draws.

    `listed` has all of them, shape (N, genes) in order of the genes, where the diagram has at most
    LISTED paths; else it is None, and the diagram is wide enough for a good part of what is drawn
    from it to fit.
    """

    LARGEST_BATCH = 1024
    LISTED = 100_000
    WIDTHS = (4_000, 32_000)
    GOOD_PART = 0.05

    def __init__(self, table: CostTable, budget: Budget) -> None:
        self.table = table
        self.budget = budget
        self.minimal = minimal_costs(table)
        self.listed: Genes | None = None
        if not fits(self.minimal, budget).any():
            self.listed = np.zeros((0, len(gene_sizes(table.space))), np.int64)
            return
        for width in self.WIDTHS:
            self.diagram = fitting_diagram(table, budget, width)
            if self.diagram.paths <= self.LISTED:
                self.listed = self._only_fitting(self.diagram.every())
                self.listed = self.listed[np.lexsort(self.listed.T[::-1])]
                break
            drawn = self.diagram.draw(self.LARGEST_BATCH, np.random.default_rng(0))
            self._fitting_part = len(self._only_fitting(drawn)) / len(drawn)
            if self._fitting_part > self.GOOD_PART:
                break

    @property
    def count(self) -> float:
        """Number of fitting subnets: exact where they are listed, else an estimate."""
        if self.listed is not None:
            return float(len(self.listed))
        return self.diagram.paths * self._fitting_part

    def _only_fitting(self, genes: Genes) -> Genes:
        return genes[fits(self.table.evaluate(genes), self.budget)]

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Genes]:
        """Endless batches of fitting subnets, each of shape (0 or more, genes).

        `size` is how many are drawn for the first batch, twice as many for each further one up to
        LARGEST_BATCH. Ends at once when no subnet fits.
        """
        while self.listed is None or len(self.listed):
            count = min(size, self.LARGEST_BATCH)
            if self.listed is None:
                yield self._only_fitting(self.diagram.draw(count, rng))
            else:
                yield self.listed[rng.integers(len(self.listed), size=count)]
            size *= 2

    def sample(
        self,
        count: int,
        rng: np.random.Generator,
        *,
        seen: Container[bytes] = (),
        barren_batches: int = 200,
    ) -> Genes:
        """Up to `count` different fitting subnets, none with a key in `seen`, shape (n, genes).

        Each is as likely as any other. Fewer come back where there are no more; where fitting
        subnets are too many to be listed, when so many batches in a row hold no new one.
        """
        listed = self.listed is not None
        found: dict[bytes, Genes] = {}
        barren = 0
        for genes in self._once(rng) if listed else self.batches(rng, max(16, 2 * count)):
            before = len(found)
            for key, row in zip(gene_keys(genes), genes, strict=True):
                if len(found) < count and key not in seen:
                    found.setdefault(key, row)
            barren = barren + 1 if len(found) == before else 0
            if len(found) >= count or (not listed and barren >= barren_batches):
                break
        none = np.zeros((0, len(gene_sizes(self.table.space))), np.int64)
        return np.stack(list(found.values())) if found else none

    def _once(self, rng: np.random.Generator) -> Iterator[Genes]:
        """All listed subnets in random order, batch by batch."""
        assert self.listed is not None
        order = rng.permutation(len(self.listed))
        for start in range(0, len(order), self.LARGEST_BATCH):
            yield self.listed[order[start : start + self.LARGEST_BATCH]]
