"""One network as operators in execution order: what cost models, planner and exporter read.

Tensors are numbered; activations are NHWC with a batch of 1. Weights are laid out as TFLite
stores them: CONV_2D (Cout, kh, kw, Cin), DEPTHWISE_CONV_2D (1, kh, kw, C), FULLY_CONNECTED
(Cout, Cin), biases (Cout,).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Literal

Padding = Literal["SAME", "VALID"]
Activation = Literal["RELU", "RELU6"]

ITEM_BYTES = {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "int32": 4, "float32": 4, "int64": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor's name, shape and type; `constant` when its data lies in the model file."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "int8"
    constant: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of the data, unaligned."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operator: TFLite's name for its kind, the numbers of its tensors in TFLite's order."""

    name: str
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: Padding = "VALID"
    activation: Activation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Tensors, operators in execution order, and the numbers of the graph's inputs and outputs."""

    name: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def activations(self, op: Op) -> tuple[int, ...]:
        """Numbers of the tensors that `op` reads and that are not constants."""
        return tuple(t for t in op.inputs if t >= 0 and not self.tensors[t].constant)

    def lifetimes(self) -> dict[int, tuple[int, int]]:
        """First and last operator at which each activation must be in memory, both inclusive.

        As TFLM counts them (micro_allocation_info.cc): a graph input lives from operator 0, an
        operator's output from that operator, each until its last reader; a graph output lives to
        the last operator.
        """
        first = {t: 0 for t in self.inputs}
        last = dict(first)
        for step, op in enumerate(self.ops):
            for t in self.activations(op):
                last[t] = step
            for t in op.outputs:
                first.setdefault(t, step)
                last.setdefault(t, step)
        for t in self.outputs:
            last[t] = len(self.ops) - 1
        return {t: (first[t], last[t]) for t in first}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels that SAME padding adds before and after an axis of `size` pixels.

    TensorFlow's rule: the output has ceil(size / stride) pixels and the smaller half goes first.
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def output_size(size: int, kernel: int, stride: int, padding: Padding) -> int:
    """Pixels along one axis after a convolution or pooling."""
    return -(-size // stride) if padding == "SAME" else (size - kernel) // stride + 1


def _conv_macs(graph: Graph, op: Op) -> int:
    _, kh, kw, cin = graph.tensors[op.inputs[1]].shape
    return prod(graph.tensors[op.outputs[0]].shape) * kh * kw * cin


def _depthwise_macs(graph: Graph, op: Op) -> int:
    _, kh, kw, _ = graph.tensors[op.inputs[1]].shape
    return prod(graph.tensors[op.outputs[0]].shape) * kh * kw


def _fully_connected_macs(graph: Graph, op: Op) -> int:
    return prod(graph.tensors[op.outputs[0]].shape) * graph.tensors[op.inputs[1]].shape[-1]


def _no_macs(graph: Graph, op: Op) -> int:
    return 0


MACS: dict[str, Callable[[Graph, Op], int]] = {
    "CONV_2D": _conv_macs,
    "DEPTHWISE_CONV_2D": _depthwise_macs,
    "FULLY_CONNECTED": _fully_connected_macs,
    "ADD": _no_macs,
    "AVERAGE_POOL_2D": _no_macs,
}


def op_macs(graph: Graph, op: Op) -> int:
    """Multiply-accumulates of one operator, padding taps counted, as the field counts them.

    Raises ValueError for a kind that is not known: nothing costs zero by being unknown.
    """
    if op.kind not in MACS:
        raise ValueError(f"operator kind {op.kind!r} is not known; known: {', '.join(MACS)}")
    return MACS[op.kind](graph, op)


def total_macs(graph: Graph) -> int:
    """Multiply-accumulates of one inference."""
    return sum(op_macs(graph, op) for op in graph.ops)
