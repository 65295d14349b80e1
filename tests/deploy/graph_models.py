"""Any graph of int8 operators as a .tflite file, its constants all ones or random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from hand_models import HandOp, HandTensor, hand_model
from kind_models import options

from tinynas.graph import Graph, Op


def _options(graph: Graph, op: Op) -> Callable[[Any], tuple[int, int]]:
    padding, (stride_h, stride_w) = int(op.padding == "VALID"), op.stride
    window = {"Padding": padding, "StrideH": stride_h, "StrideW": stride_w}
    dilation = {"DilationHFactor": 1, "DilationWFactor": 1}
    if op.kind == "CONV_2D":
        return options("Conv2DOptions", **window, **dilation)
    if op.kind == "DEPTHWISE_CONV_2D":
        channels = [graph.tensors[t].shape[-1] for t in (op.inputs[0], op.outputs[0])]
        multiplier = channels[1] // channels[0]
        return options("DepthwiseConv2DOptions", **window, **dilation, DepthMultiplier=multiplier)
    if op.kind == "AVERAGE_POOL_2D":
        height, width = op.kernel
        return options("Pool2DOptions", **window, FilterHeight=height, FilterWidth=width)
    if op.kind == "SOFTMAX":
        return options("SoftmaxOptions", Beta=1.0)
    tables = {"ADD": "AddOptions", "FULLY_CONNECTED": "FullyConnectedOptions"}
    return options({**tables, "RESHAPE": "ReshapeOptions"}[op.kind])


def _constant(graph: Graph, op: Op, place: int, rng: np.random.Generator | None) -> HandTensor:
    tensor = graph.tensors[op.inputs[place]]
    if op.kind == "RESHAPE":
        shape = graph.tensors[op.outputs[0]].shape
        return HandTensor(shape=tensor.shape, dtype="int32", data=np.array(shape, np.int32))
    channels = 1 if op.kind == "FULLY_CONNECTED" else graph.tensors[op.outputs[0]].shape[-1]
    data = np.ones(tensor.shape, tensor.dtype)
    if rng:
        data = rng.integers(-100, 101, tensor.shape).astype(tensor.dtype)
    return HandTensor(
        shape=tensor.shape,
        dtype=tensor.dtype,
        data=data,
        scales=((0.01, 0.0005)[place - 1],) * channels,
        axis=3 if op.kind == "DEPTHWISE_CONV_2D" and place == 1 else 0,
    )


def graph_model(
    graph: Graph,
    offsets: Mapping[int, int] | None = None,
    rng: np.random.Generator | None = None,
) -> bytes:
    """The file, with a memory plan where `offsets` are given and random weights where `rng` is."""
    tensors = [HandTensor(shape=tensor.shape) for tensor in graph.tensors]
    for op in graph.ops:
        for place, t in enumerate(op.inputs):
            if graph.tensors[t].constant:
                tensors[t] = _constant(graph, op, place, rng)
        if op.kind == "SOFTMAX":
            shape = graph.tensors[op.outputs[0]].shape
            tensors[op.outputs[0]] = HandTensor(shape=shape, scales=(1 / 256,), zero_point=-128)
    ops = [
        HandOp(kind=op.kind, inputs=op.inputs, outputs=op.outputs, options=_options(graph, op))
        for op in graph.ops
    ]
    plan = None
    if offsets is not None:
        plan = [1, 0, len(tensors), *(offsets.get(t, -1) for t in range(len(tensors)))]
    return hand_model(tensors, ops, inputs=graph.inputs, outputs=graph.outputs, plan=plan)
