"""Bytes of the .tflite file of a graph, exactly, without writing it.

tinynas.deploy.tflite_writer lays the file out so that its size is a sum over operators plus a
constant: all vtables, room for the codes of COMMON_KINDS and room for any note on the memory plan
are always there, each operator's objects are padded to 16 bytes, and the padding between sections
is evened out at the end of the file. A constant that several operators read lies with the first of
them; where each has its own, what an operator takes does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinynas.cost.memory import CONVOLUTIONS
from tinynas.cost.plan_metadata import NOTE_NAME, PLAN_NAME
from tinynas.graph import Graph, Op

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
COMMON_KINDS = ("ADD", "AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
CODE_BYTES = 4 + 16  # an operator code's entry in the list of them, and its table
DESCRIPTION_BYTES = 43  # longest description; its string always takes this room
# Longest note on the plan, which always takes this room. With its length it is a multiple of 16,
# so that the plan behind it is aligned where it is.
NOTE_BYTES = 92
SLACK_BYTES = 24  # most that aligning note and plan (12) and the first operator (12) can take

# What no operator adds to, in file order; "list" is a vector's length and its fixed entries.
_HEADER = 8 + 192  # root and identifier, vtables
_MODEL = 28 + 4 + CODE_BYTES * len(COMMON_KINDS)  # table, list of operator codes
_SUBGRAPH = 8 + 20 + 8 + 8  # list of subgraphs, table, inputs, outputs
_METADATA = 12 + 2 * 12  # list of metadata, tables
_LISTS = 8 + 4 + 16 + 4 + 2 * 8 + 20  # of tensors, operators, buffers; three buffers; memory plan
_INPUT = 20 + 12 + 20 + 8  # tensor, quantisation, shape, scale
_SHARED = 16 + 16 + 20 + 20 + 4 + 12 + 4 + 12  # options; zero points 0 and -128, aligned to 8


def _aligned(position: int, multiple: int) -> int:
    return -(-position // multiple) * multiple


def string_bytes(text: str) -> int:
    """Bytes of a string: length, text, closing zero, padded to a multiple of 4."""
    return _aligned(4 + len(text.encode()) + 1, 4)


def has_shared_options(op: Op) -> bool:
    """Whether the operator's options are one of the tables that every file holds."""
    if op.kind == "CONV_2D":
        return op.stride == (1, 1) and op.padding == "VALID" and op.activation in (None, "RELU6")
    if op.kind == "DEPTHWISE_CONV_2D":
        return op.stride in ((1, 1), (2, 2)) and op.padding == "SAME" and op.activation == "RELU6"
    without = ("ADD", "FULLY_CONNECTED", "STRIDED_SLICE", "PAD")
    return op.kind in without and op.activation is None


def zero_points_step(graph: Graph, step: int) -> int:
    """The operator whose weights' zero points this operator's weights use too: itself or a later.

    LiteRT wants one zero point (8 bytes, always 0) per channel. The convolution that expands a
    block and the depthwise convolution after it have equally many channels, so one vector serves
    both. Only a 1x1 convolution with an activation is taken for one that expands: a block's last
    convolution has none, and what a file takes stays a sum over blocks.
    """
    op = graph.ops[step]
    if op.kind != "CONV_2D" or op.kernel != (1, 1) or not op.activation:
        return step
    following = step + 1
    while following < len(graph.ops) and graph.ops[following].kind == "PAD":
        following += 1
    if following == len(graph.ops) or graph.ops[following].kind != "DEPTHWISE_CONV_2D":
        return step
    channels = graph.tensors[graph.ops[following].inputs[1]].shape[-1]
    return following if channels == _output_channels(graph, op) else step


def own_constants(graph: Graph) -> list[tuple[int, ...]]:
    """Per operator, the constants that no operator before it reads: those lie with it."""
    seen: set[int] = set()
    owned = []
    for op in graph.ops:
        new = {t: None for t in op.inputs if t >= 0 and graph.tensors[t].constant}
        owned.append(tuple(t for t in new if t not in seen))
        seen |= new.keys()
    return owned


