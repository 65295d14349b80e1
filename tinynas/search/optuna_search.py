"""NSGA-II and TPE of Optuna over the fitting set, in a study that Optuna's own tools open.

Every trial carries a subnet that fits: what Optuna's sampler proposes is replaced by a near
fitting subnet that was not scored yet before the trial gets it, and the first ones are drawn
uniformly from the fitting set.

A stored study does not hold the state of its sampler. So every batch is asked of a fresh sampler,
seeded anew by the search, and trials that a killed process left behind are given up and asked
again, with the same outcome.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from tinynas.cost.repair import near_unseen
from tinynas.errors import TinynasError, UsageError
from tinynas.search.problem import Batch, Problem, Scored
from tinynas.search.settings import SearchSettings
from tinynas.space.arch import Genes, gene_keys
from tinynas.space.spec import SearchSpace

STUDY_NAME = "tinynas"
EVALUATION, GENES = "evaluation", "genes"


def distributions_of(space: SearchSpace) -> dict[str, CategoricalDistribution]:
    """Our encoding as Optuna's distributions, a name for each gene, in order."""
    found = {}
    for number, stage in enumerate(space.stages):
        found[f"stage{number}.depth"] = CategoricalDistribution(stage.depth)
        for block in range(stage.depth[-1]):
            found[f"stage{number}.block{block}.kernel"] = CategoricalDistribution(stage.kernel)
            found[f"stage{number}.block{block}.expansion"] = CategoricalDistribution(
                stage.expansion
            )
    return found


