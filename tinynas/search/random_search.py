"""Random search: uniform samples of the fitting set, the yardstick of every other algorithm."""

from __future__ import annotations

import numpy as np

from tinynas.search.problem import Problem, Scored
from tinynas.space.arch import Genes, gene_keys


class RandomSearch:
    """Asks for batches of unseen fitting subnets, each as likely as any other."""

    def __init__(self, problem: Problem) -> None:
        self._sampler = problem.sampler
        self._seen: set[bytes] = set()

    def ask(self, count: int, rng: np.random.Generator) -> Genes:
        """The next batch, shape (at most `count`, genes); empty when none is left."""
        return self._sampler.sample(count, rng, seen=self._seen)

    def tell(self, scored: Scored) -> None:
        """Remember what was scored; random search learns nothing else from it."""
        self._seen.update(gene_keys(scored.genes))
