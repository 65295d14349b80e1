"""Peak SRAM of a graph as TensorFlow Lite Micro (TFLM) will have it, to the byte.

TFLM's tensor arena has a *head*, where activations and the kernels' scratch buffers are placed by
a memory plan, and a *tail*, where everything that lives as long as the model is stacked downward
from the end. The tail is computed here by taking from it what TFLM takes, in its order
(micro_allocator.cc, micro_interpreter.cc, micro_interpreter_graph.cc): the runtime's objects,
tensors, nodes and options aligned to their type, then each kernel's records and arrays aligned to
16 bytes, scratch buffer handles, variables, and the input and output tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from tinynas.cost.kernels import LIBRARIES, Kernels, Library, array_sizes, scratch_sizes
from tinynas.cost.records import (
    ALLOCATION_INFO,
    EVAL_TENSOR,
    INT_ENUMS,
    NODE,
    PLANNED_BUFFER,
    QUANTIZATION,
    RECORDS,
    SCRATCH_HANDLE,
    SCRATCH_REQUEST,
    SPARE_REQUESTS,
    TENSOR,
    round_up,
    runtime_objects,
    struct_bytes,
    struct_layout,
)
from tinynas.graph import Graph, Op, Tensor

# One number, or an array of them for as many subnets: the rules are the same.
Number = TypeVar("Number", int, npt.NDArray[np.int64])

ALIGNMENT = 16  # MicroArenaBufferAlignment
INT_BYTES = 4
REQUEST_BYTES = struct_bytes(SCRATCH_REQUEST, INT_ENUMS)  # of any 32-bit build

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
# Kinds whose kernels are known for int8 alone; the others move or convert data of any type.
ARITHMETIC = {
    *CONVOLUTIONS,
    *("FULLY_CONNECTED", "ADD", "SUB", "MUL", "MEAN", "SUM", "REDUCE_MAX", "AVERAGE_POOL_2D"),
    *("MAX_POOL_2D", "SOFTMAX", "LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6", "LEAKY_RELU"),
    "RESIZE_BILINEAR",
}


def align(size_bytes: Number) -> Number:
    """`size_bytes` rounded up to the arena's alignment of 16 bytes."""
    aligned: Number = -(-size_bytes // ALIGNMENT) * ALIGNMENT
    return aligned


@dataclass(frozen=True, slots=True, kw_only=True)
class TailPart(Generic[Number]):
    """One operator's share of the tail, with the tensors it brings along, or sums of such shares.

    `struct_bytes` are aligned to their type only, `kernel_bytes` to 16; `scratch_buffers` counts
    the buffers that its kernel asks for; `planning_bytes` are notes that TFLM's planner needs.
    """

    struct_bytes: Number
    kernel_bytes: Number
    scratch_buffers: Number
    planning_bytes: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The predicted tensor arena of a graph.

    `head_bytes` holds activations and scratch buffers at the operator `peak_op`; `tail_bytes`
    persists. `planning_bytes` is what allocation needs in place of the head before inference: the
    planner's notes, or the temporary tensors of an operator.
    """

    head_bytes: int
    peak_op: str
    tail_bytes: int
    planning_bytes: int

    @property
    def sram_bytes(self) -> int:
        """Bytes that must be reserved for the arena, a multiple of 16."""
        return align(self.tail_bytes + max(self.head_bytes, self.planning_bytes))


def unknown_memory(graph: Graph) -> tuple[str, ...]:
    """What of a graph the rules for its memory do not know, in words; empty if they know all."""
    kinds = sorted({op.kind for op in graph.ops} - set(RECORDS))
    parts = [f"operator kind {kind}" for kind in kinds]
    for op in graph.ops:
        used = (*graph.activations(op), *op.outputs)
        types = sorted({graph.tensors[t].dtype for t in used} - {"int8"})
        if op.kind in ARITHMETIC and types:
            parts.append(f"{op.kind} of type {', '.join(types)}")
        if op.kind in (*CONVOLUTIONS, "FULLY_CONNECTED"):
            parts += _unknown_weights(graph, op)
    return tuple(dict.fromkeys(parts))


def _unknown_weights(graph: Graph, op: Op) -> list[str]:
    weights = graph.tensors[op.inputs[1]]
    if not weights.constant:
        return [f"{op.kind} with weights that are not constant"]
    return [f"{op.kind} with weights of type {weights.dtype}"] * (weights.dtype != "int8")


def _known(op: Op) -> str:
    if op.kind not in RECORDS:
        raise ValueError(f"the memory of operator kind {op.kind!r} is not known")
    return op.kind


def live_bytes(graph: Graph) -> list[int]:
    """Per operator, the bytes of all activations in memory while it runs, each aligned."""
    live = [0] * len(graph.ops)
    for tensor, (first, last) in graph.lifetimes().items():
        size = align(graph.tensors[tensor].size_bytes)
        for step in range(max(first, 0), last + 1):
            live[step] += size
    return live


def head_by_op(graph: Graph, kernels: Kernels) -> list[int]:
    """Per operator, live activations and its scratch buffers: no plan can do with less.

    Our plans reach the maximum of these for every chain of inverted residual blocks.
    """
    return [
        live + sum(align(size) for size in scratch_sizes(graph, op, kernels))
        for live, op in zip(live_bytes(graph), graph.ops, strict=True)
    ]


def _tensor_bytes(tensor: Tensor, scales: int, library: Library) -> int:
    """A whole TfLiteTensor, with the zero point of each scale where it is quantised."""
    build = library.build
    bare = struct_bytes(TENSOR, build)
    if not tensor.quantized:
        return bare
    return bare + struct_bytes(QUANTIZATION, build) + INT_BYTES * (1 + scales)


def _preparing_bytes(graph: Graph, op: Op, library: Library) -> int:
    """Room for the temporary tensors of an operator's Prepare, never below what it takes.

    Most kernels take each tensor twice, a convolution its biases and FULLY_CONNECTED all but once
    (conv_common.cc, fully_connected.cc).
    """
    convolution = op.kind in CONVOLUTIONS
    channels = graph.tensors[op.outputs[0]].shape[-1:] or (1,)
    total = 0
    for place, t in enumerate((*op.inputs, *op.outputs)):
        if t >= 0:
            scaled = place in (1, 2) and (convolution or op.per_channel)
            constant = scaled and graph.tensors[t].constant
            scales = channels[0] if constant else 1
            once = op.kind == "FULLY_CONNECTED" or (convolution and place == 2)
            size = _tensor_bytes(graph.tensors[t], scales, library) + INT_BYTES
            total += size if once else 2 * size
    return total


def preparing_by_op(graph: Graph, kernels: Kernels) -> list[int]:
    """Per operator, what must lie beside the tail while TFLM prepares it: temporary tensors.

    On top comes REQUEST_BYTES for each scratch buffer of the model. Temporaries exceed the head
    only where maps are small and channels are many.
    """
    library = LIBRARIES[kernels]
    requests = struct_bytes(SCRATCH_REQUEST, library.build) * SPARE_REQUESTS
    later = _input_output_bytes(graph, library)  # not yet in the tail
    return [_preparing_bytes(graph, op, library) + requests - later for op in graph.ops]


def tail_part(graph: Graph, op: Op, kernels: Kernels) -> TailPart[int]:
    """One operator's share of the tail on a 32-bit chip, its constants and outputs included."""
    library, records = LIBRARIES[kernels], RECORDS[_known(op)]
    constants = sum(1 for t in op.inputs if t >= 0 and graph.tensors[t].constant)
    tensors, build = constants + len(op.outputs), library.build
    structs = struct_bytes(EVAL_TENSOR, build) * tensors + struct_bytes(NODE, build)
    if records.parameters:
        structs += round_up(struct_bytes(records.parameters, build), INT_BYTES)
    arrays = sum(align(size) for size in array_sizes(graph, op))
    scratch = len(scratch_sizes(graph, op, kernels))
    return TailPart(
        struct_bytes=structs,
        kernel_bytes=arrays + align(_kernel_bytes(op, library)),
        scratch_buffers=scratch,
        planning_bytes=_planning_bytes(tensors, len(op.outputs), scratch, library),
    )


def _kernel_bytes(op: Op, library: Library) -> int:
    return RECORDS[_known(op)].kernel_bytes(library.build, cmsis_nn=library.cmsis_nn)


def _planning_bytes(tensors: int, buffers: int, scratch: int, library: Library) -> int:
    """TFLM's notes on tensors, of which `buffers` are planned, and on scratch buffers."""
    build = library.build
    info, planned = struct_bytes(ALLOCATION_INFO, build), struct_bytes(PLANNED_BUFFER, build)
    requests = struct_bytes(SCRATCH_REQUEST, build) * scratch
    return info * (tensors + scratch) + planned * (buffers + scratch) + requests


def model_part(graph: Graph, kernels: Kernels) -> TailPart[int]:
    """What belongs to a model as a whole: the runtime's objects, inputs and outputs.

    The records of the first operator follow the structs without a gap, so they are moved there.
    """
    library = LIBRARIES[kernels]
    build, first = library.build, _kernel_bytes(graph.ops[0], library)
    objects = sum(struct_bytes(fields, build) for fields in runtime_objects(build))
    inputs = len(graph.inputs)
    planning = struct_bytes(SCRATCH_REQUEST, build) * SPARE_REQUESTS + build.pointer_bytes
    planning += 2 * ALIGNMENT  # the most that two alignments take
    later = _input_output_bytes(graph, library)  # not yet in the tail while TFLM plans
    return TailPart(
        struct_bytes=objects + struct_bytes(EVAL_TENSOR, build) * inputs + first,
        kernel_bytes=later - align(first),
        scratch_buffers=0,
        planning_bytes=planning + _planning_bytes(inputs, inputs, 0, library) - later,
    )


def _stacked(position: int, tensors: Sequence[Tensor], library: Library) -> int:
    """The tail after an array of pointers to tensors, and these, are stacked on it."""
    position = align(position + library.build.pointer_bytes * len(tensors))
    for tensor in tensors:
        size = _tensor_bytes(tensor, 1, library)
        position = round_up(position + size, library.build.pointer_bytes)
    return position


def _input_output_bytes(graph: Graph, library: Library) -> int:
    """Inputs and outputs on top of the aligned end of scratch buffer handles and their array."""
    inputs, outputs = ([graph.tensors[t] for t in ts] for ts in (graph.inputs, graph.outputs))
    first = align(library.build.pointer_bytes * len(inputs))
    return _stacked(_stacked(0, inputs, library), outputs, library) - first


def shared_constants_part(graph: Graph, kernels: Kernels) -> TailPart[int]:
    """What the parts of a graph count too much: constants that several operators read."""
    build = LIBRARIES[kernels].build
    read = [t for op in graph.ops for t in op.inputs if t >= 0 and graph.tensors[t].constant]
    again = len(read) - len(set(read))
    return TailPart(
        struct_bytes=-struct_bytes(EVAL_TENSOR, build) * again,
        kernel_bytes=0,
        scratch_buffers=0,
        planning_bytes=-struct_bytes(ALLOCATION_INFO, build) * again,
    )


def sum_tail(parts: Sequence[TailPart[int]]) -> TailPart[int]:
    """The shares of several operators together."""
    return TailPart(
        struct_bytes=sum(part.struct_bytes for part in parts),
        kernel_bytes=sum(part.kernel_bytes for part in parts),
        scratch_buffers=sum(part.scratch_buffers for part in parts),
        planning_bytes=sum(part.planning_bytes for part in parts),
    )


def tail_bytes(total: TailPart[Number]) -> Number:
    """The tail on a 32-bit chip of a model with one input, from the sum of all its parts.

    It is that of `predict_arena` where no operator's options are followed by those of one that
    may start at an odd address: in every net of inverted residual blocks.
    """
    handle = struct_bytes(SCRATCH_HANDLE, LIBRARIES["reference"].build)
    handles = align(handle + handle * total.scratch_buffers)
    tail: Number = align(total.struct_bytes) + total.kernel_bytes + handles
    return tail


def planning_bytes(total: TailPart[Number]) -> Number:
    """What TFLM's planner needs beside the tail, at most 48 bytes above what it takes."""
    return total.planning_bytes


def _tail_bytes(graph: Graph, kernels: Kernels) -> int:
    """The tail, allocation by allocation."""
    library = LIBRARIES[kernels]
    build = library.build
    tail = sum(struct_bytes(fields, build) for fields in runtime_objects(build))
    tail += struct_bytes(EVAL_TENSOR, build) * len(graph.tensors)
    tail += struct_bytes(NODE, build) * len(graph.ops)
    for op in graph.ops:
        options = RECORDS[_known(op)].parameters
        if options:
            size, alignment = struct_layout(options, build)
            tail = round_up(tail + size, alignment)
    for size in (_kernel_bytes(op, library) for op in graph.ops):
        tail = align(tail + size) if size else tail
    for op in graph.ops:
        for size in array_sizes(graph, op):
            tail = align(tail + size)
    buffers = sum(len(scratch_sizes(graph, op, kernels)) for op in graph.ops)
    pointer = build.pointer_bytes
    tail = round_up(tail + pointer * buffers, pointer) if buffers else tail
    for tensor in graph.tensors:
        tail = align(tail + tensor.size_bytes) if tensor.variable else tail
    for numbers in (graph.inputs, graph.outputs):
        tail = _stacked(tail, [graph.tensors[t] for t in numbers], library)
    return tail


def predict_arena(graph: Graph, kernels: Kernels, head_bytes: int | None = None) -> Arena:
    """The arena of a graph; `head_bytes` is that of its memory plan, by default the lower bound.

    Raises ValueError for an operator kind that is not known; see `unknown_memory`.
    """
    by_op = head_by_op(graph, kernels)
    head = max(by_op) if head_bytes is None else head_bytes
    parts = [tail_part(graph, op, kernels) for op in graph.ops]
    parts += [model_part(graph, kernels), shared_constants_part(graph, kernels)]
    total = sum_tail(parts)
    request = struct_bytes(SCRATCH_REQUEST, LIBRARIES[kernels].build)
    preparing = max(preparing_by_op(graph, kernels)) + request * total.scratch_buffers
    return Arena(
        head_bytes=head,
        peak_op=graph.ops[by_op.index(max(by_op))].name,
        tail_bytes=_tail_bytes(graph, kernels),
        planning_bytes=max(planning_bytes(total), preparing),
    )
