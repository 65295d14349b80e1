"""What an accuracy may depend on: subnets as numbers for the predictor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinynas.search.front import Bools, Floats, Ints
from tinynas.space.arch import Genes
from tinynas.space.spec import SearchSpace

ABSENT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """N subnets as a predictor sees them.

    `steps` (N, features) are 0 or 1: is the depth of a stage, and are the kernel and the expansion
    of each of its blocks, at least each of the choices; absent blocks look like the smallest.
    `blocks` (N, blocks) number the choices of each block, `pairs` (N, blocks) those together with
    the choices of the block before it; of blocks that are absent both are ABSENT.
    """

    steps: Floats
    blocks: Ints
    pairs: Ints

    def __len__(self) -> int:
        return len(self.steps)

    def part(self, which: Bools | Ints | slice) -> Features:
        """Some of the subnets."""
        return Features(
            steps=self.steps[which], blocks=self.blocks[which], pairs=self.pairs[which]
        )


def features(space: SearchSpace, genes: Genes) -> Features:
    """The features of subnets (N, genes)."""
    steps: list[Bools] = []
    blocks: list[Ints] = []
    pairs: list[Ints] = []
    before, start = np.zeros(len(genes), np.int64), 0
    for stage in space.stages:
        depth = np.asarray(stage.depth)[genes[:, start]]
        steps += [depth >= choice for choice in stage.depth[1:]]
        choices = len(stage.kernel) * len(stage.expansion)
        for position in range(stage.depth[-1]):
            kernel, expansion = genes[:, start + 1 + 2 * position : start + 3 + 2 * position].T
            steps += [kernel >= value for value in range(1, len(stage.kernel))]
            steps += [expansion >= value for value in range(1, len(stage.expansion))]
            exists, choice = position < depth, kernel * len(stage.expansion) + expansion
            blocks.append(np.where(exists, choice, ABSENT))
            pairs.append(np.where(exists, before * choices + choice, ABSENT))
            before = np.where(exists, choice, before)
        start += 1 + 2 * stage.depth[-1]
    columns = np.stack(steps, axis=1) if steps else np.zeros((len(genes), 0))
    return Features(
        steps=columns.astype(np.float64), blocks=_columns(blocks), pairs=_columns(pairs)
    )


def _columns(values: list[Ints]) -> Ints:
    return np.stack(values, axis=1).astype(np.int32)
