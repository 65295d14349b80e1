"""A good order in which first fit places buffers, found by changing it step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinynas.cost.buffers import NO_PAIRS, Buffer, Pairs
from tinynas.deploy.placement import conflicts_of, decreasing, first_fit, top

# Changes of order tried before the lower bound is given up, fewer where there are many buffers.
STEPS, BUFFERS_PLACED = 10_000, 2_000_000
TOP_MOVES = 0.6  # share of changes that move a buffer at the top of the arena towards the front
UPHILL = 0.005  # share of changes for the worse that are kept


def _orders(buffers: Sequence[Buffer]) -> list[list[int]]:
    """Orders of placing that often do well: by size, by duration, by both, by time."""
    indices = range(len(buffers))
    life = [buffer.last - buffer.first + 1 for buffer in buffers]
    size = [buffer.size for buffer in buffers]
    return [
        decreasing(buffers, indices),
        sorted(indices, key=lambda i: (-life[i], -size[i])),
        sorted(indices, key=lambda i: -life[i] * size[i]),
        sorted(indices, key=lambda i: (-buffers[i].last, -size[i])),
    ]


def _changed(
    buffers: Sequence[Buffer],
    order: Sequence[int],
    offsets: Sequence[int],
    rng: np.random.Generator,
) -> list[int]:
    """`order` with one buffer moved: one at the top to the front half, or any anywhere."""
    if rng.random() < TOP_MOVES:
        end = top(buffers, offsets)
        highest = [i for i in order if offsets[i] + buffers[i].size == end]
        moved, places = highest[int(rng.integers(len(highest)))], len(order) // 2 + 1
    else:
        moved, places = order[int(rng.integers(len(order)))], len(order)
    changed = [i for i in order if i != moved]
    changed.insert(int(rng.integers(places)), moved)
    return changed


def search(buffers: Sequence[Buffer], pairs: Pairs = NO_PAIRS, bound: int = 0) -> list[int]:
    """Offset of each buffer in the lowest arena that was found; ends at `bound`.

    The same for the same buffers: a fixed number of steps from a fixed seed.
    """
    rng = np.random.default_rng(0)
    conflicts = conflicts_of(buffers, pairs)
    starts = [(order, first_fit(buffers, conflicts, order)) for order in _orders(buffers)]
    order, offsets = min(starts, key=lambda start: top(buffers, start[1]))
    best, least = offsets, top(buffers, offsets)
    height = least
    for _ in range(min(STEPS, BUFFERS_PLACED // len(buffers))):
        if least <= bound:
            break
        trial = _changed(buffers, order, offsets, rng)
        placed = first_fit(buffers, conflicts, trial)
        reached = top(buffers, placed)
        if reached <= height or rng.random() < UPHILL:
            order, offsets, height = trial, placed, reached
        if reached < least:
            best, least = placed, reached
    return best
