"""Subnets per second that the search itself manages: ours, and NSGA-II through Optuna.

    python experiments/benchmarks/search.py

One core. The objective is one pass over the genes, so what is timed is proposing subnets that fit,
costing them and telling fronts apart, a population of 1,000 at a time. In turns, medians. Optuna's
study is in memory; it gets slower with every trial. The last line is JSON.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import json
import platform
from statistics import median
from time import perf_counter

import numpy as np
import numpy.typing as npt

from tinynas.config import Config, TargetConfig
from tinynas.search.loop import Objective, search
from tinynas.search.problem import Batch, Problem, make_problem
from tinynas.search.settings import AlgorithmName, SearchSettings
from tinynas.space.spec import find_space
from tinynas.target import make_task, resolve_target
from tinynas.task import compile_task

OBJECTIVES = {"2 objectives": ("accuracy", "latency"), "4 objectives": None}


def at_once(batch: Batch) -> npt.NDArray[np.float64]:
    """A number for each subnet that costs next to nothing to find."""
    return batch.genes @ np.linspace(1, 2, batch.genes.shape[1])


def make(options: argparse.Namespace, settings: SearchSettings) -> Problem:
    given = {"sram": options.sram, "flash": options.flash}
    target = resolve_target(Config(target=TargetConfig.model_validate(given)))
    space = find_space(options.space)
    table = compile_task(space, make_task(target, 10, 3), options.width, options.resolution)
    return make_problem(table, target.budget, settings)


def rate(
    options: argparse.Namespace,
    algorithm: AlgorithmName,
    objectives: tuple[str, ...] | None,
    evaluations: int,
    seed: int,
) -> float:
    """Subnets per second of a search; its problem is made beforehand."""
    settings = SearchSettings.model_validate(
        {
            "algorithm": algorithm,
            "population": options.population,
            "evaluations": evaluations,
            **({"objectives": objectives} if objectives else {}),
        }
    )
    problem = make(options, settings)
    problem.sampler.sample(1, np.random.default_rng(0))  # what its first use makes
    start = perf_counter()
    found = search(problem, settings, Objective(score=at_once), seed=seed)
    duration = perf_counter() - start
    assert len(found.scored) == evaluations
    return evaluations / duration


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--space", default="mcunet")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--resolution", type=int, default=160)
    parser.add_argument("--sram", default="320k")
    parser.add_argument("--flash", default="1m")
    parser.add_argument("--population", type=int, default=1000)
    parser.add_argument("--generations", type=int, default=50, help="of evolution")
    parser.add_argument("--optuna-generations", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{platform.machine()}, one core, Python {platform.python_version()}")
    print(
        f"{options.space}, width {options.width:g}, {options.resolution} pixels, "
        f"{options.sram}/{options.flash}, population {options.population:,}"
    )
    lengths = {
        "evolution": options.generations * options.population,
        "nsga2": options.optuna_generations * options.population,
    }
    rates: dict[tuple[str, str], list[float]] = {}
    for seed in range(options.repeats):
        for name, objectives in OBJECTIVES.items():
            for algorithm, evaluations in lengths.items():
                found = rate(options, algorithm, objectives, evaluations, seed)
                rates.setdefault((name, algorithm), []).append(found)
    print(f"{'':32}subnets  subnets/s, median (lowest to highest)")
    for (name, algorithm), values in rates.items():
        print(
            f"{algorithm + ', ' + name:30}{lengths[algorithm]:9,}  "
            f"{median(values):9,.0f} ({min(values):,.0f} to {max(values):,.0f})"
        )
    last = list(OBJECTIVES)[-1]
    print(
        json.dumps(
            {
                "evolution_per_second": round(median(rates[last, "evolution"])),
                "optuna_nsga2_per_second": round(median(rates[last, "nsga2"])),
            }
        )
    )


if __name__ == "__main__":
    main()
