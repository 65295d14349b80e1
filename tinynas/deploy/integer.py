"""TFLM's reference int8 kernels, bit for bit, over batches of images.

Sources (tflite-micro): tensorflow/lite/kernels/internal/common.h and quantization_util.cc
(multipliers and their two roundings), reference/integer_ops/{conv,depthwise_conv,
fully_connected,add,pooling}.h. Slices, padding and joins move values as they are. Products are
summed as floats: int8 products are integers, and while the sum of their magnitudes stays below
2^24 (float32) or 2^53 (float64), every partial sum is exact in any order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tinynas.cost.flash import WEIGHTED
from tinynas.deploy.quantize import QuantizedModel, QuantizedWeights, pad_same
from tinynas.graph import Graph, Op

Int8Array = npt.NDArray[np.int8]
Bounds = tuple[int, int]

LARGEST_DIFFERENCE = 255  # between an int8 value and its zero point
FLOAT32_EXACT = 2**24
# Winograd's transforms of a 3x3 convolution, should the library use them, stay dyadic and grow
# sums by less than this.
TRANSFORM_GROWTH = 16
ADD_SHIFT = 20  # add.cc: head room for both inputs


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Significand (31 bits) and exponent of a multiplier: QuantizeMultiplier."""
    fraction, exponent = math.frexp(real)
    significand = math.floor(fraction * 2**31 + 0.5)
    if significand == 2**31:
        significand, exponent = significand // 2, exponent + 1
    return (0, 0) if exponent < -31 else (significand, exponent)


def multiply(
    values: torch.Tensor, significand: torch.Tensor, exponent: torch.Tensor
) -> torch.Tensor:
    """MultiplyByQuantizedMultiplier on int64 `values`, which are overwritten.

    First rounding: SaturatingRoundingDoublingHighMul, half up, as an arithmetic shift; second:
    RoundingDivideByPOT, half away from zero. `significand` and `exponent` are int64.
    """
    right = (-exponent).clamp_min(0)
    scaled = values.mul_(significand << exponent.clamp_min(0)).add_(1 << 30)
    scaled.bitwise_right_shift_(31)
    if not right.any():
        return scaled
    half = (1 << right) >> 1
    negative = (scaled < 0) & (right > 0)
    return scaled.add_(half).sub_(negative.to(torch.int64)).bitwise_right_shift_(right)


