"""Whether anything fits, the least of each cost and uniform samples, against all subnets."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.budget import Budget
from tinynas.cost.blocks import TAIL_SUMS
from tinynas.cost.device import find_device
from tinynas.cost.fitting import (
    FittingSampler,
    choices_by_position,
    fits,
    minimal_costs,
    tail_line,
)
from tinynas.cost.kernels import Kernels
from tinynas.cost.latency import find_timer
from tinynas.cost.repair import variants
from tinynas.cost.table import compile_costs, costs_of
from tinynas.space.arch import Arch, decode, encode, gene_keys, random_genes
from tinynas.space.spec import find_space

if TYPE_CHECKING:
    from conftest import Enumerated

LIBRARIES: tuple[Kernels, ...] = ("reference", "cmsis-nn-dsp", "cmsis-nn-c")


def drawn(enumerated: Enumerated, sampler: FittingSampler, batches: int) -> list[Arch]:
    """Subnets of some batches, duplicates kept."""
    source = sampler.batches(np.random.default_rng(0), sampler.LARGEST_BATCH)
    table = enumerated.table
    return [
        decode(table.space, genes, width=table.width, resolution=table.resolution)
        for _, batch in zip(range(batches), source, strict=False)
        for genes in batch
    ]


def test_the_least_of_each_cost_is_that_of_all_subnets(enumerated: Enumerated) -> None:
    least, costs = minimal_costs(enumerated.table), enumerated.costs
    for name in ("sram_bytes", "flash_bytes", "macs", "head_bytes", "tail_bytes"):
        assert getattr(least, name).min() == getattr(costs, name).min()
    assert least.latency_ms.min() == pytest.approx(costs.latency_ms.min(), rel=1e-12)


def test_minimal_costs_are_those_of_some_subnets(enumerated: Enumerated) -> None:
    least, costs = minimal_costs(enumerated.table), enumerated.costs
    for row in range(len(least.macs)):
        same = np.isclose(costs.latency_ms, least.latency_ms[row], rtol=1e-9)
        for name in ("macs", "flash_bytes", "sram_bytes", "head_bytes", "tail_bytes"):
            same &= getattr(costs, name) == getattr(least, name)[row]
        assert same.any()


def test_something_fits_exactly_when_some_subnet_does(enumerated: Enumerated) -> None:
    minimal = minimal_costs(enumerated.table)
    for budget in enumerated.budgets():
        assert fits(minimal, budget).any() == enumerated.fitting(budget).any()


def test_the_tightest_limits_of_every_subnet_are_possible_and_tighter_ones_are_judged_right(
    enumerated: Enumerated,
) -> None:
    minimal = minimal_costs(enumerated.table)
    for index in range(0, len(enumerated.archs), 7):
        tight = enumerated.just(index, timed=True)
        assert fits(minimal, tight).any()
        assert tight.latency_ms is not None
        for tighter in (
            replace(tight, sram_bytes=tight.sram_bytes - 1),
            replace(tight, flash_bytes=tight.flash_bytes - 1),
            replace(tight, latency_ms=tight.latency_ms * (1 - 1e-6)),
        ):
            assert fits(minimal, tighter).any() == enumerated.fitting(tighter).any()


@settings(max_examples=60)
@given(
    data=st.data(),
    name=st.sampled_from(["mcunet", "mcunet-small"]),
    kernels=st.sampled_from(LIBRARIES),
    seed=st.integers(0, 2**32),
)
def test_tails_lie_between_their_line_and_its_slack(
    data: st.DataObject, name: str, kernels: Kernels, seed: int
) -> None:
    space = find_space(name)
    table = compile_costs(
        space,
        width=data.draw(st.sampled_from(space.width_multipliers)),
        resolution=data.draw(st.sampled_from(space.resolutions)),
        classes=10,
        channels=3,
        kernels=kernels,
        latency=lambda graph, op: 1.0,
    )
    rng, line = np.random.default_rng(seed), tail_line(table)
    sums = np.tile(np.array(table.base.sums), (200, 1))
    # Blocks put together at random: more than the space's depths allow.
    for choices in (choices for stage in choices_by_position(table) for choices in stage):
        picked = choices.sums[rng.integers(len(choices.sums), size=len(sums))]
        sums += picked * rng.integers(2, size=(len(sums), 1))
    none = np.zeros(len(sums), np.int64)
    above = costs_of(sums.T, none, none, none.astype(float)).tail_bytes - line.of(sums)
    assert (above >= line.lowest_bytes).all()
    assert (above <= line.lowest_bytes + line.slack_bytes).all()
    # Each sum is rounded up to 16 at most once.
    assert line.slack_bytes <= 15 * len(TAIL_SUMS)


def test_every_sample_fits_as_a_whole_graph(enumerated: Enumerated) -> None:
    for budget in enumerated.budgets()[::3]:
        inside = enumerated.fitting(budget)
        fitting = {arch for arch, fit in zip(enumerated.archs, inside, strict=True) if fit}
        found = drawn(enumerated, FittingSampler(enumerated.table, budget), 1)
        assert set(found) <= fitting
        assert bool(found) or not fitting


@pytest.mark.parametrize("timed", [False, True])
def test_samples_are_uniform_over_the_fitting_subnets(enumerated: Enumerated, timed: bool) -> None:
    tried = [b for b in enumerated.budgets() if (b.latency_ms is not None) == timed]
    budget = next(b for b in tried if 20 <= enumerated.fitting(b).sum() <= 700)
    inside = enumerated.fitting(budget)
    fitting = [arch for arch, fit in zip(enumerated.archs, inside, strict=True) if fit]
    found = Counter(drawn(enumerated, FittingSampler(enumerated.table, budget), 24))
    assert set(found) <= set(fitting)
    expected = found.total() / len(fitting)
    assert expected > 20
    chi_square = sum((found[arch] - expected) ** 2 / expected for arch in fitting)
    # Mean and 5 standard deviations of chi-square.
    degrees = len(fitting) - 1
    assert chi_square < degrees + 5 * (2 * degrees) ** 0.5
    assert set(found) == set(fitting)


@pytest.mark.parametrize("timed", [False, True])
def test_the_only_subnet_that_fits_is_found(enumerated: Enumerated, timed: bool) -> None:
    budget = enumerated.just_one(timed=timed)
    (index,) = np.flatnonzero(enumerated.fitting(budget))
    sampler = FittingSampler(enumerated.table, budget)
    assert set(drawn(enumerated, sampler, 2)) == {enumerated.archs[index]}
    genes = sampler.sample(5, np.random.default_rng(0), barren_batches=3)
    assert len(genes) == 1


def test_where_nothing_fits_sampling_ends_without_a_draw(enumerated: Enumerated) -> None:
    for budget in enumerated.budgets():
        if not enumerated.fitting(budget).any():
            sampler = FittingSampler(enumerated.table, budget)
            assert list(sampler.batches(np.random.default_rng(0), 16)) == []
            assert sampler.sample(3, np.random.default_rng(0)).shape == (0, genes_of(enumerated))


def genes_of(enumerated: Enumerated) -> int:
    """Number of genes of a subnet."""
    return random_genes(enumerated.table.space, 1, np.random.default_rng(0)).shape[1]


def test_samples_differ_from_each_other_and_from_those_seen(enumerated: Enumerated) -> None:
    sampler = FittingSampler(enumerated.table, enumerated.limits(0.6, 0.6))
    rng = np.random.default_rng(3)
    first = set(gene_keys(sampler.sample(40, rng)))
    second = set(gene_keys(sampler.sample(40, rng, seen=first)))
    assert len(first) == len(second) == 40
    assert not first & second


def test_a_latency_limit_far_below_all_subnets_is_no_error(enumerated: Enumerated) -> None:
    sampler = FittingSampler(
        enumerated.table, Budget(sram_bytes=2**30, flash_bytes=2**30, latency_ms=1e-12)
    )
    assert len(sampler.sample(1, np.random.default_rng(0))) == 0


@pytest.mark.parametrize(("name", "timed"), [("mcunet", True), ("mcunet-small", False)])
def test_samples_of_the_shipped_spaces_fit_and_follow_the_seed(name: str, timed: bool) -> None:
    space, timer = find_space(name), find_timer(find_device("stm32f746"), "tflm-cmsis-nn")
    table = compile_costs(
        space,
        width=0.5,
        resolution=64,
        classes=10,
        channels=3,
        kernels="cmsis-nn-dsp",
        latency=timer.op_us,
    )
    every = table.evaluate(random_genes(space, 2000, np.random.default_rng(0)))
    budget = Budget(
        sram_bytes=int(np.quantile(every.sram_bytes, 0.2)),
        flash_bytes=int(np.quantile(every.flash_bytes, 0.3)),
        latency_ms=float(np.quantile(every.latency_ms, 0.2)) if timed else None,
    )
    draws = [FittingSampler(table, budget).sample(100, np.random.default_rng(5)) for _ in range(2)]
    assert len(draws[0]) == 100
    assert fits(table.evaluate(draws[0]), budget).all()
    assert draws[0].tolist() == draws[1].tolist()


def genes_that_fit(enumerated: Enumerated, budget: Budget) -> set[bytes]:
    table, inside = enumerated.table, enumerated.fitting(budget)
    rows = [encode(table.space, a) for a, fit in zip(enumerated.archs, inside, strict=True) if fit]
    return set(gene_keys(np.array(rows, np.int64).reshape(-1, genes_of(enumerated))))


def test_the_fitting_subnets_are_listed_and_counted_exactly(enumerated: Enumerated) -> None:
    for budget in enumerated.budgets():
        sampler, expected = (
            FittingSampler(enumerated.table, budget),
            genes_that_fit(enumerated, budget),
        )
        assert sampler.listed is not None and sampler.count == len(expected)
        listed = gene_keys(sampler.listed)
        assert len(listed) == len(expected) and set(listed) == expected


class Unlisted(FittingSampler):
    """Draws from the diagram even where few fit."""

    LISTED = 0
    WIDTHS = (40, 400)


@pytest.mark.parametrize("timed", [False, True])
def test_draws_from_a_narrow_diagram_are_uniform_too(enumerated: Enumerated, timed: bool) -> None:
    tried = [b for b in enumerated.budgets() if (b.latency_ms is not None) == timed]
    budget = next(b for b in tried if 20 <= enumerated.fitting(b).sum() <= 700)
    sampler = Unlisted(enumerated.table, budget)
    assert sampler.listed is None
    fitting = genes_that_fit(enumerated, budget)
    source = sampler.batches(np.random.default_rng(0), sampler.LARGEST_BATCH)
    counts: Counter[bytes] = Counter()
    while counts.total() < 30 * len(fitting):
        counts.update(gene_keys(next(source)))
    expected = counts.total() / len(fitting)
    chi_square = sum((counts[key] - expected) ** 2 / expected for key in fitting)
    degrees = len(fitting) - 1
    assert set(counts) == fitting and chi_square < degrees + 5 * (2 * degrees) ** 0.5
    assert sampler.count == pytest.approx(len(fitting), rel=0.25)


def test_multiply_accumulates_can_be_limited(enumerated: Enumerated) -> None:
    macs = int(np.quantile(enumerated.costs.macs, 0.3))
    budget = Budget(sram_bytes=2**30, flash_bytes=2**30, macs=macs)
    assert FittingSampler(enumerated.table, budget).count == (enumerated.costs.macs <= macs).sum()


def test_a_limit_on_energy_is_one_on_latency(enumerated: Enumerated) -> None:
    timed = enumerated.limits(0.9, 0.9, 0.4)
    assert timed.latency_ms is not None
    limited = replace(
        timed, latency_ms=None, energy_mj=timed.latency_ms * 50 / 1000, power_mw=50.0
    )
    both = [FittingSampler(enumerated.table, b) for b in (timed, limited)]
    assert both[0].count == both[1].count > 0


@pytest.mark.parametrize(
    ("limits", "most"), [((0.03, 0.03, 0.03), 1e-9), ((0.002, 0.002, 0.002), 1e-15)]
)
def test_few_of_1e20_subnets_are_all_found(
    limits: tuple[float, float, float], most: float
) -> None:
    """Limits little above the least of each cost of mcunet: parts of the way to the median."""
    space, timer = find_space("mcunet"), find_timer(find_device("stm32f746"), "tflm-cmsis-nn")
    table = compile_costs(
        space,
        width=0.5,
        resolution=160,
        classes=10,
        channels=3,
        kernels="cmsis-nn-dsp",
        latency=timer.op_us,
        plan="overlap",
    )
    every, least = (
        table.evaluate(random_genes(space, 2000, np.random.default_rng(0))),
        minimal_costs(table),
    )

    def limit(name: str, part: float) -> float:
        low = float(getattr(least, name).min())
        return low + part * (float(np.median(getattr(every, name))) - low)

    budget = Budget(
        sram_bytes=int(limit("sram_bytes", limits[0])),
        flash_bytes=int(limit("flash_bytes", limits[1])),
        latency_ms=limit("latency_ms", limits[2]),
    )
    sampler = FittingSampler(table, budget)
    assert sampler.listed is not None and 1 <= sampler.count < most * space.subnets()
    assert fits(table.evaluate(sampler.listed), budget).all()
    # What no single change leaves among them does not fit: the list is closed.
    around = variants(space, sampler.listed).reshape(-1, sampler.listed.shape[1])
    outside = set(gene_keys(around)) - set(gene_keys(sampler.listed))
    rows = np.array([np.frombuffer(key, np.uint16) for key in outside], np.int64)
    assert not fits(table.evaluate(rows), budget).any()
