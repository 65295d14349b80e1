"""What no memory plan can do with less, overlaps included.

Two bounds are combined. At each operator the buffers in use share no bytes but those that its
output may share with the inputs it overwrites. Along a chain of such operators, savings hinder
each other: each output lies below its input, so that the first buffer of the chain is lifted by
the distances of all that follow.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinynas.cost.buffers import (
    NO_PAIRS,
    Buffer,
    Overlaps,
    Pairs,
    Scratch,
    activation_buffers,
    scratch_buffers,
    useful_pairs,
)
from tinynas.graph import Graph

Pair = tuple[int, int]


def lower_bound(graph: Graph, scratch: Scratch = (), overlaps: Overlaps = NO_PAIRS) -> int:
    """Bytes of the arena's head below which there is no plan.

    Without overlaps the largest sum of activations and scratch in memory at one time.
    """
    tensors = activation_buffers(graph)
    buffers = [*tensors.values(), *scratch_buffers(graph, scratch)]
    return bound_bytes(buffers, useful_pairs(buffers, [*tensors], overlaps))


def bound_bytes(buffers: Sequence[Buffer], pairs: Pairs = NO_PAIRS) -> int:
    """Bytes of the arena below which no placement of the buffers exists."""
    live = _live(buffers)
    at_once = max(size - _shared(buffers, pairs, time) for time, size in live.items())
    return max([at_once, *(_chain_bound(buffers, pairs, chain, live) for chain in _chains(pairs))])


def _live(buffers: Sequence[Buffer]) -> dict[int, int]:
    """Bytes in use at each time at which a buffer comes into use."""
    return {
        time: sum(b.size for b in buffers if b.first <= time <= b.last)
        for time in {b.first for b in buffers}
    }


def _shared(buffers: Sequence[Buffer], pairs: Pairs, time: int, apart: Pair | None = None) -> int:
    """The most bytes that outputs written at `time` share with inputs, `apart` sharing none.

    An output of n bytes that begins d below an input of m bytes covers min(n - d, m) of it, and
    never more than its own n bytes of several inputs.
    """
    covered: dict[int, int] = {}
    for (out, read), distance in pairs.items():
        if buffers[out].first == time and (out, read) != apart:
            common = max(0, min(buffers[out].size - distance, buffers[read].size))
            covered[out] = covered.get(out, 0) + common
    return sum(min(common, buffers[out].size) for out, common in covered.items())


def _chains(pairs: Pairs) -> list[list[int]]:
    """Buffers each of which may be overwritten by the next, from each one that overwrites none."""
    following = {read: out for out, read in pairs}
    chains = [[start] for start in following if start not in following.values()]
    for chain in chains:
        while chain[-1] in following:
            chain.append(following[chain[-1]])
    return chains


def _chain_bound(
    buffers: Sequence[Buffer], pairs: Pairs, chain: Sequence[int], live: dict[int, int]
) -> int:
    """Least bytes of a chain over all choices of where neighbours overlap and where they do not.

    Neighbours that do not overlap cost what their operator needs without it. In a run that does,
    buffer i begins at least the distances of all later ones above the arena's start, so the run
    needs size(i) plus these. `least[i]` is for the chain from i on.
    """
    length = len(chain)
    steps = [(chain[i], chain[i - 1]) for i in range(1, length)]
    apart = [0, *(_apart(buffers, pairs, pair, live) for pair in steps), 0]
    least = [0] * (length + 1)
    least[:length] = [sum(live.values())] * length
    for last in reversed(range(length)):
        rest, need, lift = max(apart[last + 1], least[last + 1]), 0, 0
        for i in range(last, -1, -1):
            need = max(need, buffers[chain[i]].size + lift)
            least[i] = min(least[i], max(need, rest))
            lift += pairs[steps[i - 1]] if i else 0
    return least[0]


def _apart(buffers: Sequence[Buffer], pairs: Pairs, pair: Pair, live: dict[int, int]) -> int:
    """Bytes at the operator of a pair that does not overlap."""
    time = buffers[pair[0]].first
    return live[time] - _shared(buffers, pairs, time, apart=pair)
