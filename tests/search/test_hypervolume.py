from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinynas.search.hypervolume import Growth, hypervolume

POINTS = st.tuples(st.integers(0, 9), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 5))
)


def test_two_objectives_by_hand() -> None:
    # Boxes up to (4, 4): 3 x 1 and 1 x 3, which share 1 x 1; the third point adds nothing.
    points = np.array([[1.0, 3.0], [3.0, 1.0], [3.0, 3.0]])
    assert hypervolume(points, np.array([4.0, 4.0])) == 3 + 3 - 1


def test_three_objectives_by_hand() -> None:
    # Boxes 2 x 2 x 1 and 1 x 1 x 2, which share 1 x 1 x 1.
    points = np.array([[1.0, 1.0, 2.0], [2.0, 2.0, 1.0]])
    assert hypervolume(points, np.array([3.0, 3.0, 3.0])) == 4 + 2 - 1


def test_four_objectives_by_hand() -> None:
    # 16 and 3 x 1 x 1 x 1, which share 1: two sides of 2 and of 1 or 3.
    points = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 2.0, 2.0]])
    assert hypervolume(points, np.full(4, 3.0)) == 16 + 3 - 2


def test_nothing_below_the_reference_is_no_volume() -> None:
    assert hypervolume(np.zeros((0, 2)), np.ones(2)) == 0
    assert hypervolume(np.array([[0.0, 1.0], [2.0, 0.0]]), np.ones(2)) == 0


@given(POINTS)
def test_it_is_the_number_of_unit_cells_that_some_point_dominates(points: np.ndarray) -> None:
    reference = np.full(points.shape[1], 5.0)
    cells = np.array([*product(range(5), repeat=points.shape[1])])
    below = (points[:, None] <= cells[None]).all(axis=2).any(axis=0)
    assert hypervolume(points, reference) == pytest.approx(below.sum())


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 2**32))
def test_growth_ends_at_the_hypervolume_of_all_points(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    lots = [rng.integers(6, size=(size, 3)).astype(float) for size in sizes]
    growth = Growth()
    for lot in lots:
        growth.tell(lot)
    reference = lots[0].max(axis=0)
    assert growth.volume == pytest.approx(hypervolume(np.concatenate(lots), reference))


def test_growth_stalls_when_the_last_points_added_too_little() -> None:
    growth = Growth()
    growth.tell(np.array([[0.0, 4.0], [4.0, 0.0], [2.0, 2.0]]))  # 4 up to (4, 4)
    assert not growth.stalled(3, 0.5)  # nothing to compare with before the first points
    growth.tell(np.array([[3.0, 3.0], [3.0, 3.0], [3.0, 3.0]]))
    assert growth.stalled(3, 0.01)
    growth.tell(np.array([[1.0, 2.0], [9.0, 9.0]]))  # 6
    assert growth.stalled(2, 1 / 3) and not growth.stalled(2, 0.3)
