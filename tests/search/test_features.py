from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinynas.search.features import ABSENT, features
from tinynas.space.arch import canonical, gene_sizes

from .small_space import SPACE, every_subnet


def test_the_features_of_two_subnets_by_hand() -> None:
    # Per stage: depth, then kernel and expansion of each block.
    genes = np.array(
        [[0, 0, 0, 1, 1, 2, 0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 0, 1]]
    )
    found = features(SPACE, genes)
    assert found.steps.tolist() == [
        [1, 1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0],
        [0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0, 1],
    ]
    assert found.blocks.tolist() == [[0, 5, 1, 1, ABSENT], [0, 1, ABSENT, 3, 1]]
    # Numbered by the choices of the last block there is, then the block's own.
    assert found.pairs.tolist() == [[0, 5, 31, 5, ABSENT], [0, 1, ABSENT, 7, 13]]


def test_different_subnets_have_different_features() -> None:
    found = features(SPACE, every_subnet())
    for values in (found.steps, found.blocks):
        assert len(np.unique(values, axis=0)) == len(every_subnet()) == len(found)
    assert len(found.part(slice(3))) == 3


@given(st.lists(st.integers(0, 2**31), min_size=13, max_size=13))
def test_there_are_as_many_blocks_as_the_depths_say(values: list[int]) -> None:
    genes = np.array([values]) % gene_sizes(SPACE)
    found = features(SPACE, canonical(SPACE, genes))
    present = found.blocks[0] != ABSENT
    assert present.sum() == 3 + genes[0, [3, 8]].sum()
    assert ((found.pairs[0] == ABSENT) == ~present).all()
