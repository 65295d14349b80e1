"""Any .tflite file (TFLite schema version 3) as a graph, whoever wrote it.

The file may be damaged or hostile: nothing in it is believed before it has been compared with the
file's length, and no more is read than LARGEST_LIST and MOST_ITEMS allow, because a small file
can refer to the same long list from many places.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from tinynas.cost.op_rules import check_form, check_graph
from tinynas.cost.op_values import joined_axis, pads_of, slice_begin
from tinynas.cost.overlap import SafeKernels
from tinynas.cost.plan_metadata import LONGEST_NOTE, NOTE_NAME, PLAN_NAME, offsets_of, safe_for
from tinynas.errors import ModelFileError
from tinynas.graph import ITEM_BYTES, Activation, Graph, Op, Padding, Tensor

IDENTIFIER = b"TFL3"

# The largest models published for microcontrollers have some hundreds of operators.
LARGEST_LIST = 5_000
LARGEST_RANK = 16
LONGEST_NAME = 200
# Numbers and characters that are copied out of one file; the data of constants is not.
MOST_ITEMS = 4_000_000
# What flatbuffers' accessors raise when an offset or a length leads out of the file.
DAMAGE = (struct.error, TypeError, IndexError, ValueError, OverflowError, AttributeError)

PADDINGS: dict[int, Padding] = {0: "SAME", 1: "VALID"}
ACTIVATIONS: dict[int, Activation | None] = {
    0: None,
    1: "RELU",
    2: "RELU_N1_TO_1",
    3: "RELU6",
}
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")
# The table of options of each kind of which an Op has some.
OPTIONS = {
    **dict.fromkeys(POOLS, "Pool2DOptions"),
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "MUL": "MulOptions",
    "SUB": "SubOptions",
    "CONCATENATION": "ConcatenationOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
}
PADS = ("PAD", "PADV2")
INDEX_TYPES = {"int32": "i", "int64": "q"}  # and how `struct` calls them


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A model file: its graph, its memory plan, and the description it carries.

    `offsets` are arena offsets in bytes of activations by tensor number, as the file's plan gives
    them; none without a plan. `plan_safe_for` are the kernels that a note in the file says they
    are safe for, None without a note of ours.
    """

    graph: Graph
    offsets: dict[int, int]
    description: str
    plan_safe_for: SafeKernels | None = None


def read_tflite(content: bytes) -> ModelFile:
    """The model in the bytes of a .tflite file.

    Operators of any kind are read, but options only of those in OPTIONS. Raises ModelFileError,
    with a sentence on what is wrong, for anything else, for operators whose tensors contradict
    them, and for a model that a Graph cannot hold: one of several subgraphs, or with tensors of
    other types than tinynas.graph.ITEM_BYTES.
    """
    if content[4:8] != IDENTIFIER:
        raise ModelFileError("this is not a .tflite file: its bytes 4 to 7 are not 'TFL3'")
    try:
        model = _Reader(content).model()
    except DAMAGE:
        raise _damaged("something it refers to lies outside of it") from None
    check_graph(model.graph)
    return model


def _damaged(what: str) -> ModelFileError:
    return ModelFileError(f"this .tflite file is damaged or cut off: {what}")


def _unknown(what: str, known: Sequence[object]) -> ModelFileError:
    return ModelFileError(f"{what}, which is not known; known: {', '.join(map(str, known))}")


def _names(constants: type) -> dict[int, str]:
    """Names by number of a generated class of constants."""
    return {value: name for name, value in vars(constants).items() if isinstance(value, int)}


def printable(text: str) -> str:
    """At most LONGEST_NAME characters of a name from a file, safe to print on one line."""
    return "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:LONGEST_NAME]
    )


def _with_scales(op: Op, scales: Sequence[int]) -> Op:
    """The operator, with what follows from how many scales each tensor has."""
    return replace(op, per_channel=op.kind == "FULLY_CONNECTED" and scales[op.inputs[1]] > 1)


