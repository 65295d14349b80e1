"""Random subnets with random weights, for the tests of this folder."""

from __future__ import annotations

import numpy as np

from tinynas.deploy.quantize import FloatWeights, QuantizedModel, calibrate, quantize
from tinynas.graph import Graph
from tinynas.space.arch import decode, random_genes
from tinynas.space.lower import lower
from tinynas.space.spec import SearchSpace, find_space


def random_graph(
    rng: np.random.Generator,
    space: SearchSpace | None = None,
    *,
    widths: tuple[float, ...] | None = None,
    resolutions: tuple[int, ...] | None = None,
    max_classes: int = 1000,
) -> Graph:
    """A subnet of a space, drawn with its width, resolution, channels and classes."""
    space = space or find_space(str(rng.choice(["mcunet", "mcunet-small"])))
    arch = decode(
        space,
        random_genes(space, 1, rng)[0],
        width=float(rng.choice(widths or space.width_multipliers)),
        resolution=int(rng.choice(resolutions or space.resolutions)),
    )
    return lower(
        space,
        arch,
        classes=int(rng.integers(2, max_classes + 1)),
        channels=int(rng.choice([1, 3])),
    )


def random_weights(graph: Graph, rng: np.random.Generator) -> FloatWeights:
    """Weights of He et al.'s initialisation (2015) and small biases."""
    weights: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for op in graph.ops:
        if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
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


def random_images(graph: Graph, count: int, rng: np.random.Generator) -> np.ndarray:
    """int8 images of shape (count, H, W, C)."""
    shape = graph.tensors[graph.inputs[0]].shape[1:]
    return rng.integers(-128, 128, (count, *shape)).astype(np.int8)


def as_real(images: np.ndarray) -> np.ndarray:
    """What a network is trained on: float (N, C, H, W), (pixel - 128) / 128."""
    return (images.transpose(0, 3, 1, 2) / 128).astype(np.float32)


def random_model(graph: Graph, rng: np.random.Generator) -> QuantizedModel:
    """The graph with random weights, calibrated on four random images."""
    weights = random_weights(graph, rng)
    ranges = calibrate(graph, weights, as_real(random_images(graph, 4, rng)))
    return quantize(graph, weights, ranges)
