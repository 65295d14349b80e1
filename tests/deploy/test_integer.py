from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_models import (
    as_real,
    random_images,
    random_model,
    random_weights,
    small_graph,
)

from tinynas.cost.patch import patch, splits
from tinynas.deploy.integer import activation_bounds, multiply, quantize_multiplier, simulate
from tinynas.deploy.quantize import (
    QuantizedModel,
    calibrate,
    patched_model,
    quantize,
    run_float,
)
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.deploy.verify import run_int8, runtime_available
from tinynas.graph import Op
from tinynas.space.lower import GraphBuilder

needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")


def test_multipliers_by_hand() -> None:
    assert quantize_multiplier(0.5) == (1 << 30, 0)
    assert quantize_multiplier(0.75) == (3 << 29, 0)
    assert quantize_multiplier(3.0) == (3 << 29, 2)
    assert quantize_multiplier(0.0) == (0, 0)
    assert quantize_multiplier(2.0**-40) == (0, 0)
    assert quantize_multiplier(1 - 2.0**-40) == (1 << 30, 1)


def _two_roundings(value: int, real: float) -> int:
    """gemmlowp's two roundings, with exact fractions instead of shifts."""
    significand, exponent = quantize_multiplier(real)
    product = Fraction(value * 2 ** max(exponent, 0) * significand, 2**31)
    first = (product + Fraction(1, 2)).__floor__()
    second = Fraction(first, 2 ** max(-exponent, 0))
    magnitude = (abs(second) + Fraction(1, 2)).__floor__()
    return magnitude if second >= 0 else -magnitude


@given(st.integers(-(2**26), 2**26), st.floats(1e-7, 4))
def test_multiplication_rounds_twice(value: int, real: float) -> None:
    significand, exponent = quantize_multiplier(real)
    result = multiply(torch.tensor([value]), torch.tensor([significand]), torch.tensor([exponent]))
    assert result.tolist() == [_two_roundings(value, real)]


def test_the_second_rounding_takes_ties_away_from_zero() -> None:
    # times 1/4: first 2 * 0.5 exactly, then a shift by one
    values = torch.tensor([2, -2, 6, -6])
    assert multiply(values, torch.tensor([1 << 30]), torch.tensor([-1])).tolist() == [1, -1, 2, -2]


def test_relu6_ends_where_six_lies() -> None:
    op = Op(name="", kind="ADD", inputs=(), outputs=(), activation="RELU6")
    assert activation_bounds(op, 6 / 255, -128) == (-128, 127)
    assert activation_bounds(op, 0.05, -10) == (-10, 110)
    assert activation_bounds(replace(op, activation="RELU"), 0.05, -10) == (-10, 127)
    assert activation_bounds(replace(op, activation=None), 0.05, -10) == (-128, 127)


def test_pooling_rounds_half_away_from_zero() -> None:
    builder = GraphBuilder()
    x = builder.tensor("image", (1, 2, 2, 2))
    y = builder.global_pool("pool", x)
    graph = builder.build("pool", (x,), (y,))
    model = quantize(graph, {}, {x: (-1.0, 1.0)})
    image = np.array([[[1, -1], [1, -1]], [[0, 0], [0, 0]]], np.int8)[None]  # means 0.5, -0.5
    assert simulate(model, image).ravel().tolist() == [1, -1]


@needs_tflm
@pytest.mark.parametrize("seed", range(8))
def test_simulation_equals_tflm_bit_for_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(small_graph(rng), rng)
    images = random_images(model.graph, 4, rng)
    logits = simulate(model, images)
    assert np.array_equal(logits, run_int8(write_tflite(model), images))
    assert len(np.unique(logits)) > 1


