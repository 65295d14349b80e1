from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinynas.search.front import crowding, ranks, undominated

POINTS = st.tuples(st.integers(0, 140), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 4))
)


def dominates(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one <= other).all() and (one < other).any())


def peeled(points: np.ndarray) -> list[int]:
    """Fronts by the definition."""
    rank, left, number = [0] * len(points), list(range(len(points))), 0
    while left:
        front = [i for i in left if not any(dominates(points[j], points[i]) for j in left)]
        for i in front:
            rank[i] = number
        left = [i for i in left if i not in front]
        number += 1
    return rank


def test_fronts_are_numbered_from_the_undominated_outwards() -> None:
    points = np.array([[2.0, 2.0], [1.0, 1.0], [0.0, 3.0], [3.0, 3.0], [1.0, 1.0]])
    assert ranks(points).tolist() == [1, 0, 0, 2, 0]
    assert undominated(points).tolist() == [False, True, True, False, True]


@given(POINTS)
def test_fronts_are_those_of_the_definition(points: np.ndarray) -> None:
    expected = peeled(points)
    assert ranks(points).tolist() == expected
    assert undominated(points).tolist() == [rank == 0 for rank in expected]


@given(POINTS, st.integers(0, 150))
def test_fronts_are_told_apart_until_there_are_enough(points: np.ndarray, enough: int) -> None:
    expected, found = np.array(peeled(points), int), ranks(points, enough)
    last = found.max(initial=0)
    assert (found == np.minimum(expected, last)).all()
    assert (found < last - 1).sum() < max(enough, 1)


def test_the_undominated_of_many_points_are_found_in_chunks() -> None:
    points = np.random.default_rng(0).random((3000, 3))
    kept = undominated(points)
    assert (kept == (ranks(points, 1) == 0)).all()
    assert 30 < kept.sum() < 1000


def test_crowding_is_the_sum_of_scaled_gaps_and_infinite_at_the_ends_of_a_front() -> None:
    # Front 0: (4 - 0) / 4 + (4 - 0) / 4 for the middle one. Front 1 is two ends; front 2 alone.
    points = np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0], [1.0, 6.0], [7.0, 2.0], [9.0, 9.0]])
    rank = np.array([0, 0, 0, 1, 1, 2])
    assert crowding(points, rank).tolist() == [np.inf, 2.0, np.inf, np.inf, np.inf, np.inf]


def test_an_objective_in_which_all_are_equal_adds_no_gap() -> None:
    points = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    gaps = crowding(points, np.zeros(4, np.int64))
    assert gaps[[1, 2]].tolist() == pytest.approx([2 / 3, 2 / 3])
