import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from tinynas.lut.scores import kendall_tau, scores


def test_errors_are_in_per_cent_of_what_was_measured() -> None:
    found = scores([100, 200, 50, 10], [110, 190, 50, 15])
    assert (found.count, found.max_percent) == (4, pytest.approx(50))
    assert found.mean_percent == pytest.approx((10 + 5 + 0 + 50) / 4)
    assert found.within_10_percent == pytest.approx(75)
    # The 0.9 quantile of 0, 5, 10, 50 lies at 2.7 steps: 10 + 0.7 * 40.
    assert found.p90_percent == pytest.approx(38)
    logs = [math.log(100 / 110), math.log(200 / 190), 0.0, math.log(10 / 15)]
    assert found.spread == pytest.approx(math.sqrt(sum(x * x for x in logs) / 4))
    assert found.kendall_tau == 1


def test_one_row_cannot_be_ranked() -> None:
    assert scores([1], [2]).kendall_tau is None
    assert scores([1, 1], [2, 3]).kendall_tau is None


@given(pairs=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=2, max_size=200))
def test_tau_is_scipys(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array(column, float) for column in zip(*pairs, strict=True))
    tau = kendall_tau(first, second)
    if tau is None:
        assert len(set(first)) == 1 or len(set(second)) == 1
    else:
        assert tau == pytest.approx(kendalltau(first, second).statistic)
