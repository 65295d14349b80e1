from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.cost.bound import bound_bytes
from tinynas.cost.buffers import Buffer, Pairs
from tinynas.deploy.local_search import search
from tinynas.deploy.placement import conflicts_of, first_fit, top


def _chain(*sizes: int) -> list[Buffer]:
    """Each buffer is read by the operator that writes the next."""
    return [Buffer(size=size, first=n, last=n + 1) for n, size in enumerate(sizes)]


def test_without_overlap_the_bound_is_the_largest_sum_in_use_at_once() -> None:
    assert bound_bytes(_chain(32, 64, 16, 48)) == 96


def test_an_overlap_saves_what_the_output_covers_of_its_input() -> None:
    # The output begins 16 below: it covers all but its last 16 bytes, or the whole input.
    assert bound_bytes(_chain(64, 64), {(1, 0): 16}) == 80
    assert bound_bytes(_chain(32, 64), {(1, 0): 16}) == 64
    assert bound_bytes(_chain(64, 32), {(1, 0): 16}) == 80


def test_an_output_covers_no_more_than_itself_of_two_inputs() -> None:
    buffers = [Buffer(size=64, first=0, last=1)] * 2 + [Buffer(size=64, first=1, last=1)]
    assert bound_bytes(buffers, {(2, 0): 0, (2, 1): 0}) == 128


def test_distances_add_up_along_a_chain() -> None:
    pairs = {(1, 0): 16, (2, 1): 16, (3, 2): 16}
    assert bound_bytes(_chain(96, 96, 96, 96), pairs) == 96 + 3 * 16


def test_a_chain_may_be_cheaper_where_two_neighbours_lie_apart() -> None:
    # Four overlaps would lift the first buffer by 192; 3 and 4 side by side need less.
    pairs = {(n + 1, n): 48 for n in range(4)}
    assert bound_bytes(_chain(96, 96, 96, 64, 80), pairs) == 96 + 2 * 48
    assert bound_bytes(_chain(96, 96, 96, 96, 96), pairs) == 96 + 2 * 48


@st.composite
def _small(draw: st.DrawFn) -> tuple[list[Buffer], Pairs]:
    """A chain of three operators, a buffer beside it, and overlaps wherever an input dies."""
    sizes = [16 * n for n in draw(st.lists(st.integers(1, 4), min_size=5, max_size=5))]
    first = draw(st.integers(0, 3))
    beside = Buffer(size=sizes.pop(), first=first, last=draw(st.integers(first, 4)))
    buffers = [*_chain(*sizes), beside]
    dying = [
        (out, read)
        for out, read in ((a, b) for a in range(5) for b in range(5) if a != b)
        if buffers[out].first == buffers[read].last
    ]
    return buffers, {
        pair: 16 * draw(st.integers(0, 3))
        for pair in draw(st.lists(st.sampled_from(dying), unique=True))
    }


def _lowest_top(buffers: list[Buffer], pairs: Pairs) -> int:
    """The best arena of all placements at multiples of 16, by trying every one."""
    most = top(buffers, first_fit(buffers, conflicts_of(buffers), range(len(buffers)))) // 16
    axes = [np.arange(most - buffer.size // 16 + 1) * 16 for buffer in buffers]
    offsets = np.meshgrid(*axes, indexing="ij", sparse=True)
    allowed = np.ones([len(axis) for axis in axes], bool)
    for a, b in combinations(range(len(buffers)), 2):
        if buffers[a].meets(buffers[b]):
            below, above = offsets[a] - offsets[b], offsets[b] - offsets[a]
            low = min(buffers[a].size, pairs.get((a, b), buffers[a].size))
            high = min(buffers[b].size, pairs.get((b, a), buffers[b].size))
            allowed &= (above >= low) | (below >= high)
    tops = np.zeros(allowed.shape, int)
    for offset, buffer in zip(offsets, buffers, strict=True):
        tops = np.maximum(tops, offset + buffer.size)
    return int(tops[allowed].min())


@settings(deadline=None, max_examples=120)
@given(_small())
def test_the_best_of_all_placements_is_never_below_the_bound_and_is_found(
    drawn: tuple[list[Buffer], Pairs],
) -> None:
    buffers, pairs = drawn
    lowest = _lowest_top(buffers, pairs)
    assert bound_bytes(buffers, pairs) <= lowest
    assert top(buffers, search(buffers, pairs, lowest)) == lowest
