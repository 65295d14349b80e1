"""Coefficients of operators' features, never negative, from operators whose cost is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tinynas.cost.latency_features import FEATURES, feature_values, group_of
from tinynas.cost.latency_table import significant
from tinynas.cost.op_shape import OpShape

Floats = npt.NDArray[np.float64]
# What an operator costs, in cycles or instructions.
Samples = Sequence[tuple[OpShape, float]]
# Cycles or instructions by group of operators and feature, as in a latency table.
Coefficients = dict[str, dict[str, float]]
# How far, relative to its value, a coefficient is thought to be from what was known before, and
# an operator from a sum of features: what has been measured counts, what has not stays as it was.
PRIOR_SPREAD = 0.3
SAMPLE_SPREAD = 0.005
USUAL_ERROR = 0.01
REWEIGHTED = 8
NEGLIGIBLE_SHARE = 0.002
FOLDS = 4


def cost(coefficients: Mapping[str, Mapping[str, float]], shape: OpShape) -> float:
    """Cycles or instructions of one operator. Raises KeyError for a group without coefficients."""
    group = group_of(shape)
    known = coefficients[group]
    named = zip(FEATURES[group], feature_values(shape), strict=True)
    return sum(known.get(name, 0.0) * value for name, value in named)


def by_group(samples: Samples) -> dict[str, list[tuple[OpShape, float]]]:
    """Samples by the group of their operator."""
    found: dict[str, list[tuple[OpShape, float]]] = {}
    for shape, wanted in samples:
        found.setdefault(group_of(shape), []).append((shape, wanted))
    return found


def fit_group(
    samples: Samples,
    prior: Mapping[str, float] | None = None,
    without: frozenset[str] = frozenset(),
) -> dict[str, float]:
    """Coefficients above zero of the features of one group, with small relative errors.

    `prior` is what is known without the samples; features of `without` get none, nor do those
    that are next to nothing in every sample.
    """
    names = FEATURES[group_of(samples[0][0])]
    features = np.array([feature_values(shape) for shape, _ in samples], float)
    relative = features / np.array([[wanted] for _, wanted in samples])
    relative[:, [i for i, name in enumerate(names) if name in without]] = 0
    before = np.array([(prior or {}).get(name, 0.0) for name in names])
    shares = (relative * _robust(relative, before)).max(axis=0)
    seen = relative.max(axis=0) > 0
    idle = seen & (shares < NEGLIGIBLE_SHARE)
    relative[:, idle] = before[idle] = 0
    found = _robust(relative, before)
    return {name: significant(x) for name, x in zip(names, found.tolist(), strict=True) if x > 0}


def _robust(relative: Floats, before: Floats) -> Floats:
    """What makes `relative` times it ones; errors above USUAL_ERROR count as they are, unsquared.

    Where a firmware's code and weights happen to lie in a cache costs some operators much more
    than others, which no feature tells: they must not move the rest (Huber's loss, by least
    squares with new weights each time).
    """
    weights = np.ones(len(relative))
    for _ in range(REWEIGHTED):
        found = _least_squares(relative, before, np.sqrt(weights))
        errors = np.abs(relative @ found - 1)
        weights = USUAL_ERROR / np.maximum(errors, USUAL_ERROR)
    return found


def _least_squares(relative: Floats, before: Floats, weights: Floats) -> Floats:
    """The same for squared errors times `weights`, held near `before` where that is above zero."""
    from scipy.optimize import nnls

    known = before > 0
    largest = relative.max(axis=0)
    free = np.divide(USUAL_ERROR, largest, out=np.zeros_like(largest), where=largest > 0)
    spreads = np.where(known, PRIOR_SPREAD * before + free, 1)
    pull = np.diag(SAMPLE_SPREAD / spreads)[known]
    rows = np.concatenate([relative * weights[:, None], pull])
    wanted = np.concatenate([weights, pull @ before])
    # Columns of one size, so that features in the millions do not drown those in the ones.
    sizes = np.sqrt((rows**2).sum(axis=0))
    sizes[sizes == 0] = 1
    found: Floats = nnls(rows / sizes, wanted)[0] / sizes
    return found


def scale(samples: Samples, coefficients: Mapping[str, Mapping[str, float]]) -> float:
    """The factor by which coefficients become those of the samples, with the least errors."""
    ratios = np.array([cost(coefficients, shape) / wanted for shape, wanted in samples])
    return float(ratios.sum() / (ratios**2).sum())


def folds(shapes: Sequence[OpShape], count: int = FOLDS) -> Iterator[tuple[list[int], list[int]]]:
    """Numbers of samples to fit and of those to predict; a configuration is in one fold only."""
    kinds = sorted(set(shapes))
    order = np.random.default_rng(0).permutation(len(kinds))
    fold = {shape: int(number) % count for shape, number in zip(kinds, order, strict=True)}
    for held in range(count):
        yield (
            [i for i, shape in enumerate(shapes) if fold[shape] != held],
            [i for i, shape in enumerate(shapes) if fold[shape] == held],
        )


def cross_predicted(samples: Samples, fit: Callable[[Samples], Coefficients]) -> list[float]:
    """The cost of each sample by a fit that has seen no sample of its configuration."""
    found = [0.0] * len(samples)
    for seen, held in folds([shape for shape, _ in samples]):
        coefficients = fit([samples[i] for i in seen])
        for i in held:
            found[i] = cost(coefficients, samples[i][0])
    return found