def _multiplier_tensors(reals: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = [quantize_multiplier(real) for real in reals]
    significands, exponents = zip(*pairs, strict=True)
    return torch.tensor(significands), torch.tensor(exponents)


def _round_half_away(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def activation_bounds(op: Op, scale: float, zero_point: int) -> Bounds:
    """Smallest and largest output: CalculateActivationRangeQuantized, in float32 as there."""
    if op.activation is None:
        return -128, 127
    six = _round_half_away(float(np.float32(6) / np.float32(scale)))
    return max(-128, zero_point), min(127, zero_point + six) if op.activation == "RELU6" else 127


def _real_multipliers(model: QuantizedModel, op: Op, constants: QuantizedWeights) -> list[float]:
    input_scale, output_scale = (model.scales[t] for t in (op.inputs[0], op.outputs[0]))
    if op.kind == "FULLY_CONNECTED":  # GetQuantizedConvolutionMultipler: a float32 product
        product = np.float32(input_scale) * constants.scales[0]
        return [float(product) / output_scale]
    return [input_scale * float(scale) / output_scale for scale in constants.scales]


def _exact_type(constants: QuantizedWeights, op: Op) -> torch.dtype:
    """float32 if no sum of magnitudes can leave its exact integers, else float64."""
    magnitudes = np.abs(constants.values.astype(np.int64))
    axes = (0, 1, 2) if op.kind == "DEPTHWISE_CONV_2D" else tuple(range(1, magnitudes.ndim))
    largest = int(magnitudes.sum(axis=axes).max()) * LARGEST_DIFFERENCE
    growth = 1 if op.kernel == (1, 1) else TRANSFORM_GROWTH
    return torch.float32 if largest * growth < FLOAT32_EXACT else torch.float64


def _convolve(graph: Graph, op: Op, x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Sums of products, NHWC to NHWC (or (N, Cout)); 1x1 kernels are one matrix product."""
    if op.kind == "FULLY_CONNECTED":
        return x.flatten(1) @ kernel.T
    if op.kind == "CONV_2D" and op.kernel == op.stride == (1, 1):
        return x @ kernel.flatten(1).T
    channels_first = x.permute(0, 3, 1, 2)
    padded = pad_same(graph, op, channels_first)
    if op.kind == "DEPTHWISE_CONV_2D":
        weights, groups = kernel.permute(3, 0, 1, 2), x.shape[3]
    else:
        weights, groups = kernel.permute(0, 3, 1, 2), 1
    sums = functional.conv2d(padded, weights, None, op.stride, groups=groups)
    return sums.permute(0, 2, 3, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Constants:
    """One operator's constants as tensors: weights as floats, the rest int64."""

    weights: torch.Tensor
    bias: torch.Tensor
    significand: torch.Tensor
    exponent: torch.Tensor


Prepared = Mapping[int, _Constants]  # by the number of the weights, which operators may share


def _prepare(model: QuantizedModel, op: Op) -> _Constants:
    constants = model.weights[op.name]
    significand, exponent = _multiplier_tensors(_real_multipliers(model, op, constants))
    return _Constants(
        weights=torch.tensor(constants.values, dtype=_exact_type(constants, op)),
        bias=torch.tensor(constants.bias, dtype=torch.int64),
        significand=significand,
        exponent=exponent,
    )


def _weighted(
    model: QuantizedModel, op: Op, constants: _Constants, x: torch.Tensor, bounds: Bounds
) -> torch.Tensor:
    shifted = x.to(constants.weights.dtype).sub_(model.zero_points[op.inputs[0]])
    sums = _convolve(model.graph, op, shifted, constants.weights)
    totals = sums.to(torch.int64).add_(constants.bias)
    scaled = multiply(totals, constants.significand, constants.exponent)
    return scaled.add_(model.zero_points[op.outputs[0]]).clamp_(*bounds).to(torch.int8)


def _add(
    model: QuantizedModel, op: Op, x: torch.Tensor, y: torch.Tensor, bounds: Bounds
) -> torch.Tensor:
    scales = [model.scales[t] for t in op.inputs]
    twice = 2 * max(scales)
    total = torch.zeros(x.shape, dtype=torch.int64)
    for tensor, value, scale in zip(op.inputs, (x, y), scales, strict=True):
        # 256 possible values: scale each once and look them up.
        every = (torch.arange(-128, 128) - model.zero_points[tensor]) << ADD_SHIFT
        table = multiply(every, *_multiplier_tensors([scale / twice]))
        total += table[value.to(torch.int64) + 128]
    target = op.outputs[0]
    real = twice / (2**ADD_SHIFT * model.scales[target])
    scaled = multiply(total, *_multiplier_tensors([real]))
    return scaled.add_(model.zero_points[target]).clamp_(*bounds).to(torch.int8)


def _average(op: Op, x: torch.Tensor, bounds: Bounds) -> torch.Tensor:
    """Mean over windows without padding, rounded half away from zero."""
    count = op.kernel[0] * op.kernel[1]
    windows = x.unfold(1, op.kernel[0], op.stride[0]).unfold(2, op.kernel[1], op.stride[1])
    sums = windows.sum(dim=(4, 5), dtype=torch.int64)
    nudged = sums + torch.where(sums > 0, count // 2, -(count // 2))
    return torch.div(nudged, count, rounding_mode="trunc").clamp_(*bounds).to(torch.int8)


def _slice(model: QuantizedModel, op: Op, inputs: list[torch.Tensor]) -> torch.Tensor:
    """The elements of an output's shape from `begin` on, of every image of the batch."""
    x = inputs[0]
    for axis, size in enumerate(model.graph.tensors[op.outputs[0]].shape[1:], 1):
        x = x.narrow(axis, op.begin[axis], size)
    return x


def _pad(model: QuantizedModel, op: Op, inputs: list[torch.Tensor]) -> torch.Tensor:
    """The input with zero points around it."""
    last_axis_first = [count for pair in reversed(op.pads) for count in pair]
    return functional.pad(inputs[0], last_axis_first, value=model.zero_points[op.outputs[0]])


def _join(model: QuantizedModel, op: Op, inputs: list[torch.Tensor]) -> torch.Tensor:
    """The inputs side by side; a graph that does not say along which axis is a ValueError."""
    if op.axis is None:
        raise ValueError(f"the axis along which {op.name} joins is not known")
    return torch.cat(inputs, dim=op.axis)


# Kinds that only move values, and so need no bounds.
MOVES = {"STRIDED_SLICE": _slice, "PAD": _pad, "CONCATENATION": _join}


def _run_op(
    model: QuantizedModel, op: Op, prepared: Prepared, inputs: list[torch.Tensor]
) -> torch.Tensor:
    if op.kind in MOVES:
        return MOVES[op.kind](model, op, inputs)
    target = op.outputs[0]
    bounds = activation_bounds(op, model.scales[target], model.zero_points[target])
    if op.kind in WEIGHTED:
        return _weighted(model, op, prepared[op.inputs[1]], inputs[0], bounds)
    if op.kind == "ADD":
        return _add(model, op, inputs[0], inputs[1], bounds)
    if op.kind == "AVERAGE_POOL_2D" and op.padding == "VALID":
        return _average(op, inputs[0], bounds)
    raise ValueError(f"operator kind {op.kind!r} cannot be simulated")


def _simulate_batch(
    model: QuantizedModel, prepared: Prepared, images: torch.Tensor
) -> torch.Tensor:
    graph = model.graph
    lifetimes = graph.lifetimes()
    values = {graph.inputs[0]: images}
    for step, op in enumerate(graph.ops):
        inputs = [values[t] for t in graph.activations(op)]
        values[op.outputs[0]] = _run_op(model, op, prepared, inputs)
        for t in graph.activations(op):
            if lifetimes[t][1] == step:
                values.pop(t, None)
    return values[graph.outputs[0]]


def simulate(model: QuantizedModel, images: Int8Array, *, batch_size: int = 16) -> Int8Array:
    """int8 logits (N, classes) of int8 images (N, H, W, C), equal to TFLM's.

    Small batches are fastest: what passes between operators stays in the processor's cache.
    """
    weighted = {op.inputs[1]: op for op in model.graph.ops if op.kind in WEIGHTED}
    prepared = {weights: _prepare(model, op) for weights, op in weighted.items()}
    logits: list[Int8Array] = []
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            batch = torch.tensor(images[start : start + batch_size])
            logits.append(_simulate_batch(model, prepared, batch).numpy())
    return np.concatenate(logits)
