"""A search under a limit on latency that few subnets can keep never returns one over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tinynas.budget import Budget
from tinynas.config import build_config
from tinynas.cost.fitting import FittingSampler
from tinynas.cost.table import CostTable
from tinynas.search.loop import Objective, search
from tinynas.search.problem import Batch, make_problem
from tinynas.search.settings import SearchSettings
from tinynas.shrink import share_in_time
from tinynas.space.lower import lower
from tinynas.space.spec import find_space
from tinynas.target import Target, make_task, resolve_target
from tinynas.task import compile_task

CLASSES, WIDTH, RESOLUTION = 10, 0.5, 32
SPACE = find_space("mcunet-small")
AIMED_SHARE, MOST_IN_TIME = 0.05, 0.1


@cache
def target() -> Target:
    asked = {"mcu": "stm32l4r5", "sram": "128k", "flash": "300k", "latency": "1s"}
    return resolve_target(build_config({"target": asked}, {}, "test"))


@cache
def table() -> CostTable:
    return compile_task(SPACE, make_task(target(), CLASSES, 3), WIDTH, RESOLUTION)


@cache
def tight() -> Budget:
    """A limit on latency that few of the subnets inside SRAM and flash keep."""
    roomy = replace(target().budget, latency_ms=None)
    genes = FittingSampler(table(), roomy).sample(2000, np.random.default_rng(0))
    latencies_ms = table().evaluate(genes).latency_ms
    return replace(roomy, latency_ms=float(np.quantile(latencies_ms, AIMED_SHARE)))


def larger_is_better(batch: Batch) -> Iterator[float]:
    """A made-up score that draws the search to what is slow."""
    for arch in batch.archs():
        yield float(sum(map(sum, arch.kernels)) + sum(map(sum, arch.expansions)))


@pytest.mark.parametrize("confidence", [None, 0.9])
@pytest.mark.parametrize("algorithm", ["random", "evolution", "nsga2", "tpe"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_subnet_is_slower_than_the_limit(
    seed: int, algorithm: str, confidence: float | None
) -> None:
    timer, budget = target().timer, tight()
    if confidence is not None:
        factor = timer.factor(confidence)
        limit_ms = (budget.latency_ms or 0) * factor
        budget = replace(budget, latency_ms=limit_ms, confidence=confidence, margin=factor)
    share = share_in_time(table(), budget)
    print(f"{share:.2%} of the subnets inside SRAM and flash keep {budget.latency_ms:.4g} ms")
    assert 0 < share <= MOST_IN_TIME
    settings = SearchSettings(algorithm=algorithm, evaluations=96, population=24)  # type: ignore
    problem = make_problem(table(), budget, settings)
    found = search(problem, settings, Objective(score=larger_is_better), seed=seed).scored
    assert len(found) == 96
    batch = problem.batch(found.genes)
    for arch, latency_ms in zip(batch.archs(), found.costs.latency_ms, strict=True):
        latency = timer.graph(lower(SPACE, arch, classes=CLASSES, channels=3))
        assert latency.ms == pytest.approx(latency_ms, rel=1e-9)
        upper_ms = latency.ms if confidence is None else latency.high_ms
        assert upper_ms <= (budget.latency_ms or 0) * (1 + 1e-9)
