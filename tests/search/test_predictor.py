from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import kendalltau

from tinynas.search.front import Floats
from tinynas.search.predictor import FITTED, Predictor, _weights
from tinynas.space.arch import Genes
from tinynas.space.spec import SearchSpace, Stage, Stem

from .landscape import SPACE, accuracies, drawn

GENES = drawn(900)


def predictor(genes: Genes, accuracy: Floats, seed: int = 0) -> Predictor:
    return Predictor(SPACE, genes, accuracy, np.random.default_rng(seed))


def test_300_subnets_tell_which_of_two_others_is_better() -> None:
    """And 68 % of the others lie within one deviation; in seconds."""
    started = time.process_time()
    made = predictor(GENES[:300], accuracies(GENES[:300]))
    assert time.process_time() - started < 5
    mean, deviation = made.predict(GENES[300:])
    actual = accuracies(GENES[300:])
    assert kendalltau(mean, actual)[0] > 0.8
    assert 0.58 < (np.abs(mean - actual) <= deviation).mean() < 0.78


def test_more_subnets_than_scales_are_fitted_to_predict_better() -> None:
    errors = [
        np.abs(
            predictor(GENES[:count], accuracies(GENES[:count])).predict(GENES[600:])[0]
            - accuracies(GENES[600:])
        ).mean()
        for count in (100, FITTED + 200)
    ]
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("seed", [1, 2])
def test_deviations_tell_the_truth_where_few_subnets_are_known(seed: int) -> None:
    made = predictor(GENES[:50], accuracies(GENES[:50], seed))
    mean, deviation = made.predict(GENES[300:])
    inside = np.abs(mean - accuracies(GENES[300:], seed)) <= deviation
    assert 0.5 < inside.mean() < 0.86


def test_members_count_as_much_as_their_held_out_predictions_deserve() -> None:
    scores = np.array([1.0, -1.0, 1.0, -1.0])
    off = np.array([1.0, 1.0, -1.0, -1.0])
    assert _weights(np.stack([scores + off, scores - off], axis=1), scores) == pytest.approx(0.5)
    assert _weights(np.stack([scores, off], axis=1), scores).tolist() == [1, 0]
    assert _weights(np.stack([off, scores / 2], axis=1), scores).tolist() == [0, 1]
    # Where all of them mislead, the process counts alone.
    assert _weights(np.stack([-scores, -scores], axis=1), scores).tolist() == [1, 0]


def test_predictions_follow_from_the_generator_alone() -> None:
    known = GENES[:40], accuracies(GENES[:40])
    one, same, other = (predictor(*known, seed).predict(GENES[40:60]) for seed in (0, 0, 1))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


@pytest.mark.parametrize(("scale", "offset"), [(1e6, 0.0), (1e-9, 0.0), (1.0, -3.0), (1e3, 1e6)])
def test_accuracies_may_have_any_scale(scale: float, offset: float) -> None:
    accuracy = accuracies(GENES[:40])
    mean, deviation = predictor(GENES[:40], accuracy).predict(GENES[40:80])
    found, found_deviation = predictor(GENES[:40], offset + scale * accuracy).predict(GENES[40:80])
    assert np.allclose((found - offset) / scale, mean, rtol=0, atol=0.005)
    assert np.allclose(found_deviation / scale, deviation, rtol=0.1)


@pytest.mark.parametrize("count", [1, 2, 3, 19, 30])
@pytest.mark.parametrize("value", [0.1, 0.0, -7e5])
def test_equal_accuracies_are_predicted_again_without_doubt(count: int, value: float) -> None:
    mean, deviation = predictor(GENES[:count], np.full(count, value)).predict(GENES[40:50])
    assert np.allclose(mean, value) and not deviation.any()


def test_two_subnets_are_enough() -> None:
    mean, deviation = predictor(GENES[:2], np.array([1.0, 2.0])).predict(GENES[:50])
    assert mean[0] < mean[1]
    assert np.isfinite(mean).all() and (deviation > 0).all()


def test_one_subnet_may_be_given_several_times_with_several_scores() -> None:
    genes = np.concatenate([GENES[:20]] * 3)
    accuracy = accuracies(genes) + np.repeat([0.0, 0.01, -0.01], 20)
    mean, deviation = predictor(genes, accuracy).predict(GENES[:20])
    assert np.abs(mean - accuracies(GENES[:20])).mean() < 0.01
    assert (deviation > 0).all()


def test_no_subnets_get_no_predictions() -> None:
    mean, deviation = predictor(GENES[:40], accuracies(GENES[:40])).predict(GENES[:0])
    assert mean.shape == deviation.shape == (0,)


def test_a_space_of_a_single_subnet_is_predicted() -> None:
    space = SearchSpace(
        name="one",
        stem=Stem(kernel=3, stride=2, channels=8),
        stages=(Stage(channels=8, stride=1, depth=(1,), kernel=(3,), expansion=(1,)),),
        width_multipliers=(1.0,),
        resolutions=(16,),
    )
    genes = np.zeros((1, 3), np.int64)
    made = Predictor(space, genes, np.array([0.7]), np.random.default_rng(0))
    assert made.predict(genes)[0].tolist() == [pytest.approx(0.7)]
