"""A quantised model as the bytes of a .tflite file (TFLite schema version 3).

The layout is chosen so that tinynas.cost.flash knows the size beforehand: vtables, model,
operator codes and metadata first; then the lists of tensors, operators and buffers, the memory
plan and a note on it; then for each operator its tensors, options and the constants that it is the
first to read, padded to 16 bytes; then option tables and zero points that many operators share.
What both TFLM and LiteRT accept is left out: names and quantisation of constants' biases,
defaults, signatures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tinynas.cost.flash import (
    COMMON_KINDS,
    DESCRIPTION_BYTES,
    NOTE_BYTES,
    WEIGHTED,
    file_bytes,
    has_shared_options,
    own_constants,
    zero_points_step,
)
from tinynas.cost.memory import CONVOLUTIONS
from tinynas.cost.plan_metadata import NOTE_NAME, PLAN_NAME, plan_content
from tinynas.deploy.flatbuffer import FlatbufferWriter, Ref, TableType
from tinynas.deploy.quantize import QuantizedModel, QuantizedWeights
from tinynas.graph import Graph, Op

ALIGNMENT = 16  # force_align of Buffer.data in the schema
METADATA_NAMES = (PLAN_NAME, NOTE_NAME)  # in the first buffers that hold data

# Slot numbers, enumerations and versions are those of schema.fbs, schema version 3.
INT32, INT8 = 2, 9
PADDING = {"SAME": 0, "VALID": 1}
ACTIVATION = {None: 0, "RELU": 1, "RELU6": 3}
# Kind of operator: its builtin code, the first version with int8, and its type of options.
OPERATORS = {
    "ADD": (0, 2, 11),
    "AVERAGE_POOL_2D": (1, 2, 5),
    "CONV_2D": (3, 3, 1),
    "DEPTHWISE_CONV_2D": (4, 3, 2),
    "FULLY_CONNECTED": (9, 4, 8),
    "CONCATENATION": (2, 2, 10),
    "PAD": (34, 2, 22),
    "STRIDED_SLICE": (45, 2, 32),
}

EMPTY = TableType(())
MODEL = TableType(((0, "I"), (1, "I"), (2, "I"), (3, "I"), (4, "I"), (6, "I")))
OPERATOR_CODE = TableType(((3, "i"), (2, "i"), (0, "b")))
SUBGRAPH = TableType(((0, "I"), (1, "I"), (2, "I"), (3, "I")))
METADATA = TableType(((0, "I"), (1, "I")))
BUFFER = TableType(((0, "I"),))
ACTIVATION_TENSOR = TableType(((0, "I"), (3, "I"), (4, "I"), (1, "b")))
WEIGHTS_TENSOR = TableType(((0, "I"), (2, "I"), (4, "I"), (1, "b")))
BIAS_TENSOR = TableType(((0, "I"), (2, "I"), (1, "b")))
QUANTIZATION = TableType(((2, "I"), (3, "I")))
QUANTIZATION_LAST_AXIS = TableType(((2, "I"), (3, "I"), (6, "i")))
OPERATOR = TableType(((0, "I"), (1, "I"), (2, "I"), (4, "I"), (3, "b")))
CONV_OPTIONS = TableType(((1, "i"), (2, "i"), (0, "b"), (3, "b")))
DEPTHWISE_OPTIONS = TableType(((1, "i"), (2, "i"), (3, "i"), (0, "b"), (4, "b")))
POOL_OPTIONS = TableType(((1, "i"), (2, "i"), (3, "i"), (4, "i"), (0, "b"), (5, "b")))
ACTIVATION_OPTIONS = TableType(((0, "b"),))
JOIN_OPTIONS = BUFFER  # an axis, a word in slot 0 too: one vtable serves both
TABLE_TYPES = (
    EMPTY,
    MODEL,
    OPERATOR_CODE,
    SUBGRAPH,
    METADATA,
    BUFFER,
    ACTIVATION_TENSOR,
    WEIGHTS_TENSOR,
    BIAS_TENSOR,
    QUANTIZATION,
    QUANTIZATION_LAST_AXIS,
    OPERATOR,
    CONV_OPTIONS,
    DEPTHWISE_OPTIONS,
    POOL_OPTIONS,
    ACTIVATION_OPTIONS,
)

_EXAMPLE = Op(name="", kind="CONV_2D", inputs=(), outputs=())
_DEPTHWISE = replace(_EXAMPLE, kind="DEPTHWISE_CONV_2D", padding="SAME", activation="RELU6")
SHARED_OPTIONS = (
    _EXAMPLE,
    replace(_EXAMPLE, activation="RELU6"),
    _DEPTHWISE,
    replace(_DEPTHWISE, stride=(2, 2)),
    replace(_EXAMPLE, kind="ADD"),
)


def _options_label(op: Op) -> tuple[object, ...]:
    """One label for the options of all operators that share them."""
    # The first two have but an activation, absent when none; the others mean their defaults.
    if op.kind in ("ADD", "FULLY_CONNECTED", "PAD", "STRIDED_SLICE"):
        return ("options", "activation")
    return ("options", op.kind, op.stride, op.padding, op.activation)


def _write_options(writer: FlatbufferWriter, label: object, op: Op) -> None:
    padding, activation = PADDING[op.padding], ACTIVATION[op.activation]
    strides = (op.stride[1], op.stride[0])
    if op.kind == "CONV_2D":
        writer.table(label, CONV_OPTIONS, *strides, padding, activation)
    elif op.kind == "DEPTHWISE_CONV_2D":
        writer.table(label, DEPTHWISE_OPTIONS, *strides, 1, padding, activation)
    elif op.kind == "AVERAGE_POOL_2D":
        window = (op.kernel[1], op.kernel[0])
        writer.table(label, POOL_OPTIONS, *strides, *window, padding, activation)
    elif op.kind == "CONCATENATION":
        if op.axis is None:
            raise ValueError(f"the axis along which {op.name} joins is not known")
        writer.table(label, JOIN_OPTIONS, op.axis)
    elif op.activation is None:
        writer.table(label, EMPTY)
    else:
        writer.table(label, ACTIVATION_OPTIONS, activation)


def _zero_point_label(op: Op, zero_point: int) -> object:
    """Where an operator's output finds its zero point.

    Outputs of an activation share the one they always have: their range begins at zero.
    """
    if op.activation is None:
        return ("zero point", op.outputs[0])
    if zero_point != -128:
        raise ValueError(f"the output of {op.name} must have zero point -128, got {zero_point}")
    return ("zero point", "lowest")


def _kinds(graph: Graph) -> list[str]:
    """Kinds of operators used, in order of first use."""
    return list(dict.fromkeys(op.kind for op in graph.ops))


def _write_model(writer: FlatbufferWriter, graph: Graph, description: str) -> None:
    """Model, operator codes, subgraph and metadata, always of the same size."""
    lists = ("operator codes", "subgraphs", "description", "buffers", "metadata")
    writer.table("model", MODEL, 3, *(Ref(name) for name in lists))
    kinds = _kinds(graph)
    codes = len({*COMMON_KINDS, *kinds})
    room = writer.position + 4 + 4 * codes
    writer.vector("operator codes", "I", [Ref(("code", kind)) for kind in kinds])
    writer.pad(room - writer.position)
    for kind in kinds:
        builtin, version, _ = OPERATORS[kind]
        writer.table(("code", kind), OPERATOR_CODE, builtin, version, builtin)
    writer.pad(OPERATOR_CODE.table_bytes * (codes - len(kinds)))
    writer.vector("subgraphs", "I", [Ref("subgraph")])
    parts = ("tensors", "inputs", "outputs", "operators")
    writer.table("subgraph", SUBGRAPH, *(Ref(part) for part in parts))
    writer.vector("inputs", "i", graph.inputs)
    writer.vector("outputs", "i", graph.outputs)
    writer.vector("metadata", "I", [Ref(("entry", name)) for name in METADATA_NAMES])
    for buffer, name in enumerate(METADATA_NAMES, 1):
        writer.table(("entry", name), METADATA, Ref(("name", name)), buffer)
        writer.string(("name", name), name)
    room = writer.position + 4 + DESCRIPTION_BYTES + 1
    writer.string("description", description)
    writer.pad(room - writer.position)


def _write_lists(
    writer: FlatbufferWriter, graph: Graph, plan: Mapping[int, int], note: str
) -> None:
    """The lists of tensors, operators and buffers, the note and the memory plan."""
    tensors = len(graph.tensors)
    writer.vector("tensors", "I", [Ref(("tensor", t)) for t in range(tensors)])
    writer.vector("operators", "I", [Ref(("operator", op.name)) for op in graph.ops])
    buffers = [Ref(("buffer", t)) for owned in own_constants(graph) for t in owned]
    of_metadata = [Ref(("buffer", name)) for name in METADATA_NAMES]
    writer.vector("buffers", "I", [Ref("no data"), *of_metadata, *buffers])
    writer.table("no data", EMPTY)
    for name in METADATA_NAMES:
        writer.table(("buffer", name), BUFFER, Ref(("data", name)))
    writer.data(("data", NOTE_NAME), note.encode(), alignment=ALIGNMENT)
    writer.pad(NOTE_BYTES - len(note.encode()))
    writer.data(("data", PLAN_NAME), plan_content(plan, tensors), alignment=ALIGNMENT)


def _write_activation(
    writer: FlatbufferWriter, model: QuantizedModel, tensor: int, zero_point: object
) -> None:
    """An activation's tensor, quantisation, shape, scale and name."""
    label, described = ("tensor", tensor), model.graph.tensors[tensor]
    parts = [Ref((part, tensor)) for part in ("shape", "name", "quantization")]
    writer.table(label, ACTIVATION_TENSOR, *parts, INT8)
    writer.table(("quantization", tensor), QUANTIZATION, Ref(("scale", tensor)), Ref(zero_point))
    writer.vector(("shape", tensor), "i", described.shape)
    writer.vector(("scale", tensor), "f", [model.scales[tensor]])
    writer.string(("name", tensor), described.name)


