from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.errors import UsageError
from tinynas.supernet.course import shares, split_steps
from tinynas.supernet.settings import TrainSettings


def test_steps_are_split_in_proportion_by_hand() -> None:
    assert split_steps(10, [1.0]) == (10,)
    assert split_steps(300, [1, 2]) == (100, 200)
    assert split_steps(3, [1, 2, 97]) == (1, 1, 1)


@given(parts=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), more=st.integers(0, 5000))
def test_a_split_adds_up_and_keeps_proportions_to_within_two_steps(
    parts: list[float], more: int
) -> None:
    steps = len(parts) + more
    split = split_steps(steps, parts)
    assert sum(split) == steps and min(split) >= 1
    for got, part in zip(split, parts, strict=True):
        assert abs(got - steps * part / sum(parts)) <= len(parts) + 1


def test_fewer_steps_than_phases_are_refused() -> None:
    with pytest.raises(UsageError, match="of 3 phases needs at least 3 steps, not 2"):
        split_steps(2, [1, 1, 1])


def test_the_sandwich_is_one_phase() -> None:
    assert shares(TrainSettings()) == (1.0,)
    assert shares(TrainSettings(preset="mcunet")) == (1, 2)
