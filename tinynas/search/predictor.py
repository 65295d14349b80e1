"""Predicted accuracies, with how sure they are: thousands of subnets for the price of one.

Two learn from the subnets scored so far: a Gaussian process, which says how unsure it is, and
extremely randomized trees (Geurts et al. 2006, doi 10.1007/s10994-006-6226-1), which follow
accuracies that are no sums. How much each counts, and how wide the uncertainty must be for
scores to fall inside it as often as they should, follow from predictions of scores held out.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls
from sklearn.ensemble import ExtraTreesRegressor

from tinynas.search.features import Features, features
from tinynas.search.front import Floats
from tinynas.search.gaussian import GaussianProcess, Scales, fitted
from tinynas.space.arch import Genes
from tinynas.space.spec import SearchSpace

FOLDS = 5
TREES = 50
# Fewer subnets than this say nothing about who predicts well.
ENOUGH = 4 * FOLDS
# So few that fitting scales once more for each fold takes little time, and matters.
FEW = 120
# Scales are fitted to so many subnets at most: the time grows with the cube of them.
FITTED = 300
# Scores lie within one standard deviation this often, if errors are normal.
ONE_DEVIATION = 0.6827
# Scores that differ by less than this part of themselves are equal but for rounding.
EQUAL = 1e-12


class Predictor:
    """Accuracies of unseen subnets after `genes` (N, genes) had such accuracies (N,).

    What it says follows from these and from `rng`. The accuracies may have any scale. `weights`
    are those of the process and of the trees, `widening` is the factor of the deviations.
    """

    def __init__(
        self, space: SearchSpace, genes: Genes, accuracy: Floats, rng: np.random.Generator
    ) -> None:
        self._space = space
        known = features(space, genes)
        spread = known.steps.std(axis=0)
        # A step that all take or none says nothing of scores.
        self._used = spread > 0
        self._center, self._spread = known.steps.mean(axis=0)[self._used], spread[self._used]
        known = self._standard(known)
        self._mean, self._scale, scores = _standard_scores(accuracy)
        some = rng.permutation(len(scores))[:FITTED]
        scales = fitted(known.part(some), scores[some])
        self._gaussian = GaussianProcess(known, scores, scales)
        self._trees = ExtraTreesRegressor(
            TREES, min_samples_leaf=2, max_features=0.6, random_state=int(rng.integers(2**31))
        )
        self.weights, self.widening = np.array([1.0, 0.0]), 1.0
        if self._scale and known.steps.size and len(scores) >= ENOUGH:
            held_out, deviation = _held_out(known, scores, scales, self._trees, rng)
            self.weights = _weights(held_out, scores)
            missed = np.abs(held_out @ self.weights - scores) / deviation
            self.widening = float(np.quantile(missed, ONE_DEVIATION))
            self._trees.fit(known.steps, scores)

    def predict(self, genes: Genes) -> tuple[Floats, Floats]:
        """Means and standard deviations of the accuracies of subnets, each of shape (N,)."""
        asked = self._standard(features(self._space, genes))
        mean, deviation = self._gaussian.predict(asked)
        if self.weights[1] and len(genes):
            mean = self.weights @ [mean, self._trees.predict(asked.steps)]
        return self._mean + self._scale * mean, self._scale * self.widening * deviation

    def _standard(self, found: Features) -> Features:
        """Features whose steps have the mean 0 and the variance 1 among the known subnets."""
        steps = (found.steps[:, self._used] - self._center) / self._spread
        return Features(steps=steps, blocks=found.blocks, pairs=found.pairs)


def _standard_scores(accuracy: Floats) -> tuple[float, float, Floats]:
    """Mean and standard deviation of accuracies, 0 if all are equal, and scores without them."""
    mean, scale = float(accuracy.mean()), float(accuracy.std())
    if scale <= EQUAL * float(np.abs(accuracy).max()):
        return mean, 0.0, np.zeros(len(accuracy))
    return mean, scale, (accuracy - mean) / scale


def _held_out(
    known: Features,
    scores: Floats,
    scales: Scales,
    trees: ExtraTreesRegressor,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """What process and trees predict of each fold of the scores after the others, shape (N, 2).

    With the standard deviations of the process, shape (N,). Where scores are few, scales that have
    seen those held out would flatter it; so they are fitted again without them.
    """
    fold = rng.permutation(np.arange(len(scores)) % FOLDS)
    result, deviation = np.zeros((len(scores), 2)), np.zeros(len(scores))
    for number in range(FOLDS):
        rest, out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        some = known.part(rest)
        fair = fitted(some, scores[rest]) if len(scores) <= FEW else scales
        process = GaussianProcess(some, scores[rest], fair)
        result[out, 0], deviation[out] = process.predict(known.part(out))
        trees.fit(some.steps, scores[rest])
        result[out, 1] = trees.predict(known.steps[out])
    return result, deviation


def _weights(held_out: Floats, scores: Floats) -> Floats:
    """Of predictions (N, members): not negative and 1 in all, after the least squared error."""
    found, _ = nnls(held_out, scores)
    total = float(found.sum())
    weights: Floats = found / total if total else np.eye(held_out.shape[1])[0]
    return weights
