"""Which buffers of an arena must lie apart, and where first fit puts them.

Offsets and sizes are multiples of 16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from tinynas.cost.buffers import NO_PAIRS, Buffer, Pairs

# For each buffer: another, and offsets relative to it, both exclusive, at which they collide.
Conflicts = Sequence[Sequence[tuple[int, int, int]]]


def conflicts_of(buffers: Sequence[Buffer], pairs: Pairs = NO_PAIRS) -> Conflicts:
    """For each buffer, those in use at the same time and the relative offsets that are forbidden.

    Two buffers a and b may not have -size(a) < offset(a) - offset(b) < size(b); where a is written
    while b is read, only -distance < offset(a) - offset(b) < size(b).
    """
    first, last = (np.array([getattr(b, name) for b in buffers]) for name in ("first", "last"))
    meet = (first[:, None] <= last) & (first <= last[:, None])
    found: list[list[tuple[int, int, int]]] = [[] for _ in buffers]
    for a, b in np.argwhere(np.triu(meet, 1)).tolist():
        low = -pairs.get((a, b), buffers[a].size)
        high = pairs.get((b, a), buffers[b].size)
        found[a].append((b, low, high))
        found[b].append((a, -high, -low))
    return found


def first_fit(
    buffers: Sequence[Buffer],
    conflicts: Conflicts,
    order: Sequence[int],
    given: Mapping[int, int] = MappingProxyType({}),
) -> list[int]:
    """Offset of each buffer: that given, else the lowest that is free when its turn comes.

    -1 for a buffer that is neither given nor in `order`.
    """
    offsets = [-1] * len(buffers)
    for index, offset in given.items():
        offsets[index] = offset
    for index in order:
        forbidden = [
            (offsets[other] + low, offsets[other] + high)
            for other, low, high in conflicts[index]
            if offsets[other] >= 0
        ]
        forbidden.sort()
        place = 0
        for low, high in forbidden:
            if place <= low:
                break
            if place < high:
                place = high
        offsets[index] = place
    return offsets


def top(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    """Bytes of the arena that buffers at these offsets need."""
    return max(offset + buffer.size for offset, buffer in zip(offsets, buffers, strict=True))


def decreasing(buffers: Sequence[Buffer], indices: Sequence[int]) -> list[int]:
    """The order of TFLM's planner: largest first, of equal sizes the one added last.

    greedy_memory_planner.cc, CalculateOffsetsIfNeeded.
    """
    return sorted(reversed(indices), key=lambda index: -buffers[index].size)
