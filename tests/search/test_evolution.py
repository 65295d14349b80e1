from collections.abc import Sequence

import numpy as np
import pytest

from tinynas.budget import Budget
from tinynas.cost.fitting import FittingSampler, fits
from tinynas.search.evolution import crowding, fronts
from tinynas.search.front import Candidate
from tinynas.search.loop import SearchSettings, search
from tinynas.space.arch import Arch, encode, random_genes

from .small_space import ROOMY, SPACE, table

ALGORITHMS = ["evolution", "random"]


def test_fronts_are_numbered_from_the_undominated_outwards() -> None:
    points = np.array([[2.0, 2.0], [1.0, 1.0], [0.0, 3.0], [3.0, 3.0]])
    assert fronts(points).tolist() == [1, 0, 0, 2]


def test_crowding_is_the_sum_of_scaled_gaps_and_infinite_at_the_ends() -> None:
    points = np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0]])
    # (4 - 0) / 4 + (4 - 0) / 4 for the middle one
    assert crowding(points).tolist() == [np.inf, 2.0, np.inf]


def merit(archs: Sequence[Arch]) -> list[tuple[int, int]]:
    """A made-up accuracy: more blocks and larger expansions are better, 5x5 hardly."""
    return [
        (sum(sum(e) for e in a.expansions) * 10 + sum(sum(k) for k in a.kernels), 1000)
        for a in archs
    ]


def run(
    algorithm: str, budget: Budget = ROOMY, evaluations: int = 60, seed: int = 0
) -> list[Candidate]:
    settings = SearchSettings.model_validate(
        {"algorithm": algorithm, "evaluations": evaluations, "population": 12}
    )
    sampler = FittingSampler(table(), budget)
    return search(
        sampler,
        settings,
        merit,
        rng=np.random.default_rng(seed),
        on_candidate=lambda candidate, done, total: None,
    )


def tight() -> Budget:
    """A budget that about a tenth of the subnets fit."""
    costs = table().evaluate(random_genes(SPACE, 4000, np.random.default_rng(0)))
    return Budget(sram_bytes=10**6, flash_bytes=int(np.quantile(costs.flash_bytes, 0.1)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_candidate_fits_and_none_is_scored_twice(algorithm: str) -> None:
    budget = tight()
    found = run(algorithm, budget)
    assert len({c.genes for c in found}) == len(found) == 60
    assert fits(table().evaluate(np.array([c.genes for c in found])), budget).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_seed_gives_one_search_and_another_seed_another(algorithm: str) -> None:
    assert run(algorithm) == run(algorithm)
    assert run(algorithm) != run(algorithm, seed=1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_candidates_carry_the_costs_of_the_table_and_their_score(algorithm: str) -> None:
    found = run(algorithm, evaluations=5)
    costs = table().evaluate(np.array([c.genes for c in found]))
    assert [c.sram_bytes for c in found] == costs.sram_bytes.tolist()
    assert [c.flash_bytes for c in found] == costs.flash_bytes.tolist()
    assert [c.macs for c in found] == costs.macs.tolist()
    assert all(c.count == 1000 for c in found)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_ends_when_every_fitting_subnet_has_been_scored(algorithm: str) -> None:
    everything = table().evaluate(random_genes(SPACE, 20_000, np.random.default_rng(0)))
    third = np.unique(everything.flash_bytes)[2]
    budget = Budget(sram_bytes=10**6, flash_bytes=int(third))
    found = run(algorithm, budget, evaluations=500)
    assert 3 <= len(found) < 500
    assert {c.flash_bytes for c in found} == set(np.unique(everything.flash_bytes)[:3].tolist())


def test_evolution_beats_random_search_at_equal_evaluations() -> None:
    """Medians of the best score inside a tight budget over 9 seeds."""
    budget = tight()

    def median(algorithm: str) -> float:
        best = [
            max(c.correct for c in run(algorithm, budget, evaluations=72, seed=seed))
            for seed in range(9)
        ]
        return float(np.median(best))

    assert median("evolution") >= median("random")


def test_genes_are_canonical() -> None:
    from tinynas.space.arch import decode

    for c in run("evolution", evaluations=40):
        arch = decode(SPACE, np.array(c.genes), width=1.0, resolution=16)
        assert encode(SPACE, arch).tolist() == list(c.genes)