def _write_weights_tables(
    writer: FlatbufferWriter, graph: Graph, op: Op, zero_points: object, first_buffer: int
) -> None:
    """Tables of weights and bias: tensors, buffers and quantisation."""
    weights, bias = op.inputs[1:]
    quantization = Ref(("quantization", weights))
    writer.table(
        ("tensor", weights),
        WEIGHTS_TENSOR,
        Ref(("shape", weights)),
        first_buffer,
        quantization,
        INT8,
    )
    bias_shape = Ref(("shape", bias))
    if op.kind == "FULLY_CONNECTED":  # its kernels compare the scale of the bias
        quantized = Ref(("quantization", bias))
        writer.table(
            ("tensor", bias), WEIGHTS_TENSOR, bias_shape, first_buffer + 1, quantized, INT32
        )
        writer.table(quantized.label, QUANTIZATION, Ref(("scale", bias)), Ref(zero_points))
    else:
        writer.table(("tensor", bias), BIAS_TENSOR, bias_shape, first_buffer + 1, INT32)
    scales = Ref(("scale", weights))
    if op.kind == "DEPTHWISE_CONV_2D":
        writer.table(quantization.label, QUANTIZATION_LAST_AXIS, scales, Ref(zero_points), 3)
    else:
        writer.table(quantization.label, QUANTIZATION, scales, Ref(zero_points))
    _write_buffers(writer, graph, (weights, bias))


