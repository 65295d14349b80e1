from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tflite
from random_models import random_constants, random_graph, small_graph

from tinynas.cost.flash import NOTE_BYTES, file_bytes
from tinynas.cost.patch import patch, splits
from tinynas.cost.plan_metadata import NOTE_NAME, note_text
from tinynas.cost.tflite_reader import read_tflite
from tinynas.deploy.integer import MOVES
from tinynas.deploy.plan import plan_memory
from tinynas.deploy.quantize import QuantizedModel, patched_model
from tinynas.deploy.tflite_writer import OPERATORS, write_tflite
from tinynas.graph import Graph


def _read(content: bytes) -> Any:
    assert tflite.Model.ModelBufferHasIdentifier(content, 0)
    return tflite.Model.GetRootAsModel(content, 0)


def _vector(table: Any, name: str) -> list[Any]:
    return [getattr(table, name)(i) for i in range(getattr(table, name + "Length")())]


def _subnets() -> list[Graph]:
    rng = np.random.default_rng(0)
    graphs = [random_graph(rng) for _ in range(100)]
    return graphs + [random_graph(rng, max_classes=3) for _ in range(20)]


def test_the_file_is_as_long_as_was_known_before_for_120_random_subnets() -> None:
    rng = np.random.default_rng(1)
    for graph in _subnets():
        assert len(write_tflite(random_constants(graph, rng))) == file_bytes(graph)


def test_a_plan_a_note_and_a_description_do_not_change_the_size() -> None:
    rng = np.random.default_rng(2)
    model = random_constants(small_graph(rng), rng)
    plan = plan_memory(model.graph).offsets
    for note in ("", "short", "x" * NOTE_BYTES):
        planned = write_tflite(model, plan=plan, note=note, description="another description")
        assert len(planned) == len(write_tflite(model))


def test_tensors_read_back_as_they_are_in_the_graph() -> None:
    rng = np.random.default_rng(3)
    model = random_constants(small_graph(rng), rng)
    read = _read(write_tflite(model, description="some text"))
    subgraph = read.Subgraphs(0)
    assert (read.Version(), read.Description()) == (3, b"some text")
    assert read.SubgraphsLength() == 1
    assert _vector(subgraph, "Inputs") == list(model.graph.inputs)
    assert _vector(subgraph, "Outputs") == list(model.graph.outputs)
    tensors = _vector(subgraph, "Tensors")
    assert len(tensors) == len(model.graph.tensors)
    for number, (tensor, expected) in enumerate(zip(tensors, model.graph.tensors, strict=True)):
        assert tuple(_vector(tensor, "Shape")) == expected.shape
        kinds = {"int8": tflite.TensorType.INT8, "int32": tflite.TensorType.INT32}
        assert tensor.Type() == kinds[expected.dtype]
        assert (tensor.Name() or b"").decode() == expected.name
        if not expected.constant:
            quantization = tensor.Quantization()
            assert tensor.Buffer() == 0
            assert _vector(quantization, "Scale") == [model.scales[number]]
            assert _vector(quantization, "ZeroPoint") == [model.zero_points[number]]


def test_constants_read_back_with_scales_and_one_zero_point_per_scale() -> None:
    rng = np.random.default_rng(4)
    model = random_constants(small_graph(rng), rng)
    content = write_tflite(model)
    read = _read(content)
    tensors = _vector(read.Subgraphs(0), "Tensors")
    axis = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
    for op in model.graph.ops:
        if op.name not in model.weights:
            continue
        constants = model.weights[op.name]
        weights, bias = (tensors[t] for t in op.inputs[1:])
        values = read.Buffers(weights.Buffer()).DataAsNumpy().view(np.int8)
        assert np.array_equal(values, constants.values.ravel())
        words = read.Buffers(bias.Buffer()).DataAsNumpy().view("<i4")
        assert np.array_equal(words, constants.bias)
        quantization = weights.Quantization()
        assert np.array_equal(quantization.ScaleAsNumpy(), constants.scales)
        assert np.array_equal(quantization.ZeroPointAsNumpy(), np.zeros(len(constants.scales)))
        assert quantization.QuantizedDimension() == axis[op.kind]
    fully_connected = model.graph.ops[-1]
    scale = _vector(tensors[fully_connected.inputs[2]].Quantization(), "Scale")
    expected = model.scales[fully_connected.inputs[0]] * model.weights["logits"].scales[0]
    assert scale == [pytest.approx(expected)]


def test_all_buffers_begin_at_a_multiple_of_16_bytes() -> None:
    rng = np.random.default_rng(5)
    content = write_tflite(random_constants(small_graph(rng), rng))
    read = _read(content)
    assert read.Buffers(0).DataLength() == 0
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    for number in range(1, read.BuffersLength()):
        data = read.Buffers(number).DataAsNumpy().__array_interface__["data"][0]
        assert (data - start) % 16 == 0


