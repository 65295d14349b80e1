import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_models import as_real, random_images, random_model, random_weights, small_graph

from tinynas.cost.flash import WEIGHTED
from tinynas.cost.patch import patch, source_name, splits
from tinynas.deploy.quantize import (
    activation_parameters,
    calibrate,
    patched_model,
    quantize,
    run_float,
)
from tinynas.graph import Graph
from tinynas.space.lower import GraphBuilder


def _one_convolution(activation: str | None = "RELU6") -> Graph:
    builder = GraphBuilder()
    x = builder.tensor("image", (1, 4, 4, 1))
    y = builder.conv("c", x, 2, 3, 2, activation)  # type: ignore[arg-type]
    return builder.build("one", (x,), (y,))


def test_same_padding_puts_the_smaller_half_first() -> None:
    # 4 pixels, kernel 3, stride 2: nothing before, one zero after each axis.
    weights = {"c": (np.ones((2, 1, 3, 3), np.float32), np.array([0, 1], np.float32))}
    image = torch.arange(16, dtype=torch.float32).reshape(1, 1, 4, 4)
    graph = _one_convolution(activation=None)
    y = run_float(graph, weights, image)[graph.outputs[0]]
    assert y[0, 0].tolist() == [[45, 39], [66, 50]]
    assert torch.equal(y[0, 1], y[0, 0] + 1)


def test_relu6_limits_values_and_ranges() -> None:
    weights = {"c": (np.ones((2, 1, 3, 3), np.float32), np.array([0, -9], np.float32))}
    graph = _one_convolution()
    images = np.ones((3, 1, 4, 4), np.float32)
    ranges = calibrate(graph, weights, images, batch_size=2)
    assert ranges == {0: (0.0, 1.0), graph.outputs[0]: (0.0, 6.0)}


def test_calibration_does_not_depend_on_the_batches() -> None:
    rng = np.random.default_rng(0)
    graph = small_graph(rng)
    weights = random_weights(graph, rng)
    images = as_real(random_images(graph, 5, rng))
    one, all_at_once = (calibrate(graph, weights, images, batch_size=n) for n in (1, 5))
    for t, (low, high) in one.items():
        assert low <= 0 <= high
        assert all_at_once[t] == pytest.approx((low, high), rel=1e-4, abs=1e-5)


@given(st.floats(-1e4, 0), st.floats(0, 1e4))
def test_zero_is_represented_exactly_and_the_ends_within_one_step(low: float, high: float) -> None:
    scale, zero_point = activation_parameters(low, high)
    assert -128 <= zero_point <= 127
    if high - low >= 1e-6:
        assert (-128 - zero_point) * scale == pytest.approx(low, abs=1.01 * scale)
        assert (127 - zero_point) * scale == pytest.approx(high, abs=1.01 * scale)


def test_the_range_of_relu6_by_hand() -> None:
    assert activation_parameters(0, 6) == (float(np.float32(6 / 255)), -128)


def test_a_tensor_that_is_always_zero_gets_a_usable_scale() -> None:
    assert activation_parameters(0, 0) == (float(np.float32(1 / 255)), -128)


def _quantized(
    kernel: np.ndarray, bias: np.ndarray, activation: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    graph = _one_convolution(activation)
    ranges = {0: (-1.0, 1.0), graph.outputs[0]: (-1.0, 1.0)}
    constants = quantize(graph, {"c": (kernel, bias)}, ranges).weights["c"]
    return constants.values, constants.scales, constants.bias


def test_weights_have_one_scale_per_channel_and_lie_in_tflite_order() -> None:
    kernel = np.arange(18, dtype=np.float32).reshape(2, 1, 3, 3) / 100
    values, scales, bias = _quantized(kernel, np.array([0.5, -0.5], np.float32))
    assert values.shape == (2, 3, 3, 1)
    assert np.allclose(scales, [0.08 / 127, 0.17 / 127])
    assert values[:, 2, 2, 0].tolist() == [127, 127]
    assert bias.tolist() == [round(0.5 * 128 * 127 / 0.08), round(-0.5 * 128 * 127 / 0.17)]


def test_a_channel_without_weights_keeps_its_bias() -> None:
    kernel = np.zeros((2, 1, 3, 3), np.float32)
    kernel[1] = 1
    values, scales, bias = _quantized(kernel, np.array([0.75, 0], np.float32))
    assert bias[0] * float(scales[0]) / 128 == pytest.approx(0.75)
    assert not values[0].any()


def test_the_input_is_pixel_minus_128_and_pooling_keeps_its_scale() -> None:
    rng = np.random.default_rng(1)
    graph = small_graph(rng)
    weights = random_weights(graph, rng)
    model = quantize(
        graph, weights, calibrate(graph, weights, as_real(random_images(graph, 2, rng)))
    )
    assert (model.scales[0], model.zero_points[0]) == (1 / 128, 0)
    pool = next(op for op in graph.ops if op.kind == "AVERAGE_POOL_2D")
    source, target = pool.inputs[0], pool.outputs[0]
    assert model.scales[target] == model.scales[source]
    assert model.zero_points[target] == model.zero_points[source]
    assert model.weights["logits"].scales.shape == (1,)
    for op in graph.ops:
        if op.activation:
            assert model.zero_points[op.outputs[0]] == -128


def test_a_patched_model_shares_its_constants_and_keeps_all_scales() -> None:
    rng = np.random.default_rng(2)
    model = random_model(small_graph(rng), rng)
    patched = patched_model(model, patch(model.graph, splits(model.graph)[-1], 1, 2))
    assert set(patched.weights) == {op.name for op in patched.graph.ops if op.kind in WEIGHTED}
    for name, constants in patched.weights.items():
        assert constants is model.weights[source_name(name)]
    originals = {model.graph.tensors[t].name: t for t in model.scales}
    for t, tensor in enumerate(patched.graph.tensors):
        if not tensor.constant:
            source = originals[source_name(tensor.name)]
            assert patched.scales[t] == model.scales[source]
            assert patched.zero_points[t] == model.zero_points[source]
    for op in patched.graph.ops:
        if op.kind in ("STRIDED_SLICE", "PAD", "CONCATENATION"):  # as their kernels require
            tensors = (*patched.graph.activations(op), *op.outputs)
            assert len({(patched.scales[t], patched.zero_points[t]) for t in tensors}) == 1


def test_an_unknown_kind_cannot_be_run() -> None:
    graph = _one_convolution()
    wrong = Graph(
        name="", tensors=graph.tensors, ops=(_softmax(graph),), inputs=(0,), outputs=graph.outputs
    )
    with pytest.raises(ValueError, match="'SOFTMAX' cannot be run"):
        run_float(wrong, {}, torch.zeros(1, 1, 4, 4))


def _softmax(graph: Graph):  # type: ignore[no-untyped-def]
    return type(graph.ops[0])(name="s", kind="SOFTMAX", inputs=(0,), outputs=graph.outputs)