@needs_tflm
def test_simulation_equals_tflm_where_sums_need_float64() -> None:
    # 2,000 inputs of one sign times the largest weight exceed 2^24.
    builder = GraphBuilder()
    x = builder.tensor("image", (1, 1, 1, 2000))
    y = builder.fully_connected("fc", x, 3)
    graph = builder.build("wide", (x,), (y,))
    kernel = np.full((3, 2000), 0.5, np.float32)
    kernel[1, ::2] = -0.25
    weights = {"fc": (kernel, np.array([0.1, -5, 7], np.float32))}
    model = quantize(graph, weights, {0: (-1, 1), y: (-1000.0, 1000.0)})
    images = np.random.default_rng(0).integers(-128, 128, (20, 1, 1, 2000)).astype(np.int8)
    images[0], images[1] = 127, -128
    assert np.array_equal(simulate(model, images), run_int8(write_tflite(model), images))


@pytest.mark.parametrize("seed", range(30, 36))
def test_a_patched_model_gives_what_the_whole_one_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(small_graph(rng), rng)
    images = random_images(model.graph, 3, rng)
    split = int(rng.choice(splits(model.graph)))
    _, rows, columns, _ = model.graph.tensors[model.graph.ops[split - 1].outputs[0]].shape
    patched = patch(model.graph, split, min(rows, 3), min(columns, 2))
    assert np.array_equal(simulate(patched_model(model, patched), images), simulate(model, images))


def test_slices_padding_and_joins_by_hand() -> None:
    builder = GraphBuilder()
    x = builder.tensor("image", (1, 2, 2, 1))
    parts = [builder.tensor(name, (1, 2, 1, 1)) for name in ("left", "right")]
    padded = builder.tensor("padded", (1, 3, 1, 1))
    joined = builder.tensor("joined", (1, 5, 1, 1))
    builder.ops += [
        Op(name="l", kind="STRIDED_SLICE", inputs=(x,), outputs=(parts[0],), begin=(0, 0, 0, 0)),
        Op(name="r", kind="STRIDED_SLICE", inputs=(x,), outputs=(parts[1],), begin=(0, 0, 1, 0)),
        Op(
            name="p",
            kind="PAD",
            inputs=(parts[0],),
            outputs=(padded,),
            pads=((0, 0), (1, 0), (0, 0), (0, 0)),
        ),
        Op(name="j", kind="CONCATENATION", inputs=(padded, parts[1]), outputs=(joined,), axis=1),
    ]
    graph = builder.build("moves", (x,), (joined,))
    same = {t: 7 for t in range(len(graph.tensors))}
    scales = dict.fromkeys(same, 0.5)
    model = QuantizedModel(graph=graph, scales=scales, zero_points=same, weights={})
    image = np.array([[[1], [2]], [[3], [4]]], np.int8)[None]
    assert simulate(model, image).ravel().tolist() == [7, 1, 3, 2, 4]
    ops = (*graph.ops[:3], replace(graph.ops[3], axis=None))
    unknown = replace(model, graph=replace(graph, ops=ops))
    with pytest.raises(ValueError, match="the axis along which j joins is not known"):
        simulate(unknown, image)


def test_simulation_does_not_depend_on_the_batches() -> None:
    rng = np.random.default_rng(20)
    model = random_model(small_graph(rng), rng)
    images = random_images(model.graph, 5, rng)
    assert np.array_equal(simulate(model, images, batch_size=2), simulate(model, images))


def test_simulation_follows_the_float_network() -> None:
    rng = np.random.default_rng(21)
    graph = small_graph(rng)
    weights = random_weights(graph, rng)
    images = random_images(graph, 8, rng)
    ranges = calibrate(graph, weights, as_real(images))
    model = quantize(graph, weights, ranges)
    target = graph.outputs[0]
    expected = run_float(graph, weights, torch.from_numpy(as_real(images)))[target].numpy()
    logits = simulate(model, images).astype(np.float64)
    real = (logits - model.zero_points[target]) * model.scales[target]
    assert np.corrcoef(real.ravel(), expected.ravel())[0, 1] > 0.9


def test_an_unknown_kind_cannot_be_simulated() -> None:
    rng = np.random.default_rng(22)
    model = random_model(small_graph(rng), rng)
    ops = (replace(model.graph.ops[0], kind="SOFTMAX"),)
    wrong = replace(model, graph=replace(model.graph, ops=ops))
    with pytest.raises(ValueError, match="'SOFTMAX' cannot be simulated"):
        simulate(wrong, random_images(model.graph, 1, rng))