def _options(operator: Any, kind: type) -> Any:
    options = kind()
    table = operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options


def _patched(rng: np.random.Generator) -> QuantizedModel:
    model = random_constants(small_graph(rng), rng)
    return patched_model(model, patch(model.graph, splits(model.graph)[4], 3, 2))


def _numbers(read: Any, tensor: Any) -> list[int]:
    words: list[int] = read.Buffers(tensor.Buffer()).DataAsNumpy().view("<i4").tolist()
    return words


def test_patched_files_are_as_long_as_was_known_before() -> None:
    rng = np.random.default_rng(9)
    for graph in _subnets()[:25]:
        split = int(rng.choice(splits(graph)))
        _, rows, columns, _ = graph.tensors[graph.ops[split - 1].outputs[0]].shape
        counts = (int(rng.integers(1, min(n, 5) + 1)) for n in (rows, columns))
        model = patched_model(random_constants(graph, rng), patch(graph, split, *counts))
        assert len(write_tflite(model)) == file_bytes(model.graph)


def test_slices_padding_and_joins_read_back() -> None:
    model = _patched(np.random.default_rng(10))
    read = _read(write_tflite(model))
    subgraph, seen = read.Subgraphs(0), set()
    tensors, codes = _vector(subgraph, "Tensors"), _vector(read, "OperatorCodes")
    assert len(codes) == len({op.kind for op in model.graph.ops})
    for op, operator in zip(model.graph.ops, _vector(subgraph, "Operators"), strict=True):
        code = codes[operator.OpcodeIndex()]
        assert code.BuiltinCode() == getattr(tflite.BuiltinOperator, op.kind)
        indices = [t for t in op.inputs if op.kind in MOVES and model.graph.tensors[t].constant]
        constants = [_numbers(read, tensors[t]) for t in indices]
        if op.kind == "STRIDED_SLICE":
            shape = model.graph.tensors[op.outputs[0]].shape
            end = [first + size for first, size in zip(op.begin, shape, strict=True)]
            assert constants == [list(op.begin), end, [1, 1, 1, 1]]
            options = _options(operator, tflite.StridedSliceOptions)
            masks = ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask")
            assert not any(getattr(options, mask)() for mask in masks)
            assert operator.BuiltinOptionsType() == tflite.BuiltinOptions.StridedSliceOptions
        elif op.kind == "PAD":
            assert constants == [[count for pair in op.pads for count in pair]]
            assert operator.BuiltinOptionsType() == tflite.BuiltinOptions.PadOptions
        elif op.kind == "CONCATENATION":
            options = _options(operator, tflite.ConcatenationOptions)
            assert (options.Axis(), options.FusedActivationFunction()) == (op.axis, 0)
            assert operator.BuiltinOptionsType() == tflite.BuiltinOptions.ConcatenationOptions
        seen.add(op.kind)
    assert seen >= MOVES.keys()


def test_a_patched_file_reads_back_as_its_graph() -> None:
    model = _patched(np.random.default_rng(11))
    graph = read_tflite(write_tflite(model)).graph
    assert graph.tensors == model.graph.tensors
    for op, expected in zip(graph.ops, model.graph.ops, strict=True):
        assert replace(op, name=expected.name) == expected


def test_patches_share_the_buffers_of_their_constants() -> None:
    model = _patched(np.random.default_rng(12))
    read = _read(write_tflite(model))
    constants = [t for t, tensor in enumerate(model.graph.tensors) if tensor.constant]
    tensors = _vector(read.Subgraphs(0), "Tensors")
    buffers = [tensors[t].Buffer() for t in constants]
    assert sorted(buffers) == list(range(3, 3 + len(constants)))
    assert read.BuffersLength() == 3 + len(constants)


def test_operators_that_do_not_say_what_they_do_are_refused() -> None:
    model = _patched(np.random.default_rng(13))
    unsaid: dict[str, dict[str, Any]] = {
        "CONCATENATION": {"axis": None},
        "PAD": {"pads": ()},
        "STRIDED_SLICE": {"begin": ()},
    }
    messages = {
        "CONCATENATION": "the axis along which .* joins is not known",
        "PAD": "must have 32 bytes, got 0",
        "STRIDED_SLICE": "must have 16 bytes, got 0",
    }
    for kind, change in unsaid.items():
        ops = tuple(replace(op, **change) if op.kind == kind else op for op in model.graph.ops)
        with pytest.raises(ValueError, match=messages[kind]):
            write_tflite(replace(model, graph=replace(model.graph, ops=ops)))


