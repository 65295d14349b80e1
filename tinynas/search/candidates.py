"""Candidates: scored subnets one by one, the front of them, and the one to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from tinynas.search.front import undominated
from tinynas.search.problem import Problem, Scored


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A scored subnet: its genes, its accuracy and its predicted costs.

    The accuracy is that on `count` validation images with the supernet's weights, or what an
    objective of the user's gave; `count` is 0 then. `latency_ms` is estimated.
    """

    genes: tuple[int, ...]
    accuracy: float
    count: int
    sram_bytes: int
    flash_bytes: int
    macs: int
    latency_ms: float
    generation: int


def candidates_of(scored: Scored) -> list[Candidate]:
    """Scored subnets one by one, in order."""
    costs = scored.costs
    rows = zip(
        scored.genes.tolist(),
        scored.accuracy.tolist(),
        scored.count.tolist(),
        costs.sram_bytes.tolist(),
        costs.flash_bytes.tolist(),
        costs.macs.tolist(),
        costs.latency_ms.tolist(),
        scored.generation.tolist(),
        strict=True,
    )
    return [
        Candidate(
            genes=tuple(genes),
            accuracy=accuracy,
            count=count,
            sram_bytes=sram,
            flash_bytes=flash,
            macs=macs,
            latency_ms=latency,
            generation=generation,
        )
        for genes, accuracy, count, sram, flash, macs, latency, generation in rows
    ]


def front_of(problem: Problem, scored: Scored) -> Scored:
    """The scored subnets that no other one dominates, most accurate first."""
    front = scored.part(undominated(problem.points(scored)))
    costs = front.costs
    order = (costs.latency_ms, costs.flash_bytes, costs.sram_bytes, -front.accuracy)
    return front.part(np.lexsort((*front.genes.T[::-1], *order)))


def pick_winner(candidates: Sequence[Candidate]) -> Candidate:
    """The fastest of those within one standard error of the most accurate, then the smallest.

    The standard error is the binomial one of the best accuracy. Among few validation images
    higher accuracies are luck, and luck is no reason to pay latency. Accuracies that are no shares
    of images have none.
    """
    best = max(candidates, key=lambda c: c.accuracy)
    error = sqrt(best.accuracy * (1 - best.accuracy) / best.count) if best.count else 0.0
    equals = [c for c in candidates if c.accuracy >= best.accuracy - error]
    return min(equals, key=lambda c: (c.latency_ms, c.flash_bytes, c.sram_bytes, c.genes))