def _write_buffers(writer: FlatbufferWriter, graph: Graph, constants: Sequence[int]) -> None:
    """Buffers of constants, without their data, and shapes."""
    for t in constants:
        writer.table(("buffer", t), BUFFER, Ref(("data", t)))
        writer.vector(("shape", t), "i", graph.tensors[t].shape)


def _write_index_tables(
    writer: FlatbufferWriter, graph: Graph, owned: Sequence[int], first_buffer: int
) -> None:
    """Tensors and buffers of constants that say where to slice or how to pad."""
    for buffer, t in enumerate(owned, first_buffer):
        writer.table(("tensor", t), BIAS_TENSOR, Ref(("shape", t)), buffer, INT32)
    _write_buffers(writer, graph, owned)


def _contents(model: QuantizedModel, op: Op) -> dict[int, bytes]:
    """Data of an operator's constants by tensor number."""
    tensors = model.graph.tensors
    if op.kind in WEIGHTED:
        constants = model.weights[op.name]
        data = [constants.values.tobytes(), constants.bias.astype("<i4").tobytes()]
    else:
        words: list[npt.ArrayLike] = [op.pads] * (op.kind == "PAD")
        if op.kind == "STRIDED_SLICE":
            shape = tensors[op.outputs[0]].shape
            end = [first + size for first, size in zip(op.begin, shape, strict=False)]
            words = [op.begin, end, [1] * len(end)]
        data = [np.array(values, "<i4").tobytes() for values in words]
    contents = dict(zip((t for t in op.inputs if tensors[t].constant), data, strict=True))
    for t, content in contents.items():
        if len(content) != tensors[t].size_bytes:
            raise ValueError(
                f"constant {t} of {op.name} must have {tensors[t].size_bytes} bytes, "
                f"got {len(content)}"
            )
    return contents


