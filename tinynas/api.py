"""The search as a Python function: with an objective of your own, or a run's supernet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinynas.config import Config, build_config
from tinynas.errors import UsageError
from tinynas.run import CONFIG, RunDir
from tinynas.search.candidates import candidates_of, front_of, pick_winner
from tinynas.search.journal import to_csv
from tinynas.search.loop import Callback, Found, Objective, Reason, search
from tinynas.search.problem import Batch, Problem, Scored, make_problem
from tinynas.search.recorded import ABOUT, recorded_search
from tinynas.search.settings import AlgorithmName, ObjectiveName
from tinynas.shrink import shrink
from tinynas.space.arch import Arch, decode
from tinynas.space.spec import find_space
from tinynas.target import make_task, resolve_target
from tinynas.task import compile_task

if TYPE_CHECKING:
    from pandas import DataFrame

DEFAULT_SPACE = "mcunet-small"
# Settings that say when a search ends, not how it goes: it can go on with others.
ENDS = ("evaluations", "seconds", "stagnation", "improvement")


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The subnet to take: as plain data, with its accuracy and predicted costs."""

    arch: Arch
    accuracy: float
    sram_bytes: int
    flash_bytes: int
    macs: int
    latency_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search found: every subnet that it scored, and why it ended.

    With a predictor, `looked_at` counts the accuracies that were predicted.
    """

    problem: Problem
    scored: Scored
    reason: Reason
    looked_at: int = 0

    @property
    def candidates(self) -> DataFrame:
        """All subnets scored, in order: accuracy, predicted costs, generation, arch."""
        return self._frame(self.scored)

    @property
    def front(self) -> DataFrame:
        """The subnets that no other one beats in every objective, most accurate first."""
        return self._frame(front_of(self.problem, self.scored))

    @property
    def best(self) -> Best:
        """The fastest of those as good as the most accurate.

        Within one standard error, where accuracies are shares of images, else equally accurate.
        """
        winner = pick_winner(candidates_of(self.scored))
        return Best(
            arch=self._arch(winner.genes),
            accuracy=winner.accuracy,
            sram_bytes=winner.sram_bytes,
            flash_bytes=winner.flash_bytes,
            macs=winner.macs,
            latency_ms=winner.latency_ms,
        )

    def save(self, folder: str | Path) -> Path:
        """The folder, with candidates.csv, front.csv and best.json in it."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        front = front_of(self.problem, self.scored)
        (path / "candidates.csv").write_text(to_csv(self.scored), encoding="utf-8")
        (path / "front.csv").write_text(to_csv(front), encoding="utf-8")
        best = {**asdict(self.best), "arch": self.best.arch.to_json()}
        (path / "best.json").write_text(json.dumps(best, indent=2) + "\n", encoding="utf-8")
        return path

    def _arch(self, genes: Sequence[int]) -> Arch:
        table = self.problem.table
        return decode(table.space, np.array(genes), width=table.width, resolution=table.resolution)

    def _frame(self, scored: Scored) -> DataFrame:
        from pandas import DataFrame  # takes a second to import

        costs = scored.costs
        columns: dict[str, Any] = {
            "accuracy": scored.accuracy,
            "sram_bytes": costs.sram_bytes,
            "flash_bytes": costs.flash_bytes,
            "macs": costs.macs,
            "latency_ms": costs.latency_ms,
            "generation": scored.generation,
            "arch": [self._arch(genes) for genes in scored.genes.tolist()],
        }
        if self.problem.active_power_mw is not None:
            columns["energy_mj"] = self.problem.energy_mj(costs)
        frame: DataFrame = DataFrame(columns)
        return frame


def run_search(
    objective: Callable[[Arch], float] | None = None,
    *,
    batch_objective: Callable[[Batch], Iterable[float]] | None = None,
    run: str | Path | None = None,
    space: str | None = None,
    width: float | None = None,
    resolution: int | None = None,
    classes: int | None = None,
    channels: int = 3,
    sram: str | int | None = None,
    flash: str | int | None = None,
    latency: str | float | None = None,
    energy: str | float | None = None,
    mcu: str | None = None,
    algorithm: AlgorithmName | None = None,
    evaluations: int | None = None,
    objectives: Sequence[ObjectiveName] | None = None,
    seed: int | None = None,
    config: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
) -> SearchResult:
    """Search for subnets inside a budget; every one that is scored fits it.

    `objective` gives the accuracy of a subnet, or any number that is the higher the better, the
    same each time; `batch_objective` those of a whole batch. Without one, `run` is the directory
    of a `tinynas search` whose supernet is trained: it gives accuracies, space and budget. Else
    the space is that of `width` and `resolution`, or the one that stage 1 chooses, for images of
    `channels` channels. Budgets are as on the command line, and `config` has any setting that
    --config takes, such as {"search": {"population": 50}}.

    With `out`, a directory, every batch is written down, and a search that is there goes on, with
    more evaluations if wanted. `callbacks` see a Progress after each batch; the search ends when
    one returns True, or by Ctrl-C. Raises TinynasError, in one sentence, for what cannot be.
    """
    target = {"sram": sram, "flash": flash, "latency": latency, "energy": energy, "mcu": mcu}
    chosen = {"algorithm": algorithm, "evaluations": evaluations, "objectives": objectives}
    flags = {"target": target, "space": space, "search": chosen, "seed": seed}
    if run is not None:
        fixed = {**target, "space": space, "width": width, "resolution": resolution}
        _refuse([name for name, value in fixed.items() if value is not None])
        made = _of_run(Path(run), dict(config or {}), flags)
    else:
        settings = build_config(dict(config or {}), flags, "run_search")
        made = _of_settings(settings, width, resolution, classes, channels)
    with made.scores(objective, batch_objective) as scores:
        found = _found(made, scores, None if out is None else Path(out), callbacks)
    return SearchResult(
        problem=made.problem,
        scored=found.scored,
        reason=found.reason,
        looked_at=found.looked_at,
    )


