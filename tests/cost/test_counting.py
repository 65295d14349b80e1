"""Counts of fitting subnets against counting whole lowered graphs one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from tinynas.budget import Budget
from tinynas.cost.bins import Count, count_in_bins
from tinynas.cost.counting import NOTHING, count_fitting
from tinynas.cost.device import find_device
from tinynas.cost.fitting import fits, minimal_costs
from tinynas.cost.latency import find_timer
from tinynas.cost.table import compile_costs
from tinynas.space.arch import random_genes
from tinynas.space.spec import find_space

if TYPE_CHECKING:
    from conftest import Enumerated


def test_the_budgets_tried_fit_none_one_some_and_all(enumerated: Enumerated) -> None:
    counts = {int(enumerated.fitting(budget).sum()) for budget in enumerated.budgets()}
    assert {0, 1, len(enumerated.archs)} <= counts
    assert len(counts) > 15


def test_counts_of_small_spaces_are_exact(enumerated: Enumerated) -> None:
    for budget in enumerated.budgets():
        macs = enumerated.costs.macs[enumerated.fitting(budget)]
        count = count_fitting(enumerated.table, budget)
        assert count.exact
        assert count.lower == count.estimate == count.upper == len(macs)
        assert count.mean_macs == count.mean_macs_sure == count.mean_macs_possible
        assert count.mean_macs == pytest.approx(macs.mean() if len(macs) else 0, rel=1e-12)
        assert count.max_macs == count.max_macs_possible == max(macs, default=0)


Binned = list[tuple[Count, npt.NDArray[np.int64]]]


@pytest.fixture(scope="module")
def binned(enumerated: Enumerated) -> Binned:
    """Per budget, the count in bins and the MACs of the subnets that do fit."""
    minimal = minimal_costs(enumerated.table)
    return [
        (
            count_in_bins(enumerated.table, budget, minimal),
            enumerated.costs.macs[enumerated.fitting(budget)],
        )
        for budget in enumerated.budgets()
    ]


def test_counts_in_bins_hold_the_true_count(binned: Binned) -> None:
    for count, macs in binned:
        assert not count.exact
        assert count.lower <= len(macs) <= count.upper
        assert count.lower <= count.estimate <= count.upper
        assert count.max_macs <= max(macs, default=0) <= count.max_macs_possible
        assert (count.max_macs > 0) == (count.lower >= 1)


def test_means_in_bins_are_those_of_subnets(enumerated: Enumerated, binned: Binned) -> None:
    every = enumerated.costs.macs
    for count, macs in binned:
        for number, mean in (
            (count.lower, count.mean_macs_sure),
            (count.estimate, count.mean_macs),
            (count.upper, count.mean_macs_possible),
        ):
            assert every.min() <= mean <= every.max() if number else mean == 0
        if count.lower == count.upper > 0:
            assert count.mean_macs == pytest.approx(macs.mean())


def test_estimates_in_bins_lie_near_the_true_count(enumerated: Enumerated, binned: Binned) -> None:
    errors = [abs(count.estimate - len(macs)) for count, macs in binned]
    assert max(errors) < 0.15 * len(enumerated.archs)
    assert np.mean(errors) < 0.02 * len(enumerated.archs)


def test_what_fits_is_counted_as_one_at_least(enumerated: Enumerated) -> None:
    for budget in [*enumerated.budgets()[::6], enumerated.just_one(timed=True)]:
        macs = enumerated.costs.macs[enumerated.fitting(budget)]
        count = count_fitting(enumerated.table, budget, exact_subnets=0)
        if not len(macs):
            assert count == NOTHING
            continue
        assert 1 <= count.lower <= len(macs) <= count.upper
        assert count.estimate >= 1
        assert macs.min() <= count.max_macs <= macs.max() <= count.max_macs_possible
        assert budget.macs is None or count.max_macs_possible <= budget.macs
        assert count.mean_macs > 0


def test_known_minimal_costs_do_not_change_the_count(enumerated: Enumerated) -> None:
    minimal = minimal_costs(enumerated.table)
    for budget in enumerated.budgets()[::5]:
        count = count_fitting(enumerated.table, budget)
        assert count_fitting(enumerated.table, budget, minimal=minimal) == count


def test_a_budget_without_bounds_holds_every_subnet_exactly() -> None:
    space = find_space("mcunet")
    table = compile_costs(
        space,
        width=0.5,
        resolution=96,
        classes=10,
        channels=3,
        kernels="reference",
        latency=lambda graph, op: 1.0,
    )
    count = count_fitting(table, Budget(sram_bytes=2**30, flash_bytes=2**30))
    for number in (count.lower, count.estimate, count.upper):
        assert number == pytest.approx(space.subnets(), rel=1e-12)
    sample = table.evaluate(random_genes(space, 20_000, np.random.default_rng(0))).macs
    spread = sample.std() / len(sample) ** 0.5
    assert abs(count.mean_macs - sample.mean()) < 5 * spread


@pytest.mark.parametrize(
    ("name", "width", "resolution", "shares"),
    [
        ("mcunet", 0.5, 128, (0.3, 0.7, None)),
        ("mcunet", 0.4, 160, (0.5, 0.9, 0.3)),
        ("mcunet-small", 0.5, 32, (0.6, 0.4, None)),
        ("mcunet-small", 0.7, 40, (0.4, 0.8, 0.6)),
    ],
)
def test_brackets_of_the_shipped_spaces_hold_the_share_seen_in_samples(
    name: str, width: float, resolution: int, shares: tuple[float, float, float | None]
) -> None:
    space, timer = find_space(name), find_timer(find_device("stm32f746"), "tflm-cmsis-nn")
    table = compile_costs(
        space,
        width=width,
        resolution=resolution,
        classes=10,
        channels=3,
        kernels="cmsis-nn-dsp",
        latency=timer.op_us,
    )
    costs = table.evaluate(random_genes(space, 40_000, np.random.default_rng(0)))
    sram, flash, latency = shares
    budget = Budget(
        sram_bytes=int(np.quantile(costs.sram_bytes, sram)),
        flash_bytes=int(np.quantile(costs.flash_bytes, flash)),
        latency_ms=None if latency is None else float(np.quantile(costs.latency_ms, latency)),
    )
    inside = fits(costs, budget)
    error = 5 * (inside.mean() * (1 - inside.mean()) / len(inside)) ** 0.5
    count = count_fitting(table, budget)
    assert count.lower / space.subnets() <= inside.mean() + error
    assert count.upper / space.subnets() >= inside.mean() - error
    assert abs(count.estimate / space.subnets() - inside.mean()) < 0.06
    assert count.mean_macs == pytest.approx(costs.macs[inside].mean(), rel=0.02)
    assert count.max_macs > np.quantile(costs.macs[inside], 0.95)
