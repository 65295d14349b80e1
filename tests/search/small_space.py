"""A space of 840 subnets with its cost table, made-up accuracies, and budgets, for the tests."""

from __future__ import annotations

import hashlib
from itertools import product
from pathlib import Path

import numpy as np

from tinynas.budget import Budget
from tinynas.cost.table import CostTable, compile_costs
from tinynas.search.loop import Found, Objective, search
from tinynas.search.problem import Batch, Problem, make_problem
from tinynas.search.settings import SearchSettings
from tinynas.space.arch import Genes, canonical, gene_keys, gene_sizes
from tinynas.space.spec import SearchSpace, Stage, Stem

SPACE = SearchSpace(
    name="small",
    stem=Stem(kernel=3, stride=2, channels=8),
    stages=(
        Stage(channels=8, stride=1, depth=(1,), kernel=(3,), expansion=(1,)),
        Stage(channels=16, stride=2, depth=(1, 2), kernel=(3, 5), expansion=(2, 3, 4)),
        Stage(channels=24, stride=2, depth=(1, 2), kernel=(3, 5), expansion=(2, 4)),
    ),
    width_multipliers=(1.0,),
    resolutions=(16,),
)
ROOMY = Budget(sram_bytes=10**6, flash_bytes=10**6)


def table(space: SearchSpace = SPACE) -> CostTable:
    """Microseconds are operators' multiply-accumulates: depthwise ones are no bargain."""
    return compile_costs(
        space,
        width=1.0,
        resolution=16,
        classes=4,
        channels=1,
        kernels="cmsis-nn-dsp",
        latency=lambda graph, op: 1000.0 * (3 if op.kind == "DEPTHWISE_CONV_2D" else 1),
    )


def every_subnet(space: SearchSpace = SPACE) -> Genes:
    """Genes of all subnets of a small space, in order."""
    rows = np.array([*product(*(range(size) for size in gene_sizes(space)))], np.int64)
    return np.unique(canonical(space, rows), axis=0)


def merit(batch: Batch) -> np.ndarray:
    """A made-up accuracy below 1: larger choices are better, some pairs of them more so."""
    genes = batch.genes
    pairs = (genes[:, 1:] * genes[:, :-1]).sum(axis=1)
    return (genes @ np.arange(1, 1 + genes.shape[1]) + 3 * pairs) / 1000


def noisy(batch: Batch) -> np.ndarray:
    """An accuracy from 0 to 1 without any order, the same for a subnet each time."""
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big") / 2**32
            for key in gene_keys(batch.genes)
        ]
    )


def problem(budget: Budget = ROOMY, **settings: object) -> Problem:
    return make_problem(table(), budget, SearchSettings.model_validate(settings))


def chosen_settings(algorithm: str, **settings: object) -> SearchSettings:
    """60 subnets in batches of 12, unless given; `predicted` is evolution with a predictor."""
    usual: dict[str, object] = {"algorithm": algorithm, "evaluations": 60, "population": 12}
    if algorithm == "predicted":
        usual |= {"algorithm": "evolution", "predictor": True}
    return SearchSettings.model_validate({**usual, **settings})


def run(
    algorithm: str,
    budget: Budget = ROOMY,
    *,
    seed: int = 0,
    folder: Path | None = None,
    score: object = merit,
    **settings: object,
) -> Found:
    """A search of 60 subnets in batches of 12, unless the settings say otherwise."""
    chosen = chosen_settings(algorithm, **settings)
    return search(
        make_problem(table(), budget, chosen),
        chosen,
        Objective(score=score),  # type: ignore[arg-type]
        seed=seed,
        folder=folder,
    )
