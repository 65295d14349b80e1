"""Post-training quantisation to int8, as TensorFlow Lite's specification asks for.

https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec:
activations per tensor and asymmetric, weights symmetric in [-127, 127], biases int32 of scale
input times weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tinynas.cost.flash import WEIGHTED
from tinynas.cost.patch import source_name
from tinynas.graph import Graph, Op, same_padding

FloatArray = npt.NDArray[np.floating]
FloatWeights = Mapping[str, tuple[FloatArray, FloatArray]]
Ranges = dict[int, tuple[float, float]]

INPUT_SCALE = 1 / 128  # real value = (pixel - 128) / 128, so int8 = pixel - 128
INPUT_ZERO_POINT = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedWeights:
    """One operator's constants.

    `values` int8 in TFLite's layout, `scales` float32 of shape (Cout,), or (1,) for a fully
    connected operator, `bias` int32 of shape (Cout,).
    """

    values: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedModel:
    """A graph with scale and zero point per activation tensor, and constants per operator name.

    Scales are float32 values: real = scale * (int8 - zero point).
    """

    graph: Graph
    scales: Mapping[int, float]
    zero_points: Mapping[int, int]
    weights: Mapping[str, QuantizedWeights]


def pad_same(graph: Graph, op: Op, x: torch.Tensor) -> torch.Tensor:
    """`x` (N, C, H, W) with the zeros around it that the operator's padding stands for."""
    if op.padding == "VALID":
        return x
    top, bottom = same_padding(x.shape[2], op.kernel[0], op.stride[0])
    left, right = same_padding(x.shape[3], op.kernel[1], op.stride[1])
    return functional.pad(x, (left, right, top, bottom))


def _run_op(
    graph: Graph, op: Op, weights: FloatWeights, inputs: list[torch.Tensor]
) -> torch.Tensor:
    x = inputs[0]
    if op.kind in WEIGHTED:
        kernel, bias = (torch.tensor(a, dtype=x.dtype) for a in weights[op.name])
    if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        groups = x.shape[1] if op.kind == "DEPTHWISE_CONV_2D" else 1
        padded = pad_same(graph, op, x)
        return functional.conv2d(padded, kernel, bias, op.stride, groups=groups)
    if op.kind == "FULLY_CONNECTED":
        return functional.linear(x.flatten(1), kernel, bias)
    if op.kind == "ADD":
        return x + inputs[1]
    if op.kind == "AVERAGE_POOL_2D":
        return functional.avg_pool2d(x, op.kernel, op.stride)
    raise ValueError(f"operator kind {op.kind!r} cannot be run")


def run_float(
    graph: Graph, weights: FloatWeights, images: torch.Tensor
) -> dict[int, torch.Tensor]:
    """Every activation by tensor number, (N, C, H, W) or (N, classes).

    `images` is (N, C, H, W) of (pixel - 128) / 128; `weights` has batch norm folded in.
    """
    values = {graph.inputs[0]: images}
    for op in graph.ops:
        y = _run_op(graph, op, weights, [values[t] for t in graph.activations(op)])
        if op.activation is not None:
            y = y.clamp(0, 6) if op.activation == "RELU6" else y.clamp_min(0)
        values[op.outputs[0]] = y
    return values


def calibrate(
    graph: Graph, weights: FloatWeights, images: FloatArray, *, batch_size: int = 32
) -> Ranges:
    """Smallest and largest value of each activation over the images, zero always included.

    `images` is (N, C, H, W) of (pixel - 128) / 128. ReLU6 keeps its outputs within [0, 6].
    """
    ranges: Ranges = {}
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            batch = torch.tensor(images[start : start + batch_size], dtype=torch.float32)
            for t, value in run_float(graph, weights, batch).items():
                low, high = ranges.get(t, (0.0, 0.0))
                ranges[t] = (min(low, value.min().item()), max(high, value.max().item()))
    return ranges


