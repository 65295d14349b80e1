from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import norm

from tinynas.api import run_search
from tinynas.budget import Budget
from tinynas.errors import UsageError
from tinynas.search.hypervolume import hypervolume
from tinynas.search.loop import JOURNAL, Objective, search
from tinynas.search.predicted import ExpectedGrowth
from tinynas.search.problem import Batch, make_problem
from tinynas.search.settings import PredictorSettings, SearchSettings
from tinynas.space.arch import gene_keys

from .landscape import SPACE, accuracies
from .small_space import merit, problem, run


def grown(mean: list[float], deviation: list[float], costs: list[float]) -> ExpectedGrowth:
    """Beside two known ones: accuracy 0.2 at a cost of 0, 0.6 at 4; 10 is the highest cost."""
    return ExpectedGrowth(
        known=(np.array([0.2, 0.6, 0.3]), np.array([[0.0], [4.0], [10.0]])),
        unknown=(np.array(mean), np.array(deviation), np.array(costs)[:, None]),
        rng=np.random.default_rng(0),
    )


def test_without_doubt_the_growth_is_that_of_the_hypervolume() -> None:
    """As a share of the costs' range, up to the places where it is looked at."""
    found = grown([0.5, 0.7, 0.1, 0.6], [0.0] * 4, [2.0, 6.0, 0.0, 4.0]).of(np.arange(4))
    # From 2 to 4 it is 0.3 more, from 6 to 10 it is 0.1 more, nothing by the last two.
    assert found == pytest.approx([0.06, 0.04, 0, 0], abs=2e-3)
    reference = np.array([-0.2, 10.0])
    before = hypervolume(np.array([[-0.2, 0], [-0.6, 4]]), reference)
    after = hypervolume(np.array([[-0.2, 0], [-0.6, 4], [-0.5, 2]]), reference)
    assert found[0] == pytest.approx((after - before) / 10, abs=2e-3)


def test_with_doubt_the_growth_is_the_mean_over_what_the_score_may_be() -> None:
    found = grown([0.5], [0.2], [4.0]).of(np.array([0]))
    scores = norm.ppf((np.arange(10_000) + 0.5) / 10_000, 0.5, 0.2)
    assert found[0] == pytest.approx(0.6 * np.maximum(scores - 0.6, 0).mean(), rel=0.01)


def test_several_costs_are_limits_at_once() -> None:
    rng = np.random.default_rng(0)
    costs, accuracy = rng.random((6, 3)), rng.random(6)
    costs[0], costs[1] = 0, 1
    accuracy[0] = 0
    known = np.column_stack([-accuracy, costs])
    extra, reference = np.array([-0.9, 0.2, 0.1, 0.3]), np.array([0.0, 1, 1, 1])
    found = ExpectedGrowth(
        known=(accuracy, costs),
        unknown=(np.array([0.9]), np.zeros(1), extra[None, 1:]),
        rng=rng,
    ).of(np.array([0]))
    expected = hypervolume(np.vstack([known, extra]), reference) - hypervolume(known, reference)
    assert found[0] == pytest.approx(expected, rel=0.1)


def test_a_batch_is_spread_over_the_front() -> None:
    # Two alike at a cost of 2, the better one first; another, less promising, at 8.
    growth = grown([0.55, 0.54, 0.7], [0.01] * 3, [2.0, 2.0, 8.0])
    assert np.argsort(-growth.of(np.arange(3))).tolist() == [0, 1, 2]
    assert growth.choose(2).tolist() == [0, 2]
    assert sorted(grown([0.55, 0.54, 0.7], [0.01] * 3, [2.0, 2.0, 8.0]).choose(9)) == [0, 1, 2]


def test_choosing_is_greedy_however_many_there_are() -> None:
    """Gains are computed anew only where needed; here all of them, each time."""
    rng = np.random.default_rng(0)
    mean, deviation, costs = rng.random(3000), rng.random(3000) / 10, 10 * rng.random(3000)
    lazy = grown(mean.tolist(), deviation.tolist(), costs.tolist())
    full = grown(mean.tolist(), deviation.tolist(), costs.tolist())
    chosen: list[int] = []
    for _ in range(8):
        gain = full.of(np.arange(3000))
        gain[chosen] = -1
        chosen.append(int(np.argmax(gain)))
        inside = costs[chosen[-1]] <= full._limits[:, 0]
        full._best[inside] = np.maximum(full._best[inside], mean[chosen[-1]])
    assert lazy.choose(8).tolist() == chosen


