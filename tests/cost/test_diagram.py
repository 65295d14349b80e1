"""Paths of a diagram against all networks, listed one by one."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.cost.diagram import Diagram, Limits, StageChoices

KERNELS, EXPANSIONS = 2, 2
CHOICES = KERNELS * EXPANSIONS


def stages(rng: np.random.Generator, depths: list[tuple[int, ...]]) -> list[StageChoices]:
    def some(depth: int, *shape: int) -> list[np.ndarray]:
        return [rng.integers(9, size=shape) for _ in range(depth)]

    return [
        StageChoices(
            depths=d,
            expansions=EXPANSIONS,
            sums=some(d[-1], CHOICES, 2),
            shared=some(d[-1], CHOICES),
            tops=some(d[-1], CHOICES),
        )
        for d in depths
    ]


def networks(made: list[StageChoices]) -> list[list[tuple[int, ...]]]:
    """All networks: per stage, the choices of its blocks."""
    options = [
        [chosen for depth in stage.depths for chosen in product(range(CHOICES), repeat=depth)]
        for stage in made
    ]
    return [list(each) for each in product(*options)]


def keeps(made: list[StageChoices], network: list[tuple[int, ...]], limits: Limits) -> bool:
    sums, shared, top = np.zeros(2, np.int64), 0, limits.top
    for stage, chosen in zip(made, network, strict=True):
        for position, choice in enumerate(chosen):
            sums += stage.sums[position][choice]
            shared += stage.shared[position][choice]
            top = max(top, stage.tops[position][choice])
    return bool((sums <= limits.sums).all() and shared + top <= limits.room)


def genes_of(made: list[StageChoices], network: list[tuple[int, ...]]) -> tuple[int, ...]:
    genes: list[int] = []
    for stage, chosen in zip(made, network, strict=True):
        genes.append(stage.depths.index(len(chosen)))
        for choice in chosen:
            genes += [choice // EXPANSIONS, choice % EXPANSIONS]
        genes += [0, 0] * (stage.depths[-1] - len(chosen))
    return tuple(genes)


DEPTHS = st.lists(
    st.sampled_from([(1,), (2,), (1, 2), (1, 3), (2, 3)]), min_size=1, max_size=3
).filter(lambda depths: sum(d[-1] for d in depths) <= 6)
LIMITS = st.builds(
    lambda one, two, room, top: Limits(sums=np.array([one, two]), room=room, top=top),
    st.integers(-1, 40),
    st.integers(0, 40),
    st.integers(0, 45),
    st.integers(0, 8),
)


@settings(max_examples=60)
@given(DEPTHS, LIMITS, st.integers(0, 2**32))
def test_the_paths_of_a_wide_diagram_are_the_networks_within_the_limits(
    depths: list[tuple[int, ...]], limits: Limits, seed: int
) -> None:
    made = stages(np.random.default_rng(seed), depths)
    diagram = Diagram(made, limits, width=10**6)
    inside = {genes_of(made, n) for n in networks(made) if keeps(made, n, limits)}
    assert diagram.exact and diagram.paths == len(inside)
    found = [tuple(row) for row in diagram.every().tolist()]
    assert len(found) == len(inside) and set(found) == inside


@settings(max_examples=60)
@given(DEPTHS, LIMITS, st.integers(0, 2**32), st.integers(1, 12))
def test_a_narrow_diagram_loses_no_network(
    depths: list[tuple[int, ...]], limits: Limits, seed: int, width: int
) -> None:
    made = stages(np.random.default_rng(seed), depths)
    diagram = Diagram(made, limits, width=width)
    inside = {genes_of(made, n) for n in networks(made) if keeps(made, n, limits)}
    found = {tuple(row) for row in diagram.every().tolist()}
    assert inside <= found and diagram.paths == len(found)
    assert found == inside or not diagram.exact


def test_paths_are_drawn_with_equal_probability() -> None:
    made = stages(np.random.default_rng(3), [(1, 2), (2,), (1, 3)])
    limits = Limits(sums=np.array([20, 22]), room=28, top=0)
    diagram = Diagram(made, limits, width=10**6)
    drawn = diagram.draw(40_000, np.random.default_rng(0))
    counts = Counter(map(tuple, drawn.tolist()))
    assert set(counts) == {tuple(row) for row in diagram.every().tolist()}
    expected = len(drawn) / diagram.paths
    assert 100 < diagram.paths < 2000 and expected > 20
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    degrees = diagram.paths - 1
    assert chi_square < degrees + 5 * (2 * degrees) ** 0.5


def test_where_no_network_is_within_the_limits_there_is_no_path() -> None:
    made = stages(np.random.default_rng(0), [(1, 2), (2,)])
    diagram = Diagram(made, Limits(sums=np.array([-1, 50]), room=50, top=0), width=100)
    assert diagram.paths == 0 and diagram.every().shape == (0, 10)
