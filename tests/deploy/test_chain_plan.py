from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from random_models import random_constants, random_graph

from tinynas.cost.kernels import Kernels, scratch_by_op
from tinynas.cost.memory import predict_arena
from tinynas.cost.overlap import overlaps, safe_kernels
from tinynas.deploy.chain_plan import chain_bounds, chain_plan
from tinynas.deploy.plan import activation_buffers, greedy_plan, head_with_scratch
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.deploy.verify import measure_arenas, run_int8, runtime_available
from tinynas.graph import Graph
from tinynas.space.arch import largest
from tinynas.space.lower import lower
from tinynas.space.spec import find_space

needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")
LIBRARIES: tuple[Kernels, ...] = ("reference", "cmsis-nn-dsp", "cmsis-nn-c", "cmsis-nn-mve")


def assert_safe(graph: Graph, offsets: dict[int, int], kernels: Kernels) -> None:
    """Tensors alive together lie apart, or one is written far enough below the dying other."""
    buffers, allowed = activation_buffers(graph), overlaps(graph, safe_kernels(kernels))
    assert offsets.keys() == buffers.keys()
    for a, b in combinations(buffers, 2):
        if not buffers[a].meets(buffers[b]):
            continue
        below, above = sorted((a, b), key=lambda t: offsets[t])
        apart = offsets[above] - offsets[below] >= buffers[below].size
        pairs = [p for p in ((a, b), (b, a)) if p in allowed]
        written_over = any(offsets[i] - offsets[o] >= allowed[o, i] for o, i in pairs)
        once = min(buffers[a].last, buffers[b].last) == max(buffers[a].first, buffers[b].first)
        assert apart or (written_over and once), (graph.tensors[a].name, graph.tensors[b].name)


@pytest.mark.parametrize("kernels", LIBRARIES)
def test_plans_of_random_subnets_are_safe_and_within_their_bounds(kernels: Kernels) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        graph = random_graph(rng)
        offsets = chain_plan(graph, kernels)
        assert offsets is not None
        assert_safe(graph, offsets, kernels)
        bounds = chain_bounds(graph, kernels)
        head = head_with_scratch(graph, offsets, scratch_by_op(graph, kernels))
        assert bounds.lower_bytes <= head <= bounds.upper_bytes
        assert bounds.lower_bytes >= 0.5 * greedy_plan(graph).bound_bytes


def test_other_graphs_have_no_such_plan() -> None:
    space = find_space("mcunet-small")
    graph = lower(space, largest(space, width=0.2, resolution=16), classes=3)
    unordered = Graph(
        name="", tensors=graph.tensors, ops=graph.ops[1:], inputs=(3,), outputs=graph.outputs
    )
    assert chain_plan(unordered, "reference") is None


@needs_tflm
@pytest.mark.parametrize("kernels", ["reference", "cmsis-nn-dsp"])
def test_tflm_answers_the_same_in_the_smaller_arena(kernels: Kernels) -> None:
    rng = np.random.default_rng(1)
    for resolution in (12, 20, 32):
        graph = random_graph(
            rng, spaces=("mcunet-small",), widths=(0.2, 0.4), resolutions=(resolution,)
        )
        model = random_constants(graph, rng)
        offsets = chain_plan(graph, kernels)
        assert offsets is not None
        planned, plain = write_tflite(model, plan=offsets), write_tflite(model)
        images = rng.integers(-128, 128, (3, *graph.tensors[0].shape[1:])).astype(np.int8)
        assert (run_int8(planned, images) == run_int8(plain, images)).all()
        measured = [use.head_bytes for use in measure_arenas([planned, plain])]
        assert measured == [head_with_scratch(graph, offsets), greedy_plan(graph).head_bytes]


def test_a_third_is_saved_where_the_peak_is_at_a_depthwise_convolution() -> None:
    space = find_space("mcunet")
    top = largest(space, width=0.5, resolution=160)
    expansions = tuple((1,) if len(e) == 1 and e[0] == 1 else (3, *e[1:]) for e in top.expansions)
    graph = lower(space, replace(top, expansions=expansions), classes=1000)
    kernels: Kernels = "cmsis-nn-dsp"
    asked = scratch_by_op(graph, kernels)
    offsets = chain_plan(graph, kernels)
    assert offsets is not None
    heads = head_with_scratch(graph, offsets, asked), greedy_plan(graph, asked).head_bytes
    assert heads == (204_800, 358_400)
    ours, greedy = (predict_arena(graph, kernels, head).sram_bytes for head in heads)
    assert ours < 0.7 * greedy
