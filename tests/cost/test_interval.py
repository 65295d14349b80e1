from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from tinynas.cost.interval import interval_factor, student_quantile


@given(degrees=st.integers(1, 300), confidence=st.floats(0.01, 0.999))
def test_quantiles_are_students(degrees: int, confidence: float) -> None:
    wanted = student.ppf((1 + confidence) / 2, degrees)
    assert student_quantile(degrees, confidence) == pytest.approx(wanted, rel=1e-7, abs=1e-9)


def test_with_many_degrees_of_freedom_it_is_the_normal_distribution() -> None:
    assert student_quantile(10**9, 0.9) == pytest.approx(1.6449, rel=1e-3)


def test_few_degrees_of_freedom_and_more_confidence_widen_the_interval() -> None:
    assert interval_factor(0.1, 1, 0.9) == pytest.approx(exp(0.1 * 6.3138), rel=1e-4)
    assert interval_factor(0.1, 1, 0.9) > interval_factor(0.1, 10, 0.9)
    assert interval_factor(0.1, 10, 0.99) > interval_factor(0.1, 10, 0.9)
    assert interval_factor(0.0, 1, 0.9) == 1
