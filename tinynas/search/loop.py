"""The search itself: ask an algorithm for subnets, score them, write them down, tell it.

What an algorithm asks for follows from the seed and from what was scored before, and from nothing
else: a search that goes on from its journal ends as if it had never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from tinynas.errors import TinynasError
from tinynas.search.evolution import Evolution
from tinynas.search.exhaustive import Exhaustive
from tinynas.search.front import Floats
from tinynas.search.hypervolume import Growth
from tinynas.search.interrupt import interruptible
from tinynas.search.journal import Journal
from tinynas.search.problem import Batch, Problem, Scored, joined
from tinynas.search.random_search import RandomSearch
from tinynas.search.settings import SearchSettings
from tinynas.space.arch import Genes

JOURNAL, STUDY = "4_candidates.csv", "4_optuna.log"

Reason = Literal["evaluations", "seconds", "stagnation", "exhausted", "interrupted", "callback"]
OnScored = Callable[[int, int], None]


class Algorithm(Protocol):
    """What every search algorithm can do."""

    def ask(self, count: int, rng: np.random.Generator) -> Genes:
        """Up to `count` unseen fitting subnets, shape (N, genes); none when none are left."""

    def tell(self, scored: Scored) -> None:
        """Learn what was scored, by this process or an earlier one."""


@runtime_checkable
class Predicting(Protocol):
    """An algorithm that predicts accuracies."""

    looked_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Where accuracies come from: `score` gives those of a batch, one by one or all at once.

    `images` says of how many images each is a share, 0 if of none. A subnet's score must be the
    same whenever it is asked for.
    """

    score: Callable[[Batch], Iterable[float]]
    images: int = 0


class Progress:
    """How far a search has come: what callbacks see after each batch.

    `looked_at` counts the predictions of accuracies by this process.
    """

    def __init__(self, problem: Problem, parts: Sequence[Scored]) -> None:
        self.problem = problem
        self._parts = list(parts)
        self.evaluations = sum(len(part) for part in parts)
        self.looked_at = 0

    @property
    def scored(self) -> Scored:
        """All subnets scored so far, in order; there must be one."""
        self._parts = [joined(self._parts)]
        return self._parts[0]

    @property
    def batch(self) -> Scored:
        """The subnets scored last."""
        last = self._parts[-1]
        return last.part(last.generation == last.generation[-1])

    def add(self, scored: Scored) -> None:
        """One batch more."""
        self._parts.append(scored)
        self.evaluations += len(scored)


