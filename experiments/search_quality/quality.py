"""Hypervolume against evaluations for every search algorithm, on two problems that are known.

    python experiments/search_quality/quality.py --out results

`landscape`: mcunet-small under a limit of flash, made-up accuracies whose front against latency is
known exactly. `table`: 4,000 subnets that were all scored by a trained supernet (table.csv.gz),
with the objectives that a search has by default. Hypervolumes are shares of that of the whole
front. Each algorithm runs with each seed; OUT gets runs/ (the same command goes on where it was
stopped), quality.csv, quality.md and a picture of each problem. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from landscape import Landscape

from tinynas import Batch, SearchResult, run_search
from tinynas.search.hypervolume import hypervolume
from tinynas.space.spec import find_space

Floats = npt.NDArray[np.float64]

HERE = Path(__file__).parent
TABLE = HERE / "table.csv.gz"
FLASH_BYTES = 700_000  # of the landscape; uniform samples of mcunet-small need 600,000 to 800,000
REFERENCE_SUBNETS = 2_000  # drawn uniformly; the hypervolume ends at their worst values
REFERENCE_SEED = 10_000
GOAL = 0.99  # of the best median hypervolume that any algorithm came to
COLOURS = {
    "random": "#999999",
    "tpe": "#cc79a7",
    "nsga2": "#d55e00",
    "evolution": "#0072b2",
    "predictor": "#009e73",
}
LABELS = {"predictor": "evolution with predictor"}
FIELDS = ("problem", "algorithm", "evaluations", "seeds", "q25", "median", "q75")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A problem: arguments of run_search; for each algorithm its evaluations and batch."""

    arguments: dict[str, Any]
    algorithms: dict[str, tuple[int, int]]

    def search(
        self, score: Callable[[Batch], Iterable[float]], name: str, seed: int
    ) -> SearchResult:
        evaluations, population = self.algorithms[name]
        settings: dict[str, Any] = {"population": population}
        if name == "predictor":
            settings["predictor"] = True
        return run_search(
            batch_objective=score,
            algorithm="evolution" if name == "predictor" else name,
            evaluations=evaluations,
            config={"search": settings},
            seed=seed,
            **self.arguments,
        )


CASES = {
    "landscape": Case(
        arguments={
            "space": "mcunet-small",
            "width": 1.0,
            "resolution": 32,
            "sram": "1m",
            "flash": FLASH_BYTES,
            "objectives": ("accuracy", "latency"),
        },
        algorithms={
            "random": (60_000, 1_000),
            "tpe": (1_000, 10),
            "nsga2": (10_000, 100),
            "evolution": (30_000, 100),
            "predictor": (1_000, 12),
        },
    ),
    "table": Case(
        arguments={
            "space": str(HERE / "reduced.yaml"),
            "width": 0.5,
            "resolution": 16,
            "sram": "320k",
            "flash": "1m",
        },
        algorithms={
            "random": (4_000, 32),
            "tpe": (500, 10),
            "nsga2": (2_000, 32),
            "evolution": (2_000, 32),
            "predictor": (600, 12),
        },
    ),
}


@cache
def landscape(space: str) -> Landscape:
    return Landscape(find_space(space), np.random.default_rng(0), noise=0.15, pairs=0.1)


def read_table() -> list[dict[str, str]]:
    """The subnets and their scores as tabulate.py wrote them down."""
    with gzip.open(TABLE, "rt", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@cache
def accuracies() -> dict[str, float]:
    return {row["genes"]: int(row["correct"]) / int(row["images"]) for row in read_table()}


def look_up(batch: Batch) -> list[float]:
    scores = accuracies()
    return [scores["".join(map(str, genes))] for genes in batch.genes.tolist()]


def scoring(problem: str) -> Callable[[Batch], Iterable[float]]:
    return look_up if problem == "table" else landscape("mcunet-small")


def sample(problem: str, algorithm: str, evaluations: int) -> SearchResult:
    """A search of a problem for what is drawn and counted alone."""
    return run_search(
        batch_objective=scoring(problem),
        algorithm=algorithm,
        evaluations=evaluations,
        seed=REFERENCE_SEED,
        **CASES[problem].arguments,
    )


def known(problem: str) -> tuple[Floats, float]:
    """Where hypervolumes of a problem end, shape (objectives,), and that of its whole front."""
    drawn = sample(problem, "random", REFERENCE_SUBNETS)
    reference = drawn.problem.points(drawn.scored).max(axis=0)
    if problem == "table":
        every = sample(problem, "exhaustive", 1)
        front = every.problem.points(every.scored)
    else:
        front = landscape("mcunet-small").front(drawn.problem.table, FLASH_BYTES)
    return reference, hypervolume(front, reference)


def check_landscape() -> None:
    """The front that dynamic programming finds is that of all subnets, where these are few."""
    changes = {"flash": 80_000, "objectives": ("accuracy", "latency")}
    arguments = {**CASES["table"].arguments, **changes}
    small = landscape(arguments["space"])
    every = run_search(batch_objective=small, algorithm="exhaustive", **arguments)
    found = np.unique(small.front(every.problem.table, 80_000), axis=0)
    costs = every.front
    expected = np.unique(np.stack([-costs["accuracy"], costs["latency_ms"]], axis=1), axis=0)
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-9):
        raise SystemExit("the landscape's front is not that of all its subnets")


