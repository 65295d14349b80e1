"""Random subnets with random weights, for the tests of this folder."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tinynas.deploy.quantize import (
    WEIGHTED,
    FloatWeights,
    QuantizedModel,
    QuantizedWeights,
    calibrate,
    quantize,
)
from tinynas.graph import Graph
from tinynas.space.arch import decode, random_genes
from tinynas.space.lower import lower
from tinynas.space.spec import find_space

Array = npt.NDArray[Any]


def random_graph(
    rng: np.random.Generator,
    *,
    spaces: tuple[str, ...] = ("mcunet", "mcunet-small"),
    widths: tuple[float, ...] | None = None,
    resolutions: tuple[int, ...] | None = None,
    max_classes: int = 1000,
) -> Graph:
    """A subnet of a space, drawn with its width, resolution, channels and classes."""
    space = find_space(str(rng.choice(spaces)))
    arch = decode(
        space,
        random_genes(space, 1, rng)[0],
        width=float(rng.choice(widths or space.width_multipliers)),
        resolution=int(rng.choice(resolutions or space.resolutions)),
    )
    classes = int(rng.integers(2, max_classes + 1))
    return lower(space, arch, classes=classes, channels=int(rng.choice([1, 3])))


def small_graph(rng: np.random.Generator) -> Graph:
    """A subnet that TFLM's reference kernels run in a few milliseconds."""
    return random_graph(rng, widths=(0.2, 0.3, 0.4), resolutions=(15, 20, 24, 32), max_classes=50)


def random_weights(graph: Graph, rng: np.random.Generator) -> FloatWeights:
    """Weights of He et al.'s initialisation (2015) and small biases."""
    weights: dict[str, tuple[Array, Array]] = {}
    for op in graph.ops:
        if op.kind in WEIGHTED:
            shape = graph.tensors[op.inputs[1]].shape
            if op.kind == "CONV_2D":
                shape = (shape[0], shape[3], shape[1], shape[2])
            elif op.kind == "DEPTHWISE_CONV_2D":
                shape = (shape[3], 1, shape[1], shape[2])
            spread = np.sqrt(2 / np.prod(shape[1:]))
            weights[op.name] = (
                rng.normal(0, spread, shape).astype(np.float32),
                rng.normal(0, 0.1, shape[0]).astype(np.float32),
            )
    return weights


def random_images(graph: Graph, count: int, rng: np.random.Generator) -> npt.NDArray[np.int8]:
    """int8 images of shape (count, H, W, C)."""
    shape = graph.tensors[graph.inputs[0]].shape[1:]
    return rng.integers(-128, 128, (count, *shape)).astype(np.int8)


def as_real(images: npt.NDArray[np.int8]) -> Array:
    """What a network is trained on: float (N, C, H, W), (pixel - 128) / 128."""
    return (images.transpose(0, 3, 1, 2) / 128).astype(np.float32)


def random_model(graph: Graph, rng: np.random.Generator) -> QuantizedModel:
    """The graph with random weights, calibrated on four random images."""
    weights = random_weights(graph, rng)
    ranges = calibrate(graph, weights, as_real(random_images(graph, 4, rng)))
    return quantize(graph, weights, ranges)


def random_constants(graph: Graph, rng: np.random.Generator) -> QuantizedModel:
    """The graph with random int8 constants, for tests of size and structure."""
    weights: dict[str, QuantizedWeights] = {}
    scales, zero_points = {graph.inputs[0]: 1 / 128}, {graph.inputs[0]: 0}
    for op in graph.ops:
        if op.kind in WEIGHTED:
            shape = graph.tensors[op.inputs[1]].shape
            channels = graph.tensors[op.inputs[2]].shape[0]
            weights[op.name] = QuantizedWeights(
                values=rng.integers(-127, 128, shape).astype(np.int8),
                scales=rng.uniform(
                    0.01, 0.1, 1 if op.kind == "FULLY_CONNECTED" else channels
                ).astype(np.float32),
                bias=rng.integers(-1000, 1000, channels).astype(np.int32),
            )
        target = op.outputs[0]
        scales[target] = float(np.float32(rng.uniform(0.01, 0.1)))
        zero_points[target] = -128 if op.activation else int(rng.integers(-128, 128))
        if op.kind == "AVERAGE_POOL_2D":
            scales[target], zero_points[target] = scales[op.inputs[0]], zero_points[op.inputs[0]]
    return QuantizedModel(graph=graph, scales=scales, zero_points=zero_points, weights=weights)
