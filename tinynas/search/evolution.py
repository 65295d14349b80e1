"""Evolution under hard constraints: every subnet it proposes fits the budget.

The best have children, by crossing and mutation as in MCUNet (Lin et al. 2020, section 3.1), and
by a single change, which finds the last improvements. The best are those of NSGA-II (Deb et al.
2002, sections III.A and III.B), so that the whole Pareto front is pursued and not accuracy alone;
with aging, the best of the latest (Real et al. 2019, arXiv 1802.01548). A child that does not fit
is replaced by a near subnet that does. All steps work on arrays of whole generations.
"""

from __future__ import annotations

import numpy as np

from tinynas.cost.repair import near_fitting
from tinynas.search.front import Bools, Floats, Ints, crowding, ranks
from tinynas.search.problem import Problem, Scored
from tinynas.search.settings import SearchSettings
from tinynas.space.arch import Genes, canonical, gene_keys, gene_sizes

# Broods before fresh subnets stand in for children that were all seen before.
BROODS = 6


class Evolution:
    """Asks for generations of unseen fitting subnets; remembers the best it was told of."""

    def __init__(self, problem: Problem, settings: SearchSettings) -> None:
        self._problem = problem
        self._settings = settings
        self._sizes = np.array(gene_sizes(problem.table.space))
        self._seen: set[bytes] = set()
        self._genes = np.zeros((0, len(self._sizes)), np.int64)
        self._points = np.zeros((0, len(problem.objectives)))

    @property
    def population(self) -> Genes:
        """The subnets that parents are taken from, shape (N, genes)."""
        return self._genes

    def ask(self, count: int, rng: np.random.Generator) -> Genes:
        """The next generation, shape (at most `count`, genes); empty when none is left.

        The first is drawn uniformly from the fitting set.
        """
        sampler = self._problem.sampler
        if len(self._seen) < self._settings.population:
            return sampler.sample(count, rng, seen=self._seen)
        children: dict[bytes, Genes] = {}
        for _ in range(BROODS):
            brood = near_fitting(sampler, self._brood(count, rng), rng)
            for key, row in zip(gene_keys(brood), brood, strict=True):
                if len(children) < count and key not in self._seen:
                    children.setdefault(key, row)
            if len(children) == count:
                return np.stack(list(children.values()))
        fresh = sampler.sample(count - len(children), rng, seen=self._seen | children.keys())
        return np.concatenate([*(row[None] for row in children.values()), fresh])

    def tell(self, scored: Scored) -> None:
        """Learn the scores of subnets that were asked for."""
        self._seen.update(gene_keys(scored.genes))
        self._genes = np.concatenate([self._genes, scored.genes])
        self._points = np.concatenate([self._points, self._problem.points(scored)])
        if self._settings.aging:
            kept = np.arange(len(self._genes))[-self._settings.aging :]
        else:
            kept = best(self._points, self._settings.population)
        self._genes, self._points = self._genes[kept], self._points[kept]

    def _brood(self, count: int, rng: np.random.Generator) -> Genes:
        """`count` children, fitting or not, shape (count, genes)."""
        settings = self._settings
        number = settings.parents or max(2, settings.population // 2)
        parents = self._genes[best(self._points, number)]
        mothers, fathers = parents[rng.integers(len(parents), size=(2, count))]
        kind = rng.random((count, 1))
        near = kind < settings.neighbours
        mutant = kind >= 1 - (1 - settings.neighbours) * settings.mutants
        crossed = ~near if settings.crossed_mutants else ~near & ~mutant
        children = np.where(crossed & _from_father(mothers.shape, rng), fathers, mothers)
        mutated = mutant & (rng.random(children.shape) < settings.mutation_probability)
        children = np.where(mutated, rng.integers(self._sizes, size=children.shape), children)
        children = np.where(near, self._neighbours(mothers, rng), children)
        return canonical(self._problem.table.space, children)

    def _neighbours(self, genes: Genes, rng: np.random.Generator) -> Genes:
        """Genes of shape (N, genes), in each row one set to another value."""
        rows = np.arange(len(genes))
        gene = rng.choice(np.flatnonzero(self._sizes > 1), size=len(genes))
        result: Genes = genes.copy()
        step = rng.integers(1, self._sizes[gene])
        result[rows, gene] = (genes[rows, gene] + step) % self._sizes[gene]
        return result


def _from_father(shape: tuple[int, ...], rng: np.random.Generator) -> Bools:
    """Which genes come from the father: a run of neighbouring ones, or each by chance, evenly."""
    ends = np.sort(rng.integers(shape[1] + 1, size=(shape[0], 2)), axis=1)
    gene = np.arange(shape[1])
    run = (ends[:, :1] <= gene) & (gene < ends[:, 1:])
    by_chance = rng.random(shape) < 0.5
    result: Bools = np.where(rng.random((shape[0], 1)) < 0.5, run, by_chance)
    return result


def best(points: Floats, count: int) -> Ints:
    """The first `count` of points (N, objectives) by front, then by how alone they are in it."""
    rank = ranks(points, count)
    order: Ints = np.lexsort((-crowding(points, rank), rank))[:count]
    return order
