"""A placement without overlap that fits an arena of a given size and leaves room for scratch.

Buffers are placed in the order of their creation, each at an end of a gap, going back when one
does not fit. In a chain of inverted residual blocks the first choice always fits, because it keeps
all free memory in one gap: beside a buffer that outlives this operator, else at an end of the
arena, beside a buffer that dies now only if nothing else is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tinynas.cost.buffers import Buffer

SEARCH_STEPS = 5_000  # placements tried before giving the arena up


@dataclass(frozen=True, slots=True)
class _Gap:
    """Free bytes [start, end), and the last use of the buffer on either side, if any."""

    start: int
    end: int
    below: int | None
    above: int | None


def _gaps(live: Sequence[tuple[int, Buffer]], arena: int) -> Iterator[_Gap]:
    start, below = 0, None
    for offset, buffer in sorted(live, key=lambda item: item[0]):
        if offset > start:
            yield _Gap(start, offset, below, buffer.last)
        start, below = offset + buffer.size, buffer.last
    if arena > start:
        yield _Gap(start, arena, below, None)


def _places(gaps: Sequence[_Gap], buffer: Buffer) -> list[int]:
    """Both ends of every gap that is large enough, the most promising first."""

    def rank(neighbour: int | None) -> int:
        if neighbour is None:
            return 1
        return 0 if neighbour > buffer.first else 2

    ranked: list[tuple[int, int]] = []
    for gap in gaps:
        if gap.end - gap.start >= buffer.size:
            ranked.append((rank(gap.below), gap.start))
            ranked.append((rank(gap.above), gap.end - buffer.size))
    return list(dict.fromkeys(place for _, place in sorted(ranked, key=lambda item: item[0])))


def _free(buffers: Sequence[Buffer], offsets: Sequence[int], step: int, arena: int) -> list[_Gap]:
    """Gaps of the arena at an operator, the first len(offsets) buffers being placed."""
    placed = zip(offsets, buffers, strict=False)
    return list(_gaps([(o, b) for o, b in placed if b.first <= step <= b.last], arena))


def _has_room(
    buffers: Sequence[Buffer], offsets: Sequence[int], scratch: Mapping[int, int], arena: int
) -> bool:
    """Whether scratch fits at each operator since the newest buffer and before the next."""
    complete = len(offsets) == len(buffers)
    following = 1 + max(b.last for b in buffers) if complete else buffers[len(offsets)].first
    return all(
        any(gap.end - gap.start >= scratch[step] for gap in _free(buffers, offsets, step, arena))
        for step in range(buffers[len(offsets) - 1].first, following)
        if step in scratch
    )


def fit(buffers: Sequence[Buffer], scratch: Mapping[int, int], arena: int) -> list[int] | None:
    """Offsets within `arena` bytes that leave a gap for each operator's scratch, or None.

    `buffers` come in order of their creation; `scratch` is the sum of bytes by operator. Depth
    first; gives up after SEARCH_STEPS.
    """
    offsets: list[int] = []
    untried: list[list[int]] = []  # one list for each placed buffer and for the next
    for _ in range(SEARCH_STEPS):
        if len(untried) == len(offsets):
            buffer = buffers[len(offsets)]
            places = _places(_free(buffers, offsets, buffer.first, arena), buffer)
            untried.append(places[::-1])  # taken from the end
        if not untried[-1]:
            untried.pop()
            if not offsets:
                return None
            offsets.pop()
            continue
        offsets.append(untried[-1].pop())
        if not _has_room(buffers, offsets, scratch, arena):
            offsets.pop()
        elif len(offsets) == len(buffers):
            return offsets
    return None