def test_accuracy_alone_can_be_searched_for() -> None:
    found = run("predicted", objectives=("accuracy",), evaluations=72).scored
    every = problem().sampler.listed
    assert every is not None
    assert found.accuracy.max() == merit(problem().batch(every)).max()


def test_the_first_are_a_uniform_sample_and_batches_are_small() -> None:
    found = run("predicted", population=20, predictor={"first": 30, "batch": 7}, evaluations=50)
    assert np.bincount(found.scored.generation).tolist() == [20, 10, 7, 7, 6]
    same = run("random", population=20, evaluations=50).scored
    assert np.array_equal(found.scored.genes[:20], same.genes[:20])


@pytest.mark.parametrize("value", [0.1, 1e6, -3.0])
def test_a_search_whose_scores_are_all_equal_goes_on(value: float) -> None:
    found = run("predicted", score=lambda batch: np.full(len(batch), value))
    assert len(set(gene_keys(found.scored.genes))) == 60


def mcunet_small(seed: int, **settings: object) -> tuple[float, int]:
    """The hypervolume after a search of the made-up landscape, and what it looked at."""
    from tinynas.cost.table import compile_costs

    costs = compile_costs(
        SPACE,
        width=1.0,
        resolution=32,
        classes=10,
        channels=3,
        kernels="cmsis-nn-dsp",
        latency=lambda graph, op: 1000.0 * (3 if op.kind == "DEPTHWISE_CONV_2D" else 1),
    )
    chosen = SearchSettings.model_validate({"objectives": ("accuracy", "flash"), **settings})
    made = make_problem(costs, Budget(sram_bytes=10**6, flash_bytes=10**6), chosen)
    score = Objective(score=lambda batch: accuracies(batch.genes))
    found = search(made, chosen, score, seed=seed)
    points = made.points(found.scored)
    return hypervolume(points, np.array([0.0, 1e6])), found.looked_at


def test_a_third_of_the_scores_finds_a_better_front_among_many_more_subnets() -> None:
    """72 with a predictor against 216 without."""
    predicted, looked_at = mcunet_small(0, evaluations=72, predictor=True)
    evolved, none = mcunet_small(0, evaluations=216)
    assert predicted > evolved
    assert looked_at == 48 * 500 and none == 0


def test_300_scores_stand_for_more_than_100_000_predictions() -> None:
    usual = PredictorSettings()
    assert (300 - usual.first) * usual.looks > 100_000


def test_a_search_that_goes_on_counts_what_it_looked_at_before(tmp_path: Path) -> None:
    def half(progress: object) -> bool:
        return progress.evaluations >= 40  # type: ignore[attr-defined]

    asked = {
        "batch_objective": merit_of_api,
        "space": "mcunet-small",
        "width": 0.5,
        "resolution": 16,
        "sram": "100k",
        "flash": "200k",
        "config": {"search": {"predictor": {"first": 20, "looks": 20}}},
        "evaluations": 60,
    }
    whole = run_search(**asked)
    run_search(**asked, out=tmp_path, callbacks=[half])
    resumed = run_search(**asked, out=tmp_path)
    assert whole.looked_at == resumed.looked_at == 40 * 20
    assert resumed.candidates.equals(whole.candidates)
    assert len((tmp_path / JOURNAL).read_text().splitlines()) == 61
    assert '"looked_at": 800' in (tmp_path / "4_search.json").read_text()


def merit_of_api(batch: Batch) -> np.ndarray:
    return accuracies(batch.genes)


def test_true_is_the_usual_predictor_and_false_none() -> None:
    usual = SearchSettings.model_validate({"predictor": True}).predictor
    assert usual == PredictorSettings()
    assert SearchSettings.model_validate({"predictor": False}).predictor is None
    assert SearchSettings().predictor is None


@pytest.mark.parametrize(
    "settings",
    [{"predictor": {"first": 1}}, {"predictor": {"fist": 9}}, {"predictor": "yes"}],
)
def test_predictors_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SearchSettings.model_validate(settings)


@pytest.mark.parametrize("algorithm", ["nsga2", "tpe", "random", "exhaustive"])
def test_other_algorithms_take_no_predictor(algorithm: str) -> None:
    with pytest.raises(UsageError, match=r"predictor goes with .* evolution alone, got") as told:
        run_search(
            lambda arch: 0.5,
            sram="100k",
            flash="200k",
            config={"search": {"predictor": True, "algorithm": algorithm}},
        )
    assert "\n" not in str(told.value) and algorithm in str(told.value)
