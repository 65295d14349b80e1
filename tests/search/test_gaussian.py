from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import gamma, kv

from tinynas.search.features import ABSENT, Features, features
from tinynas.search.front import Floats
from tinynas.search.gaussian import (
    GaussianProcess,
    Scales,
    _Likelihood,
    covariance,
    fitted,
    matern,
    usual,
    variance,
)

from .small_space import SPACE, every_subnet


def some(count: int = 30) -> Features:
    rng = np.random.default_rng(0)
    return features(SPACE, rng.permutation(every_subnet())[:count])


def scores(known: Features) -> Floats:
    values = known.steps @ np.arange(1.0, 1 + known.steps.shape[1]) + 5 * (known.blocks[:, 1] == 3)
    standard: Floats = (values - values.mean()) / values.std()
    return standard


def test_matern_is_the_bessel_function_that_defines_it() -> None:
    """Rasmussen & Williams 2006, equation 4.14, of order 5/2."""
    rows = np.random.default_rng(0).normal(size=(6, 3))
    distance = np.linalg.norm(rows[:, None] - rows, axis=2)
    scaled = np.sqrt(5) * (distance + np.eye(6))
    expected = 2**-1.5 / gamma(2.5) * scaled**2.5 * kv(2.5, scaled)
    found = matern(rows, rows)[0]
    apart = ~np.eye(6, dtype=bool)
    assert np.allclose(found[apart], expected[apart], rtol=1e-6)
    assert np.allclose(np.diag(found), 1)


def test_the_covariance_of_two_subnets_by_hand() -> None:
    one = Features(
        steps=np.array([[1.0, 0.0]]),
        blocks=np.array([[2, 1, ABSENT]]),
        pairs=np.array([[2, 7, ABSENT]]),
    )
    two = Features(
        steps=np.array([[1.0, 2.0]]),
        blocks=np.array([[2, 1, ABSENT]]),
        pairs=np.array([[2, 4, ABSENT]]),
    )
    scales = Scales(
        linear=np.log([3.0, 1.0]),
        length=np.log([1.0, 2.0]),
        blocks=np.log(0.6),
        pairs=np.log(0.3),
        whole=np.log(2.0),
        noise=0.0,
    )
    # 3^2 for the step that both take; 2 of 3 blocks and 1 of 3 pairs agree; at a distance of 1.
    whole = 2 * (1 + np.sqrt(5) + 5 / 3) * np.exp(-np.sqrt(5))
    assert covariance(one, two, scales)[0, 0] == pytest.approx(9 + 0.4 + 0.1 + whole)
    assert variance(two, scales)[0] == pytest.approx(9 + 4 + 0.4 + 0.2 + 2)


def test_variances_are_covariances_with_oneself() -> None:
    known = some()
    scales = usual(known.steps.shape[1])
    assert np.allclose(np.diag(covariance(known, known, scales)), variance(known, scales))


def test_slopes_of_the_likelihood_are_those_of_its_values() -> None:
    known = some(12)
    likelihood = _Likelihood(known, scores(known))
    at = likelihood.start + np.random.default_rng(1).normal(size=len(likelihood.start)) / 3
    value = float(np.abs(likelihood(at)[1]).max())
    error = check_grad(lambda x: likelihood(x)[0], lambda x: likelihood(x)[1], at)
    assert error < 1e-5 * max(value, 1)


def test_fitted_scales_are_likelier_than_the_usual_ones() -> None:
    known = some()
    likelihood = _Likelihood(known, scores(known))
    found = fitted(known, scores(known)).vector()
    assert likelihood(found)[0] < likelihood(likelihood.start)[0] - 1


def test_means_and_deviations_are_those_of_the_joint_normal_distribution() -> None:
    """Conditioned by hand: equations 2.23 and 2.24, in another way than by a Cholesky factor."""
    known, unseen = some(20), some(50).part(slice(20, 50))
    scales = usual(known.steps.shape[1])
    noise = np.exp(scales.noise) + 1e-6
    inverse = np.linalg.inv(covariance(known, known, scales) + noise * np.eye(20))
    shared = covariance(known, unseen, scales)
    left = covariance(unseen, unseen, scales) - shared.T @ inverse @ shared
    mean, deviation = GaussianProcess(known, scores(known), scales).predict(unseen)
    assert np.allclose(mean, shared.T @ inverse @ scores(known))
    assert np.allclose(deviation**2, np.diag(left) + noise)
