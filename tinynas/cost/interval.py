"""How far a measured latency may lie from a predicted one."""

from __future__ import annotations

from functools import lru_cache
from math import cos, exp, pi, sin, sqrt, tan

# The confidence of the intervals that are printed.
CONFIDENCE = 0.9
# Beyond so many degrees of freedom Student's distribution is the normal one to 0.1 %.
MOST_DEGREES = 2000


def interval_factor(spread: float, degrees: int, confidence: float) -> float:
    """What a prediction is multiplied by, and divided by, to get the ends of its interval.

    The interval holds the measured value with probability `confidence`. `spread` is the standard
    deviation of log(measured / predicted), known from `degrees` degrees of freedom.
    """
    return exp(spread * student_quantile(degrees, confidence))


@lru_cache(maxsize=256)
def student_quantile(degrees: int, confidence: float) -> float:
    """The t within which, on both sides of zero, Student's distribution has that probability."""
    degrees = min(degrees, MOST_DEGREES)
    low, high = 0.0, pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, degrees) < confidence else (low, middle)
    return sqrt(degrees) * tan(low)


def _inside(angle: float, degrees: int) -> float:
    """P(|t| < tan(angle) * sqrt(degrees)): Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    cosine, sine = cos(angle), sin(angle)
    odd = degrees % 2
    term = total = (cosine if degrees > 1 else 0.0) if odd else 1.0
    for k in range(2 + odd, degrees - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    return 2 / pi * (angle + sine * total) if odd else sine * total
