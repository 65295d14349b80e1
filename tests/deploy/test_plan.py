from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from graph_models import graph_model
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import random_constants, random_graph, small_graph

from tinynas.cost.bound import lower_bound
from tinynas.cost.buffers import NO_PAIRS, Overlaps, activation_buffers
from tinynas.cost.kernels import HOST_KERNELS, Kernels, scratch_by_op
from tinynas.cost.layer_list import read_layer_list
from tinynas.cost.memory import predict_arena
from tinynas.cost.overlap import overlaps, safe_kernels
from tinynas.deploy.plan import (
    MemoryPlan,
    greedy_plan,
    head_with_scratch,
    plan_memory,
)
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.deploy.verify import measure_arenas, runtime_available, smallest_arena_bytes
from tinynas.graph import Graph, Op, Tensor
from tinynas.space.arch import decode, random_genes
from tinynas.space.lower import lower
from tinynas.space.spec import find_space

LAYER_LISTS = Path(__file__).parents[1] / "fixtures" / "layer_lists"
needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")


def _chain(sizes: list[int]) -> Graph:
    tensors = tuple(Tensor(name=str(t), shape=(1, size)) for t, size in enumerate(sizes))
    ops = tuple(
        Op(name=str(t), kind="ADD", inputs=(t,), outputs=(t + 1,)) for t in range(len(sizes) - 1)
    )
    return Graph(name="chain", tensors=tensors, ops=ops, inputs=(0,), outputs=(len(sizes) - 1,))


def _assert_valid(graph: Graph, plan: MemoryPlan, overlaps: Overlaps = NO_PAIRS) -> None:
    buffers = activation_buffers(graph)
    assert set(plan.offsets) == set(buffers)
    for offset, buffer in ((plan.offsets[t], buffer) for t, buffer in buffers.items()):
        assert offset >= 0 and offset % 16 == 0
        assert offset + buffer.size <= plan.head_bytes
    for a, b in permutations(buffers, 2):
        begin, end = plan.offsets[a], plan.offsets[a] + buffers[a].size
        apart = end <= plan.offsets[b] or plan.offsets[b] + buffers[b].size <= begin
        if buffers[a].meets(buffers[b]) and not apart:
            out, read = (a, b) if (a, b) in overlaps else (b, a)
            assert plan.offsets[read] - plan.offsets[out] >= overlaps[out, read]
            assert buffers[read].last == buffers[out].first


