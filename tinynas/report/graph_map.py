"""The memory map of a graph under a memory plan."""

from __future__ import annotations

from collections.abc import Mapping

from tinynas.cost.buffers import Scratch
from tinynas.deploy.plan import Placed, placements
from tinynas.graph import Graph
from tinynas.report.memory_map import Box, MemoryMap


def memory_of(graph: Graph, offsets: Mapping[int, int], scratch: Scratch) -> MemoryMap:
    """What lies where when the activations lie at `offsets` and TFLM places all the rest."""
    boxes = tuple(_box(graph, placed) for placed in placements(graph, offsets, scratch))
    return MemoryMap(boxes=boxes, operators=len(graph.ops))


def _box(graph: Graph, placed: Placed) -> Box:
    buffer = placed.buffer
    if placed.tensor is None:
        name, shape = f"scratch of {graph.ops[buffer.first].name}", None
    else:
        name = tensor_name(graph, placed.tensor)
        shape = graph.tensors[placed.tensor].shape
    return Box(
        name=name,
        shape=shape,
        size_bytes=buffer.size,
        offset=placed.offset,
        first=buffer.first,
        last=buffer.last,
    )


def tensor_name(graph: Graph, number: int) -> str:
    """A tensor's name, or its number where it has none."""
    return graph.tensors[number].name or f"tensor {number}"