def marks(evaluations: int) -> list[int]:
    """Where hypervolumes are taken: ten to each factor of ten, and at the end."""
    steps = np.round(10 ** np.arange(1, np.log10(evaluations), 0.1)).astype(int)
    return sorted({*steps.tolist(), evaluations})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A search to be run, and what its hypervolumes are compared with."""

    problem: str
    algorithm: str
    seed: int
    reference: Floats
    whole: float
    path: Path


def curve(job: Job) -> dict[int, float]:
    """Share of the whole hypervolume after so many evaluations; kept in a file."""
    if not job.path.exists():
        case, score = CASES[job.problem], scoring(job.problem)
        result = case.search(score, job.algorithm, job.seed)
        found = result.problem.points(result.scored)
        shares = {
            mark: hypervolume(found[:mark], job.reference) / job.whole
            for mark in marks(case.algorithms[job.algorithm][0])
            if mark <= len(found)
        }
        job.path.write_text(json.dumps(shares) + "\n", encoding="utf-8")
        print(f"{job.path.stem}: {list(shares.values())[-1]:.4f}", flush=True)
    return {int(mark): share for mark, share in json.loads(job.path.read_text()).items()}


def run_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Quartiles over seeds: a row for each problem, algorithm and mark."""
    folder = options.out / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for problem in options.problems:
        reference, whole = known(problem)
        jobs += [
            Job(
                problem=problem,
                algorithm=algorithm,
                seed=seed,
                reference=reference,
                whole=whole,
                path=folder / f"{problem}-{algorithm}-{seed}.json",
            )
            for algorithm in CASES[problem].algorithms
            for seed in range(options.seeds)
        ]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        curves = list(pool.map(curve, jobs))
    rows = []
    for problem in options.problems:
        for algorithm in CASES[problem].algorithms:
            mine = [
                found
                for job, found in zip(jobs, curves, strict=True)
                if (job.problem, job.algorithm) == (problem, algorithm)
            ]
            for mark in sorted(set.intersection(*(set(found) for found in mine))):
                quartiles = np.quantile([found[mark] for found in mine], [0.25, 0.5, 0.75])
                values = (problem, algorithm, mark, len(mine), *quartiles.round(5).tolist())
                rows.append(dict(zip(FIELDS, values, strict=True)))
    return rows


def reached(rows: Sequence[dict[str, Any]], problem: str, algorithm: str) -> int | None:
    """Evaluations after which the median has come to the goal, by the marks; None if never."""
    rows = [row for row in rows if row["problem"] == problem]
    goal = GOAL * max(row["median"] for row in rows)
    mine = [row for row in rows if row["algorithm"] == algorithm]
    return next((row["evaluations"] for row in mine if row["median"] >= goal), None)


def write_table(path: Path, rows: Sequence[dict[str, Any]], problem: str) -> None:
    """Medians and quartiles at round numbers of evaluations, as Markdown."""
    shown = [100, 316, 1_000, 3_162, 10_000, 31_623]
    rows = [row for row in rows if row["problem"] == problem]
    present = [mark for mark in shown if any(row["evaluations"] == mark for row in rows)]
    lines = [
        f"| | {' | '.join(f'{mark:,}' for mark in present)} | {GOAL:.0%} of the best after |",
        "|---|" + "---:|" * (len(present) + 1),
    ]
    for algorithm in CASES[problem].algorithms:
        at = {row["evaluations"]: row for row in rows if row["algorithm"] == algorithm}
        cells = [
            f"{at[m]['median']:.3f} ({at[m]['q25']:.3f} to {at[m]['q75']:.3f})" if m in at else ""
            for m in present
        ]
        when = reached(rows, problem, algorithm)
        cells.append(f"{when:,}" if when else f"not in {max(at):,}")
        lines.append(f"| {LABELS.get(algorithm, algorithm)} | " + " | ".join(cells) + " |")
    with path.open("a", encoding="utf-8") as file:
        file.write(f"`{problem}`\n\n" + "\n".join(lines) + "\n\n")


def draw_picture(path: Path, rows: Sequence[dict[str, Any]], problem: str) -> None:
    """Median share of the front's hypervolume against evaluations, quartiles as bands."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.2))
    axes = figure.add_subplot(
        xscale="log",
        xlabel="subnets scored",
        ylabel="share of the whole front's hypervolume",
        title=problem,
    )
    for algorithm in CASES[problem].algorithms:
        mine = [row for row in rows if (row["problem"], row["algorithm"]) == (problem, algorithm)]
        at, colour = [row["evaluations"] for row in mine], COLOURS[algorithm]
        label = LABELS.get(algorithm, algorithm)
        axes.plot(at, [row["median"] for row in mine], color=colour, label=label)
        low, high = ([row[q] for row in mine] for q in ("q25", "q75"))
        axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    best = max(row["median"] for row in rows if row["problem"] == problem)
    axes.axhline(GOAL * best, color="black", linewidth=0.8, linestyle=":")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--problems", nargs="+", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    if "table" in options.problems and not TABLE.exists():
        parser.error(f"{TABLE} is not there; make it by tabulate.py or give --problems landscape")
    check_landscape()
    rows = run_all(options)
    with (options.out / "quality.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    (options.out / "quality.md").write_text("", encoding="utf-8")
    for problem in options.problems:
        write_table(options.out / "quality.md", rows, problem)
        draw_picture(options.out / f"{problem}.png", rows, problem)
    after = {
        problem: {name: reached(rows, problem, name) for name in CASES[problem].algorithms}
        for problem in options.problems
    }
    print(json.dumps({"seeds": options.seeds, "evaluations_to_99_percent": after}))


if __name__ == "__main__":
    main()