class FittingProposals(BaseSampler):
    """A sampler of Optuna's, each proposal replaced by a near fitting subnet that is not `seen`.

    While it has nothing to go by, subnets are drawn uniformly from the fitting set. `proposed` are
    the genes of the last one; their key is put into `seen`.
    """

    def __init__(
        self,
        sampler: BaseSampler,
        problem: Problem,
        seen: set[bytes],
        rng: np.random.Generator,
    ) -> None:
        self._sampler = sampler
        self._problem = problem
        self._seen = seen
        self._rng = rng
        self._distributions = distributions_of(problem.table.space)
        self.proposed = np.zeros(0, np.int64)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All genes: they fit only together."""
        return dict(self._distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of all genes of a fitting subnet."""
        self._settle_parents(study, trial)
        known = self._sampler.infer_relative_search_space(study, trial)
        params = self._sampler.sample_relative(study, trial, known)
        if params:
            found = near_unseen(
                self._problem.sampler, self._completed(study, trial, params), self._seen, self._rng
            )
        else:
            found = self._problem.sampler.sample(1, self._rng, seen=self._seen)
        if not len(found):
            raise TinynasError("no fitting subnet was found that is not scored yet")
        self.proposed = found[0]
        self._seen.update(gene_keys(found))
        choices = self._distributions.items()
        return {
            name: values.choices[int(gene)]
            for (name, values), gene in zip(choices, found[0], strict=True)
        }

    def _settle_parents(self, study: Study, trial: FrozenTrial) -> None:
        """Let NSGA-II note the parents of a generation before any is drawn.

        The first trial of a generation would see them in another order than all that follow, so
        that one that is asked again would be another.
        """
        if isinstance(self._sampler, NSGAIISampler):
            generation = self._sampler.get_trial_generation(study, trial)
            self._sampler.get_parent_population(study, generation)

    def _completed(self, study: Study, trial: FrozenTrial, params: dict[str, Any]) -> Genes:
        """Genes of a proposal; what it leaves open, as mutations do, is drawn one by one."""
        genes = []
        for name, values in self._distributions.items():
            value = params.get(name)
            if value is None:
                value = self._sampler.sample_independent(study, trial, name, values)
            genes.append(values.choices.index(value))
        return np.array(genes, np.int64)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Never asked for: all genes are drawn together."""
        raise ValueError(f"{param_name} is no gene of {self._problem.table.space.name}")

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """What the sampler does."""
        self._sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """What the sampler does."""
        self._sampler.after_trial(study, trial, state, values)


class OptunaSearch:
    """Asks Optuna for batches and keeps its study, in the file `path` if there is one.

    Raises UsageError where the file holds the study of another search.
    """

    def __init__(self, problem: Problem, settings: SearchSettings, path: Path | None) -> None:
        self._problem = problem
        self._settings = settings
        self._distributions = distributions_of(problem.table.space)
        self._seen: set[bytes] = set()
        self._told = 0
        with _quiet():
            self._study = _open(problem, path)
        # Trials by the number of their evaluation.
        self._trials: dict[int, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if EVALUATION in trial.user_attrs and trial.state != TrialState.FAIL:
                self._trials[trial.user_attrs[EVALUATION]] = trial

    def ask(self, count: int, rng: np.random.Generator) -> Genes:
        """The next batch, shape (at most `count`, genes); empty when none is left."""
        self._give_up_unscored()
        listed = self._problem.sampler.listed
        if listed is not None:
            count = min(count, len(listed) - len(self._seen))
        sampler = FittingProposals(self._sampler(rng), self._problem, set(self._seen), rng)
        self._study.sampler = sampler
        genes = [self._ask(sampler, self._told + number) for number in range(count)]
        return np.stack(genes) if genes else np.zeros((0, len(self._distributions)), np.int64)

    def tell(self, scored: Scored) -> None:
        """Learn what was scored; what the study knows already is left as it is."""
        batch = Batch(genes=scored.genes, costs=scored.costs, table=self._problem.table)
        rows = zip(self._values(scored), attributes(self._problem, batch), strict=True)
        for evaluation, (values, known) in enumerate(rows, start=self._told):
            trial = self._trials.pop(evaluation, None)
            if trial is None:
                self._add(scored.genes[evaluation - self._told], values, known, evaluation)
            elif trial.user_attrs.get(GENES) != known[GENES]:
                raise UsageError(f"{STUDY_NAME}: the study here is that of another search")
            elif not trial.state.is_finished():
                self._study.tell(trial.number, values)
        self._seen.update(gene_keys(scored.genes))
        self._told += len(scored)

    def _give_up_unscored(self) -> None:
        for trial in self._trials.values():
            if trial.state.is_finished():
                raise UsageError(
                    "the study here has scored more subnets than the record beside it; delete "
                    "the study to go on without it"
                )
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
        self._trials.clear()

    def _values(self, scored: Scored) -> list[list[float]]:
        """The objectives of each subnet as the study has them: accuracy is maximised."""
        points = self._problem.points(scored)
        points[:, self._problem.objectives.index("accuracy")] *= -1
        return [list(row) for row in points.tolist()]

    def _sampler(self, rng: np.random.Generator) -> BaseSampler:
        seed, batch = int(rng.integers(2**32)), self._settings.population
        if self._settings.algorithm == "nsga2":
            return NSGAIISampler(population_size=batch, seed=seed)
        with _quiet():
            return TPESampler(n_startup_trials=batch, multivariate=True, seed=seed)

    def _ask(self, sampler: FittingProposals, evaluation: int) -> Genes:
        """Genes of a new trial, to which all is noted that is known before it is scored."""
        trial = self._study.ask(dict(self._distributions))
        batch = self._problem.batch(sampler.proposed[None])
        for name, value in attributes(self._problem, batch)[0].items():
            trial.set_user_attr(name, value)
        for name, excess in constraints(self._problem, batch).items():
            trial.set_constraint(name, excess)
        trial.set_user_attr(EVALUATION, evaluation)
        self._trials[evaluation] = self._study.get_trials(deepcopy=False)[trial.number]
        return sampler.proposed

    def _add(self, genes: Genes, values: list[float], known: Known, evaluation: int) -> None:
        """A trial for a subnet that the study does not know: its file was deleted."""
        params = {
            name: choices.choices[int(gene)]
            for (name, choices), gene in zip(self._distributions.items(), genes, strict=True)
        }
        self._study.add_trial(
            create_trial(
                params=params,
                distributions=dict(self._distributions),
                values=values,
                user_attrs={**known, EVALUATION: evaluation},
            )
        )


Known = dict[str, int | float | str]


def attributes(problem: Problem, batch: Batch) -> list[Known]:
    """Per subnet, our columns of a study: genes and all costs."""
    costs = batch.costs
    columns: dict[str, list[Any]] = {
        GENES: [" ".join(map(str, row)) for row in batch.genes.tolist()],
        "sram_bytes": costs.sram_bytes.tolist(),
        "flash_bytes": costs.flash_bytes.tolist(),
        "macs": costs.macs.tolist(),
        "latency_ms": costs.latency_ms.tolist(),
    }
    if problem.active_power_mw is not None:
        columns["energy_mj"] = problem.energy_mj(costs).tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def constraints(problem: Problem, batch: Batch) -> dict[str, float]:
    """How far the first subnet exceeds each limit, as a part of it: at most 0 where it fits."""
    budget, costs = problem.sampler.budget, batch.costs
    pairs = {
        "sram_bytes": (costs.sram_bytes, budget.sram_bytes),
        "flash_bytes": (costs.flash_bytes, budget.flash_bytes),
        "latency_ms": (costs.latency_ms, budget.predicted_ms),
        "macs": (costs.macs, budget.macs),
    }
    return {
        name: float(values[0] / limit - 1)
        for name, (values, limit) in pairs.items()
        if limit is not None
    }


def _open(problem: Problem, path: Path | None) -> Study:
    study = optuna.create_study(
        study_name=STUDY_NAME,
        storage=_storage(path) if path else InMemoryStorage(),
        directions=["maximize" if n == "accuracy" else "minimize" for n in problem.objectives],
        load_if_exists=True,
    )
    study.set_metric_names(list(problem.objectives))
    return study


class StudyFile(JournalFileBackend):
    """Optuna's file of a study, written by one process and without waiting for the disk.

    A trial takes some sixty entries; waiting and locking for each took 140 ms a trial. What a
    power cut takes away, the journal of the search gives back.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write entries, a line each."""
        lines = [json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs]
        with self._path.open("ab") as file:
            file.write("".join(lines).encode())


def _storage(path: Path) -> BaseStorage:
    """The study's file, without the half line that a kill may have left."""
    if path.exists():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
    return JournalStorage(StudyFile(path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's notes on new studies and on what is experimental."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
