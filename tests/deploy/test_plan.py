import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import random_constants, random_graph, small_graph

from tinynas.deploy.plan import (
    MemoryPlan,
    activation_buffers,
    greedy_plan,
    head_with_scratch,
    lower_bound,
    plan_memory,
)
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.deploy.verify import measure_arenas, runtime_available
from tinynas.graph import Graph, Op, Tensor

needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")


def _chain(sizes: list[int]) -> Graph:
    tensors = tuple(Tensor(name=str(t), shape=(1, size)) for t, size in enumerate(sizes))
    ops = tuple(
        Op(name=str(t), kind="ADD", inputs=(t,), outputs=(t + 1,)) for t in range(len(sizes) - 1)
    )
    return Graph(name="chain", tensors=tensors, ops=ops, inputs=(0,), outputs=(len(sizes) - 1,))


def _assert_valid(graph: Graph, plan: MemoryPlan) -> None:
    buffers = activation_buffers(graph)
    assert set(plan.offsets) == set(buffers)
    placed = [(plan.offsets[t], buffer) for t, buffer in buffers.items()]
    for number, (offset, buffer) in enumerate(placed):
        assert offset >= 0 and offset % 16 == 0
        assert offset + buffer.size <= plan.head_bytes
        for other, second in placed[:number]:
            apart = offset + buffer.size <= other or other + second.size <= offset
            assert apart or not buffer.meets(second)


def _scratch(graph: Graph, rng: np.random.Generator) -> list[int]:
    """What a kernel might ask for: CMSIS-NN's im2col buffers, a row, or as much as its output."""
    sizes = []
    for op in graph.ops:
        output = graph.tensors[op.outputs[0]].size_bytes
        sizes.append(
            int(rng.choice([0, 0, 4 * rng.integers(1, 2000), rng.integers(1, output + 2)]))
        )
    return sizes


def test_plans_of_250_random_subnets_reach_the_lower_bound_with_scratch() -> None:
    rng = np.random.default_rng(0)
    for _ in range(250):
        graph = random_graph(rng)
        scratch = _scratch(graph, rng)
        plan = plan_memory(graph, scratch)
        assert plan.head_bytes == plan.bound_bytes == lower_bound(graph, scratch)
        _assert_valid(graph, plan)


def test_the_greedy_plan_of_a_chain_by_hand() -> None:
    # Sizes 16, 48, 32, 64: 64 goes to 0; 48 to 0, never live with 64; 32 after both at 64; 16
    # lives with 48 only and follows it.
    plan = greedy_plan(_chain([16, 48, 32, 64]))
    assert plan.offsets == {0: 48, 1: 0, 2: 64, 3: 0}
    assert (plan.head_bytes, plan.bound_bytes) == (96, 96)


def test_of_equal_sizes_the_greedy_plan_places_the_last_first() -> None:
    assert greedy_plan(_chain([16, 16])).offsets == {0: 16, 1: 0}


def test_sizes_are_rounded_up_to_16() -> None:
    assert lower_bound(_chain([1, 17])) == 16 + 32


def test_scratch_counts_at_its_operator_only() -> None:
    assert lower_bound(_chain([16, 32, 64]), [100, 0]) == 160
    assert lower_bound(_chain([16, 32, 64]), [0, 3]) == 112


def test_scratch_is_placed_by_tflm_into_what_the_plan_leaves() -> None:
    graph = _chain([32, 32])
    assert head_with_scratch(graph, {0: 0, 1: 32}, [16]) == 80
    assert head_with_scratch(graph, {0: 0, 1: 48}, [16]) == 80
    assert head_with_scratch(graph, {0: 0, 1: 48}, [17]) == 112


def test_activations_left_out_are_placed_by_tflm() -> None:
    assert head_with_scratch(_chain([32, 64]), {1: 32}) == 96
    assert head_with_scratch(_chain([32, 64]), {1: 16}) == 112


def test_scratch_needs_one_size_per_operator() -> None:
    with pytest.raises(ValueError, match="each of the 2 operators, got 1"):
        plan_memory(_chain([16, 16, 16]), [1])


@st.composite
def _graphs(draw: st.DrawFn) -> tuple[Graph, list[int]]:
    """Graphs of any wiring: each operator reads one or two earlier tensors."""
    count = draw(st.integers(1, 12))
    tensors = [Tensor(name=str(t), shape=(1, draw(st.integers(1, 300)))) for t in range(count + 1)]
    ops = []
    for t in range(1, count + 1):
        reads = draw(st.lists(st.integers(0, t - 1), min_size=1, max_size=2))
        ops.append(Op(name=str(t), kind="ADD", inputs=tuple(reads), outputs=(t,)))
    graph = Graph(
        name="any", tensors=tuple(tensors), ops=tuple(ops), inputs=(0,), outputs=(count,)
    )
    return graph, draw(st.lists(st.integers(0, 200), min_size=count, max_size=count))


@settings(deadline=None)
@given(_graphs())
def test_plans_of_any_graph_are_valid_and_never_worse_than_greedy(
    drawn: tuple[Graph, list[int]],
) -> None:
    graph, scratch = drawn
    plan, greedy = plan_memory(graph, scratch), greedy_plan(graph, scratch)
    _assert_valid(graph, plan)
    _assert_valid(graph, greedy)
    assert plan.bound_bytes <= plan.head_bytes <= greedy.head_bytes
    assert head_with_scratch(graph, plan.offsets, scratch) <= plan.head_bytes
    assert plan_memory(graph, scratch) == plan


@needs_tflm
def test_tflm_measures_the_planned_head_for_24_random_subnets() -> None:
    rng = np.random.default_rng(1)
    graphs = [small_graph(rng) for _ in range(24)]
    plans = [plan_memory(graph) for graph in graphs]
    files = [
        write_tflite(random_constants(graph, rng), plan=plan.offsets)
        for graph, plan in zip(graphs, plans, strict=True)
    ]
    heads = [use.head_bytes for use in measure_arenas(files)]
    assert heads == [plan.head_bytes for plan in plans]


@needs_tflm
def test_tflm_measures_the_greedy_head_of_files_without_a_plan() -> None:
    rng = np.random.default_rng(2)
    graphs = [small_graph(rng) for _ in range(12)]
    heads = [
        use.head_bytes
        for use in measure_arenas([write_tflite(random_constants(g, rng)) for g in graphs])
    ]
    assert heads == [greedy_plan(graph).head_bytes for graph in graphs]
