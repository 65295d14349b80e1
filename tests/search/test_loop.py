"""How a search ends, and what it does with what an objective gives."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tinynas.errors import TinynasError, UsageError
from tinynas.search.interrupt import interruptible
from tinynas.search.journal import Journal
from tinynas.search.loop import JOURNAL, Objective, Progress, search
from tinynas.search.problem import Batch, make_problem
from tinynas.search.settings import SearchSettings

from .small_space import ROOMY, merit, problem, run, table

SETTINGS = SearchSettings(evaluations=60, population=12)


def test_the_last_batch_is_cut_to_the_evaluations_asked_for() -> None:
    found = run("evolution", evaluations=30)
    assert np.bincount(found.scored.generation).tolist() == [12, 12, 6]
    assert found.reason == "evaluations"


def test_a_search_ends_after_its_seconds_those_spent_before_included() -> None:
    settings = SETTINGS.model_copy(update={"seconds": 30.0, "evaluations": 10**6})

    def spend(progress: Progress) -> None:
        assert progress.evaluations == 12

    found = search(
        problem(),
        settings,
        Objective(score=lambda batch: slowly(batch, 0.06)),
        seed=0,
        spent_s=29.95,
        callbacks=[spend],
    )
    assert found.reason == "seconds" and len(found.scored) == 12


def slowly(batch: Batch, seconds: float) -> np.ndarray:
    threading.Event().wait(seconds)
    return merit(batch)


def test_a_search_ends_when_its_hypervolume_grows_no_more() -> None:
    settings = SETTINGS.model_copy(update={"stagnation": 48, "evaluations": 10**6})
    found = search(problem(), settings, Objective(score=merit), seed=0)
    assert found.reason == "stagnation" and 60 <= len(found.scored) < 840


def test_a_callback_sees_each_batch_and_ends_the_search_by_true_alone() -> None:
    seen: list[tuple[int, int, int]] = []

    def look(progress: Progress) -> object:
        seen.append((progress.evaluations, len(progress.scored), len(progress.batch)))
        return True if len(seen) == 3 else 1

    found = search(problem(), SETTINGS, Objective(score=merit), seed=0, callbacks=[look])
    assert seen == [(12, 12, 12), (24, 24, 12), (36, 36, 12)]
    assert found.reason == "callback" and len(found.scored) == 36


def test_scores_may_come_one_by_one_and_are_told_as_they_come() -> None:
    told: list[tuple[int, int]] = []

    def one_by_one(batch: Batch) -> Iterator[float]:
        for number, value in enumerate(merit(batch)):
            assert len(told) % 12 == number
            yield value

    found = search(
        problem(),
        SETTINGS,
        Objective(score=one_by_one, images=50),
        seed=0,
        on_scored=lambda done, total: told.append((done, total)),
    )
    assert told == [(n, 60) for n in range(1, 61)]
    assert found.scored.count.tolist() == [50] * 60


@pytest.mark.parametrize(
    "score",
    [
        lambda batch: np.full(len(batch), np.nan),
        lambda batch: [np.inf] * len(batch),
        lambda batch: [0.5],
        lambda batch: np.zeros((len(batch), 2)),
    ],
)
def test_what_is_no_finite_number_for_each_subnet_is_refused(score: object) -> None:
    with pytest.raises(TinynasError, match="a finite number for each of 12 subnets"):
        run("evolution", score=score)


def test_an_exhaustive_search_of_too_many_subnets_is_refused_with_their_number() -> None:
    from tinynas.space.spec import find_space

    costs = table(find_space("mcunet-small"))
    with pytest.raises(UsageError, match=r"about \d\.?\d*e\+16 subnets fit, too many"):
        make_problem(costs, ROOMY, SearchSettings(algorithm="exhaustive"))


def test_energy_without_a_known_power_is_refused() -> None:
    with pytest.raises(UsageError, match="energy needs a chip whose active power is known"):
        make_problem(table(), ROOMY, SearchSettings(objectives=("accuracy", "energy")))


def test_ctrl_c_once_ends_after_the_batch_with_everything_written(tmp_path: Path) -> None:
    pressed: list[int] = []

    def press(batch: Batch) -> np.ndarray:
        if not pressed:
            os.kill(os.getpid(), signal.SIGINT)
        return merit(batch)

    found = search(
        problem(),
        SETTINGS,
        Objective(score=press),
        seed=0,
        folder=tmp_path,
        on_interrupt=lambda: pressed.append(1),
    )
    assert found.reason == "interrupted" and len(found.scored) == 12 and pressed == [1]
    recorded = Journal(tmp_path / JOURNAL, table()).read()
    assert recorded is not None and np.array_equal(recorded.genes, found.scored.genes)


def test_ctrl_c_twice_ends_at_once_without_the_batch_in_flight(tmp_path: Path) -> None:
    batches: list[int] = []

    def press_twice(batch: Batch) -> np.ndarray:
        batches.append(1)
        if len(batches) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(5)
        return merit(batch)

    with pytest.raises(KeyboardInterrupt):
        search(problem(), SETTINGS, Objective(score=press_twice), seed=0, folder=tmp_path)
    recorded = Journal(tmp_path / JOURNAL, table()).read()
    assert recorded is not None and len(recorded) == 12


def test_ctrl_c_is_as_it_was_after_the_search() -> None:
    before = signal.getsignal(signal.SIGINT)
    run("random")
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_a_search_leaves_ctrl_c_alone() -> None:
    found: list[bool] = []

    def work() -> None:
        with interruptible(lambda: None) as pressed:
            found.append(pressed())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
