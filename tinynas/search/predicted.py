"""Search with predicted accuracies: looks at thousands of subnets for each one that it scores.

The first subnets are drawn uniformly. Before each further batch the predictor learns from all
scored so far, an evolution with its predictions breeds subnets, and of all that it looked at those
are scored from which the most is expected: by how much their accuracies, as uncertain as they are,
will make the hypervolume of the front grow (expected hypervolume improvement, Emmerich et al.
2011, doi 10.1109/CEC.2011.5949880). Costs are known exactly; accuracy alone is uncertain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from tinynas.search.evolution import Evolution
from tinynas.search.front import Bools, Floats, Ints
from tinynas.search.predictor import Predictor
from tinynas.search.problem import Problem, Scored, joined
from tinynas.search.settings import PredictorSettings, SearchSettings
from tinynas.space.arch import Genes, gene_keys

POPULATION = 256  # of the evolution with predicted accuracies
INNER = {"population": POPULATION, "parents": None, "aging": None, "predictor": None}
# The predicted accuracies of it are higher by so many standard deviations: to try is to know.
OPTIMISM = 1.0
# The predictor learns from the latest so many subnets: its time grows with the cube of them.
REMEMBERED = 800
PLACES = 512  # where the growth of the hypervolume is looked at
ROWS = 1024  # subnets looked at there at a time
FRESH = 64  # subnets whose gain is computed anew at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """N unseen fitting subnets with their predicted accuracies: means and deviations (N,)."""

    genes: Genes
    mean: Floats
    deviation: Floats


class PredictedSearch:
    """Asks for those of thousands of subnets from whose scores the most is expected.

    `looked_at` counts the subnets whose accuracies were predicted, in each batch anew.
    """

    def __init__(self, problem: Problem, settings: SearchSettings) -> None:
        self._problem = problem
        self._settings = settings
        self._predictor = settings.predictor or PredictorSettings()
        self._seen: set[bytes] = set()
        self._told: list[Scored] = []
        self.looked_at = 0

    def ask(self, count: int, rng: np.random.Generator) -> Genes:
        """The next batch, shape (at most `count`, genes); empty when none is left."""
        missing = self._predictor.first - len(self._seen)
        if missing > 0:
            return self._problem.sampler.sample(min(count, missing), rng, seen=self._seen)
        self._told = [joined(self._told)]
        scored = self._told[0]
        latest = scored.part(slice(-REMEMBERED, None))
        predictor = Predictor(self._problem.table.space, latest.genes, latest.accuracy, rng)
        count = min(count, self._predictor.batch)
        looked = self._looked(predictor, count * self._predictor.looks, rng)
        self.looked_at += len(looked.genes)
        if not len(looked.genes):
            return looked.genes
        batch = self._problem.batch(looked.genes)
        costs = self._costs(self._problem.points_of(looked.mean, batch.costs))
        growth = ExpectedGrowth(
            known=(scored.accuracy, self._costs(self._problem.points(scored))),
            unknown=(looked.mean, looked.deviation, costs),
            rng=rng,
        )
        return looked.genes[growth.choose(count)]

    def tell(self, scored: Scored) -> None:
        """Learn the scores of subnets that were asked for."""
        self._seen.update(gene_keys(scored.genes))
        self._told.append(scored)

    def _costs(self, points: Floats) -> Floats:
        """All objectives but the accuracy, shape (N, objectives - 1)."""
        return np.delete(points, self._problem.objectives.index("accuracy"), axis=1)

    def _looked(self, predictor: Predictor, size: int, rng: np.random.Generator) -> Looked:
        """All unseen fitting subnets where they are few, else `size` that an evolution bred."""
        listed = self._problem.sampler.listed
        if listed is not None and len(listed) <= size:
            return _look(predictor, self._problem.sampler.sample(size, rng, seen=self._seen))
        evolution = Evolution(self._problem, self._settings.model_copy(update=INNER))
        evolution.tell(self._told[0])
        parts = []
        while size > 0:
            part = _look(predictor, evolution.ask(min(size, POPULATION), rng))
            parts.append(part)
            if not len(part.genes):
                break
            size -= len(part.genes)
            evolution.tell(self._hoped(part))
        return Looked(
            genes=np.concatenate([part.genes for part in parts]),
            mean=np.concatenate([part.mean for part in parts]),
            deviation=np.concatenate([part.deviation for part in parts]),
        )

    def _hoped(self, looked: Looked) -> Scored:
        """Subnets as if they had been scored higher than predicted by some deviations."""
        none = np.zeros(len(looked.genes), np.int64)
        return Scored(
            genes=looked.genes,
            accuracy=looked.mean + OPTIMISM * looked.deviation,
            count=none,
            generation=none,
            costs=self._problem.batch(looked.genes).costs,
        )


def _look(predictor: Predictor, genes: Genes) -> Looked:
    mean, deviation = predictor.predict(genes)
    return Looked(genes=genes, mean=mean, deviation=deviation)


class ExpectedGrowth:
    """By how much scores of subnets are expected to make the hypervolume grow.

    `known` are accuracies (N,) and costs (N, objectives - 1), `unknown` means and deviations of
    accuracies (M,) and costs (M, objectives - 1). Costs are limits in the hypervolume: over all of
    them, it is the mean of the best accuracy inside a limit, and what a score adds there is its
    improvement on this, whose expectation is known in closed form.
    """

    def __init__(
        self,
        *,
        known: tuple[Floats, Floats],
        unknown: tuple[Floats, Floats, Floats],
        rng: np.random.Generator,
    ) -> None:
        accuracy, costs = known
        self._mean, self._deviation, self._costs = unknown
        both = np.concatenate([costs, self._costs])
        self._limits = _places(both.min(axis=0), both.max(axis=0), rng)
        inside = _inside(costs, self._limits)
        # Below the worst score nothing is worth anything.
        worst = accuracy.min()
        self._best = np.where(inside, accuracy[:, None], worst).max(axis=0)

    def of(self, which: Ints) -> Floats:
        """The growth by some of the unknown subnets, each alone, shape (len(which),)."""
        mean, deviation = self._mean[which, None], self._deviation[which, None]
        better = mean - self._best
        scaled = np.divide(better, deviation, out=np.zeros_like(better), where=deviation > 0)
        density = np.exp(-(scaled**2) / 2) / np.sqrt(2 * np.pi)
        gain = np.where(
            deviation > 0, better * ndtr(scaled) + deviation * density, np.maximum(better, 0)
        )
        total: Floats = (gain * _inside(self._costs[which], self._limits)).mean(axis=1)
        return total

    def choose(self, count: int) -> Ints:
        """Up to `count` unknown subnets, shape (n,), one after another the one that adds most.

        As if those before it had been scored what was predicted.
        """
        every = np.arange(len(self._mean))
        gain = np.concatenate(
            [self.of(rows) for rows in np.split(every, range(ROWS, len(every), ROWS))]
        )
        chosen: list[int] = []
        fresh = np.ones(len(every), np.bool_)
        while len(chosen) < min(count, len(every)):
            first = int(np.argmax(gain))
            if fresh[first]:
                chosen.append(first)
                inside = _inside(self._costs[[first]], self._limits)[0]
                self._best[inside] = np.maximum(self._best[inside], self._mean[first])
                gain[first] = -np.inf
                fresh[:] = np.isneginf(gain)
            else:
                # What was chosen since can only have made gains smaller.
                rows = np.argsort(-gain, kind="stable")[:FRESH]
                rows = rows[~fresh[rows]]
                gain[rows], fresh[rows] = self.of(rows), True
        return np.array(chosen, np.int64)


def _inside(costs: Floats, limits: Floats) -> Bools:
    """Which of N costs keep which of the limits, shape (N, limits)."""
    result = np.ones((len(costs), len(limits)), np.bool_)
    for column, limit in zip(costs.T, limits.T, strict=True):
        result &= column[:, None] <= limit
    return result


def _places(lowest: Floats, highest: Floats, rng: np.random.Generator) -> Floats:
    """Limits spread evenly between costs, shape (PLACES, objectives - 1).

    In each column there is one in each of as many equal parts (Latin hypercube sampling).
    """
    parts = np.stack([rng.permutation(PLACES) for _ in lowest], axis=1) if len(lowest) else None
    if parts is None:
        return np.zeros((1, 0))
    shares = (parts + rng.random(parts.shape)) / PLACES
    result: Floats = lowest + shares * (highest - lowest)
    return result
