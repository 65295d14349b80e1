"""Patched graphs in TFLM itself: outputs, head of the arena and length of the file."""

from __future__ import annotations

import numpy as np
import pytest
from random_models import random_constants, random_graph, random_images, random_model

from tinynas.cost.flash import file_bytes
from tinynas.cost.overlap import overlaps
from tinynas.cost.patch import LARGEST_JOIN, candidates, patch, splits
from tinynas.deploy.integer import simulate
from tinynas.deploy.plan import greedy_plan, plan_memory
from tinynas.deploy.quantize import patched_model
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.deploy.verify import measure_arenas, run_int8, runtime_available
from tinynas.graph import Graph, total_macs
from tinynas.space.lower import GraphBuilder

needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")

# Expansion, channels at width 0.5, repetitions and stride (Sandler et al. 2018, table 2).
MOBILENET_V2 = (
    (1, 8, 1, 1),
    (6, 16, 2, 2),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)


def mobilenet_v2(resolution: int) -> Graph:
    """MobileNetV2 of width 0.5 without its last convolution, which leads to 1,280 channels."""
    builder = GraphBuilder()
    image = builder.tensor("image", (1, resolution, resolution, 3))
    x = builder.conv("stem", image, 16, 3, 2, "RELU6")
    for stage, (expansion, cout, repetitions, stride) in enumerate(MOBILENET_V2):
        for position in range(repetitions):
            x = builder.block(
                f"s{stage}.b{position}",
                x,
                cout=cout,
                kernel=3,
                expansion=expansion,
                stride=1 if position else stride,
            )
    logits = builder.fully_connected("logits", builder.global_pool("pool", x), 1000)
    return builder.build("MobileNetV2 0.5", (image,), (logits,))


def randomly_patched(graph: Graph, rng: np.random.Generator, most: int) -> Graph:
    """Patched somewhere, 2 patches at least and at most `most` along an axis."""
    split = int(rng.choice([s for s in splits(graph) if s < 30]))
    _, *sizes, _ = graph.tensors[graph.ops[split - 1].outputs[0]].shape
    rows, columns = (int(rng.integers(1, min(size, most) + 1)) for size in sizes[:2])
    return patch(graph, split, rows, columns if rows > 1 else min(2, sizes[1]))


@needs_tflm
@pytest.mark.parametrize("seed", range(8))
def test_patches_change_no_output_even_under_a_plan_with_overlaps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, widths=(0.2, 0.3, 0.4), resolutions=(15, 24, 33, 47), max_classes=50)
    model, images = random_model(graph, rng), random_images(graph, 3, rng)
    patched = patched_model(model, randomly_patched(graph, rng, 3))
    plan = plan_memory(patched.graph, overlaps=overlaps(patched.graph, "reference"))
    outputs = run_int8(write_tflite(patched, plan=plan.offsets), images)
    assert np.array_equal(outputs, run_int8(write_tflite(model), images))
    assert np.array_equal(outputs, simulate(patched, images))
    assert len(np.unique(outputs)) > 1


@needs_tflm
def test_heads_and_lengths_of_patched_subnets_are_as_predicted() -> None:
    rng = np.random.default_rng(20)
    files, heads = [], []
    for _ in range(20):
        graph = random_graph(rng, resolutions=(15, 33, 48, 97, 128, 160))
        model = random_constants(graph, rng)
        patched = patched_model(model, randomly_patched(graph, rng, 4))
        plan = plan_memory(patched.graph, overlaps=overlaps(patched.graph, "reference"))
        greedy = greedy_plan(patched.graph)
        assert plan.head_bytes <= greedy.head_bytes
        files += [write_tflite(patched), write_tflite(patched, plan=plan.offsets)]
        heads += [greedy.head_bytes, plan.head_bytes]
        assert len(files[-1]) == len(files[-2]) == file_bytes(patched.graph)
    uses = measure_arenas(files, executed=False)
    assert [use.head_bytes for use in uses] == heads


@needs_tflm
def test_as_many_patches_run_as_can_be_joined() -> None:
    rng = np.random.default_rng(30)
    builder = GraphBuilder()
    x = builder.tensor("image", (1, 32, 32, 1))
    y = builder.conv("c", x, 4, 5, 2, "RELU6")
    logits = builder.fully_connected("logits", builder.global_pool("pool", y), 3)
    model = random_model(builder.build("wide", (x,), (logits,)), rng)
    images = random_images(model.graph, 2, rng)
    patched = patched_model(model, patch(model.graph, 1, LARGEST_JOIN, LARGEST_JOIN))
    assert np.array_equal(run_int8(write_tflite(patched), images), simulate(model, images))


def test_patches_of_mobilenet_v2_cost_what_was_measured_before() -> None:
    # Figures of an earlier implementation, which had one operator more at the end.
    graph = mobilenet_v2(160)
    assert len(graph.ops) == 63
    assert greedy_plan(graph).head_bytes == 409_600
    for p, macs, operators, head in ((2, 1.055, 127, 265_200), (3, 1.115, 217, 177_584)):
        assert (13, p) in candidates(graph)
        patched = patch(graph, 13, p, p)
        assert total_macs(patched) / total_macs(graph) == pytest.approx(macs, abs=0.0005)
        assert len(patched.ops) == operators
        assert greedy_plan(patched).head_bytes == head


@needs_tflm
def test_patches_of_mobilenet_v2_run_in_a_third_of_its_head() -> None:
    rng = np.random.default_rng(40)
    model = random_model(mobilenet_v2(160), rng)
    images = random_images(model.graph, 1, rng)
    patched = patched_model(model, patch(model.graph, 13, 3, 3))
    plan = plan_memory(patched.graph, overlaps=overlaps(patched.graph, "reference"))
    assert 3 * plan.head_bytes < 409_600
    content = write_tflite(patched, plan=plan.offsets)
    assert measure_arenas([content])[0].head_bytes == plan.head_bytes
    assert np.array_equal(run_int8(content, images), simulate(model, images))