def _refuse(given: Sequence[str]) -> None:
    if given:
        raise UsageError(f"a run has its own space and budget; drop run or {', '.join(given)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A search that is ready to start; `supernet` scores for it unless the user does."""

    settings: Config
    problem: Problem
    supernet: AbstractContextManager[Objective] | None = None

    def scores(
        self,
        objective: Callable[[Arch], float] | None,
        batch_objective: Callable[[Batch], Iterable[float]] | None,
    ) -> AbstractContextManager[Objective]:
        """Where accuracies come from; UsageError unless that is one place."""
        if objective and batch_objective:
            raise UsageError("give objective or batch_objective, not both")
        if batch_objective:
            return nullcontext(Objective(score=batch_objective))
        if objective:
            return nullcontext(Objective(score=lambda batch: map(objective, batch.archs())))
        if self.supernet is None:
            raise UsageError(
                "run_search needs an objective, a function of a subnet, or run, the directory of "
                "a finished `tinynas search`"
            )
        return self.supernet


def _of_settings(
    settings: Config,
    width: float | None,
    resolution: int | None,
    classes: int | None,
    channels: int,
) -> _Made:
    target, space = resolve_target(settings), find_space(settings.space or DEFAULT_SPACE)
    patch = settings.shrink.patch == "auto"
    task = make_task(target, classes or space.default_classes, channels, patch=patch)
    if width is not None and resolution is not None:
        table = compile_task(space, task, width, resolution)
    elif width is None and resolution is None:
        rng = np.random.default_rng(settings.seed)
        shrunk = shrink(space, target.budget, task, method=settings.shrink.method, rng=rng)
        table = shrunk.table
    else:
        raise UsageError("give width and resolution, or neither: then stage 1 chooses them")
    power = target.device.active_power_mw
    problem = make_problem(table, target.budget, settings.search, power.value if power else None)
    return _Made(settings=settings, problem=problem)


def _of_run(path: Path, config: dict[str, Any], flags: dict[str, Any]) -> _Made:
    from tinynas.reopen import reopen

    found = reopen(path)
    only = {"search", "seed"}
    if not config.keys() <= only:
        raise UsageError("beside run, config may have search and seed only")
    content = {**found.config.model_dump(mode="json"), **config}
    settings = build_config(content, flags, "run_search")
    power = found.target.device.active_power_mw
    problem = make_problem(
        found.table, found.target.budget, settings.search, power.value if power else None
    )

    @contextmanager
    def supernet() -> Iterator[Objective]:
        with found.scorer as scorer:
            yield Objective(
                score=lambda batch: scorer.accuracies(batch.archs()), images=scorer.images
            )

    return _Made(settings=settings, problem=problem, supernet=supernet())


def _found(
    made: _Made, objective: Objective, out: Path | None, callbacks: Sequence[Callback]
) -> Found:
    settings, seed = made.settings.search, made.settings.seed
    if out is None:
        return search(made.problem, settings, objective, seed=seed, callbacks=callbacks)
    with _directory(out, made.settings) as run:
        return recorded_search(
            run, made.problem, settings, objective, seed=seed, callbacks=callbacks
        )


@contextmanager
def _directory(path: Path, settings: Config) -> Iterator[RunDir]:
    """The directory of a search, new or to go on with; UsageError if it holds another one."""
    run = RunDir(path)
    without_ends = settings.model_dump(exclude={"search": set(ENDS)})
    run.digest = Config.model_validate(without_ends).digest()
    if run.file(CONFIG).is_file():
        run.open()
        before = run.read_json(ABOUT)["configuration"] if run.file(ABOUT).exists() else run.digest
        if before != run.digest:
            raise UsageError(f"{path} holds a search of other settings; give another directory")
    else:
        run.create()
    run.write(CONFIG, settings.to_yaml())
    try:
        yield run
    finally:
        run.close()