def _scratch(graph: Graph, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """What a kernel might ask for: CMSIS-NN's im2col buffers, a row, or as much as its output."""
    sizes = []
    for op in graph.ops:
        output = graph.tensors[op.outputs[0]].size_bytes
        size = int(rng.choice([0, 0, 4 * rng.integers(1, 2000), rng.integers(1, output + 2)]))
        sizes.append((size,) if size else ())
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
    assert lower_bound(_chain([16, 32, 64]), [(100,), ()]) == 160
    assert lower_bound(_chain([16, 32, 64]), [(), (1, 3)]) == 128


def test_scratch_is_placed_by_tflm_into_what_the_plan_leaves() -> None:
    graph = _chain([32, 32])
    assert head_with_scratch(graph, {0: 0, 1: 32}, [(16,)]) == 80
    assert head_with_scratch(graph, {0: 0, 1: 48}, [(16,)]) == 80
    assert head_with_scratch(graph, {0: 0, 1: 48}, [(17,)]) == 112


def test_activations_left_out_are_placed_by_tflm() -> None:
    assert head_with_scratch(_chain([32, 64]), {1: 32}) == 96
    assert head_with_scratch(_chain([32, 64]), {1: 16}) == 112


def test_scratch_needs_sizes_for_every_operator() -> None:
    with pytest.raises(ValueError, match="each of the 2 operators, got 1"):
        plan_memory(_chain([16, 16, 16]), [(1,)])


@st.composite
def _graphs(draw: st.DrawFn) -> tuple[Graph, list[list[int]]]:
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
    sizes = st.lists(st.integers(1, 200), max_size=2)
    return graph, draw(st.lists(sizes, min_size=count, max_size=count))


@settings(deadline=None)
@given(_graphs())
def test_plans_of_any_graph_are_valid_and_never_worse_than_greedy(
    drawn: tuple[Graph, list[list[int]]],
) -> None:
    graph, scratch = drawn
    plan, greedy = plan_memory(graph, scratch), greedy_plan(graph, scratch)
    _assert_valid(graph, plan)
    _assert_valid(graph, greedy)
    assert plan.bound_bytes <= plan.head_bytes <= greedy.head_bytes
    assert head_with_scratch(graph, plan.offsets, scratch) <= plan.head_bytes
    assert plan_memory(graph, scratch) == plan


@settings(deadline=None, max_examples=50)
@given(_graphs(), st.lists(st.integers(0, 300), min_size=40, max_size=40))
def test_plans_with_any_overlaps_are_valid_and_never_worse_than_without(
    drawn: tuple[Graph, list[list[int]]], distances: list[int]
) -> None:
    graph, scratch = drawn
    dying = {
        (op.outputs[0], t)
        for step, op in enumerate(graph.ops)
        for t in op.inputs
        if graph.lifetimes()[t][1] == step and t not in graph.outputs
    }
    allowed = {pair: distances[n] for n, pair in enumerate(sorted(dying))}
    plan = plan_memory(graph, scratch, allowed)
    _assert_valid(graph, plan, allowed)
    assert plan.bound_bytes <= plan.head_bytes <= plan_memory(graph, scratch).head_bytes
    assert head_with_scratch(graph, plan.offsets, scratch) == plan.head_bytes
    assert plan_memory(graph, scratch, allowed) == plan
    assert plan.gap_bytes == plan.head_bytes - lower_bound(graph, scratch, allowed)


def test_an_overlap_that_saves_nothing_is_not_made() -> None:
    graph = _chain([32, 48])
    assert plan_memory(graph, (), {(1, 0): 48}).head_bytes == 32 + 48
    assert plan_memory(graph, (), {(1, 0): 16}).head_bytes == 48
    assert plan_memory(graph, (), {(1, 0): 17}).head_bytes == 32 + 32


def test_of_two_overlaps_in_a_row_each_lifts_the_first() -> None:
    # 1 lies 16 above 2, and 0 lies 16 above 1.
    plan = plan_memory(_chain([96, 96, 96]), (), {(1, 0): 16, (2, 1): 16})
    assert plan.offsets == {0: 32, 1: 16, 2: 0}
    assert (plan.head_bytes, plan.gap_bytes) == (128, 0)


def _mlperf(name: str) -> Graph:
    return read_layer_list((LAYER_LISTS / f"{name}.json").read_bytes()).graph


@pytest.mark.parametrize(
    ("name", "kernels", "greedy", "without", "planned"),
    [
        ("mlperf_ic_resnet8", "cmsis-nn-dsp", 49_728, 49_728, 33_888),
        ("mlperf_ic_resnet8", "reference", 49_152, 49_152, 33_312),
        # 1x1 convolutions at the peak: only the reference kernel may overwrite what they read.
        ("mlperf_vww_mbv1_025_96", "cmsis-nn-dsp", 73_728, 55_296, 55_296),
        ("mlperf_vww_mbv1_025_96", "reference", 73_728, 55_296, 36_880),
        ("mlperf_kws_dscnn", "reference", 16_000, 16_000, 9_792),
    ],
)
def test_the_mlperf_tiny_models_reach_the_lower_bound(
    name: str, kernels: Kernels, greedy: int, without: int, planned: int
) -> None:
    graph = _mlperf(name)
    scratch = scratch_by_op(graph, kernels)
    plan = plan_memory(graph, scratch, overlaps(graph, safe_kernels(kernels)))
    assert greedy_plan(graph, scratch).head_bytes == greedy
    assert plan_memory(graph, scratch).head_bytes == without
    assert (plan.head_bytes, plan.gap_bytes) == (planned, 0)


def test_a_subnet_with_its_peak_at_a_depthwise_convolution_needs_a_third_less() -> None:
    space = find_space("mcunet")
    genes = random_genes(space, 1, np.random.default_rng(0))[0]
    graph = lower(space, decode(space, genes, width=0.5, resolution=160), classes=1000)
    scratch = scratch_by_op(graph, "cmsis-nn-dsp")
    plan = plan_memory(graph, scratch, overlaps(graph, "cmsis-nn"))
    before, after = (
        predict_arena(graph, "cmsis-nn-dsp", head).sram_bytes
        for head in (greedy_plan(graph, scratch).head_bytes, plan.head_bytes)
    )
    assert plan.gap_bytes == 0
    assert after < 0.66 * before


def assert_measured_as_predicted(graphs: Sequence[Graph], rng: np.random.Generator) -> None:
    """Head and records in TFLM, under our plan and under its own, are the predicted ones."""
    plans = [plan(graph) for graph in graphs for plan in (plan_memory, greedy_plan)]
    models = [random_constants(graph, rng) for graph in graphs]
    files = [
        write_tflite(model, plan=offsets)
        for model, plan in zip(models, plans[::2], strict=True)
        for offsets in (plan.offsets, None)
    ]
    uses = measure_arenas(files, executed=False)
    assert [use.head_bytes for use in uses] == [plan.head_bytes for plan in plans]
    tails = [predict_arena(graph, HOST_KERNELS).tail_bytes for graph in graphs]
    assert [use.tail_bytes for use in uses] == [tail for tail in tails for _ in range(2)]


@needs_tflm
def test_tflm_measures_what_was_predicted_for_24_random_subnets() -> None:
    rng = np.random.default_rng(1)
    assert_measured_as_predicted([small_graph(rng) for _ in range(24)], rng)


@needs_tflm
@pytest.mark.slow
def test_tflm_measures_what_was_predicted_for_320_subnets_of_any_size() -> None:
    rng = np.random.default_rng(2)
    for _ in range(32):
        assert_measured_as_predicted([random_graph(rng) for _ in range(10)], rng)


@needs_tflm
def test_tflm_allocates_in_the_predicted_arena_and_hardly_less() -> None:
    rng = np.random.default_rng(3)
    for resolution in (8, 12, 16, 20):
        graph = random_graph(rng, spaces=("mcunet-small",), resolutions=(resolution,))
        plan = plan_memory(graph)
        content = write_tflite(random_constants(graph, rng), plan=plan.offsets)
        predicted = predict_arena(graph, HOST_KERNELS, plan.head_bytes).sram_bytes
        assert predicted - 64 <= smallest_arena_bytes(content) <= predicted


@needs_tflm
@pytest.mark.parametrize(
    ("name", "greedy", "bound"),
    [
        ("mlperf_kws_dscnn", 16_000, 16_000),
        ("mlperf_ic_resnet8", 49_152, 49_152),
        ("mlperf_vww_mbv1_025_96", 73_728, 55_296),
        ("mlperf_ad_autoencoder", 768, 768),
    ],
)
def test_tflm_measures_what_was_predicted_for_the_mlperf_tiny_models(
    name: str, greedy: int, bound: int
) -> None:
    graph = _mlperf(name)
    ours = plan_memory(graph)
    files = [graph_model(graph), graph_model(graph, ours.offsets)]
    uses = measure_arenas(files)
    assert [use.head_bytes for use in uses] == [greedy_plan(graph).head_bytes, ours.head_bytes]
    assert [use.head_bytes for use in uses] == [greedy, bound]
    assert {use.tail_bytes for use in uses} == {predict_arena(graph, HOST_KERNELS).tail_bytes}
