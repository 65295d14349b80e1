from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from tinynas.lut.pooling import Levels, Sample, factor, pool, predicted

WIDE = 5.0


def levels(chip: str, part: str) -> Levels:
    return ((("chip", chip), WIDE), (("part", part), 1.0))


def samples(noise: float = 0.0, seed: int = 0) -> list[Sample]:
    """Two parts that cost 2 and 0.5 of their cost, on chips of factors 1 and 3."""
    rng = np.random.default_rng(seed)
    found = []
    for chip, speed in (("a", 1.0), ("b", 3.0)):
        for _ in range(30):
            costs = rng.uniform(1, 100, 2)
            total = speed * (2 * costs[0] + 0.5 * costs[1]) * exp(noise * rng.normal())
            of = (levels(chip, "x"), levels(chip, "y"))
            found.append(Sample(total=total, noise=0.01, costs=tuple(costs), levels=of))
    return found


def test_factors_that_made_the_rows_come_back() -> None:
    found = pool(samples(), exact=True)
    assert factor(found, levels("a", "x")) == pytest.approx(2, rel=1e-3)
    assert factor(found, levels("b", "y")) == pytest.approx(1.5, rel=1e-3)


def test_an_outlier_moves_next_to_nothing() -> None:
    rows = samples(noise=0.01)
    rows[0] = Sample(
        total=rows[0].total * 5, noise=0.01, costs=rows[0].costs, levels=rows[0].levels
    )
    found = pool(rows, exact=True)
    assert factor(found, levels("a", "x")) == pytest.approx(2, rel=0.02)


def test_a_level_that_was_not_seen_deviates_by_nothing() -> None:
    found = pool(samples(), exact=True)
    known = found["part", "x"]
    assert factor(found, levels("c", "x")) == pytest.approx(exp(known))


def test_without_rows_of_its_own_a_part_stays_near_what_was_thought() -> None:
    only = [
        Sample(total=10.0, noise=0.05, costs=(10.0, 0.0), levels=s.levels) for s in samples()[:3]
    ]
    found = pool(only, exact=True)
    assert ("part", "y") not in found
    assert factor(found, levels("a", "x")) == pytest.approx(1, abs=0.05)


def test_the_exact_fit_is_where_the_loss_is_flat() -> None:
    rows = samples(noise=0.05)
    exact, near = pool(rows, exact=True), pool(rows)
    assert exact.keys() == near.keys()
    assert all(abs(exact[name] - near[name]) < 0.01 for name in exact)
    again = pool(rows, exact=True)
    assert exact == again


def test_a_prediction_is_the_sum_of_the_parts() -> None:
    sample = Sample(
        total=1.0, noise=1.0, costs=(2.0, 4.0), levels=(levels("a", "x"), levels("a", "y"))
    )
    deviations = {("chip", "a"): log(3.0), ("part", "y"): log(0.5)}
    assert predicted(deviations, sample) == pytest.approx(3 * 2 + 3 * 0.5 * 4)