def activation_parameters(low: float, high: float) -> tuple[float, int]:
    """Scale (a float32 value) and zero point that map [low, high] to [-128, 127].

    A tensor that is always zero gets a range of 1: any scale represents it, and a tiny one would
    make the multipliers of its neighbours overflow.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-6:
        high = low + 1.0
    scale = float(np.float32((high - low) / 255))
    return scale, int(np.clip(np.rint(-128 - low / scale), -128, 127))


def _tflite_layout(op: Op, kernel: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    if op.kind == "CONV_2D":  # (Cout, Cin, kh, kw) to (Cout, kh, kw, Cin)
        return np.ascontiguousarray(kernel.transpose(0, 2, 3, 1))
    if op.kind == "DEPTHWISE_CONV_2D":  # (C, 1, kh, kw) to (1, kh, kw, C)
        return np.ascontiguousarray(kernel.transpose(1, 2, 3, 0))
    return kernel


def _quantize_weights(
    op: Op, kernel: FloatArray, bias: FloatArray, input_scale: float
) -> QuantizedWeights:
    """Constants of one operator.

    A fully connected operator has one scale for all: TFLM's and CMSIS-NN's kernels of before 2024
    know no other, and it saves 4 bytes of file and 8 of arena per class. A channel of tiny weights
    gets the scale at which its bias still fits into 30 bits.
    """
    kernel, bias = np.asarray(kernel, np.float64), np.asarray(bias, np.float64)
    largest = np.abs(kernel.reshape(len(kernel), -1)).max(axis=1)
    needed = np.maximum(largest / 127, np.abs(bias) / (input_scale * 2**30))
    if op.kind == "FULLY_CONNECTED":
        needed = needed.max(keepdims=True)
    scales = np.maximum(needed, 1e-10).astype(np.float32)
    steps = scales.astype(np.float64)
    columns = steps.reshape(-1, *[1] * (kernel.ndim - 1))
    values = np.clip(np.rint(kernel / columns), -127, 127).astype(np.int8)
    quantized_bias = np.rint(bias / (input_scale * steps)).astype(np.int32)
    return QuantizedWeights(values=_tflite_layout(op, values), scales=scales, bias=quantized_bias)


def quantize(graph: Graph, weights: FloatWeights, ranges: Ranges) -> QuantizedModel:
    """The int8 model; `ranges` are what `calibrate` returns.

    The input's parameters are fixed (INPUT_SCALE, INPUT_ZERO_POINT), and pooling keeps its
    input's, as its kernels require.
    """
    scales = {graph.inputs[0]: INPUT_SCALE}
    zero_points = {graph.inputs[0]: INPUT_ZERO_POINT}
    constants: dict[str, QuantizedWeights] = {}
    for op in graph.ops:
        source, target = op.inputs[0], op.outputs[0]
        if op.kind == "AVERAGE_POOL_2D":
            scales[target], zero_points[target] = scales[source], zero_points[source]
        else:
            low, high = ranges[target]
            low = 0.0 if op.activation is not None else low
            scales[target], zero_points[target] = activation_parameters(low, high)
        if op.kind in WEIGHTED:
            constants[op.name] = _quantize_weights(op, *weights[op.name], scales[source])
    return QuantizedModel(graph=graph, scales=scales, zero_points=zero_points, weights=constants)


def patched_model(model: QuantizedModel, patched: Graph) -> QuantizedModel:
    """The model whose graph was patched to `patched`, see tinynas.cost.patch, on patches.

    Every tensor has the scale and zero point of the one it is a piece of, and every operator the
    constants of the one it stands for, which are not copied: results stay the same.
    """
    numbers = {model.graph.tensors[t].name: t for t in model.scales}
    sources = {
        t: numbers[source_name(tensor.name)]
        for t, tensor in enumerate(patched.tensors)
        if not tensor.constant
    }
    return QuantizedModel(
        graph=patched,
        scales={t: model.scales[source] for t, source in sources.items()},
        zero_points={t: model.zero_points[source] for t, source in sources.items()},
        weights={
            op.name: model.weights[source_name(op.name)]
            for op in patched.ops
            if op.kind in WEIGHTED
        },
    )
