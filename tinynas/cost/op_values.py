"""What the constants and options of an operator say beyond its shapes, where they can be used.

A file may hold anything there, so each answer is compared with the shapes and is empty, or None,
where it does not explain them.
"""

from __future__ import annotations

from collections.abc import Sequence

Shape = tuple[int, ...]


def slice_begin(
    data: Shape,
    out: Shape,
    begin: Sequence[int],
    end: Sequence[int],
    *,
    begin_mask: int = 0,
    end_mask: int = 0,
) -> tuple[int, ...]:
    """First index on each axis of a STRIDED_SLICE that takes every element from there to `end`.

    Bits of a mask, the lowest for the first axis, say that a begin or an end is that of the axis.
    Negative indices count from the end of the axis (kernels/internal/strided_slice_logic.h).
    """
    if not len(data) == len(out) == len(begin) == len(end):
        return ()
    first = []
    for axis, (size, taken) in enumerate(zip(data, out, strict=True)):
        start = 0 if begin_mask >> axis & 1 else _inside(begin[axis], size)
        stop = size if end_mask >> axis & 1 else _inside(end[axis], size)
        if stop - start != taken:
            return ()
        first.append(start)
    return tuple(first)


def _inside(index: int, size: int) -> int:
    """An index counted from the start of an axis, at most its size."""
    return min(max(index + size if index < 0 else index, 0), size)


def pads_of(data: Shape, out: Shape, values: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """What a PAD adds before and after each axis, from the numbers of its constant in order."""
    if not 2 * len(data) == 2 * len(out) == len(values) or min(values, default=0) < 0:
        return ()
    pads = tuple(zip(values[::2], values[1::2], strict=True))
    grown = tuple(size + sum(pad) for size, pad in zip(data, pads, strict=True))
    return pads if grown == out else ()


def joined_axis(axis: int, parts: Sequence[Shape], whole: Shape) -> int | None:
    """The axis along which a CONCATENATION joins its parts, counted from the first one."""
    rank = len(whole)
    if not -rank <= axis < rank or any(len(part) != rank for part in parts):
        return None
    axis %= rank
    return axis if sum(part[axis] for part in parts) == whole[axis] else None
