from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import random_graph

from tinynas.cost.bound import lower_bound
from tinynas.deploy.order import best_order, reordered
from tinynas.graph import Graph, Op, Tensor


def _graph(sizes: list[int], reads: list[list[int]], outputs: tuple[int, ...]) -> Graph:
    """Tensor 0 is the input; operator i reads reads[i] and writes tensor i + 1."""
    return Graph(
        name="any",
        tensors=tuple(Tensor(name=str(t), shape=(1, size)) for t, size in enumerate(sizes)),
        ops=tuple(
            Op(name=str(step), kind="ADD", inputs=tuple(read), outputs=(step + 1,))
            for step, read in enumerate(reads)
        ),
        inputs=(0,),
        outputs=outputs,
    )


# Two branches from 0: 1 of 160 bytes leads to 3 of 16, and 2 to 4 likewise.
BRANCHES = _graph([16, 160, 160, 16, 16, 16], [[0], [0], [1], [2], [3, 4]], (5,))


def test_one_branch_is_finished_before_the_next_is_begun() -> None:
    assert best_order(BRANCHES) == (0, 2, 1, 3, 4)
    better = reordered(BRANCHES, best_order(BRANCHES))
    assert (lower_bound(BRANCHES), lower_bound(better)) == (336, 192)
    assert better.tensors == BRANCHES.tensors
    assert set(better.ops) == set(BRANCHES.ops)


def test_scratch_counts_at_its_operator() -> None:
    # With 400 bytes of scratch operator 1 runs best before there is a second branch.
    scratch = [(), (400,), (), (), ()]
    order = best_order(BRANCHES, scratch)
    assert order[0] == 1
    moved = [scratch[step] for step in order]
    assert lower_bound(BRANCHES, scratch) == 16 + 2 * 160 + 400
    assert lower_bound(reordered(BRANCHES, order), moved) == 16 + 160 + 400


def test_the_order_of_a_chain_stays() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        graph = random_graph(rng)
        assert best_order(graph) == tuple(range(len(graph.ops)))


def test_an_order_that_is_as_good_as_any_stays() -> None:
    graph = reordered(BRANCHES, (1, 3, 0, 2, 4))
    assert best_order(graph) == (0, 1, 2, 3, 4)


def test_variables_and_operators_without_output_keep_the_order() -> None:
    given_order = tuple(range(5))
    variable = Tensor(name="state", shape=(1, 4), variable=True)
    assert best_order(replace(BRANCHES, tensors=(*BRANCHES.tensors, variable))) == given_order
    silent = Op(name="silent", kind="ASSIGN_VARIABLE", inputs=(1,), outputs=())
    assert best_order(replace(BRANCHES, ops=(*BRANCHES.ops, silent))) == (*given_order, 5)


def test_among_too_many_orders_the_given_one_stays() -> None:
    # Beside the two branches 14 operators can run at any time: 16,384 sets of them.
    sizes = [16, 160, 160, 16, 16, *[16] * 14, 16]
    beside = [[0]] * 14
    graph = _graph(sizes, [[0], [0], [1], [2], *beside, [*range(3, 19)]], (19,))
    assert best_order(graph) == tuple(range(19))
    assert lower_bound(reordered(graph, (0, 2, 1, *range(3, 19)))) < lower_bound(graph)


@st.composite
def _graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(1, 6))
    sizes = draw(st.lists(st.integers(1, 300), min_size=count + 1, max_size=count + 1))
    reads = [
        draw(st.lists(st.integers(0, t), min_size=1, max_size=2, unique=True))
        for t in range(count)
    ]
    outputs = draw(st.lists(st.integers(1, count), min_size=1, max_size=2, unique=True))
    return _graph(sizes, reads, tuple(outputs))


def _is_valid(graph: Graph, order: tuple[int, ...]) -> bool:
    written = {0}
    for step in order:
        if not written.issuperset(graph.ops[step].inputs):
            return False
        written.update(graph.ops[step].outputs)
    return True


@settings(deadline=None)
@given(_graphs())
def test_no_valid_order_has_a_lower_peak(graph: Graph) -> None:
    order = best_order(graph)
    assert _is_valid(graph, order)
    every = permutations(range(len(graph.ops)))
    peaks = [lower_bound(reordered(graph, o)) for o in every if _is_valid(graph, o)]
    assert lower_bound(reordered(graph, order)) == min(peaks)
