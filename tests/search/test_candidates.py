from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinynas.search.candidates import Candidate, candidates_of, front_of, pick_winner
from tinynas.search.problem import Scored

from .small_space import merit, problem


def candidate(
    correct: int, *, latency: float = 1.0, sram: int = 10, flash: int = 10, count: int = 100
) -> Candidate:
    return Candidate(
        genes=(correct, sram, flash),
        accuracy=correct / count,
        count=count,
        sram_bytes=sram,
        flash_bytes=flash,
        macs=1,
        latency_ms=latency,
        generation=0,
    )


def test_the_winner_is_the_fastest_within_one_standard_error_of_the_best() -> None:
    # sqrt(0.9 * 0.1 / 100) = 0.03: 0.87 is an equal, 0.86 is not.
    best = candidate(90, latency=9)
    equal = candidate(87, latency=3)
    worse = candidate(86, latency=1)
    assert pick_winner([best, equal, worse]) == equal


def test_equally_fast_winners_are_told_apart_by_flash_then_sram() -> None:
    large = candidate(90, flash=20, sram=1)
    small = candidate(90, flash=10, sram=9)
    smaller = candidate(90, flash=10, sram=8)
    assert pick_winner([large, small, smaller]) == smaller


def test_without_a_wrong_answer_only_the_perfect_are_equals() -> None:
    assert pick_winner([candidate(100, latency=9), candidate(99, latency=1)]).accuracy == 1


def test_accuracies_that_are_no_shares_of_images_have_no_standard_error() -> None:
    scores = [
        Candidate(
            genes=(n,),
            accuracy=accuracy,
            count=0,
            sram_bytes=1,
            flash_bytes=1,
            macs=1,
            latency_ms=latency,
            generation=0,
        )
        for n, (accuracy, latency) in enumerate([(-0.5, 9.0), (-0.501, 1.0)])
    ]
    assert pick_winner(scores) == scores[0]


def some(seed: int, count: int) -> Scored:
    made, rng = problem(), np.random.default_rng(seed)
    batch = made.batch(made.sampler.sample(count, rng))
    return Scored(
        genes=batch.genes,
        accuracy=np.round(merit(batch), 2),
        count=np.full(len(batch), 100),
        generation=np.arange(len(batch)) // 4,
        costs=batch.costs,
    )


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_every_subnet_off_the_front_is_dominated_by_one_on_it(seed: int, count: int) -> None:
    made, scored = problem(), some(seed, count)
    front = made.points(front_of(made, scored))
    for point in made.points(scored):
        dominated = (front <= point).all(axis=1) & (front < point).any(axis=1)
        assert dominated.any() or (front == point).all(axis=1).any()
    assert not any(
        ((front <= point).all(axis=1) & (front < point).any(axis=1)).any() for point in front
    )
    assert (np.diff(front[:, 0]) >= 0).all()  # the most accurate first


def test_candidates_are_the_subnets_one_by_one() -> None:
    scored = some(0, 9)
    found = candidates_of(scored)
    assert [c.genes for c in found] == [tuple(row) for row in scored.genes.tolist()]
    assert [c.accuracy for c in found] == scored.accuracy.tolist()
    assert [c.sram_bytes for c in found] == scored.costs.sram_bytes.tolist()
    assert [c.latency_ms for c in found] == scored.costs.latency_ms.tolist()
    assert [c.generation for c in found] == [0, 0, 0, 0, 1, 1, 1, 1, 2]
