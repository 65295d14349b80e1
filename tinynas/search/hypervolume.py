"""The hypervolume of a front: how much of the objectives' space it dominates.

Exact, for the two to five objectives of a search. Slice by slice along the last objective, of
which each has one more point; a point adds its box less what others cover of it (the limit sets
of While et al. 2012, doi 10.1109/TEVC.2010.2077298).
"""

from __future__ import annotations

import numpy as np

from tinynas.search.front import Floats, undominated


def hypervolume(points: Floats, reference: Floats) -> float:
    """Volume of what is dominated by points (N, objectives) up to the reference (objectives,).

    Lower is better in every column. Points not below the reference everywhere add nothing.
    """
    inside = points[np.all(points < reference, axis=1)]
    inside = np.unique(inside[undominated(inside)], axis=0)
    if not len(inside):
        return 0.0
    if len(reference) == 1:
        return float(reference[0] - inside[0, 0])
    if len(reference) == 2:
        below = np.append(reference[1], inside[:-1, 1])
        return float(((reference[0] - inside[:, 0]) * (below - inside[:, 1])).sum())
    return _in_slices(inside[np.argsort(inside[:, -1], kind="stable")], reference)


def _in_slices(points: Floats, reference: Floats) -> float:
    """The hypervolume of undominated points, sorted by the last objective."""
    total = area = 0.0
    before = points[:0, :-1]
    ends = np.append(points[1:, -1], reference[-1])
    for point, end in zip(points, ends, strict=True):
        area += added(point[:-1], before, reference[:-1])
        total += area * float(end - point[-1])
        before = before[np.any(before < point[:-1], axis=1)]
        before = np.concatenate([before, point[None, :-1]])
    return total


def added(point: Floats, others: Floats, reference: Floats) -> float:
    """What a point (objectives,) inside the reference adds to the hypervolume of others."""
    box = float(np.prod(reference - point))
    return box - hypervolume(np.maximum(others, point), reference)


class Growth:
    """The hypervolume of all points so far, after each lot of them.

    Up to the worst values of the first lot: these say what is worth something.
    """

    def __init__(self) -> None:
        self._reference: Floats | None = None
        self._front = np.zeros((0, 0))
        self._points = [0]
        self._volumes = [0.0]

    def tell(self, points: Floats) -> None:
        """Add points (N, objectives), the lower the better."""
        if self._reference is None:
            self._reference, self._front = points.max(axis=0), points[:0]
        volume = self._volumes[-1]
        for point in points[np.all(points < self._reference, axis=1)]:
            volume += added(point, self._front, self._reference)
            self._front = np.concatenate([self._front, point[None]])
            self._front = self._front[undominated(self._front)]
        self._points.append(self._points[-1] + len(points))
        self._volumes.append(volume)

    @property
    def volume(self) -> float:
        """The hypervolume of all points so far."""
        return self._volumes[-1]

    def stalled(self, window: int, part: float) -> bool:
        """Whether the last `window` points have added at most such a part of the volume."""
        before = self._points[-1] - window
        if before <= 0:
            return False
        last = self._volumes[-1]
        return last - float(np.interp(before, self._points, self._volumes)) <= part * last
