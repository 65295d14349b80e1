"""A Gaussian process over subnets, whose every scale is fitted to their scores.

The covariance of two subnets is a sum of four, all of them large for subnets that are alike:

- linear in the steps, each with a weight of its own: most of an accuracy is a sum over choices;
- how many blocks have the same choices: of kernel and expansion of a block together;
- how many have the same choices as the block before them too: of neighbouring blocks together;
- Matern's of order 5/2 with a length scale for each step: of everything together;

see Rasmussen & Williams 2006, equations 4.17 and 2.25 to 2.30, section 5.1 (automatic relevance
determination). All scales are those of the greatest marginal likelihood, with wide normal priors
of their logarithms: without them, many scales would follow few scores too closely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from tinynas.search.features import ABSENT, Features
from tinynas.search.front import Floats, Ints

STEPS_OF_FIT = 60
JITTER = 1e-6  # of the scores' variance: keeps equal subnets apart
# Logarithms of the standard deviation of linear weights times the root of their number, of length
# scales over it; of the variances of blocks, pairs and the whole, and of noise.
LINEAR, LENGTH, BLOCKS, PAIRS, WHOLE, NOISE = 0.0, 1.0, -2.0, -2.0, -1.0, -2.0
# Standard deviations of these logarithms: of each single step's, of the four variances.
SPREAD, WIDE = 0.7, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """Logarithms: `linear` and `length` are (features,), the others variances."""

    linear: Floats
    length: Floats
    blocks: float
    pairs: float
    whole: float
    noise: float

    @classmethod
    def of(cls, values: Floats) -> Scales:
        """From a vector (2 features + 4,), as `vector` gives it."""
        count = (len(values) - 4) // 2
        blocks, pairs, whole, noise = values[2 * count :].tolist()
        return cls(
            linear=values[:count],
            length=values[count : 2 * count],
            blocks=blocks,
            pairs=pairs,
            whole=whole,
            noise=noise,
        )

    def vector(self) -> Floats:
        """All of them in one row."""
        rest = [self.blocks, self.pairs, self.whole, self.noise]
        return np.concatenate([self.linear, self.length, rest])


def usual(features: int) -> Scales:
    """What scales are expected to be."""
    root = 0.5 * np.log(max(features, 1))
    return Scales(
        linear=np.full(features, LINEAR - root),
        length=np.full(features, LENGTH + root),
        blocks=BLOCKS,
        pairs=PAIRS,
        whole=WHOLE,
        noise=NOISE,
    )


def agreeing(these: Ints, those: Ints) -> Floats:
    """Which share of the columns of (N, columns) and (M, columns) agree, shape (N, M).

    Those that are ABSENT do not.
    """
    total = np.zeros((len(these), len(those)), np.uint16)
    for one, other in zip(these.T, np.where(those == ABSENT, ABSENT - 1, those).T, strict=True):
        total += one[:, None] == other
    share: Floats = total / these.shape[1]
    return share


def matern(these: Floats, those: Floats) -> tuple[Floats, Floats]:
    """Matern's covariance of rows of (N, D) and (M, D), and its slope by squared distance."""
    squares = (these**2).sum(axis=1)[:, None] + (those**2).sum(axis=1)
    squared = np.maximum(squares - 2 * these @ those.T, 0)
    root = np.sqrt(5 * squared)
    decay = np.exp(-root)
    return (1 + root + root**2 / 3) * decay, -5 / 6 * (1 + root) * decay


def covariance(these: Features, those: Features, scales: Scales) -> Floats:
    """Of the scores of N and M subnets, noise left out, shape (N, M)."""
    inverse = np.exp(-scales.length)
    total: Floats = np.exp(scales.whole) * matern(these.steps * inverse, those.steps * inverse)[0]
    total += these.steps * np.exp(2 * scales.linear) @ those.steps.T
    total += np.exp(scales.blocks) * agreeing(these.blocks, those.blocks)
    total += np.exp(scales.pairs) * agreeing(these.pairs, those.pairs)
    return total


def variance(these: Features, scales: Scales) -> Floats:
    """Of the scores of N subnets before any is known, noise left out, shape (N,)."""
    present = (these.blocks != ABSENT).mean(axis=1)
    linear = these.steps**2 @ np.exp(2 * scales.linear)
    alike = np.exp(scales.blocks) + np.exp(scales.pairs)
    result: Floats = np.exp(scales.whole) + linear + alike * present
    return result


class _Likelihood:
    """The negative logarithm of the posterior of scales, and its slopes."""

    def __init__(self, known: Features, scores: Floats) -> None:
        self._known = known
        self._scores = scores
        self._blocks = agreeing(known.blocks, known.blocks)
        self._pairs = agreeing(known.pairs, known.pairs)
        count = known.steps.shape[1]
        self.start = usual(count).vector()
        self._precision = np.append(np.full(2 * count, SPREAD**-2), np.full(4, WIDE**-2))

    def __call__(self, values: Floats) -> tuple[float, Floats]:
        scales, steps = Scales.of(values), self._known.steps
        length, weights = np.exp(-scales.length), np.exp(2 * scales.linear)
        alike, slope = matern(steps * length, steps * length)
        noise, whole = np.exp(scales.noise), np.exp(scales.whole)
        parts = [np.exp(scales.blocks) * self._blocks, np.exp(scales.pairs) * self._pairs]
        total = sum(parts, whole * alike + (steps * weights) @ steps.T)
        total[np.diag_indices(len(total))] += noise + JITTER
        root = cholesky(total, lower=True)
        solved = cho_solve((root, True), self._scores)
        # Half the slope of the likelihood by each covariance (equation 5.9).
        by = (cho_solve((root, True), np.eye(len(total))) - np.outer(solved, solved)) / 2
        by_squared = by * slope * whole
        spread = by_squared.sum(axis=1) @ steps**2 - (steps * (by_squared @ steps)).sum(axis=0)
        slopes = np.concatenate(
            [
                2 * weights * (steps * (by @ steps)).sum(axis=0),
                -4 * length**2 * spread,
                [(by * part).sum() for part in (*parts, whole * alike)],
                [noise * np.trace(by)],
            ]
        )
        away = values - self.start
        value = self._scores @ solved / 2 + np.log(np.diag(root)).sum()
        return float(value + self._precision @ away**2 / 2), slopes + self._precision * away


def fitted(known: Features, scores: Floats) -> Scales:
    """The likeliest scales of scores (N,) of subnets, scores of mean 0 and variance 1."""
    likelihood = _Likelihood(known, scores)
    found = minimize(
        likelihood,
        likelihood.start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(start - 7, start + 7) for start in likelihood.start],
        options={"maxiter": STEPS_OF_FIT},
    )
    return Scales.of(np.asarray(found.x))


class GaussianProcess:
    """Scores of unseen subnets, from those of N known ones (N,) with such scales."""

    def __init__(self, known: Features, scores: Floats, scales: Scales) -> None:
        self._known = known
        self._scales = scales
        self._noise = float(np.exp(scales.noise)) + JITTER
        total = covariance(known, known, scales)
        total[np.diag_indices(len(total))] += self._noise
        self._root = cholesky(total, lower=True)
        self._solved = cho_solve((self._root, True), scores)

    def predict(self, unseen: Features) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the scores of M subnets, each of shape (M,)."""
        shared = covariance(self._known, unseen, self._scales)
        explained = (solve_triangular(self._root, shared, lower=True) ** 2).sum(axis=0)
        left = np.maximum(variance(unseen, self._scales) - explained, 0) + self._noise
        return shared.T @ self._solved, np.sqrt(left)
