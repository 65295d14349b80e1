from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from tinynas.search.evolution import Evolution, best
from tinynas.search.problem import Batch, Problem, Scored
from tinynas.search.settings import PRESETS, SearchSettings
from tinynas.space.arch import Genes, gene_keys, gene_sizes

from .small_space import SPACE, merit, problem, run, table


def scored(made: Problem, genes: Genes) -> Scored:
    batch = made.batch(genes)
    none = np.zeros(len(genes), np.int64)
    return Scored(
        genes=genes, accuracy=merit(batch), count=none, generation=none, costs=batch.costs
    )


def bred(count: int = 200, told: int = 64, **settings: object) -> tuple[Genes, Genes]:
    """Subnets that evolution was told of at random, and the generation that it asks for."""
    made = problem(**settings)
    evolution = Evolution(made, SearchSettings.model_validate(settings))
    before = made.sampler.sample(told, np.random.default_rng(0))
    evolution.tell(scored(made, before))
    return before, evolution.ask(count, np.random.default_rng(1))


def test_the_best_are_those_of_the_first_fronts_then_the_lonely() -> None:
    # Between the ends: (1, 8) and (2, 7) are close to each other, (5, 3) is alone.
    points = np.array([[0, 9], [1, 8], [2, 7], [5, 3], [9, 0], [9, 9]], float)
    assert set(best(points, 2).tolist()) == {0, 4}
    assert best(points, 4).tolist()[2:] == [3, 2]
    assert 5 not in best(points, 5)


def test_neighbours_differ_from_a_parent_in_one_gene() -> None:
    before, children = bred(neighbours=1.0, population=64, parents=64)
    for child in children[:60]:
        changes = child != before
        # A change of depth brings the genes of its blocks with it.
        depth = np.zeros(len(gene_sizes(SPACE)), bool)
        depth[[0, 3, 8]] = True
        assert (changes.sum(axis=1) == 1).any() or (changes & depth).any(axis=1).any()


def test_crossings_have_each_gene_from_a_parent() -> None:
    before, children = bred(40, neighbours=0.0, mutants=0.0, population=64, parents=2)
    parents = {tuple(row) for row in before.tolist()}
    assert not parents & {tuple(row) for row in children.tolist()}
    assert len(children) == 40


def test_mutants_without_crossing_differ_in_about_the_genes_asked_for() -> None:
    before, children = bred(
        100,
        neighbours=0.0,
        mutants=1.0,
        crossed_mutants=False,
        mutation_probability=0.05,
        population=64,
        parents=64,
    )
    nearest = np.array([(before != child).sum(axis=1).min() for child in children])
    assert 1 <= np.median(nearest) <= 3


def test_with_aging_the_oldest_are_forgotten_however_good() -> None:
    made = problem()
    genes = made.sampler.sample(40, np.random.default_rng(0))
    order = np.argsort(-merit(made.batch(genes)))
    kept = {}
    for aging in (None, 8):
        settings = SearchSettings(aging=aging, population=8, objectives=("accuracy",))
        evolution = Evolution(problem(objectives=("accuracy",)), settings)
        for rows in np.split(genes[order], 5):  # the best first
            evolution.tell(scored(made, rows))
        kept[aging] = set(gene_keys(evolution.population))
    assert kept[None] == set(gene_keys(genes[order[:8]]))
    assert kept[8] == set(gene_keys(genes[order[-8:]]))


@pytest.mark.parametrize(
    ("preset", "parents", "evaluations"), [("mcunet", 20, 3000), ("once-for-all", 25, 50_000)]
)
def test_presets_are_the_published_settings(preset: str, parents: int, evaluations: int) -> None:
    settings = SearchSettings.model_validate({"preset": preset})
    assert (settings.population, settings.parents) == (100, parents)
    assert (settings.evaluations, settings.objectives) == (evaluations, ("accuracy",))
    assert (settings.mutants, settings.mutation_probability) == (0.5, 0.1)
    assert SearchSettings.model_validate(settings.model_dump()) == settings
    assert set(PRESETS) == {"mcunet", "once-for-all"}


def test_what_is_given_beside_a_preset_wins() -> None:
    settings = SearchSettings.model_validate({"preset": "mcunet", "evaluations": 200})
    assert (settings.evaluations, settings.population) == (200, 100)


def test_a_preset_of_accuracy_alone_finds_the_most_accurate() -> None:
    found = run("evolution", preset="mcunet", population=20, parents=5, evaluations=300).scored
    every = problem().sampler.listed
    assert every is not None
    assert found.accuracy.max() == merit(problem().batch(every)).max()


@pytest.mark.parametrize(
    "settings",
    [
        {"objectives": ["latency"]},
        {"objectives": ["accuracy", "accuracy"]},
        {"preset": "nas"},
        {"algorithm": "grid"},
        {"population": 1},
        {"population_size": 3},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SearchSettings.model_validate(settings)


def test_evolution_beats_random_search_at_equal_evaluations() -> None:
    """Medians of the best made-up accuracy over 9 seeds."""

    def median(algorithm: str) -> float:
        found = [
            run(algorithm, seed=seed, evaluations=72, objectives=("accuracy", "latency"))
            for seed in range(9)
        ]
        return float(np.median([f.scored.accuracy.max() for f in found]))

    assert median("evolution") > median("random")


def test_whole_generations_are_asked_for_until_nothing_is_left() -> None:
    made = problem()
    evolution = Evolution(made, SearchSettings(population=500))
    first = evolution.ask(500, np.random.default_rng(0))
    evolution.tell(scored(made, first))
    second = evolution.ask(500, np.random.default_rng(1))
    # 840 subnets in all.
    assert len(first) == 500 and len(second) == 340
    assert not set(gene_keys(first)) & set(gene_keys(second))
    evolution.tell(scored(made, second))
    assert len(evolution.ask(10, np.random.default_rng(2))) == 0


def test_batches_know_their_subnets() -> None:
    made = problem()
    batch: Batch = made.batch(made.sampler.sample(3, np.random.default_rng(0)))
    assert [arch.space for arch in batch.archs()] == ["small"] * 3 and len(batch) == 3
    assert table().space == SPACE
