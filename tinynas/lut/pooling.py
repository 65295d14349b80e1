"""Costs of a sum of parts, fitted to few totals: log factors that groups of rows share.

A part's factor is the product of deviations, one for each level that it belongs to (the engine,
the core, the chip, the version...), each with a normal prior around zero. What is fitted is the
most likely set of deviations; errors of totals are relative, with Student's t for outliers.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
# A level, and how far from zero its deviation may be thought to lie.
Levels = tuple[tuple[Hashable, float], ...]
Deviations = Mapping[Hashable, float]

# Degrees of freedom of the errors: few, so that a wrong row moves little.
STUDENT_DEGREES = 4.0
GAUSSIAN_DEGREES = 1e9
STEPS = 100
# Of the loss, for a prediction; of every deviation, for what is written down to five digits.
CLOSE_ENOUGH = 1e-4
EXACT = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A total that was measured: the cost of its parts at a factor of one, and their levels.

    `noise` is the standard deviation of the logarithm of the total.
    """

    total: float
    noise: float
    costs: tuple[float, ...]
    levels: tuple[Levels, ...]


def factor(deviations: Deviations, levels: Levels) -> float:
    """What a part of these levels costs against its cost at a factor of one.

    A level that the fit has not seen deviates by nothing.
    """
    return exp(sum(deviations.get(name, 0.0) for name, _ in levels))


def predicted(deviations: Deviations, sample: Sample) -> float:
    """The total of a sample's parts."""
    parts = zip(sample.costs, sample.levels, strict=True)
    return sum(cost * factor(deviations, levels) for cost, levels in parts if cost)


def pool(samples: Sequence[Sample], exact: bool = False) -> dict[Hashable, float]:
    """The most likely deviations of all levels, `exact` to ten digits and not to three.

    Found as with normal errors first, so that an outlier is one of the whole and not of a start
    from nowhere.
    """
    problem = _Problem.of(samples)
    found = np.zeros(len(problem.names))
    for degrees in (GAUSSIAN_DEGREES, STUDENT_DEGREES):
        found = problem.climb(found, degrees)
    if exact:
        found = problem.polish(found)
    return dict(zip(problem.names, found.tolist(), strict=True))