def _write_scales(
    writer: FlatbufferWriter, op: Op, constants: QuantizedWeights, input_scale: float
) -> None:
    weights, bias = op.inputs[1:]
    writer.vector(("scale", weights), "f", constants.scales.tolist())
    if op.kind == "FULLY_CONNECTED":
        writer.vector(("scale", bias), "f", [input_scale * float(constants.scales[0])])


def _write_weights(
    writer: FlatbufferWriter, model: QuantizedModel, step: int, first_buffer: int
) -> None:
    """Everything of weights and bias but their data."""
    graph, op = model.graph, model.graph.ops[step]
    shared = op.kind not in CONVOLUTIONS
    owner = zero_points_step(graph, step)
    zeros = ("zero point", "zero") if shared else ("zero points", graph.ops[owner].inputs[1])
    constants = model.weights[op.name]
    _write_weights_tables(writer, graph, op, zeros, first_buffer)
    _write_scales(writer, op, constants, model.scales[op.inputs[0]])
    if not shared and owner == step:
        writer.vector(zeros, "q", [0] * len(constants.scales))


def _write_operator(
    writer: FlatbufferWriter,
    model: QuantizedModel,
    step: int,
    owned: Sequence[int],
    first_buffer: int,
) -> None:
    """All objects that belong to one operator, padded to 16 bytes."""
    graph, op = model.graph, model.graph.ops[step]
    target = op.outputs[0]
    options = _options_label(op) if has_shared_options(op) else ("options", op.name)
    links = Ref(("reads", op.name)), Ref(("writes", op.name)), Ref(options)
    code = _kinds(graph).index(op.kind)
    writer.table(("operator", op.name), OPERATOR, code, *links, OPERATORS[op.kind][2])
    if not has_shared_options(op):
        _write_options(writer, options, op)
    zero_point = _zero_point_label(op, model.zero_points[target])
    _write_activation(writer, model, target, zero_point)
    writer.vector(("reads", op.name), "i", op.inputs)
    writer.vector(("writes", op.name), "i", op.outputs)
    if owned and op.kind in WEIGHTED:
        _write_weights(writer, model, step, first_buffer)
    else:
        _write_index_tables(writer, graph, owned, first_buffer)
    if op.activation is None:
        writer.vector(zero_point, "q", [model.zero_points[target]])
    contents = _contents(model, op)
    for t in owned:
        writer.data(("data", t), contents[t], alignment=ALIGNMENT)
    writer.align(ALIGNMENT)


def write_tflite(
    model: QuantizedModel,
    *,
    plan: Mapping[int, int] | None = None,
    note: str = "",
    description: str = "tinynas",
) -> bytes:
    """The .tflite file, tinynas.cost.flash.file_bytes(model.graph) bytes long.

    `plan` gives arena offsets by tensor number; without it TFLM plans the arena itself. `note` is
    tinynas.cost.plan_metadata.note_text of the plan. Raises ValueError for an operator kind that
    is not known, and for a note or a description that is longer than its room.
    """
    graph = model.graph
    unknown = sorted(set(_kinds(graph)) - set(OPERATORS))
    if unknown:
        raise ValueError(f"cannot write operators of kind {unknown}; known: {list(OPERATORS)}")
    rooms = {"note": (note, NOTE_BYTES), "description": (description, DESCRIPTION_BYTES)}
    for what, (text, room) in rooms.items():
        if len(text.encode()) > room:
            raise ValueError(f"a {what} has at most {room} bytes: {text!r}")
    writer = FlatbufferWriter(b"TFL3", TABLE_TYPES)
    _write_model(writer, graph, description)
    _write_lists(writer, graph, plan or {}, note)
    _write_activation(writer, model, graph.inputs[0], ("zero point", "zero"))
    writer.align(ALIGNMENT)
    buffer = 1 + len(METADATA_NAMES)
    for step, owned in enumerate(own_constants(graph)):
        _write_operator(writer, model, step, owned, buffer)
        buffer += len(owned)
    for example in SHARED_OPTIONS:
        _write_options(writer, _options_label(example), example)
    writer.vector(("zero point", "zero"), "q", [0])
    writer.vector(("zero point", "lowest"), "q", [-128])
    writer.pad(file_bytes(graph) - writer.position)
    return writer.finish("model")
