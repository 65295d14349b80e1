"""Counting in dense arrays against listing every network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.cost.cells import Halves, Pairs, Step, all_pairs, extended, one, steps_of, together

SIZES = (9, 4, 3)


@dataclass(frozen=True)
class Choice:
    group: int
    bins: tuple[int, int, int]
    macs: int


CHOICES = st.builds(
    Choice,
    group=st.integers(0, 4),
    bins=st.tuples(st.integers(0, 10), st.integers(0, 2), st.integers(0, 3)),
    macs=st.integers(0, 1000),
)
BLOCKS = st.lists(st.lists(CHOICES, min_size=1, max_size=4), max_size=3)
GROUPS = 4


def steps(choices: list[Choice]) -> list[Step]:
    return steps_of(
        np.array([choice.macs for choice in choices]),
        np.array([choice.group for choice in choices]),
        np.array([choice.bins for choice in choices]),
        GROUPS,
        SIZES,
    )


def listed(blocks: list[list[Choice]], start: Choice) -> list[Choice]:
    """Every network, whatever its group and bins."""
    networks = []
    for chosen in product(*blocks):
        parts = (start, *chosen)
        bins = np.sum([part.bins for part in parts], axis=0)
        group = max(part.group for part in parts)
        networks.append(Choice(group, tuple(bins.tolist()), sum(part.macs for part in parts)))
    return networks


@settings(max_examples=200)
@given(
    early=BLOCKS,
    late=BLOCKS,
    first=st.integers(0, GROUPS - 1),
    limits=st.tuples(*(st.integers(0, size) for size in SIZES)),
    group=st.integers(0, GROUPS - 1),
)
def test_pairs_of_halves_are_the_networks_within_limits(
    early: list[list[Choice]],
    late: list[list[Choice]],
    first: int,
    limits: tuple[int, int, int],
    group: int,
) -> None:
    halves = []
    for start, blocks in ((one(first, 7.0), early), (one(0, 0.0), late)):
        cells = start
        for choices in blocks:
            cells = extended(cells, steps(choices), SIZES)
        halves.append(cells)
    macs = [
        network.macs
        for network in listed([*early, *late], Choice(first, (0, 0, 0), 7))
        if network.group == group
        and all(b < limit for b, limit in zip(network.bins, limits, strict=True))
    ]
    pairs = Halves(*halves).within(group, limits)
    assert pairs == Pairs(float(len(macs)), float(sum(macs)), float(max(macs, default=0)))
    assert pairs.mean_macs == pytest.approx(np.mean(macs) if macs else 0)


def test_choices_of_one_cell_are_one_step() -> None:
    choices = [
        Choice(0, (1, 1, 0), 5),
        Choice(0, (1, 1, 0), 9),
        Choice(1, (1, 1, 0), 2),
        Choice(GROUPS, (0, 0, 0), 3),
        Choice(0, (0, SIZES[1], 0), 4),
    ]
    assert steps(choices) == [Step(0, (1, 1, 0), 2, 14, 9), Step(1, (1, 1, 0), 1, 2, 2)]


def test_networks_of_several_depths_are_taken_together() -> None:
    shallow = extended(one(0, 1.0), steps([Choice(0, (1, 0, 0), 10)]), SIZES)
    deep = extended(shallow, steps([Choice(2, (3, 1, 0), 20), Choice(0, (0, 0, 0), 5)]), SIZES)
    cells = together([shallow, deep])
    assert cells.shape == (3, 5, 2, 1)
    assert cells.count.sum() == 3
    assert cells.count[0, 1, 0, 0] == 2 and cells.macs[0, 1, 0, 0] == 11 + 16
    assert cells.most[0, 1, 0, 0] == 16 and cells.most[2, 4, 1, 0] == 31
    assert cells.most[0, 0, 0, 0] == -np.inf


def test_no_parts_are_no_networks() -> None:
    assert all_pairs([]) == Pairs(0, 0, 0)
    assert Pairs(0, 0, 0).mean_macs == 0
