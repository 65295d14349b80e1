"""Peak SRAM of a graph as TensorFlow Lite Micro (TFLM) on a 32-bit chip will have it.

TFLM's tensor arena has a *head*, where activations and the kernels' scratch buffers are placed by
a memory plan, and a *tail*, where everything that lives as long as the model is stacked downward.

The tail follows the order of TFLM's allocator (micro_allocator.cc, micro_interpreter_graph.cc):
objects and per-model arrays aligned to their type, then each kernel's data aligned to 16 bytes,
then scratch buffer handles, then the input and output tensors. The struct sizes are those of a
32-bit target; they and the three constants below reproduce the arenas of single operators and of
whole models that were measured on emulated Cortex-M cores (TFLM of August 2026).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from tinynas.errors import UsageError
from tinynas.graph import Graph, Op

# One number, or an array of them for as many subnets: the rules are the same.
Number = TypeVar("Number", int, npt.NDArray[np.int64])
Kernels = Literal["reference", "cmsis-nn-dsp", "cmsis-nn-c"]

ALIGNMENT = 16
EVAL_TENSOR_BYTES = 12
NODE_BYTES = 32
ALLOCATOR_BYTES = 132
HANDLE_BASE_BYTES = 12
HANDLE_BYTES = 4
IO_TENSORS_BYTES = 116
# One step of alignment on top: without it 5 of 12 measured whole models lie 16 bytes above these
# rules, the others exactly on them. Never below comes first.
MARGIN_BYTES = 16
# What TFLM needs beside the tail while it plans, before the head is in use: per tensor its
# AllocationInfo, per planned buffer the greedy planner's records, per scratch buffer a request,
# and room for 12 requests more (micro_allocator.cc, micro_allocation_info.h,
# greedy_memory_planner.h).
ALLOCATION_INFO_BYTES = 24
PLANNED_BUFFER_BYTES = 40
SCRATCH_REQUEST_BYTES = 12
SPARE_REQUESTS = 12
ALLOCATION_SLACK_BYTES = 64

DSP_CORES = ("Cortex-M4", "Cortex-M4F", "Cortex-M7", "Cortex-M33", "Cortex-M33F")
PLAIN_CORES = ("Cortex-M0", "Cortex-M0+", "Cortex-M3")


def align(size_bytes: Number) -> Number:
    """`size_bytes` rounded up to the arena's alignment of 16 bytes."""
    aligned: Number = -(-size_bytes // ALIGNMENT) * ALIGNMENT
    return aligned


def kernels_of(runtime: str, core: str) -> Kernels:
    """The kernel library that a runtime uses on a core: it decides the scratch buffers.

    Raises UsageError for a runtime or core whose scratch buffers are not known.
    """
    if runtime == "tflm":
        return "reference"
    if runtime == "tflm-cmsis-nn" and core in DSP_CORES:
        return "cmsis-nn-dsp"
    if runtime == "tflm-cmsis-nn" and core in PLAIN_CORES:
        return "cmsis-nn-c"
    raise UsageError(
        f"the memory that runtime {runtime!r} needs on core {core!r} is not known; "
        f"use --runtime tflm, or tflm-cmsis-nn on {', '.join(DSP_CORES + PLAIN_CORES)}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TailPart(Generic[Number]):
    """One operator's share of the tail, with the tensors it brings along, or sums of such shares.

    `struct_bytes` are aligned to their type only; `kernel_bytes` are multiples of 16;
    `scratch_buffers` counts the buffers that its kernel asks for; `tensors` and `buffers` count
    its tensors and those of them that the memory plan places.
    """

    struct_bytes: Number
    kernel_bytes: Number
    scratch_buffers: Number
    tensors: Number
    buffers: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The predicted tensor arena of a graph.

    `head_bytes` holds activations and scratch buffers at the operator `peak_op`; `tail_bytes`
    persists; `planning_bytes` is what allocation needs in place of the head before inference.
    """

    head_bytes: int
    peak_op: str
    tail_bytes: int
    planning_bytes: int

    @property
    def sram_bytes(self) -> int:
        """Bytes that must be reserved for the arena, a multiple of 16."""
        return align(self.tail_bytes + max(self.head_bytes, self.planning_bytes))


# Bytes of each operator's parameters (c/builtin_op_data.h) and of its kernel's data, the latter
# rounded up to 16. Reference kernels; KERNEL_EXTRA has what CMSIS-NN adds.
PARAMETER_BYTES = {
    "CONV_2D": 28,
    "DEPTHWISE_CONV_2D": 28,
    "FULLY_CONNECTED": 20,
    "ADD": 8,
    "AVERAGE_POOL_2D": 40,
    "RESHAPE": 32,
    "SOFTMAX": 4,
}
KERNEL_BYTES = {
    "CONV_2D": 64,
    "DEPTHWISE_CONV_2D": 64,
    "FULLY_CONNECTED": 32,
    "ADD": 64,
    "AVERAGE_POOL_2D": 32,
    "RESHAPE": 0,
    "SOFTMAX": 64,
}
KERNEL_EXTRA = {"FULLY_CONNECTED": 32}
PER_CHANNEL = ("CONV_2D", "DEPTHWISE_CONV_2D")


def _no_scratch(graph: Graph, op: Op) -> int:
    return 0


def _im2col(graph: Graph, op: Op) -> int:
    """Two columns of int16 for a convolution larger than 1x1 (arm_convolve_s8)."""
    _, kh, kw, cin = graph.tensors[op.inputs[1]].shape
    return 0 if kh == kw == 1 else 2 * 2 * kh * kw * cin


def _depthwise_column(graph: Graph, op: Op) -> int:
    """One column of int16 unless the kernel is 3x3 (arm_depthwise_conv_s8_opt)."""
    _, kh, kw, channels = graph.tensors[op.inputs[1]].shape
    cin = graph.tensors[op.inputs[0]].shape[-1]
    return 0 if (kh, kw) == (3, 3) or cin != channels else 2 * kh * kw * channels


def _pool_sums(graph: Graph, op: Op) -> int:
    """One int32 per channel (arm_avgpool_s8)."""
    return 4 * graph.tensors[op.outputs[0]].shape[-1]


SCRATCH: dict[Kernels, dict[str, Callable[[Graph, Op], int]]] = {
    "reference": {},
    "cmsis-nn-dsp": {
        "CONV_2D": _im2col,
        "DEPTHWISE_CONV_2D": _depthwise_column,
        "AVERAGE_POOL_2D": _pool_sums,
    },
    "cmsis-nn-c": {"CONV_2D": _im2col},
}


def _known(op: Op) -> str:
    if op.kind not in KERNEL_BYTES:
        raise ValueError(
            f"the memory of operator kind {op.kind!r} is not known; "
            f"known: {', '.join(KERNEL_BYTES)}"
        )
    return op.kind


def scratch_bytes(graph: Graph, op: Op, kernels: Kernels) -> int:
    """Bytes of the scratch buffer that an operator's kernel asks for; 0 for none."""
    return SCRATCH[kernels].get(_known(op), _no_scratch)(graph, op)


def live_bytes(graph: Graph) -> list[int]:
    """Per operator, the bytes of all activations in memory while it runs, each aligned."""
    live = [0] * len(graph.ops)
    for tensor, (first, last) in graph.lifetimes().items():
        size = align(graph.tensors[tensor].size_bytes)
        for step in range(first, last + 1):
            live[step] += size
    return live


def head_by_op(graph: Graph, kernels: Kernels) -> list[int]:
    """Per operator, live activations and its scratch buffer: no plan can do with less.

    Our plans reach the maximum of these for every chain of inverted residual blocks.
    """
    return [
        live + align(scratch_bytes(graph, op, kernels))
        for live, op in zip(live_bytes(graph), graph.ops, strict=True)
    ]


def tail_part(graph: Graph, op: Op, kernels: Kernels) -> TailPart[int]:
    """One operator's share of the 32-bit tail, its constants and outputs included."""
    kind = _known(op)
    constants = sum(1 for t in op.inputs if t >= 0 and graph.tensors[t].constant)
    tensors = constants + len(op.outputs)
    channels = graph.tensors[op.outputs[0]].shape[-1]
    arrays = 2 * align(4 * channels) if kind in PER_CHANNEL else 0
    extra = 0 if kernels == "reference" else KERNEL_EXTRA.get(kind, 0)
    return TailPart(
        struct_bytes=EVAL_TENSOR_BYTES * tensors + NODE_BYTES + PARAMETER_BYTES[kind],
        kernel_bytes=KERNEL_BYTES[kind] + extra + arrays,
        scratch_buffers=int(scratch_bytes(graph, op, kernels) > 0),
        tensors=tensors,
        buffers=len(op.outputs),
    )


def sum_tail(parts: list[TailPart[int]]) -> TailPart[int]:
    """The shares of several operators together."""
    return TailPart(
        struct_bytes=sum(part.struct_bytes for part in parts),
        kernel_bytes=sum(part.kernel_bytes for part in parts),
        scratch_buffers=sum(part.scratch_buffers for part in parts),
        tensors=sum(part.tensors for part in parts),
        buffers=sum(part.buffers for part in parts),
    )


INPUT_PART = TailPart(
    struct_bytes=EVAL_TENSOR_BYTES, kernel_bytes=0, scratch_buffers=0, tensors=1, buffers=1
)


def tail_bytes(total: TailPart[Number]) -> Number:
    """The tail of a model with one input and one output, from the sum of its parts."""
    tail: Number = (
        align(ALLOCATOR_BYTES + total.struct_bytes)
        + total.kernel_bytes
        + align(HANDLE_BASE_BYTES + HANDLE_BYTES * total.scratch_buffers)
        + IO_TENSORS_BYTES
        + MARGIN_BYTES
    )
    return tail


def planning_bytes(total: TailPart[Number]) -> Number:
    """What allocation needs in place of the head while TFLM plans, never below what it takes."""
    tensors = total.tensors + total.scratch_buffers
    buffers = total.buffers + total.scratch_buffers
    planning: Number = (
        SCRATCH_REQUEST_BYTES * (SPARE_REQUESTS + total.scratch_buffers)
        + ALLOCATION_INFO_BYTES * tensors
        + PLANNED_BUFFER_BYTES * buffers
        + ALLOCATION_SLACK_BYTES
    )
    return planning


def predict_arena(graph: Graph, kernels: Kernels, head_bytes: int | None = None) -> Arena:
    """The arena of a graph; `head_bytes` is that of its memory plan, by default the lower bound.

    Raises ValueError for an operator kind that is not known, or for a graph of other than one
    input and one output.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError("the arena is known for graphs of one input and one output only")
    by_op = head_by_op(graph, kernels)
    total = sum_tail([INPUT_PART, *(tail_part(graph, op, kernels) for op in graph.ops)])
    return Arena(
        head_bytes=max(by_op) if head_bytes is None else head_bytes,
        peak_op=graph.ops[by_op.index(max(by_op))].name,
        tail_bytes=tail_bytes(total),
        planning_bytes=planning_bytes(total),
    )