# Told after each batch; the search ends when one returns True.
Callback = Callable[[Progress], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All subnets scored, in order, and why the search ended.

    With a predictor, `looked_at` counts the accuracies that were predicted.
    """

    scored: Scored
    reason: Reason
    looked_at: int = 0


def make_algorithm(problem: Problem, settings: SearchSettings, folder: Path | None) -> Algorithm:
    """The algorithm of the settings; what Optuna keeps is in the folder, if there is one."""
    if settings.algorithm == "random":
        return RandomSearch(problem)
    if settings.algorithm == "exhaustive":
        return Exhaustive(problem)
    if settings.algorithm in ("nsga2", "tpe"):
        from tinynas.search.optuna_search import OptunaSearch  # takes a second to import

        return OptunaSearch(problem, settings, folder / STUDY if folder else None)
    if settings.predictor:
        from tinynas.search.predicted import PredictedSearch  # so does scikit-learn

        return PredictedSearch(problem, settings)
    return Evolution(problem, settings)


def search(
    problem: Problem,
    settings: SearchSettings,
    objective: Objective,
    *,
    seed: int,
    folder: Path | None = None,
    spent_s: float = 0.0,
    callbacks: Sequence[Callback] = (),
    on_scored: OnScored = lambda done, total: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> Found:
    """All subnets scored until the settings, a callback, Ctrl-C or the fitting set end it.

    With a folder everything is written down there, and a search that it holds goes on; `spent_s`
    are the seconds that it took before. `on_scored` is told (subnets scored, how many there will
    be), `on_interrupt` of the first Ctrl-C. Raises TinynasError where nothing could be scored.
    """
    run = _Search(problem, settings, objective, folder, on_scored)
    started = time.monotonic() - spent_s
    with interruptible(on_interrupt) as interrupted:
        while not (reason := run.finished(time.monotonic() - started)):
            if interrupted():
                reason = "interrupted"
            elif not run.step(seed):
                reason = "exhausted"
            elif any([callback(run.progress) is True for callback in callbacks]):
                reason = "callback"
            if reason:
                break
    if not run.progress.evaluations:
        raise TinynasError("the search ended before a subnet was scored")
    return Found(scored=run.progress.scored, reason=reason, looked_at=run.progress.looked_at)


class _Search:
    """A search as far as it has come."""

    def __init__(
        self,
        problem: Problem,
        settings: SearchSettings,
        objective: Objective,
        folder: Path | None,
        on_scored: OnScored,
    ) -> None:
        self._problem = problem
        self._settings = settings
        self._objective = objective
        self._on_scored = on_scored
        self._algorithm = make_algorithm(problem, settings, folder)
        self._journal = Journal(folder / JOURNAL, problem.table) if folder else None
        self._growth = Growth()
        self.progress = Progress(problem, [])
        before = self._journal.read() if self._journal else None
        if before:
            changes = np.flatnonzero(np.diff(before.generation)) + 1
            for rows in np.split(np.arange(len(before)), changes):
                self._learn(before.part(rows))

    def finished(self, spent_s: float) -> Reason | None:
        """Why the search is over, if it is."""
        settings = self._settings
        if self.progress.evaluations >= self._most:
            return "evaluations"
        if settings.seconds is not None and spent_s >= settings.seconds:
            return "seconds"
        if settings.stagnation and self._growth.stalled(settings.stagnation, settings.improvement):
            return "stagnation"
        return None

    @property
    def _most(self) -> int:
        """How many subnets will be scored at most; an exhaustive search scores all."""
        listed = self._problem.sampler.listed
        if self._settings.algorithm == "exhaustive" and listed is not None:
            return len(listed)
        return self._settings.evaluations

    def step(self, seed: int) -> bool:
        """Score one batch more; whether there was one."""
        done = self.progress.evaluations
        rng = np.random.default_rng([seed, done])
        genes = self._algorithm.ask(min(self._settings.population, self._most - done), rng)
        if isinstance(self._algorithm, Predicting):
            self.progress.looked_at = self._algorithm.looked_at
        if not len(genes):
            return False
        batch = self._problem.batch(genes)
        generation = int(self.progress.batch.generation[-1]) + 1 if done else 0
        scored = Scored(
            genes=genes,
            accuracy=self._accuracies(batch),
            count=np.full(len(genes), self._objective.images),
            generation=np.full(len(genes), generation),
            costs=batch.costs,
        )
        if self._journal:
            self._journal.append(scored)
        self._learn(scored)
        return True

    def _learn(self, scored: Scored) -> None:
        self._algorithm.tell(scored)
        self.progress.add(scored)
        if self._settings.stagnation:
            self._growth.tell(self._problem.points(scored))

    def _accuracies(self, batch: Batch) -> Floats:
        """The accuracies of a batch; raises TinynasError for what is no finite number."""
        values = self._objective.score(batch)
        if isinstance(values, np.ndarray):
            found = values.astype(np.float64)
            self._on_scored(self.progress.evaluations + len(found), self._most)
        else:
            found = np.array([*self._one_by_one(values)])
        if found.shape != (len(batch),) or not np.isfinite(found).all():
            raise TinynasError(
                f"the objective must give a finite number for each of {len(batch)} subnets, got "
                f"{found.tolist()}"
            )
        return found

    def _one_by_one(self, values: Iterable[float]) -> Iterator[float]:
        for number, value in enumerate(values, start=1):
            yield float(value)
            self._on_scored(self.progress.evaluations + number, self._most)
