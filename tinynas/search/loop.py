"""The search itself: ask an algorithm for subnets, score them, tell it the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tinynas.cost.fitting import FittingSampler
from tinynas.cost.table import CostTable
from tinynas.search.evolution import Evolution
from tinynas.search.front import Candidate
from tinynas.search.random_search import RandomSearch
from tinynas.space.arch import Arch, Genes, decode


class SearchSettings(BaseModel):
    """How long and in what steps to search; `evaluations` are scored subnets in all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["evolution", "random"] = "evolution"
    evaluations: int = Field(default=64, ge=1)
    population: int = Field(default=16, ge=2)
    mutation_probability: float = Field(default=0.1, gt=0, le=1)


Score = Callable[[Sequence[Arch]], Iterable[tuple[int, int]]]


class Algorithm(Protocol):
    """What every search algorithm can do."""

    def ask(self) -> Genes:
        """Subnets to score, shape (N, genes); none when there are none left."""

    def tell(self, candidates: Sequence[Candidate]) -> None:
        """Learn their scores."""


def make_algorithm(
    sampler: FittingSampler, settings: SearchSettings, rng: np.random.Generator
) -> Algorithm:
    """The algorithm of the settings over the fitting set."""
    if settings.algorithm == "random":
        return RandomSearch(sampler, population=settings.population, rng=rng)
    return Evolution(
        sampler,
        population=settings.population,
        mutation_probability=settings.mutation_probability,
        rng=rng,
    )


def search(
    sampler: FittingSampler,
    settings: SearchSettings,
    score: Score,
    *,
    rng: np.random.Generator,
    on_candidate: Callable[[Candidate, int, int], None],
) -> list[Candidate]:
    """All subnets scored, in order; every one fits the budget.

    `score` gives (correct, count) on the validation split for each of a batch, in order.
    `on_candidate` is told each candidate, its number and how many there will be. Ends early when
    every fitting subnet has been scored.
    """
    algorithm = make_algorithm(sampler, settings, rng)
    candidates: list[Candidate] = []
    generation = 0
    while len(candidates) < settings.evaluations:
        genes = algorithm.ask()[: settings.evaluations - len(candidates)]
        if not len(genes):
            break
        table, batch = sampler.table, []
        archs = [
            decode(table.space, g, width=table.width, resolution=table.resolution) for g in genes
        ]
        for row, (correct, count) in zip(genes, score(archs), strict=True):
            batch.append(_candidate(table, row, correct, count, generation))
            on_candidate(batch[-1], len(candidates) + len(batch), settings.evaluations)
        algorithm.tell(batch)
        candidates += batch
        generation += 1
    return candidates


def _candidate(
    table: CostTable, genes: Genes, correct: int, count: int, generation: int
) -> Candidate:
    costs = table.evaluate(genes)
    return Candidate(
        genes=tuple(int(gene) for gene in genes),
        correct=correct,
        count=count,
        sram_bytes=int(costs.sram_bytes[0]),
        flash_bytes=int(costs.flash_bytes[0]),
        macs=int(costs.macs[0]),
        latency_ms=float(costs.latency_ms[0]),
        generation=generation,
    )
