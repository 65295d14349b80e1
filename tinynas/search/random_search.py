"""Random search: uniform samples of the fitting set, the yardstick of every other algorithm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinynas.cost.fitting import FittingSampler
from tinynas.search.front import Candidate
from tinynas.space.arch import Genes


class RandomSearch:
    """Asks for batches of unseen fitting subnets, each as likely as any other."""

    def __init__(
        self, sampler: FittingSampler, *, population: int, rng: np.random.Generator
    ) -> None:
        self._sampler = sampler
        self._population = population
        self._rng = rng
        self._seen: set[tuple[int, ...]] = set()

    def ask(self) -> Genes:
        """The next batch, shape (at most population, genes); empty when none is left."""
        batch = self._sampler.sample(self._population, self._rng, seen=self._seen)
        self._seen.update(map(tuple, batch.tolist()))
        return batch

    def tell(self, candidates: Sequence[Candidate]) -> None:
        """Random search learns nothing from scores."""
