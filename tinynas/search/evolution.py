"""Evolution under hard constraints: every subnet it proposes fits the budget.

The algorithm is MCUNet's (Lin et al. 2020, section 3.1: crossover and mutation of the best, gene
mutation probability 0.1) with NSGA-II's selection (Deb et al. 2002, sections III.A and III.B), so
that the whole Pareto front is pursued and not accuracy alone. The first generation is drawn
uniformly from the fitting set.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinynas.cost.fitting import FittingSampler, fits
from tinynas.search.front import Candidate, Floats, dominance
from tinynas.space.arch import Genes, canonical, gene_sizes

# Proposals made for each child wanted before fresh samples fill the generation.
PROPOSALS_PER_CHILD = 50


class Evolution:
    """Asks for generations of unseen fitting subnets; remembers what it was told."""

    def __init__(
        self,
        sampler: FittingSampler,
        *,
        population: int,
        mutation_probability: float,
        rng: np.random.Generator,
    ) -> None:
        self._sampler = sampler
        self._population = population
        self._mutation_probability = mutation_probability
        self._rng = rng
        self._told: dict[tuple[int, ...], Candidate] = {}

    def ask(self) -> Genes:
        """The next generation, shape (at most population, genes); empty when none is left."""
        children: dict[tuple[int, ...], None] = {}
        if self._told:
            self._breed(children)
        missing = self._population - len(children)
        seen = {**self._told, **children}
        fresh = self._sampler.sample(missing, self._rng, seen=seen)
        bred = np.array(list(children), np.int64).reshape(-1, fresh.shape[1])
        return np.concatenate([bred, fresh])

    def tell(self, candidates: Sequence[Candidate]) -> None:
        """Learn the scores of subnets that were asked for."""
        self._told.update((candidate.genes, candidate) for candidate in candidates)

    def _breed(self, children: dict[tuple[int, ...], None]) -> None:
        table, budget = self._sampler.table, self._sampler.budget
        parents = self._parents()
        for _ in range(PROPOSALS_PER_CHILD):
            proposals = canonical(table.space, self._propose(parents))
            for row in proposals[fits(table.evaluate(proposals), budget)].tolist():
                if tuple(row) not in self._told:
                    children.setdefault(tuple(row))
                if len(children) >= self._population:
                    return

    def _propose(self, parents: Genes) -> Genes:
        """Children of random pairs, gene by gene, half of them then mutated."""
        rng, count = self._rng, self._population
        mothers, fathers = parents[rng.integers(len(parents), size=(2, count))]
        children = np.where(rng.random(mothers.shape) < 0.5, mothers, fathers)
        random = rng.integers(np.array(gene_sizes(self._sampler.table.space)), size=children.shape)
        mutated = rng.random(children.shape) < self._mutation_probability
        mutated[: count // 2] = False
        return np.where(mutated, random, children)

    def _parents(self) -> Genes:
        """The better half of a population, by front, then by how alone a candidate is in it."""
        candidates = sorted(self._told.values(), key=lambda c: c.genes)
        points = np.array([c.objectives for c in candidates])
        rank, distance = fronts(points), np.zeros(len(points))
        for front in np.unique(rank):
            distance[rank == front] = crowding(points[rank == front])
        order = np.lexsort((-distance, rank))[: max(2, self._population // 2)]
        return np.array([candidates[i].genes for i in order], np.int64)


def fronts(points: Floats) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Number of each point's front, 0 for the undominated ones; points (N, objectives)."""
    beaten_by = dominance(points)
    rank = np.full(len(points), -1, np.int64)
    front = 0
    while (rank < 0).any():
        left = rank < 0
        now = left & ~(beaten_by & left[:, None]).any(axis=0)
        rank[now] = front
        front += 1
    return rank


def crowding(points: Floats) -> Floats:
    """NSGA-II's crowding distance of points (N, objectives), infinite at the extremes."""
    distance = np.zeros(len(points))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        span = values[order[-1]] - values[order[0]]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / span
    return distance
