"""Models written operator by operator with the generated builder of the schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import tflite

Array = npt.NDArray[Any]
TYPES = {
    "int8": tflite.TensorType.INT8,
    "int16": tflite.TensorType.INT16,
    "int32": tflite.TensorType.INT32,
    "float32": tflite.TensorType.FLOAT32,
    "int4": tflite.TensorType.INT4,
    "bool": tflite.TensorType.BOOL,
    "string": tflite.TensorType.STRING,
    "resource": tflite.TensorType.RESOURCE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HandTensor:
    """A tensor; constant where it has data."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    data: Array | None = None
    scales: tuple[float, ...] = (0.05,)
    zero_point: int = 0
    axis: int = 0
    variable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOp:
    """An operator; `options` builds its table of options and returns its place and type."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    custom: str | None = None
    options: Callable[[Any], tuple[int, int]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandSubgraph:
    """Tensors and operators with numbers of their own, and which tensors go in and out."""

    tensors: Sequence[HandTensor]
    ops: Sequence[HandOp]
    inputs: Sequence[int]
    outputs: Sequence[int]


def conv_options(stride: int = 1, dilation: int = 1) -> Callable[[Any], tuple[int, int]]:
    """Options of CONV_2D, VALID, without activation."""

    def build(builder: Any) -> tuple[int, int]:
        tflite.Conv2DOptionsStart(builder)
        tflite.Conv2DOptionsAddPadding(builder, tflite.Padding.VALID)
        tflite.Conv2DOptionsAddStrideH(builder, stride)
        tflite.Conv2DOptionsAddStrideW(builder, stride)
        tflite.Conv2DOptionsAddDilationHFactor(builder, dilation)
        tflite.Conv2DOptionsAddDilationWFactor(builder, dilation)
        return tflite.Conv2DOptionsEnd(builder), tflite.BuiltinOptions.Conv2DOptions

    return build


def add_options(activation: int = 0) -> Callable[[Any], tuple[int, int]]:
    """Options of ADD."""

    def build(builder: Any) -> tuple[int, int]:
        tflite.AddOptionsStart(builder)
        tflite.AddOptionsAddFusedActivationFunction(builder, activation)
        return tflite.AddOptionsEnd(builder), tflite.BuiltinOptions.AddOptions

    return build


def fully_connected_options(builder: Any) -> tuple[int, int]:
    """Options of FULLY_CONNECTED, without activation."""
    tflite.FullyConnectedOptionsStart(builder)
    kind = tflite.BuiltinOptions.FullyConnectedOptions
    return tflite.FullyConnectedOptionsEnd(builder), kind


def softmax_options(builder: Any) -> tuple[int, int]:
    """Options of SOFTMAX with beta 1."""
    tflite.SoftmaxOptionsStart(builder)
    tflite.SoftmaxOptionsAddBeta(builder, 1.0)
    return tflite.SoftmaxOptionsEnd(builder), tflite.BuiltinOptions.SoftmaxOptions


def reshape_options(builder: Any) -> tuple[int, int]:
    """Options of RESHAPE, whose second input gives the shape."""
    tflite.ReshapeOptionsStart(builder)
    return tflite.ReshapeOptionsEnd(builder), tflite.BuiltinOptions.ReshapeOptions


def _offsets(builder: Any, start: Callable[..., Any], items: Sequence[int]) -> int:
    start(builder, len(items))
    for item in reversed(items):
        builder.PrependUOffsetTRelative(item)
    return int(builder.EndVector())


def _numbers(builder: Any, values: Sequence[float], dtype: str) -> int:
    return int(builder.CreateNumpyVector(np.asarray(values, dtype)))


def _buffer(builder: Any, data: Array | None) -> int:
    place = None if data is None else builder.CreateNumpyVector(data.reshape(-1).view(np.uint8))
    tflite.BufferStart(builder)
    if place is not None:
        tflite.BufferAddData(builder, place)
    return int(tflite.BufferEnd(builder))


def _tensor(builder: Any, number: int, tensor: HandTensor, buffer: int) -> int:
    name = builder.CreateString(f"tensor {number}")
    shape = _numbers(builder, tensor.shape, "<i4")
    scale = _numbers(builder, tensor.scales, "<f4")
    zero_point = _numbers(builder, [tensor.zero_point] * len(tensor.scales), "<i8")
    tflite.QuantizationParametersStart(builder)
    tflite.QuantizationParametersAddScale(builder, scale)
    tflite.QuantizationParametersAddZeroPoint(builder, zero_point)
    tflite.QuantizationParametersAddQuantizedDimension(builder, tensor.axis)
    quantization = tflite.QuantizationParametersEnd(builder)
    tflite.TensorStart(builder)
    tflite.TensorAddShape(builder, shape)
    tflite.TensorAddType(builder, TYPES[tensor.dtype])
    tflite.TensorAddBuffer(builder, buffer)
    tflite.TensorAddName(builder, name)
    tflite.TensorAddQuantization(builder, quantization)
    tflite.TensorAddIsVariable(builder, tensor.variable)
    return int(tflite.TensorEnd(builder))


def _code(builder: Any, op: HandOp) -> int:
    custom = None if op.custom is None else builder.CreateString(op.custom)
    code = getattr(tflite.BuiltinOperator, op.kind)
    tflite.OperatorCodeStart(builder)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, min(code, 127))
    tflite.OperatorCodeAddBuiltinCode(builder, code)
    tflite.OperatorCodeAddVersion(builder, 1)
    if custom is not None:
        tflite.OperatorCodeAddCustomCode(builder, custom)
    return int(tflite.OperatorCodeEnd(builder))


def _operator(builder: Any, number: int, op: HandOp) -> int:
    inputs, outputs = (_numbers(builder, t, "<i4") for t in (op.inputs, op.outputs))
    options = op.options(builder) if op.options else None
    tflite.OperatorStart(builder)
    tflite.OperatorAddOpcodeIndex(builder, number)
    tflite.OperatorAddInputs(builder, inputs)
    tflite.OperatorAddOutputs(builder, outputs)
    if options:
        tflite.OperatorAddBuiltinOptions(builder, options[0])
        tflite.OperatorAddBuiltinOptionsType(builder, options[1])
    return int(tflite.OperatorEnd(builder))


def _subgraph(builder: Any, part: HandSubgraph, first_code: int, first_buffer: int) -> int:
    """A subgraph whose operators and constants have consecutive codes and buffers."""
    constants = [number for number, t in enumerate(part.tensors) if t.data is not None]
    place = {number: buffer for buffer, number in enumerate(constants, first_buffer)}
    lists = [
        _offsets(
            builder,
            tflite.SubGraphStartTensorsVector,
            [_tensor(builder, n, t, place.get(n, 0)) for n, t in enumerate(part.tensors)],
        ),
        _offsets(
            builder,
            tflite.SubGraphStartOperatorsVector,
            [_operator(builder, n, op) for n, op in enumerate(part.ops, first_code)],
        ),
        _numbers(builder, part.inputs, "<i4"),
        _numbers(builder, part.outputs, "<i4"),
    ]
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, lists[0])
    tflite.SubGraphAddOperators(builder, lists[1])
    tflite.SubGraphAddInputs(builder, lists[2])
    tflite.SubGraphAddOutputs(builder, lists[3])
    return int(tflite.SubGraphEnd(builder))


def _metadata(builder: Any, names: Iterable[str], first_buffer: int) -> list[int]:
    entries = []
    for number, called in enumerate(names, first_buffer):
        name = builder.CreateString(called)
        tflite.MetadataStart(builder)
        tflite.MetadataAddName(builder, name)
        tflite.MetadataAddBuffer(builder, number)
        entries.append(int(tflite.MetadataEnd(builder)))
    return entries


def hand_model(
    tensors: Sequence[HandTensor],
    ops: Sequence[HandOp],
    *,
    inputs: Sequence[int],
    outputs: Sequence[int],
    plan: Sequence[int] | None = None,
    subgraphs: int = 1,
    more: Sequence[HandSubgraph] = (),
    metadata: Mapping[str, Array] | None = None,
) -> bytes:
    """The .tflite file; `plan` is the content of TFLM's memory plan, header included.

    It is one of the metadata, of which there may be more. The file has its subgraph as many times
    as `subgraphs` says, and then those in `more`.
    """
    builder = flatbuffers.Builder(1024)
    noted = dict(metadata or {})
    if plan is not None:
        noted["OfflineMemoryAllocation"] = np.asarray(plan, "<i4")
    parts = [HandSubgraph(tensors=tensors, ops=ops, inputs=inputs, outputs=outputs), *more]
    constants = [[t.data for t in part.tensors if t.data is not None] for part in parts]
    stored = [None, *chain(*constants), *noted.values()]
    buffers = [_buffer(builder, data) for data in stored]
    codes = [op for part in parts for op in part.ops]
    places = []
    code, buffer = 0, 1
    for part, of_part in zip(parts, constants, strict=True):
        places.append(_subgraph(builder, part, code, buffer))
        code, buffer = code + len(part.ops), buffer + len(of_part)
    entries = _metadata(builder, noted, len(stored) - len(noted))
    lists = [
        _offsets(
            builder,
            tflite.ModelStartOperatorCodesVector,
            [_code(builder, op) for op in codes],
        ),
        _offsets(
            builder,
            tflite.ModelStartSubgraphsVector,
            [*places[:1] * subgraphs, *places[1:]],
        ),
        _offsets(builder, tflite.ModelStartBuffersVector, buffers),
        _offsets(builder, tflite.ModelStartMetadataVector, entries),
    ]
    description = builder.CreateString("by hand")
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, lists[0])
    tflite.ModelAddSubgraphs(builder, lists[1])
    tflite.ModelAddBuffers(builder, lists[2])
    tflite.ModelAddMetadata(builder, lists[3])
    tflite.ModelAddDescription(builder, description)
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())
