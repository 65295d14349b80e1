import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinynas.search.front import Candidate, dominance, from_csv, pareto_front, pick_winner, to_csv


def candidate(
    correct: int, *, latency: float = 1.0, sram: int = 10, flash: int = 10, count: int = 100
) -> Candidate:
    return Candidate(
        genes=(correct, sram, flash),
        correct=correct,
        count=count,
        sram_bytes=sram,
        flash_bytes=flash,
        macs=1,
        latency_ms=latency,
        generation=0,
    )


def test_a_point_dominates_only_what_it_beats_somewhere_and_never_loses_to() -> None:
    points = np.array([[1.0, 2.0], [1.0, 3.0], [0.0, 9.0], [1.0, 2.0]])
    assert dominance(points).tolist() == [
        [False, True, False, False],
        [False, False, False, False],
        [False, False, False, False],
        [False, True, False, False],
    ]


def test_the_front_holds_what_no_other_candidate_beats_most_accurate_first() -> None:
    best, fast, beaten = (
        candidate(90, latency=9),
        candidate(80, latency=1),
        candidate(79, latency=2),
    )
    assert pareto_front([beaten, fast, best]) == [best, fast]
    assert pareto_front([]) == []


objectives = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=12
)


@given(objectives)
def test_every_candidate_off_the_front_is_dominated_by_one_on_it(
    rows: list[tuple[int, int, int]],
) -> None:
    candidates = [candidate(c, latency=float(t), sram=s) for c, t, s in rows]
    front = pareto_front(candidates)
    points = np.array([c.objectives for c in front])
    assert front and not dominance(points).any()
    for c in candidates:
        with_front = np.array([*points, c.objectives])
        assert c in front or dominance(with_front)[:, -1].any()


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
    assert pick_winner([candidate(100, latency=9), candidate(99, latency=1)]).correct == 100


@given(objectives)
def test_candidates_survive_csv(rows: list[tuple[int, int, int]]) -> None:
    candidates = [candidate(c, latency=t / 3, sram=s) for c, t, s in rows]
    assert from_csv(to_csv(candidates)) == candidates