def _output_channels(graph: Graph, op: Op) -> int:
    return graph.tensors[op.outputs[0]].shape[-1]


def _options_bytes(op: Op) -> int:
    if has_shared_options(op):
        return 0
    return {"CONV_2D": 16, "DEPTHWISE_CONV_2D": 20, "AVERAGE_POOL_2D": 24}.get(op.kind, 8)


def _weights_word_bytes(graph: Graph, op: Op) -> int:
    """Tables and vectors of four-byte words of weights and bias."""
    rank = len(graph.tensors[op.inputs[1]].shape)
    if op.kind == "FULLY_CONNECTED":
        tables, scales = 20 + 20 + 12 + 12, 8 + 8
    else:
        tables = 20 + 16 + (16 if op.kind == "DEPTHWISE_CONV_2D" else 12)
        scales = 4 + 4 * _output_channels(graph, op)
    return tables + scales + 2 * 8 + (4 + 4 * rank) + 8


def _group_bytes(graph: Graph, step: int, owned: Sequence[int]) -> int:
    """The operator's own objects, from its first tensor to the end of its last buffer."""
    op = graph.ops[step]
    output = graph.tensors[op.outputs[0]]
    end = 20 + 12 + (4 + 4 * len(output.shape)) + 8 + string_bytes(output.name)
    end += 24 + (4 + 4 * len(op.inputs)) + 8 + _options_bytes(op)
    zero_points = [1] if op.activation is None else []
    if owned and op.kind in WEIGHTED:
        end += _weights_word_bytes(graph, op)
        if op.kind in CONVOLUTIONS and zero_points_step(graph, step) == step:
            zero_points.insert(0, _output_channels(graph, op))
    else:
        end += sum(_index_word_bytes(graph, t) for t in owned)
    for count in zero_points:
        end = _aligned(end + 4, 8) + 8 * count
    for t in owned:
        end = _aligned(end + 4, 16) + graph.tensors[t].size_bytes
    return _aligned(end, 16)


def _index_word_bytes(graph: Graph, tensor: int) -> int:
    """Table, buffer and shape of a constant that is no weight: indices of a slice, or padding."""
    return 16 + 8 + (4 + 4 * len(graph.tensors[tensor].shape))


def _operator_bytes(graph: Graph, step: int, owned: Sequence[int]) -> int:
    """The group, and the operator's entries in the lists of operators, tensors and buffers."""
    tensors = planned = 1 + len(owned)
    return _group_bytes(graph, step, owned) + 4 * (1 + tensors + planned + len(owned))


def op_file_bytes(graph: Graph, op: Op) -> int:
    """Bytes of the file that are there because of this operator."""
    step = graph.ops.index(op)
    return _operator_bytes(graph, step, own_constants(graph)[step])


def fixed_file_bytes(graph: Graph) -> int:
    """Bytes of the file that do not depend on operators but for which kinds there are."""
    description = 4 + DESCRIPTION_BYTES + 1
    name = string_bytes(graph.tensors[graph.inputs[0]].name)
    codes = CODE_BYTES * len({op.kind for op in graph.ops}.difference(COMMON_KINDS))
    metadata = _METADATA + string_bytes(PLAN_NAME) + string_bytes(NOTE_NAME)
    first = _HEADER + _MODEL + codes + _SUBGRAPH + metadata + description
    return first + _LISTS + (4 + NOTE_BYTES) + _INPUT + name + SLACK_BYTES + _SHARED


def file_bytes(graph: Graph) -> int:
    """Bytes of the .tflite file that tinynas writes for this graph."""
    operators = (
        _operator_bytes(graph, step, owned) for step, owned in enumerate(own_constants(graph))
    )
    return fixed_file_bytes(graph) + sum(operators)
