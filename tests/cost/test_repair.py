"""Near fitting subnets, against all subnets of small spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tinynas.budget import Budget
from tinynas.cost.fitting import FittingSampler, fits
from tinynas.cost.repair import (
    excess,
    fitting_choices,
    near_fitting,
    near_unseen,
    variants,
)
from tinynas.space.arch import Genes, canonical, encode, gene_keys, gene_sizes, random_genes

if TYPE_CHECKING:
    from conftest import Enumerated


def every(enumerated: Enumerated) -> Genes:
    return np.array([encode(enumerated.table.space, arch) for arch in enumerated.archs])


def possible(enumerated: Enumerated) -> list[Budget]:
    return [budget for budget in enumerated.budgets() if enumerated.fitting(budget).any()]


def test_variants_are_all_subnets_with_one_gene_changed(enumerated: Enumerated) -> None:
    space, rng = enumerated.table.space, np.random.default_rng(0)
    genes = random_genes(space, 20, rng)
    sizes = gene_sizes(space)
    found = variants(space, genes)
    assert found.shape == (20, sum(sizes) - len(sizes), len(sizes))
    for row, options in zip(genes, found, strict=True):
        expected = set()
        for gene, size in enumerate(sizes):
            for value in set(range(size)) - {int(row[gene])}:
                changed = row.copy()
                changed[gene] = value
                expected.add(tuple(canonical(space, changed[None])[0]))
        assert {tuple(option) for option in options} == expected


def test_fitting_choices_are_the_values_that_fit(enumerated: Enumerated) -> None:
    space = enumerated.table.space
    budget = enumerated.limits(0.6, 0.6)
    sampler = FittingSampler(enumerated.table, budget)
    fitting = set(gene_keys(every(enumerated)[enumerated.fitting(budget)]))
    for row in random_genes(space, 10, np.random.default_rng(1)):
        for gene, allowed in enumerate(fitting_choices(sampler, row)):
            for value, fit in enumerate(allowed):
                changed = row.copy()
                changed[gene] = value
                assert (gene_keys(canonical(space, changed[None]))[0] in fitting) == fit


def test_excess_is_how_far_beyond_the_limits_in_parts_of_them() -> None:
    costs = _costs(sram=[150, 90], flash=[120, 100], latency=[2.0, 0.5], macs=[7, 30])
    budget = Budget(sram_bytes=100, flash_bytes=100, latency_ms=1.0, macs=20)
    assert excess(costs, budget).tolist() == pytest.approx([0.5 + 0.2 + 1.0, 0.5])


def _costs(**columns: list[float]) -> object:
    from tinynas.cost.table import Costs

    none = np.zeros(2, np.int64)
    return Costs(
        sram_bytes=np.array(columns["sram"], np.int64),
        flash_bytes=np.array(columns["flash"], np.int64),
        latency_ms=np.array(columns["latency"], np.float64),
        macs=np.array(columns["macs"], np.int64),
        head_bytes=none,
        tail_bytes=none,
    )


def test_what_fits_is_left_as_it_is_and_what_does_not_comes_to_fit(enumerated: Enumerated) -> None:
    rng, genes = np.random.default_rng(0), every(enumerated)[::5]
    for budget in possible(enumerated)[::4]:
        sampler = FittingSampler(enumerated.table, budget)
        near = near_fitting(sampler, genes, rng)
        inside = fits(enumerated.table.evaluate(genes), budget)
        assert fits(enumerated.table.evaluate(near), budget).all()
        assert (near[inside] == genes[inside]).all()
        assert (near == canonical(enumerated.table.space, near)).all()


def test_near_is_hardly_farther_than_the_nearest(enumerated: Enumerated) -> None:
    """In genes that differ, on average over all that do not fit."""
    genes = every(enumerated)
    for budget in (enumerated.limits(0.6, 0.6), enumerated.limits(0.3, 0.6, 0.5)):
        inside = enumerated.fitting(budget)
        outside, fitting = genes[~inside][::7], genes[inside]
        near = near_fitting(FittingSampler(enumerated.table, budget), outside, rng())
        distance = (near != outside).sum(axis=1)
        nearest = np.array([(fitting != row).sum(axis=1).min() for row in outside])
        assert (distance >= nearest).all() and distance.mean() <= 1.4 * nearest.mean()


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_without_a_fitting_subnet_none_is_near(enumerated: Enumerated) -> None:
    sampler = FittingSampler(enumerated.table, Budget(sram_bytes=1, flash_bytes=1))
    with pytest.raises(ValueError, match="no subnet fits"):
        near_fitting(sampler, every(enumerated)[:1], rng())


def test_a_near_subnet_that_was_seen_is_replaced_until_all_were_seen(
    enumerated: Enumerated,
) -> None:
    budget = next(b for b in possible(enumerated) if 3 <= enumerated.fitting(b).sum() <= 200)
    sampler = FittingSampler(enumerated.table, budget)
    child, seen, chance = every(enumerated)[-1], set[bytes](), rng()
    for _ in range(int(sampler.count)):
        found = near_unseen(sampler, child, seen, chance)
        (key,) = gene_keys(found)
        assert key not in seen and fits(enumerated.table.evaluate(found), budget).all()
        seen.add(key)
    assert len(near_unseen(sampler, child, seen, chance)) == 0
