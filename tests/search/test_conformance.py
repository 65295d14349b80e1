"""What holds for every search algorithm."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tinynas.budget import Budget
from tinynas.cost.fitting import FittingSampler, fits, minimal_costs
from tinynas.cost.table import CostTable, compile_costs
from tinynas.errors import InfeasibleError
from tinynas.search.candidates import front_of
from tinynas.search.loop import JOURNAL, STUDY, Objective, search
from tinynas.search.problem import Batch, Scored, make_problem
from tinynas.search.settings import AlgorithmName
from tinynas.space.arch import canonical, encode, gene_keys, random_genes, smallest
from tinynas.space.spec import find_space

from .small_space import (
    ROOMY,
    SPACE,
    chosen_settings,
    every_subnet,
    merit,
    noisy,
    problem,
    run,
    table,
)

ALGORITHMS = (*get_args(AlgorithmName), "predicted")
PUT_BY_CHANCE = [name for name in ALGORITHMS if name != "exhaustive"]


def quantiles(sram: float, flash: float, latency: float | None = None) -> Budget:
    """Limits below which such shares of the small space lie."""
    costs = table().evaluate(every_subnet())
    return Budget(
        sram_bytes=int(np.quantile(costs.sram_bytes, sram)),
        flash_bytes=int(np.quantile(costs.flash_bytes, flash)),
        latency_ms=None if latency is None else float(np.quantile(costs.latency_ms, latency)),
    )


TIGHT = quantiles(0.5, 0.2)


def same(one: Scored, other: Scored) -> bool:
    return bool(
        np.array_equal(one.genes, other.genes)
        and np.array_equal(one.accuracy, other.accuracy)
        and np.array_equal(one.generation, other.generation)
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("score", [merit, noisy])
def test_every_subnet_scored_fits_and_none_is_scored_twice(algorithm: str, score: object) -> None:
    found = run(algorithm, TIGHT, score=score)
    count = int(FittingSampler(table(), TIGHT).count)
    expected = count if algorithm == "exhaustive" else min(60, count)
    assert len(set(gene_keys(found.scored.genes))) == len(found.scored) == expected
    assert fits(table().evaluate(found.scored.genes), TIGHT).all()
    assert (found.scored.genes == canonical(SPACE, found.scored.genes)).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_accuracies_and_costs_belong_to_their_subnets(algorithm: str) -> None:
    found = run(algorithm, score=noisy, evaluations=30).scored
    batch = problem().batch(found.genes)
    assert np.array_equal(found.accuracy, noisy(batch))
    for name in ("sram_bytes", "flash_bytes", "macs", "latency_ms"):
        assert np.array_equal(getattr(found.costs, name), getattr(batch.costs, name))
    assert found.count.tolist() == [0] * len(found)


@pytest.mark.parametrize("algorithm", PUT_BY_CHANCE)
def test_one_seed_gives_one_search_and_another_seed_another(algorithm: str) -> None:
    assert same(run(algorithm).scored, run(algorithm).scored)
    assert not same(run(algorithm).scored, run(algorithm, seed=1).scored)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_ends_when_every_fitting_subnet_has_been_scored(algorithm: str) -> None:
    budget = quantiles(0.3, 0.03)
    expected = FittingSampler(table(), budget).listed
    assert expected is not None and 10 < len(expected) < 60
    found = run(algorithm, budget, evaluations=500)
    assert set(gene_keys(found.scored.genes)) == set(gene_keys(expected))
    assert found.reason == ("evaluations" if algorithm == "exhaustive" else "exhausted")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_only_fitting_subnet_is_found(algorithm: str) -> None:
    costs = table().evaluate(every_subnet())
    budget = Budget(sram_bytes=10**6, flash_bytes=int(costs.flash_bytes.min()))
    (only,) = np.flatnonzero(costs.flash_bytes == costs.flash_bytes.min())
    assert run(algorithm, budget).scored.genes.tolist() == [every_subnet()[only].tolist()]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_without_a_fitting_subnet_the_least_of_each_cost_is_named(algorithm: str) -> None:
    costs = table().evaluate(every_subnet())
    least, flash = int(costs.sram_bytes.min()), int(costs.flash_bytes.min())
    with pytest.raises(InfeasibleError, match=rf"SRAM 1,000 bytes .*the least .* {least:,} bytes"):
        run(algorithm, Budget(sram_bytes=1000, flash_bytes=10**6))
    with pytest.raises(InfeasibleError) as told:
        run(algorithm, Budget(sram_bytes=10**6, flash_bytes=flash - 1, macs=10**9))
    assert re.search(rf"make it possible: flash {flash:,} bytes .*[^,]$", str(told.value))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("limited", ["sram", "flash", "latency", "energy", "macs"])
def test_every_limit_holds(algorithm: str, limited: str) -> None:
    costs = table().evaluate(every_subnet())
    latency_ms, macs = float(np.quantile(costs.latency_ms, 0.3)), int(np.quantile(costs.macs, 0.3))
    budget = {
        "sram": replace(ROOMY, sram_bytes=quantiles(0.3, 1).sram_bytes),
        "flash": replace(ROOMY, flash_bytes=quantiles(1, 0.3).flash_bytes),
        "latency": replace(ROOMY, latency_ms=latency_ms),
        "energy": replace(ROOMY, energy_mj=latency_ms * 0.1),
        "macs": replace(ROOMY, macs=macs),
    }[limited]
    chosen = chosen_settings(algorithm, evaluations=40)
    made = make_problem(table(), budget, chosen, active_power_mw=100.0)
    found = search(made, chosen, Objective(score=merit), seed=0).scored
    values, limit = {
        "sram": (found.costs.sram_bytes, budget.sram_bytes),
        "flash": (found.costs.flash_bytes, budget.flash_bytes),
        "latency": (found.costs.latency_ms, latency_ms),
        "energy": (made.energy_mj(found.costs), latency_ms * 0.1),
        "macs": (found.costs.macs, macs),
    }[limited]
    assert (values <= limit * (1 + 1e-12)).all() and (values > 0.5 * limit).any()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "objectives",
    [
        ("accuracy",),
        ("latency", "accuracy"),
        ("accuracy", "energy", "sram"),
        ("accuracy", "latency", "energy", "sram", "flash"),
    ],
)
def test_any_objectives_can_be_traded_off(algorithm: str, objectives: tuple[str, ...]) -> None:
    chosen = chosen_settings(algorithm, evaluations=40, population=8, objectives=objectives)
    made = make_problem(table(), ROOMY, chosen, active_power_mw=100.0)
    scored = search(made, chosen, Objective(score=noisy), seed=0).scored
    front = made.points(front_of(made, scored))
    assert front.shape[1] == len(objectives)
    for point in made.points(scored):
        assert (point == front).all(axis=1).any() or (
            ((front <= point).all(axis=1) & (front < point).any(axis=1)).any()
        )


@pytest.mark.parametrize("algorithm", ["evolution", "predicted", "random", "exhaustive"])
@pytest.mark.parametrize("kept", [0, 40, 300, 900, 1500, 2400, 3300])
def test_a_search_whose_journal_was_cut_off_anywhere_ends_as_if_it_never_stopped(
    algorithm: str, kept: int, tmp_path: Path
) -> None:
    """`kept` bytes of it: within the header, a row, a generation, or all.

    A study of Optuna's is not cut off together with the journal: see test_optuna_search.
    """
    expected = run(algorithm, TIGHT, score=noisy, folder=tmp_path).scored
    journal = (tmp_path / JOURNAL).read_bytes()
    (tmp_path / JOURNAL).write_bytes(journal[:kept])
    assert same(run(algorithm, TIGHT, score=noisy, folder=tmp_path).scored, expected)
    assert (tmp_path / JOURNAL).read_bytes() == journal


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_stopped_after_any_generation_goes_on_as_if_it_never_had(
    algorithm: str, tmp_path: Path
) -> None:
    expected = run(algorithm, TIGHT, score=noisy).scored
    chosen = chosen_settings(algorithm)
    made, objective = make_problem(table(), TIGHT, chosen), Objective(score=noisy)
    for _ in range(20):
        found = search(
            made,
            chosen,
            objective,
            seed=0,
            folder=tmp_path,
            callbacks=[lambda progress: True],
        )
        if found.reason != "callback":
            break
    assert same(found.scored, expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_goes_on_with_its_files_alone(algorithm: str, tmp_path: Path) -> None:
    """What was scored is not scored again."""
    expected = run(algorithm, TIGHT, folder=tmp_path).scored

    def never(batch: Batch) -> np.ndarray:
        raise AssertionError

    assert same(run(algorithm, TIGHT, folder=tmp_path, score=never).scored, expected)
    assert (tmp_path / STUDY).exists() == (algorithm in ("nsga2", "tpe"))


@cache
def mcunet_table() -> CostTable:
    return compile_costs(
        find_space("mcunet"),
        width=0.5,
        resolution=96,
        classes=10,
        channels=3,
        kernels="cmsis-nn-dsp",
        latency=lambda graph, op: 100.0,
        plan="overlap",
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_where_fewer_than_one_in_1e9_fit_fitting_subnets_come_within_seconds(
    algorithm: str,
) -> None:
    costs_table = mcunet_table()
    space = costs_table.space
    some = costs_table.evaluate(random_genes(space, 2000, np.random.default_rng(0)))
    least = FittingSampler(costs_table, Budget(sram_bytes=1, flash_bytes=1)).minimal

    def near_least(name: str) -> float:
        low = float(getattr(least, name).min())
        return low + 0.012 * (float(np.median(getattr(some, name))) - low)

    budget = Budget(
        sram_bytes=int(near_least("sram_bytes")) + 512,
        flash_bytes=int(near_least("flash_bytes")),
        latency_ms=near_least("latency_ms") + 0.4,
    )
    chosen = chosen_settings(algorithm, evaluations=50, population=10)
    started = time.monotonic()
    made = make_problem(costs_table, budget, chosen)
    assert 1 <= made.sampler.count < 1e-9 * space.subnets()
    first = chosen.model_copy(update={"evaluations": 1})
    search(made, first, Objective(score=noisy), seed=0, callbacks=[lambda progress: True])
    assert time.monotonic() - started < 10
    found = search(made, chosen, Objective(score=noisy), seed=0).scored
    assert len(found) >= min(50, made.sampler.count)
    assert fits(costs_table.evaluate(found.genes), budget).all()


# How far each limit is from the least that a subnet of mcunet needs towards the median of them.
RARE = {
    "flash": {"flash_bytes": 0.12},
    "latency": {"latency_ms": 0.08},
    "macs": {"macs": 0.18},
    "memory": {"sram_bytes": 0.12, "flash_bytes": 0.12},
}


@pytest.mark.parametrize("algorithm", PUT_BY_CHANCE)
@pytest.mark.parametrize("limited", RARE)
def test_one_in_1e9_that_are_too_many_to_list_are_found_within_seconds(
    algorithm: str, limited: str
) -> None:
    """A share below 1e-9 of 2e20 subnets, by each such limit: billions of them fit."""
    costs_table = mcunet_table()
    some = costs_table.evaluate(random_genes(costs_table.space, 2000, np.random.default_rng(0)))
    least = minimal_costs(costs_table)
    limits: dict[str, float] = {"sram_bytes": 10**9, "flash_bytes": 10**9}
    for name, part in RARE[limited].items():
        low = float(getattr(least, name).min())
        limits[name] = low + part * (float(np.median(getattr(some, name))) - low)
    budget = Budget(**{n: v if n == "latency_ms" else int(v) for n, v in limits.items()})
    chosen = chosen_settings(algorithm, evaluations=30, population=10)
    came: list[float] = []
    started = time.monotonic()
    made = make_problem(costs_table, budget, chosen)
    assert 1e6 < made.sampler.count < 1e-9 * costs_table.space.subnets()
    assert made.sampler.listed is None
    found = search(
        made,
        chosen,
        Objective(score=noisy),
        seed=0,
        callbacks=[lambda progress: came.append(time.monotonic() - started)],
    ).scored
    assert came[0] < 10  # about a second on an idle core
    assert len(set(gene_keys(found.genes))) == 30
    assert fits(costs_table.evaluate(found.genes), budget).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_subnet_in_2e20_is_found_and_one_byte_less_is_explained(algorithm: str) -> None:
    costs_table = mcunet_table()
    space = costs_table.space
    only = encode(space, smallest(space, width=0.5, resolution=96))
    flash = int(costs_table.evaluate(only).flash_bytes[0])
    chosen = chosen_settings(algorithm, evaluations=30)
    started = time.monotonic()
    made = make_problem(costs_table, Budget(sram_bytes=10**9, flash_bytes=flash), chosen)
    found = search(made, chosen, Objective(score=noisy), seed=0)
    assert found.scored.genes.tolist() == np.atleast_2d(only).tolist()
    with pytest.raises(InfeasibleError, match=f"flash {flash:,} bytes"):
        make_problem(costs_table, Budget(sram_bytes=10**9, flash_bytes=flash - 1), chosen)
    assert time.monotonic() - started < 20
