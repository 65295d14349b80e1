"""How far predictions are from measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# Rows of all pairs that are compared at once: memory stays below 100 MB for 100,000 rows.
PAIR_ROWS = 64
# Per cent by which an error that is 10 % comes out too large.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Errors of predictions in per cent of what was measured, and how well they rank.

    `spread` is the standard deviation of log(measured / predicted) about zero, `kendall_tau`
    tau-b, None where there is nothing to rank.
    """

    count: int
    mean_percent: float
    p90_percent: float
    max_percent: float
    within_10_percent: float
    kendall_tau: float | None
    spread: float


def scores(measured: Sequence[float], predicted: Sequence[float]) -> Scores:
    """The scores of at least one prediction; both are above zero, in one unit."""
    truth, guess = np.asarray(measured, float), np.asarray(predicted, float)
    errors = 100 * np.abs(guess / truth - 1)
    return Scores(
        count=len(truth),
        mean_percent=float(errors.mean()),
        p90_percent=float(np.quantile(errors, 0.9)),
        max_percent=float(errors.max()),
        within_10_percent=float(100 * (errors <= 10 + ROUNDING).mean()),
        kendall_tau=kendall_tau(truth, guess),
        spread=float(np.sqrt((np.log(truth / guess) ** 2).mean())),
    )


def kendall_tau(first: Floats, second: Floats) -> float | None:
    """Kendall's tau-b of two rankings, from -1 to 1; None where one of them has only ties."""
    agreeing = first_differ = second_differ = 0.0
    for start in range(0, len(first), PAIR_ROWS):
        some = slice(start, start + PAIR_ROWS)
        a = np.sign(first[some, None] - first)
        b = np.sign(second[some, None] - second)
        agreeing += float((a * b).sum())
        first_differ += float(np.abs(a).sum())
        second_differ += float(np.abs(b).sum())
    if not first_differ or not second_differ:
        return None
    return agreeing / float(np.sqrt(first_differ * second_differ))
