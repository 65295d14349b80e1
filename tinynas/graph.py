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
Activation = Literal["RELU", "RELU_N1_TO_1", "RELU6"]

ITEM_BYTES = {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "int32": 4, "float32": 4, "int64": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor's name, shape and type.

    `constant` when its data lies in the model file, `variable` when its content outlives an
    inference, `quantized` when it has a scale and a zero point.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "int8"
    constant: bool = False
    variable: bool = False
    quantized: bool = True

    @property
    def size_bytes(self) -> int:
        """Bytes of the data, unaligned."""
        return prod(self.shape) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operator: TFLite's name for its kind, the numbers of its tensors in TFLite's order.

    `per_channel` when a FULLY_CONNECTED has one scale for each output; convolutions always have.
    `begin` is a STRIDED_SLICE's first index on each axis where it takes every element from there,
    `pads` what a PAD adds before and after each axis, `axis` that of a CONCATENATION; empty or
    None where that is not known.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = "VALID"
    activation: Activation | None = None
    per_channel: bool = False
    begin: tuple[int, ...] = ()
    pads: tuple[tuple[int, int], ...] = ()
    axis: int | None = None


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
        the last operator. An input that nothing reads lives at -1 alone, before the operators,
        where the other inputs then live too, and a tensor that nothing writes from -2. Variables
        and empty tensors are none of these.
        """
        final = len(self.ops) - 1
        first = {t: -1 for t in self.inputs}
        last = dict(first)
        for step, op in enumerate(self.ops):
            for t in op.outputs:
                first.setdefault(t, step)
                last[t] = max(step, last.get(t, step))
        for t in range(len(self.tensors)):
            first.setdefault(t, final if t in self.outputs else -2)
            last.setdefault(t, first[t])
        for step, op in enumerate(self.ops):
            for t in self.activations(op):
                last[t] = max(step, last[t])
        for t in self.outputs:
            last[t] = final
        start = min((last[t] for t in self.inputs), default=0)
        for t in self.inputs:
            first[t] = min(0, start)
        return {t: (first[t], last[t]) for t in sorted(first) if self._is_planned(t)}

    def _is_planned(self, number: int) -> bool:
        """Whether a tensor is TFLM's to place: no constant, no variable, not empty."""
        tensor = self.tensors[number]
        return not tensor.constant and not tensor.variable and tensor.size_bytes > 0


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


# Kinds of int8 models for microcontrollers that multiply and accumulate nothing, as the field
# counts: comparisons, sums and moves of data.
WITHOUT_MACS = (
    "ADD",
    "AVERAGE_POOL_2D",
    "CONCATENATION",
    "DEQUANTIZE",
    "EXPAND_DIMS",
    "HARD_SWISH",
    "LEAKY_RELU",
    "LOGISTIC",
    "MAXIMUM",
    "MAX_POOL_2D",
    "MEAN",
    "MINIMUM",
    "MUL",
    "PACK",
    "PAD",
    "PADV2",
    "QUANTIZE",
    "REDUCE_MAX",
    "RELU",
    "RELU6",
    "RESHAPE",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "SHAPE",
    "SOFTMAX",
    "SPLIT",
    "SQUEEZE",
    "STRIDED_SLICE",
    "SUB",
    "SUM",
    "TANH",
    "TILE",
    "TRANSPOSE",
    "UNPACK",
)
MACS: dict[str, Callable[[Graph, Op], int]] = {
    "CONV_2D": _conv_macs,
    "DEPTHWISE_CONV_2D": _depthwise_macs,
    "FULLY_CONNECTED": _fully_connected_macs,
    **dict.fromkeys(WITHOUT_MACS, _no_macs),
}


def op_macs(graph: Graph, op: Op) -> int:
    """Multiply-accumulates of one operator, padding taps counted, as the field counts them.

    Raises ValueError for a kind that is not known: nothing costs zero by being unknown.
    """
    if op.kind not in MACS:
        raise ValueError(f"the multiply-accumulates of operator kind {op.kind!r} are not known")
    return MACS[op.kind](graph, op)


def total_macs(graph: Graph) -> int:
    """Multiply-accumulates of one inference."""
    return sum(op_macs(graph, op) for op in graph.ops)
