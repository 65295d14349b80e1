"""A small model of each operator kind, written with the generated builder of the schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tflite
from hand_models import HandOp, HandTensor, hand_model


def options(table: str, **fields: float) -> Callable[[Any], tuple[int, int]]:
    """Options of any kind: the name of their table and its fields."""

    def build(builder: Any) -> tuple[int, int]:
        getattr(tflite, f"{table}Start")(builder)
        for field, value in fields.items():
            getattr(tflite, f"{table}Add{field}")(builder, value)
        place = getattr(tflite, f"{table}End")(builder)
        return place, getattr(tflite.BuiltinOptions, table)

    return build


def whole(*values: int) -> HandTensor:
    """A constant of 32-bit integers."""
    data = np.array(values, np.int32)
    return HandTensor(shape=data.shape, dtype="int32", data=data)


def weights(*shape: int, channels: int, axis: int = 0) -> list[HandTensor]:
    """Weights of such a shape and biases, with a scale for each channel."""
    data, biases = np.ones(shape, np.int8), np.zeros(channels, np.int32)
    scales = (0.0005,) * channels  # those of input and weights multiplied
    return [
        HandTensor(shape=shape, data=data, scales=(0.01,) * channels, axis=axis),
        HandTensor(shape=(channels,), dtype="int32", data=biases, scales=scales),
    ]


CONV = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1, "Padding": 0}
DEPTHWISE = {**CONV, "DepthMultiplier": 1}
POOL = {"StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2, "Padding": 1}
IMAGE = (1, 8, 8, 4)
LOGISTIC = {"scales": (1 / 256,), "zero_point": -128}
TANH = {"scales": (1 / 128,), "zero_point": 0}

Kind = tuple[
    list[HandTensor],  # activations read
    list[HandTensor],  # constants read
    list[HandTensor],  # outputs
    Callable[[Any], tuple[int, int]] | None,
]


def _image(*shape: int) -> HandTensor:
    return HandTensor(shape=shape or IMAGE)


def _pair(table: str) -> Kind:
    return [_image(), _image()], [], [_image()], options(table)


def _alone(table: str | None = None, **output: Any) -> Kind:
    out = HandTensor(shape=IMAGE, **output)
    return [_image()], [], [out], options(table) if table else None


def _squeeze_options(builder: Any) -> tuple[int, int]:
    axes = builder.CreateNumpyVector(np.array([1], "<i4"))
    tflite.SqueezeOptionsStart(builder)
    tflite.SqueezeOptionsAddSqueezeDims(builder, axes)
    return tflite.SqueezeOptionsEnd(builder), tflite.BuiltinOptions.SqueezeOptions


KINDS: dict[str, Kind] = {
    "CONV_2D": (
        [_image()],
        weights(6, 3, 3, 4, channels=6),
        [_image(1, 8, 8, 6)],
        options("Conv2DOptions", **CONV),
    ),
    "DEPTHWISE_CONV_2D": (
        [_image()],
        weights(1, 3, 3, 4, channels=4, axis=3),
        [_image()],
        options("DepthwiseConv2DOptions", **DEPTHWISE),
    ),
    "FULLY_CONNECTED": (
        [_image(1, 16)],
        weights(5, 16, channels=5),
        [_image(1, 5)],
        options("FullyConnectedOptions"),
    ),
    "ADD": _pair("AddOptions"),
    "SUB": _pair("SubOptions"),
    "MUL": _pair("MulOptions"),
    "MINIMUM": _pair("MaximumMinimumOptions"),
    "MAXIMUM": _pair("MaximumMinimumOptions"),
    "AVERAGE_POOL_2D": ([_image()], [], [_image(1, 4, 4, 4)], options("Pool2DOptions", **POOL)),
    "MAX_POOL_2D": ([_image()], [], [_image(1, 4, 4, 4)], options("Pool2DOptions", **POOL)),
    "MEAN": ([_image()], [whole(1, 2)], [_image(1, 4)], options("ReducerOptions")),
    "SUM": ([_image()], [whole(1, 2)], [_image(1, 4)], options("ReducerOptions")),
    "REDUCE_MAX": ([_image()], [whole(1, 2)], [_image(1, 4)], options("ReducerOptions")),
    "PAD": (
        [_image()],
        [HandTensor(shape=(4, 2), dtype="int32", data=np.array([[0, 0], [1, 1]] * 2, np.int32))],
        [_image(1, 10, 8, 6)],
        options("PadOptions"),
    ),
    "PADV2": (
        [_image()],
        [
            HandTensor(shape=(4, 2), dtype="int32", data=np.array([[0, 0], [1, 1]] * 2, np.int32)),
            HandTensor(shape=(1,), data=np.zeros(1, np.int8)),
        ],
        [_image(1, 10, 8, 6)],
        options("PadV2Options"),
    ),
    "RESHAPE": ([_image()], [whole(1, 256)], [_image(1, 256)], options("ReshapeOptions")),
    "SOFTMAX": (
        [_image(1, 10)],
        [],
        [HandTensor(shape=(1, 10), **LOGISTIC)],  # type: ignore[arg-type]
        options("SoftmaxOptions", Beta=1.0),
    ),
    "LOGISTIC": _alone(**LOGISTIC),
    "TANH": _alone(**TANH),
    "RELU": _alone(),
    "RELU6": _alone(),
    "LEAKY_RELU": _alone("LeakyReluOptions"),
    "HARD_SWISH": _alone("HardSwishOptions"),
    "CONCATENATION": (
        [_image(), _image()],
        [],
        [_image(1, 8, 8, 8)],
        options("ConcatenationOptions", Axis=3),
    ),
    "STRIDED_SLICE": (
        [_image()],
        [whole(0, 0, 0, 0), whole(1, 4, 8, 4), whole(1, 1, 1, 1)],
        [_image(1, 4, 8, 4)],
        options("StridedSliceOptions"),
    ),
    "PACK": (
        [_image(), _image()],
        [],
        [_image(1, 2, 8, 8, 4)],
        options("PackOptions", ValuesCount=2, Axis=1),
    ),
    "UNPACK": (
        [_image(2, 8)],
        [],
        [_image(8), _image(8)],
        options("UnpackOptions", Num=2, Axis=0),
    ),
    "SPLIT": (
        [_image()],
        [HandTensor(shape=(1,), dtype="int32", data=np.array([3], np.int32))],
        [_image(1, 8, 8, 2), _image(1, 8, 8, 2)],
        options("SplitOptions", NumSplits=2),
    ),
    "SHAPE": ([_image()], [], [HandTensor(shape=(4,), dtype="int32")], options("ShapeOptions")),
    "TILE": ([_image()], [whole(1, 2, 1, 1)], [_image(1, 16, 8, 4)], options("TileOptions")),
    "RESIZE_BILINEAR": (
        [_image()],
        [whole(16, 16)],
        [_image(1, 16, 16, 4)],
        options("ResizeBilinearOptions"),
    ),
    "RESIZE_NEAREST_NEIGHBOR": (
        [_image()],
        [whole(16, 16)],
        [_image(1, 16, 16, 4)],
        options("ResizeNearestNeighborOptions"),
    ),
    "TRANSPOSE": (
        [_image()],
        [whole(0, 3, 1, 2)],
        [_image(1, 4, 8, 8)],
        options("TransposeOptions"),
    ),
    "EXPAND_DIMS": (
        [_image(1, 16)],
        [whole(1)],
        [_image(1, 1, 16)],
        options("ExpandDimsOptions"),
    ),
    "SQUEEZE": ([_image(1, 1, 16)], [], [_image(1, 16)], _squeeze_options),
    "QUANTIZE": (
        [HandTensor(shape=IMAGE, dtype="float32", scales=())],
        [],
        [_image()],
        options("QuantizeOptions"),
    ),
    "DEQUANTIZE": (
        [_image()],
        [],
        [HandTensor(shape=IMAGE, dtype="float32", scales=())],
        options("DequantizeOptions"),
    ),
}


def kind_model(kind: str, copies: int = 1) -> bytes:
    """A model of one operator, or of so many of them side by side on the same inputs."""
    read, constants, written, option = KINDS[kind]
    tensors = [*read, *constants]
    inputs = tuple(range(len(read)))
    taken = tuple(range(len(tensors)))
    if kind == "SPLIT":
        taken = taken[::-1]
    ops, outputs = [], []
    for _ in range(copies):
        made = tuple(range(len(tensors), len(tensors) + len(written)))
        tensors += written
        ops.append(HandOp(kind=kind, inputs=taken, outputs=made, options=option))
        outputs += made
    return hand_model(tensors, ops, inputs=inputs, outputs=outputs)
