"""Studies of Optuna: what is in them, and that they go on wherever a kill has cut them off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from tinynas.cost.fitting import fits
from tinynas.errors import UsageError
from tinynas.search.journal import Journal, csv_rows
from tinynas.search.loop import JOURNAL, STUDY, Objective, search
from tinynas.search.optuna_search import STUDY_NAME, distributions_of
from tinynas.search.problem import Batch, make_problem
from tinynas.search.settings import SearchSettings
from tinynas.space.arch import gene_keys, gene_sizes

from .small_space import SPACE, noisy, run, table
from .test_conformance import TIGHT, same

ALGORITHMS = ("nsga2", "tpe")


def opened(folder: Path) -> optuna.Study:
    """The study as any user of Optuna opens it."""
    storage = JournalStorage(JournalFileBackend(str(folder / STUDY)))
    return optuna.load_study(study_name=STUDY_NAME, storage=storage)


def test_distributions_are_our_genes_with_readable_names() -> None:
    found = distributions_of(SPACE)
    assert [len(values.choices) for values in found.values()] == list(gene_sizes(SPACE))
    assert [*found][3:6] == ["stage1.depth", "stage1.block0.kernel", "stage1.block0.expansion"]
    assert found["stage1.block0.kernel"].choices == (3, 5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_study_has_our_columns_and_every_trial_a_fitting_subnet(
    algorithm: str, tmp_path: Path
) -> None:
    found = run(algorithm, TIGHT, folder=tmp_path, score=noisy).scored
    study = opened(tmp_path)
    frame = study.trials_dataframe()
    assert (frame["state"] == "COMPLETE").all() and len(frame) == 60
    assert frame["values_accuracy"].tolist() == found.accuracy.tolist()
    assert frame["values_latency"].tolist() == found.costs.latency_ms.tolist()
    assert frame["user_attrs_flash_bytes"].tolist() == found.costs.flash_bytes.tolist()
    assert {"user_attrs_sram_bytes", "user_attrs_macs", "user_attrs_genes"} <= set(frame)
    for trial, genes in zip(study.trials, found.genes, strict=True):
        choices = distributions_of(SPACE)
        params = [values.choices.index(trial.params[name]) for name, values in choices.items()]
        assert params == genes.tolist()
        assert fits(table().evaluate(np.array([params])), TIGHT).all()
        assert max(trial.constraints.values()) <= 0 and set(trial.constraints) == {
            "sram_bytes",
            "flash_bytes",
        }
    assert study.metric_names == ["accuracy", "sram", "flash", "latency"]
    best = {trial.number for trial in study.best_trials}
    assert best and best <= set(range(60))


def test_optunas_command_line_reads_the_study(tmp_path: Path) -> None:
    run("nsga2", TIGHT, folder=tmp_path)
    where = ["--storage", str(tmp_path / STUDY), "--storage-class", "JournalFileBackend"]
    answer = subprocess.run(
        [sys.executable, "-c", "from optuna.cli import main; main()", "best-trials", *where]
        + ["--study-name", STUDY_NAME],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0 and "COMPLETE" in answer.stdout, answer.stderr


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_cut_off_between_any_two_writes_ends_as_if_it_never_stopped(
    algorithm: str, tmp_path: Path
) -> None:
    """The study is asked, the journal written, the study told: each cut here is one such state."""
    whole = tmp_path / "whole"
    whole.mkdir()
    asked: list[int] = [0]

    def score(batch: Batch) -> np.ndarray:
        asked.append((whole / STUDY).stat().st_size)
        return noisy(batch)

    expected = run(algorithm, TIGHT, folder=whole, score=score, evaluations=36).scored
    study = (whole / STUDY).read_bytes()
    lengths = asked + [len(study)]
    rng = np.random.default_rng(0)
    for generations in range(4):
        lowest, highest = lengths[generations : generations + 2]
        for cut in np.unique(rng.integers(lowest, highest + 1, size=4)):
            folder = tmp_path / f"{generations}-{cut}"
            folder.mkdir()
            journal = Journal(folder / JOURNAL, table())
            for number in range(generations):
                journal.append(expected.part(expected.generation == number))
            (folder / STUDY).write_bytes(study[:cut])
            found = run(algorithm, TIGHT, folder=folder, score=noisy, evaluations=36).scored
            assert same(found, expected), (generations, cut)
            states = [t.state for t in opened(folder).trials]
            assert states.count(TrialState.COMPLETE) == 36 and TrialState.RUNNING not in states


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_study_that_was_lost_is_made_anew_from_the_journal(
    algorithm: str, tmp_path: Path
) -> None:
    found = run(algorithm, TIGHT, folder=tmp_path, evaluations=24).scored
    (tmp_path / STUDY).unlink()
    more = run(algorithm, TIGHT, folder=tmp_path, evaluations=48).scored
    assert np.array_equal(more.genes[:24], found.genes) and len(set(gene_keys(more.genes))) == 48
    assert len(opened(tmp_path).trials) == 48


def test_the_study_of_another_search_and_one_ahead_of_the_journal_are_refused(
    tmp_path: Path,
) -> None:
    run("nsga2", TIGHT, folder=tmp_path)
    journal = (tmp_path / JOURNAL).read_text()
    (tmp_path / JOURNAL).unlink()
    with pytest.raises(UsageError, match="has scored more subnets than the record beside it"):
        run("nsga2", TIGHT, folder=tmp_path)
    (tmp_path / STUDY).unlink()
    run("nsga2", TIGHT, folder=tmp_path, seed=1)
    (tmp_path / JOURNAL).write_text(journal)
    with pytest.raises(UsageError, match="is that of another search"):
        run("nsga2", TIGHT, folder=tmp_path)


def test_generations_of_nsga2_are_the_batches_so_that_selection_goes_on(tmp_path: Path) -> None:
    """Later generations of Optuna's own population descend from the first: not random again."""
    settings = SearchSettings(algorithm="nsga2", evaluations=36, population=12)
    made = make_problem(table(), TIGHT, settings)
    search(made, settings, Objective(score=noisy), seed=0, folder=tmp_path)
    key = next(k for k in opened(tmp_path).trials[0].system_attrs if "generation" in k)
    numbers = [trial.system_attrs[key] for trial in opened(tmp_path).trials]
    assert numbers == [0] * 12 + [1] * 12 + [2] * 12


def test_rows_of_the_journal_and_trials_agree(tmp_path: Path) -> None:
    found = run("tpe", TIGHT, folder=tmp_path, score=noisy).scored
    lines = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)[1:]
    rows = [
        line for g in range(5) for line in csv_rows(found.part(found.generation == g), size=12)
    ]
    assert lines == rows
