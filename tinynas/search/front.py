"""Who dominates whom: Pareto fronts of points, the lower the better in every column."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

WORD_BITS = 64
CHUNK = 512


def undominated(points: Floats) -> Bools:
    """Which points no other one dominates; points (N, objectives), the result (N,).

    Points that are equal do not dominate each other.
    """
    order = np.lexsort(points.T[::-1])
    kept = np.zeros(len(points), np.bool_)
    front = points[:0]
    # Whatever dominates a point comes before it in this order.
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        rows = rows[~_beaten(points[rows], front)]
        rows = rows[ranks(points[rows], 1) == 0]
        kept[rows] = True
        front = np.concatenate([front, points[rows]])
    return kept


def _beaten(points: Floats, front: Floats) -> Bools:
    """Which points one of the front dominates, shape (N,)."""
    no_worse = np.ones((len(points), len(front)), np.bool_)
    better = np.zeros((len(points), len(front)), np.bool_)
    for column, values in zip(points.T, front.T, strict=True):
        no_worse &= values[None] <= column[:, None]
        better |= values[None] < column[:, None]
    return np.asarray((no_worse & better).any(axis=1))


def ranks(points: Floats, enough: int | None = None) -> Ints:
    """Number of each point's front, 0 for the undominated, 1 for those only they dominate, ...

    Fronts are told apart until they hold `enough` points; what is left is one more front.
    """
    count = len(points)
    beaten_by = _dominators(points)
    alive = _bits(np.arange(count), count)
    rank = np.zeros(count, np.int64)
    left, number = np.arange(count), 0
    while len(left) and count - len(left) < (count if enough is None else enough):
        beaten = (beaten_by[left] & alive).any(axis=1)
        rank[left[beaten]] = number = number + 1
        alive &= ~_bits(left[~beaten], count)
        left = left[beaten]
    return rank


def _bits(members: Ints, count: int) -> Words:
    """A set of numbers below `count` as bits, shape (words,)."""
    words = np.zeros(-(-count // WORD_BITS), np.uint64)
    np.bitwise_or.at(words, members // WORD_BITS, _bit(members))
    return words


def _bit(members: Ints) -> Words:
    bits: Words = np.uint64(1) << (members % WORD_BITS).astype(np.uint64)
    return bits


def _dominators(points: Floats) -> Words:
    """For each of N points, the set of those that dominate it as bits, shape (N, words).

    Per objective, the points that are no worse are the first ones in its order: their sets follow
    from one running union. Bits take N^2 / 8 bytes, comparing all pairs 16 times as many.
    """
    count = len(points)
    each = np.zeros((count, -(-count // WORD_BITS)), np.uint64)
    each[np.arange(count), np.arange(count) // WORD_BITS] = _bit(np.arange(count))
    result = np.full_like(each, ~np.uint64(0))
    for values in points.T:
        order = np.argsort(values, kind="stable")
        first = np.bitwise_or.accumulate(each[order], axis=0)
        result &= first[np.searchsorted(values[order], values, side="right") - 1]
    return result & ~_equals(points, each)


def _equals(points: Floats, each: Words) -> Words:
    """For each point, the set of those equal to it, itself among them; `each` are single bits."""
    order = np.lexsort(points.T)
    new = np.any(np.diff(points[order], axis=0, prepend=np.nan) != 0, axis=1)
    group = np.cumsum(new) - 1
    sets = np.bitwise_or.reduceat(each[order], np.flatnonzero(new), axis=0)
    result = np.empty_like(each)
    result[order] = sets[group]
    return result


def crowding(points: Floats, rank: Ints) -> Floats:
    """NSGA-II's crowding distance of points (N, objectives) in their fronts, shape (N,).

    Infinite at the extremes of a front (Deb et al. 2002, section III.B).
    """
    distance = np.zeros(len(points))
    for values in points.T:
        order = np.lexsort((values, rank))
        value, front = values[order], rank[order]
        first = np.diff(front, prepend=-1) != 0
        last = np.append(first[1:], True)
        span = (value[last] - value[first])[np.cumsum(first) - 1]
        gap = np.append(value[1:], 0) - np.append(0, value[:-1])
        gap = np.divide(gap, span, out=np.zeros(len(gap)), where=span > 0)
        distance[order] += np.where(first | last, np.inf, gap)
    return distance