def test_operators_read_back_with_their_options() -> None:
    rng = np.random.default_rng(6)
    graph = small_graph(rng)
    read = _read(write_tflite(random_constants(graph, rng)))
    codes = _vector(read, "OperatorCodes")
    assert len(codes) == len({op.kind for op in graph.ops})
    paddings = {"SAME": tflite.Padding.SAME, "VALID": tflite.Padding.VALID}
    activations = {None: 0, "RELU6": tflite.ActivationFunctionType.RELU6}
    for op, operator in zip(graph.ops, _vector(read.Subgraphs(0), "Operators"), strict=True):
        code = codes[operator.OpcodeIndex()]
        assert code.BuiltinCode() == getattr(tflite.BuiltinOperator, op.kind)
        assert code.DeprecatedBuiltinCode() == code.BuiltinCode()
        assert code.Version() == OPERATORS[op.kind][1]
        assert tuple(_vector(operator, "Inputs")) == op.inputs
        assert tuple(_vector(operator, "Outputs")) == op.outputs
        if op.kind == "CONV_2D":
            options = _options(operator, tflite.Conv2DOptions)
        elif op.kind == "DEPTHWISE_CONV_2D":
            options = _options(operator, tflite.DepthwiseConv2DOptions)
            assert options.DepthMultiplier() == 1
        elif op.kind == "AVERAGE_POOL_2D":
            options = _options(operator, tflite.Pool2DOptions)
            assert (options.FilterHeight(), options.FilterWidth()) == op.kernel
        else:
            options = _options(operator, tflite.AddOptions)
            assert options.FusedActivationFunction() == 0
            continue
        assert (options.StrideH(), options.StrideW()) == op.stride
        assert options.Padding() == paddings[op.padding]
        assert options.FusedActivationFunction() == activations[op.activation]


def test_the_memory_plan_reads_back_with_minus_one_for_constants() -> None:
    rng = np.random.default_rng(7)
    model = random_constants(small_graph(rng), rng)
    plan = plan_memory(model.graph).offsets
    read = _read(write_tflite(model, plan=plan))
    metadata = read.Metadata(0)
    assert metadata.Name() == b"OfflineMemoryAllocation"
    words = read.Buffers(metadata.Buffer()).DataAsNumpy().view("<i4").tolist()
    tensors = range(len(model.graph.tensors))
    assert words == [1, 0, len(tensors), *(plan.get(t, -1) for t in tensors)]


@pytest.mark.parametrize("note", [note_text("cmsis-nn", 32_768), "x" * NOTE_BYTES])
def test_the_note_on_the_plan_reads_back(note: str) -> None:
    rng = np.random.default_rng(7)
    read = _read(write_tflite(random_constants(small_graph(rng), rng), note=note))
    assert read.MetadataLength() == 2
    metadata = read.Metadata(1)
    assert metadata.Name().decode() == NOTE_NAME
    assert read.Buffers(metadata.Buffer()).DataAsNumpy().tobytes() == note.encode()


def test_a_file_without_a_note_says_nothing_of_its_plan() -> None:
    rng = np.random.default_rng(7)
    assert read_tflite(write_tflite(random_constants(small_graph(rng), rng))).plan_safe_for is None


def test_a_fused_relu_is_written() -> None:
    rng = np.random.default_rng(8)
    graph = small_graph(rng)
    step = next(i for i, op in enumerate(graph.ops) if op.kind == "ADD")
    ops = list(graph.ops)
    ops[step] = replace(ops[step], activation="RELU")
    model = random_constants(replace(graph, ops=tuple(ops)), rng)
    content = write_tflite(model)
    options = _options(_read(content).Subgraphs(0).Operators(step), tflite.AddOptions)
    assert options.FusedActivationFunction() == tflite.ActivationFunctionType.RELU
    assert len(content) == file_bytes(model.graph)


def test_an_unknown_kind_of_operator_is_refused() -> None:
    rng = np.random.default_rng(9)
    model = random_constants(small_graph(rng), rng)
    ops = (*model.graph.ops[:-1], replace(model.graph.ops[-1], kind="SOFTMAX"))
    with pytest.raises(ValueError, match="cannot write operators of kind \\['SOFTMAX'\\]"):
        write_tflite(replace(model, graph=replace(model.graph, ops=ops)))


def test_a_long_description_or_note_is_refused() -> None:
    rng = np.random.default_rng(10)
    model = random_constants(small_graph(rng), rng)
    with pytest.raises(ValueError, match="a description has at most 43 bytes"):
        write_tflite(model, description="x" * 44)
    with pytest.raises(ValueError, match="a note has at most 92 bytes"):
        write_tflite(model, note="x" * 93)


def test_an_activation_that_does_not_begin_at_the_lowest_value_is_refused() -> None:
    rng = np.random.default_rng(11)
    model = random_constants(small_graph(rng), rng)
    stem = model.graph.ops[0].outputs[0]
    with pytest.raises(ValueError, match="must have zero point -128, got 0"):
        write_tflite(replace(model, zero_points={**model.zero_points, stem: 0}))