class _Reader:
    """Reads the tables of one file and counts what it copies out of it."""

    def __init__(self, content: bytes) -> None:
        import tflite

        self.tflite = tflite
        self.kinds, self.types = _names(tflite.BuiltinOperator), _names(tflite.TensorType)
        self.root = tflite.Model.GetRootAs(content)
        self.items_left = MOST_ITEMS
        self.buffers: list[Any] = []
        self.places: list[int] = []  # of each tensor's data among the buffers

    def model(self) -> ModelFile:
        """The whole file."""
        if self.root.Version() != 3:
            raise _unknown(f"this .tflite file has schema version {self.root.Version()}", [3])
        if self.root.SubgraphsLength() != 1:
            raise ModelFileError(
                f"this .tflite file has {self.root.SubgraphsLength():,} subgraphs; only models of "
                "one subgraph, without control flow, can be read"
            )
        subgraph = self.root.Subgraphs(0)
        self.buffers = self.tables(self.root, "Buffers")
        sizes = [self.data_bytes(buffer) for buffer in self.buffers]
        graph = self.graph(subgraph, self.tables(subgraph, "Tensors"), sizes)
        return ModelFile(
            graph=graph,
            offsets=self.offsets(graph),
            description=self.text(self.root.Description()),
            plan_safe_for=self.safe_for(),
        )

    def graph(self, subgraph: Any, tables: Sequence[Any], sizes: Sequence[int]) -> Graph:
        """The subgraph as a Graph, in which nothing refers to what is not there."""
        kinds = [self.kind(code) for code in self.tables(self.root, "OperatorCodes")]
        tensors = tuple(self.tensor(n, table, sizes) for n, table in enumerate(tables))
        self.places = [table.Buffer() for table in tables]
        scales = [self.scales(table) for table in tables]
        return Graph(
            name=self.text(subgraph.Name()),
            tensors=tensors,
            ops=tuple(
                _with_scales(self.op(step, table, kinds, tensors), scales)
                for step, table in enumerate(self.tables(subgraph, "Operators"))
            ),
            inputs=self.references(subgraph, "Inputs", tensors, "the graph"),
            outputs=self.references(subgraph, "Outputs", tensors, "the graph"),
        )

    def count(self, items: int) -> None:
        """Note that so many numbers or characters are going to be copied."""
        self.items_left -= items
        if self.items_left < 0:
            raise ModelFileError(
                f"this .tflite file has more than {MOST_ITEMS:,} numbers and letters beside its "
                "weights, more than can be read"
            )

    def text(self, data: bytes | None) -> str:
        """A string of the file, as it can be printed; "" where there is none."""
        self.count(len(data or b""))
        return printable((data or b"").decode(errors="replace"))

    def tables(self, owner: Any, field: str) -> list[Any]:
        """The tables in a list of the schema."""
        length = getattr(owner, f"{field}Length")()
        if length > LARGEST_LIST:
            raise ModelFileError(
                f"this .tflite file has a list of {length:,} {field.lower()}; "
                f"at most {LARGEST_LIST:,} can be read"
            )
        return [getattr(owner, field)(index) for index in range(length)]

    def length(self, owner: Any, field: str) -> int:
        """Length of a list of numbers, all of them inside the file; 0 where there is none."""
        none = getattr(owner, f"{field}IsNone")()
        return 0 if none else len(getattr(owner, f"{field}AsNumpy")())

    def numbers(self, owner: Any, field: str) -> tuple[int, ...]:
        """The numbers in a list of the schema."""
        length = self.length(owner, field)
        self.count(length)
        return tuple(getattr(owner, f"{field}AsNumpy")().tolist()) if length else ()

    def references(
        self, owner: Any, field: str, tensors: Sequence[Tensor], who: str, lowest: int = 0
    ) -> tuple[int, ...]:
        """Numbers of tensors, each from `lowest` to that of the last tensor."""
        if self.length(owner, field) > LARGEST_LIST:
            raise ModelFileError(
                f"{who} of this .tflite file has {self.length(owner, field):,} {field.lower()}; "
                f"at most {LARGEST_LIST:,} can be read"
            )
        found = self.numbers(owner, field)
        if found and not lowest <= min(found) <= max(found) < len(tensors):
            wrong = next(t for t in found if not lowest <= t < len(tensors))
            raise _damaged(f"{who} refers to tensor {wrong}, but there are {len(tensors)}")
        return found

    def data_bytes(self, buffer: Any) -> int:
        """Length of a buffer's data; 0 for none."""
        if buffer.Offset() > 1:  # 0 and 1 stand for none, as schema.fbs says
            raise ModelFileError(
                "this .tflite file keeps weights behind its tables, which TFLM cannot read"
            )
        return self.length(buffer, "Data")

    def kind(self, code: Any) -> str:
        """TFLite's name of an operator code; "CUSTOM:" and the name of a custom operator."""
        number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        if number not in self.kinds:
            raise _unknown(f"operator code {number}", [f"0 to {max(self.kinds)}"])
        name = self.kinds[number]
        return f"{name}:{self.text(code.CustomCode())}" if name == "CUSTOM" else name

    def tensor(self, number: int, table: Any, sizes: Sequence[int]) -> Tensor:
        """A tensor whose type is known and whose data, if any, is as long as its shape says."""
        shape, buffer = self.numbers(table, "Shape"), table.Buffer()
        if len(shape) > LARGEST_RANK or min(shape, default=0) < 0:
            raise _damaged(
                f"tensor {number} has the impossible shape {list(shape[:LARGEST_RANK])}"
            )
        if buffer >= len(sizes):
            raise _damaged(f"tensor {number} has buffer {buffer}, but there are {len(sizes)}")
        dtype = self.types.get(table.Type(), f"number {table.Type()}").lower()
        if dtype not in ITEM_BYTES:
            raise _unknown(f"tensor {number} has type {dtype}", list(ITEM_BYTES))
        constant = sizes[buffer] > 0
        tensor = Tensor(
            name=self.text(table.Name()),
            shape=shape,
            dtype=dtype,
            constant=constant,
            variable=bool(table.IsVariable()),
            quantized=self.is_quantized(table),
        )
        if constant and sizes[buffer] != tensor.size_bytes and table.Sparsity() is None:
            raise _damaged(
                f"tensor {number} of shape {list(shape)} takes {tensor.size_bytes} bytes, "
                f"but its data has {sizes[buffer]}"
            )
        return tensor

    def op(self, step: int, table: Any, kinds: Sequence[str], tensors: Sequence[Tensor]) -> Op:
        """An operator; -1 among its inputs is an optional one left out."""
        code = table.OpcodeIndex()
        if code >= len(kinds):
            raise _damaged(f"operator {step} has code {code}, but there are {len(kinds)}")
        name = f"{kinds[code]} {step}"
        op = Op(
            name=name,
            kind=kinds[code],
            inputs=self.references(table, "Inputs", tensors, name, lowest=-1),
            outputs=self.references(table, "Outputs", tensors, name),
        )
        check_form(op, tensors)
        if op.kind in PADS:
            data, out = (tensors[t].shape for t in (op.inputs[0], op.outputs[0]))
            return replace(op, pads=pads_of(data, out, self.indices(op.inputs[1], tensors)))
        return self.with_options(op, table, tensors) if op.kind in OPTIONS else op

    def indices(self, number: int, tensors: Sequence[Tensor]) -> tuple[int, ...]:
        """The whole numbers of a constant, none unless they are a few indices or sizes of axes."""
        tensor = tensors[number]
        count = prod(tensor.shape)
        if tensor.dtype not in INDEX_TYPES or not tensor.constant or count > 2 * LARGEST_RANK:
            return ()
        data = self.buffers[self.places[number]].DataAsNumpy()
        if len(data) != tensor.size_bytes:  # a sparse one
            return ()
        self.count(count)
        return struct.unpack(f"<{count}{INDEX_TYPES[tensor.dtype]}", data.tobytes())

    def begin(self, op: Op, options: Any, tensors: Sequence[Tensor]) -> tuple[int, ...]:
        """First index on each axis of a STRIDED_SLICE; () unless it only leaves out both ends."""
        begin, end, strides = (self.indices(t, tensors) for t in op.inputs[1:4])
        masks = (options.EllipsisMask(), options.NewAxisMask(), options.ShrinkAxisMask())
        relative = getattr(options, "Offset", lambda: True)()  # not in older schemas
        if any(masks) or relative or set(strides) != {1}:
            return ()
        data, out = (tensors[t].shape for t in (op.inputs[0], op.outputs[0]))
        if len(strides) != len(data):
            return ()
        return slice_begin(
            *(data, out, begin, end), begin_mask=options.BeginMask(), end_mask=options.EndMask()
        )

    def options(self, op: Op, table: Any) -> Any:
        """The operator's table of options; None where it has none."""
        union, name = table.BuiltinOptions(), OPTIONS[op.kind]
        if union is None:
            return None
        if table.BuiltinOptionsType() != getattr(self.tflite.BuiltinOptions, name):
            raise _damaged(f"operator {op.name} has the options of another kind")
        options = getattr(self.tflite, name)()
        options.Init(union.Bytes, union.Pos)
        return options

    def with_options(self, op: Op, table: Any, tensors: Sequence[Tensor]) -> Op:
        """The operator with what an Op holds of its options."""
        options = self.options(op, table)
        if options is None:
            if op.kind in CONVOLUTIONS + POOLS:
                raise _damaged(f"operator {op.name} has no options")
            return op
        if op.kind == "STRIDED_SLICE":
            return replace(op, begin=self.begin(op, options, tensors))
        op = replace(op, activation=self.activation(op, options))
        if op.kind == "CONCATENATION":
            parts = [tensors[t].shape for t in op.inputs]
            axis = joined_axis(options.Axis(), parts, tensors[op.outputs[0]].shape)
            return replace(op, axis=axis)
        if op.kind in CONVOLUTIONS + POOLS:
            return self.with_window(op, options, tensors)
        return op

    def activation(self, op: Op, options: Any) -> Activation | None:
        """The activation fused into an operator."""
        number = options.FusedActivationFunction()
        if number not in ACTIVATIONS:
            raise _unknown(
                f"operator {op.name} has activation {number}",
                [f"{known} ({name or 'none'})" for known, name in ACTIVATIONS.items()],
            )
        return ACTIVATIONS[number]

    def with_window(self, op: Op, options: Any, tensors: Sequence[Tensor]) -> Op:
        """The convolution or pool with its kernel, stride, dilation and padding."""
        if options.Padding() not in PADDINGS:
            raise _unknown(f"operator {op.name} has padding {options.Padding()}", list(PADDINGS))
        op = replace(
            op, stride=(options.StrideH(), options.StrideW()), padding=PADDINGS[options.Padding()]
        )
        if op.kind in POOLS:
            return replace(op, kernel=(options.FilterHeight(), options.FilterWidth()))
        _, height, width, _ = tensors[op.inputs[1]].shape
        dilation = (options.DilationHFactor(), options.DilationWFactor())
        return replace(op, kernel=(height, width), dilation=dilation)

    def offsets(self, graph: Graph) -> dict[int, int]:
        """The arena offset of each activation that the file's memory plan places."""
        plans = self.named(PLAN_NAME)
        if not plans:
            return {}
        if len(plans) > 1 or plans[0] >= len(self.buffers):
            raise _damaged("its memory plan is not one buffer")
        if not self.length(self.buffers[plans[0]], "Data"):
            raise _damaged("its memory plan is empty")
        content = self.buffers[plans[0]].DataAsNumpy().tobytes()
        try:
            offsets = offsets_of(content, len(graph.tensors))
        except ValueError as error:
            raise _damaged(f"its memory plan {error}") from None
        return {t: offset for t, offset in offsets.items() if not graph.tensors[t].constant}

    def safe_for(self) -> SafeKernels | None:
        """The kernels that our note names; what is no such note says nothing."""
        notes = self.named(NOTE_NAME)
        if len(notes) != 1 or notes[0] >= len(self.buffers):
            return None
        length = self.length(self.buffers[notes[0]], "Data")
        if not 0 < length <= LONGEST_NOTE:
            return None
        return safe_for(self.buffers[notes[0]].DataAsNumpy().tobytes())

    def named(self, name: str) -> list[int]:
        """Numbers of the buffers of all metadata of that name."""
        metadata = self.tables(self.root, "Metadata")
        return [entry.Buffer() for entry in metadata if entry.Name() == name.encode()]

    def scales(self, table: Any) -> int:
        """How many scales a tensor has."""
        quantization = table.Quantization()
        return 0 if quantization is None else self.length(quantization, "Scale")

    def is_quantized(self, table: Any) -> bool:
        """Whether a tensor has scales and zero points; both lie inside the file."""
        quantization = table.Quantization()
        if quantization is None:
            return False
        return min(self.length(quantization, name) for name in ("Scale", "ZeroPoint")) > 0
