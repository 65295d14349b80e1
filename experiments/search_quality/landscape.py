"""A made-up accuracy whose Pareto front against latency is known exactly.

Each block adds what its kernel and expansion are worth at its position, less the deeper it lies
(separable), and something, good or bad, for following the block before it (interactions). So the
best prefixes of subnets can be extended block by block: dynamic programming finds the front.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinynas.cost.blocks import SUMS
from tinynas.cost.fitting import choices_by_position
from tinynas.cost.table import CostTable
from tinynas.search.front import undominated
from tinynas.search.problem import Batch
from tinynas.space.spec import SearchSpace

FLASH = SUMS.index("flash_bytes")
UNIT = 1e-4  # of accuracy: gains are whole numbers, so that sums are exact
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Landscape:
    """A random landscape over a space.

    `gains` has for each stage and position those of its choices, shape (choices,); `pairs` those
    of its choices after the ones of the block before, shape (choices before, choices).
    """

    def __init__(
        self, space: SearchSpace, rng: np.random.Generator, *, noise: float, pairs: float
    ) -> None:
        self.space = space
        self.gains: list[list[Ints]] = []
        self.pairs: list[list[Ints]] = []
        before = 1
        for stage in space.stages:
            kernel = np.log(np.array(stage.kernel) / 3 + 1)
            expansion = np.log(np.array(stage.expansion) + 1.0)
            count = len(kernel) * len(expansion)
            gains, after = [], []
            for position in range(stage.depth[-1]):
                slopes = rng.uniform(0.3, 1.0, size=2)
                worth = (slopes[0] * kernel[:, None] + slopes[1] * expansion).reshape(-1)
                weight = rng.uniform(0.5, 1.5) * 0.8**position
                gains.append(_whole(weight * (worth + noise * rng.normal(size=count))))
                after.append(_whole(pairs * rng.normal(size=(before, count))))
                before = count
            self.gains.append(gains)
            self.pairs.append(after)

    def __call__(self, batch: Batch) -> Floats:
        """Accuracies of a batch, shape (N,)."""
        genes, start = batch.genes, 0
        total = np.zeros(len(genes), np.int64)
        last = np.zeros(len(genes), np.int64)
        for number, stage in enumerate(self.space.stages):
            depth = np.array(stage.depth)[genes[:, start]]
            for position in range(stage.depth[-1]):
                kernel, expansion = genes[:, start + 1 + 2 * position : start + 3 + 2 * position].T
                choice = kernel * len(stage.expansion) + expansion
                there = position < depth
                last_there = np.where(there, last, 0)
                worth = (
                    self.gains[number][position][choice]
                    + self.pairs[number][position][last_there, choice]
                )
                total += np.where(there, worth, 0)
                last = np.where(there, choice, last)
            start += 1 + 2 * stage.depth[-1]
        return total * UNIT

    def front(self, table: CostTable, flash_bytes: int) -> Floats:
        """The front of all subnets within `flash_bytes`: (-accuracy, latency in ms), (N, 2).

        By latency and file size so far, no prefix is dropped unless one with the same last block
        is at least as good in all three.
        """
        base = table.base
        # From the last block's choice to rows of (-gain, latency, file size).
        paths = {0: np.array([[0.0, base.latency_us, base.sums[FLASH]]])}
        for number, positions in enumerate(choices_by_position(table)):
            ends: dict[int, list[Floats]] = {}
            for position, choices in enumerate(positions):
                paths = {
                    choice: _best(
                        [
                            rows
                            + [
                                -self.gains[number][position][choice]
                                - self.pairs[number][position][last, choice],
                                choices.latency_us[choice],
                                choices.sums[choice, FLASH],
                            ]
                            for last, rows in paths.items()
                        ],
                        flash_bytes,
                    )
                    for choice in range(len(choices.latency_us))
                }
                if position + 1 in self.space.stages[number].depth:
                    for choice, rows in paths.items():
                        ends.setdefault(choice, []).append(rows)
            paths = {choice: _best(rows, flash_bytes) for choice, rows in ends.items()}
        rows = np.concatenate(list(paths.values()))[:, :2] * [UNIT, 1e-3]
        return rows[undominated(rows)]


def _whole(values: Floats) -> Ints:
    return np.round(values / UNIT / 100).astype(np.int64)


def _best(parts: list[Floats], flash_bytes: int) -> Floats:
    rows = np.concatenate(parts)
    rows = rows[rows[:, 2] <= flash_bytes]
    return rows[undominated(rows)]