def _numbered(samples: Sequence[Sample]) -> tuple[list[Hashable], list[float], Iterable[int]]:
    place: dict[Hashable, int] = {}
    spreads: list[float] = []
    deepest = 0
    for sample in samples:
        for cost, levels in zip(sample.costs, sample.levels, strict=True):
            deepest = max(deepest, len(levels))
            for name, spread in levels if cost else ():
                if place.setdefault(name, len(spreads)) == len(spreads):
                    spreads.append(spread)
    none = len(spreads)  # stands for a missing level, and deviates by nothing
    numbers = (
        place[levels[i][0]] if cost and i < len(levels) else none
        for sample in samples
        for cost, levels in zip(sample.costs, sample.levels, strict=True)
        for i in range(deepest)
    )
    return list(place), spreads, numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    names: list[Hashable]
    variances: Floats  # of each level
    costs: Floats  # samples x parts
    levels: Integers  # samples x parts x levels of a part
    logs: Floats
    weights: Floats

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> _Problem:
        names, spreads, numbers = _numbered(samples)
        costs = np.array([sample.costs for sample in samples], float)
        return cls(
            names=names,
            variances=np.array(spreads) ** 2,
            costs=costs,
            levels=np.fromiter(numbers, np.int64).reshape(*costs.shape, -1),
            logs=np.log([sample.total for sample in samples]),
            weights=np.array([sample.noise for sample in samples]) ** -2.0,
        )

    def parts(self, deviations: Floats) -> Floats:
        """The cost of each sample's parts."""
        factors = np.exp(np.append(deviations, 0.0)[self.levels].sum(axis=-1))
        return np.asarray(factors * self.costs, float)

    def loss(self, parts: Floats, deviations: Floats, degrees: float) -> float:
        """Minus the logarithm of the posterior, but for a constant."""
        squares = (self.logs - np.log(parts.sum(axis=1))) ** 2 * self.weights
        errors = (degrees + 1) / 2 * np.log1p(squares / degrees).sum()
        return float(errors + 0.5 * (deviations**2 / self.variances).sum())

    def step(self, parts: Floats, deviations: Floats, degrees: float) -> Floats:
        """Where the errors, taken as linear, and the priors are least (Gauss-Newton).

        Solved by samples, of which there are fewer than levels.
        """
        shares = parts / parts.sum(axis=1, keepdims=True)
        slopes = self._slopes(shares)
        errors = self.logs - np.log(parts.sum(axis=1))
        weights = self.weights * (degrees + 1) / (degrees + errors**2 * self.weights)
        scaled = slopes * np.sqrt(self.variances)
        between = scaled @ scaled.T
        between[np.diag_indices_from(between)] += 1 / weights
        solved = np.linalg.solve(between, errors + slopes @ deviations)
        return np.asarray((solved @ slopes) * self.variances, float)

    def _slopes(self, shares: Floats) -> Floats:
        """How each sample's logarithm moves with each level."""
        samples, width = len(shares), len(self.names) + 1
        places = np.arange(samples)[:, None, None] * width + self.levels
        repeated = np.broadcast_to(shares[:, :, None], self.levels.shape)
        flat = np.bincount(places.ravel(), repeated.ravel(), minlength=samples * width)
        return np.asarray(flat.reshape(samples, width)[:, :-1], float)

    def climb(self, deviations: Floats, degrees: float) -> Floats:
        """The deviations of least loss nearly, from a start."""
        parts = self.parts(deviations)
        loss = self.loss(parts, deviations, degrees)
        for _ in range(STEPS):
            move = self.step(parts, deviations, degrees) - deviations
            share = 1.0
            while True:
                new = deviations + share * move
                parts = self.parts(new)
                new_loss = self.loss(parts, new, degrees)
                if new_loss <= loss or share < EXACT:
                    break
                share /= 2
            gained, loss, deviations = loss - new_loss, new_loss, new
            if gained < CLOSE_ENOUGH:
                break
        return deviations

    def polish(self, deviations: Floats) -> Floats:
        """The deviations of least loss from a place near it (Newton's method, damped)."""
        damping = 1.0
        parts = self.parts(deviations)
        loss = self.loss(parts, deviations, STUDENT_DEGREES)
        for _ in range(STEPS):
            slope, curvature = self._curvature(parts, deviations)
            damped = curvature + np.diag(damping / self.variances)
            move = np.linalg.solve(damped, slope)
            new = deviations + move
            new_parts = self.parts(new)
            new_loss = self.loss(new_parts, new, STUDENT_DEGREES)
            if new_loss > loss + EXACT:
                damping = max(10 * damping, EXACT)
                continue
            damping = damping / 10 if damping > EXACT else 0.0
            deviations, parts, loss = new, new_parts, new_loss
            if damping == 0 and abs(move).max() < EXACT:
                break
        return deviations

    def _curvature(self, parts: Floats, deviations: Floats) -> tuple[Floats, Floats]:
        """Minus the slope of the loss of Student's t, and its second derivative."""
        width = len(self.names) + 1
        shares = parts / parts.sum(axis=1, keepdims=True)
        slopes = self._slopes(shares)
        errors = self.logs - np.log(parts.sum(axis=1))
        spread = STUDENT_DEGREES + self.weights * errors**2
        pull = (STUDENT_DEGREES + 1) * self.weights * errors / spread
        bend = (STUDENT_DEGREES + 1) * self.weights * (2 * STUDENT_DEGREES - spread) / spread**2
        between = slopes.T @ ((bend + pull)[:, None] * slopes)
        pulled = np.broadcast_to((pull[:, None] * shares)[:, :, None, None], self._pairs.shape)
        both = np.bincount(self._pairs.ravel(), pulled.ravel(), minlength=width**2)
        between -= both.reshape(width, width)[:-1, :-1]
        slope = pull @ slopes - deviations / self.variances
        return slope, between + np.diag(1 / self.variances)

    @property
    def _pairs(self) -> Integers:
        """For each sample and part the places of all pairs of its levels in a square."""
        width = len(self.names) + 1
        return np.asarray(self.levels[:, :, :, None] * width + self.levels[:, :, None, :])
