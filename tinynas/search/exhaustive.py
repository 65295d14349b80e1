"""Exhaustive search: every fitting subnet, where they are few enough to be listed."""

from __future__ import annotations

import numpy as np

from tinynas.search.problem import Problem, Scored
from tinynas.space.arch import Genes


class Exhaustive:
    """Asks for all fitting subnets one after another, in order of their genes.

    They must be listed.
    """

    def __init__(self, problem: Problem) -> None:
        assert problem.sampler.listed is not None
        self._listed = problem.sampler.listed
        self._told = 0

    def ask(self, count: int, rng: np.random.Generator) -> Genes:
        """The next fitting subnets, shape (at most `count`, genes); empty when none is left."""
        return self._listed[self._told : self._told + count]

    def tell(self, scored: Scored) -> None:
        """Go on after what was scored."""
        self._told += len(scored)
