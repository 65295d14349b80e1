import json
import time
from pathlib import Path
from typing import Any

import pytest

from tinynas.cost.layer_list import ACTIVATIONS, read_layer_list
from tinynas.cost.layer_schema import LARGEST_BYTES, ListedTensor
from tinynas.cost.tflite_reader import LARGEST_LIST, ModelFile
from tinynas.errors import ModelFileError
from tinynas.graph import ITEM_BYTES, Graph, Op, op_macs, total_macs

LISTS = Path(__file__).parents[1] / "fixtures" / "layer_lists"
Listed = dict[str, Any]


def _read(listed: Any) -> ModelFile:
    return read_layer_list(json.dumps(listed).encode())


def _layer(op: str, ins: list[Any], outs: list[Any], **of_layer: Any) -> Listed:
    """A layer; tensors given as a shape have nothing else."""
    sides = [[e if isinstance(e, dict) else {"shape": e} for e in side] for side in (ins, outs)]
    return {"op": op, "ins": sides[0], "outs": sides[1], **of_layer}


def _t(number: int, *shape: int, **more: Any) -> Listed:
    return {"t": number, "shape": list(shape), **more}


def _list(*layers: Listed, inputs: Any = None, **more: Any) -> Listed:
    inputs = inputs or [{"shape": layers[0]["ins"][0]["shape"]}]
    return {"inputs": inputs, "layers": list(layers), **more}


def _shapes(graph: Graph, numbers: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [graph.tensors[t].shape for t in numbers]


def _peak(graph: Graph) -> int:
    """The most bytes of activations that are in memory at once."""
    lives = [(*life, graph.tensors[t].size_bytes) for t, life in graph.lifetimes().items()]
    return max(
        sum(size for first, last, size in lives if first <= step <= last)
        for step in range(len(graph.ops))
    )


# MACs and peaks of the MLPerf Tiny models as published with their lists (mlcommons/tiny).
@pytest.mark.parametrize(
    ("name", "macs", "peak", "kinds"),
    [
        (
            "mlperf_ic_resnet8",
            12_501_632,
            49_152,
            {"ADD", "AVERAGE_POOL_2D", "CONV_2D", "FULLY_CONNECTED", "RESHAPE", "SOFTMAX"},
        ),
        (
            "mlperf_kws_dscnn",
            2_656_768,
            16_000,
            {"AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "RESHAPE"}
            | {"SOFTMAX"},
        ),
        (
            "mlperf_vww_mbv1_025_96",
            7_489_664,
            55_296,
            {"AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "RESHAPE"}
            | {"SOFTMAX"},
        ),
        ("mlperf_ad_autoencoder", 264_192, 768, {"FULLY_CONNECTED"}),
    ],
)
def test_published_models_have_their_macs_and_peaks(
    name: str, macs: int, peak: int, kinds: set[str]
) -> None:
    model = read_layer_list((LISTS / f"{name}.json").read_bytes())
    graph = model.graph
    assert (graph.name, model.offsets, model.description) == (name, {}, "")
    assert (total_macs(graph), _peak(graph)) == (macs, peak)
    assert {op.kind for op in graph.ops} == kinds
    assert (len(graph.inputs), len(graph.outputs)) == (1, 1)


def test_numbers_decide_who_reads_what() -> None:
    listed = _list(
        _layer("RELU", [_t(7, 1, 8)], [_t(3, 1, 8)]),
        _layer("TANH", [_t(7, 1, 8)], [_t(4, 1, 8)]),
        _layer("ADD", [_t(3, 1, 8), _t(9, 8, const=True)], [_t(12, 1, 8)], act="RELU_N1_TO_1"),
        name="by hand",
    )
    graph = _read(listed).graph
    # In the order of the numbers: 3, 4, 7, 9, 12.
    assert [op.inputs for op in graph.ops] == [(2,), (2,), (0, 3)]
    assert [op.outputs for op in graph.ops] == [(0,), (1,), (4,)]
    assert [tensor.constant for tensor in graph.tensors] == [False, False, False, True, False]
    assert (graph.inputs, graph.outputs) == ((2,), (1, 4))
    assert (graph.name, graph.ops[2].name) == ("by hand", "ADD 2")
    assert [op.activation for op in graph.ops] == [None, None, "RELU_N1_TO_1"]


def test_inputs_and_outputs_are_found_by_number_or_form() -> None:
    layers = (
        _layer("ADD", [_t(0, 2, 8), _t(1, 8)], [_t(2, 2, 8)]),
        _layer("SPLIT", [_t(3, 1, const=True, type="INT32"), _t(2, 2, 8)], [_t(4, 2, 4)] * 1),
    )
    layers[1]["outs"].append(_t(5, 2, 4))
    inputs = [{"shape": [8]}, {"shape": [2, 8]}]
    graph = _read(_list(*layers, inputs=inputs)).graph
    assert (graph.inputs, graph.outputs) == ((1, 0), (4, 5))
    # An output may be read too, and a result may go unused.
    graph = _read(_list(*layers, inputs=inputs, outputs=[{"shape": [2, 8]}, _t(5, 2, 4)])).graph
    assert graph.outputs == (2, 5)


def test_types_are_read_and_int8_without_one() -> None:
    listed = _list(
        _layer("QUANTIZE", [{"shape": [1, 8], "type": "FLOAT32"}], [[1, 8]]),
        _layer("DEQUANTIZE", [[1, 8]], [{"shape": [1, 8], "type": "FLOAT32"}]),
        inputs=[{"shape": [1, 8], "type": "FLOAT32"}],
    )
    dtypes = [tensor.dtype for tensor in _read(listed).graph.tensors]
    assert dtypes == ["float32", "int8", "float32"]
    types = ListedTensor.model_json_schema()["properties"]["type"]["enum"]
    assert {name.lower() for name in types} == ITEM_BYTES.keys()


WINDOW = {"kernel": [3, 3], "stride": [1, 1], "pad": "SAME"}
RESIDUAL = _list(
    _layer("CONV_2D", [[1, 8, 8, 3]], [[1, 8, 8, 4]], **WINDOW, cin=3, cout=4, act="RELU6"),
    _layer("DEPTHWISE_CONV_2D", [[1, 8, 8, 4]], [[1, 8, 8, 8]], **WINDOW, cin=4, mult=2),
    _layer("CONV_2D", [[1, 8, 8, 8]], [[1, 8, 8, 4]], **WINDOW, groups=4),
    _layer("ADD", [[1, 8, 8, 4]] * 2, [[1, 8, 8, 4]]),
    _layer("ADD", [[1, 8, 8, 4]] * 2, [[1, 8, 8, 4]]),
    _layer(
        "MAX_POOL_2D", [[1, 8, 8, 4]], [[1, 4, 4, 4]], kernel=[2, 2], stride=[2, 2], pad="SAME"
    ),
    _layer("MEAN", [[1, 4, 4, 4]], [[1, 4]]),
    _layer("FULLY_CONNECTED", [[1, 4]], [[1, 10]], cin=4, cout=10),
)


def _written_by(graph: Graph, op: Op) -> list[int | None]:
    """Which operators wrote what an operator reads; None for the graph's input."""
    writers = {t: step for step, writer in enumerate(graph.ops) for t in writer.outputs}
    return [writers.get(t) for t in graph.activations(op)]


def test_in_a_chain_each_layer_reads_the_one_before_it_and_the_latest_of_the_same_shape() -> None:
    graph = _read(RESIDUAL).graph
    sources = [_written_by(graph, op) for op in graph.ops]
    assert sources == [[None], [0], [1], [2, 0], [3, 2], [4], [5], [6]]
    assert len(graph.inputs) == len(graph.outputs) == 1


def test_constants_that_a_layer_lacks_follow_from_its_channels() -> None:
    graph = _read(RESIDUAL).graph
    constants = [
        _shapes(graph, tuple(t for t in op.inputs if graph.tensors[t].constant))
        for op in graph.ops
    ]
    assert constants == [
        [(4, 3, 3, 3), (4,)],
        [(1, 3, 3, 8), (8,)],
        [(4, 3, 3, 2), (4,)],
        [],
        [],
        [],
        [(2,)],
        [(10, 4), (10,)],
    ]
    assert [op_macs(graph, op) for op in graph.ops] == [
        8 * 8 * 4 * 9 * 3,
        8 * 8 * 8 * 9,
        8 * 8 * 4 * 9 * 2,
        *[0] * 4,
        40,
    ]
    assert {tensor.dtype for tensor in graph.tensors if len(tensor.shape) == 1} == {"int32"}


@pytest.mark.parametrize(
    ("op", "data", "out", "constants"),
    [
        ("MEAN", [1, 4, 4, 8], [1, 1, 1, 8], [(2,)]),
        ("REDUCE_MAX", [4, 8], [8], [(1,)]),
        ("PAD", [1, 4, 4, 8], [1, 5, 5, 8], [(4, 2)]),
        ("RESHAPE", [1, 4, 4, 8], [1, 128], [(2,)]),
        ("EXPAND_DIMS", [4, 8], [4, 1, 8], [()]),
        ("TRANSPOSE", [1, 4, 8], [1, 8, 4], [(3,)]),
        ("TILE", [1, 4], [3, 4], [(2,)]),
        ("RESIZE_BILINEAR", [1, 4, 4, 8], [1, 8, 8, 8], [(2,)]),
        ("STRIDED_SLICE", [4, 8], [2, 8], [(2,)] * 3),
        ("SOFTMAX", [1, 8], [1, 8], []),
        ("SQUEEZE", [1, 1, 8], [1, 8], []),
        ("FULLY_CONNECTED", [1, 2, 2, 8], [1, 5], [(5, 32), (5,)]),
    ],
)
def test_a_layer_that_names_its_data_alone_gets_its_other_inputs(
    op: str, data: list[int], out: list[int], constants: list[tuple[int, ...]]
) -> None:
    graph = _read(_list(_layer(op, [data], [out]))).graph
    assert _shapes(graph, graph.ops[0].inputs) == [tuple(data), *constants]


def test_a_fully_connected_layer_of_a_chain_flattens_what_it_reads() -> None:
    layers = (
        _layer("RELU", [[1, 2, 2, 3]], [[1, 2, 2, 3]]),
        _layer("FULLY_CONNECTED", [[1, 12]], [[1, 5]]),
    )
    graph = _read(_list(*layers)).graph
    assert _shapes(graph, graph.ops[1].inputs) == [(1, 2, 2, 3), (5, 12), (5,)]


def test_layers_of_a_chain_may_join_inputs_and_earlier_layers() -> None:
    listed = _list(
        _layer("RELU", [[1, 8]], [[1, 8]]),
        _layer("CONCATENATION", [[1, 8], [1, 6], [1, 8]], [[1, 22]]),
        _layer("MUL", [[1, 22], {"shape": [22], "const": True}], [[1, 22]]),
        inputs=[{"shape": [1, 6]}, {"shape": [1, 8]}],
    )
    graph = _read(listed).graph
    assert _written_by(graph, graph.ops[1]) == [0, None, None]
    assert len(graph.inputs) == 2
    assert graph.ops[2].inputs[1] == [tensor.constant for tensor in graph.tensors].index(True)


def test_windows_have_stride_padding_and_dilation() -> None:
    window = {"kernel": [3, 1], "stride": [2, 1], "pad": "VALID", "dilation": [2, 1]}
    layer = _layer("CONV_2D", [[1, 8, 4, 3]], [[1, 2, 4, 6]], **window, act="RELU")
    (op,) = _read(_list(layer)).graph.ops
    assert (op.kernel, op.stride, op.dilation) == ((3, 1), (2, 1), (2, 1))
    assert (op.padding, op.activation) == ("VALID", "RELU")


def test_activations_are_those_that_a_graph_has() -> None:
    for name, activation in ACTIVATIONS.items():
        layer = _layer("ADD", [[8]] * 2, [[8]], act=name)
        (op,) = _read(_list(layer, inputs=[{"shape": [8]}] * 2)).graph.ops
        assert op.activation == activation


def test_a_byte_order_mark_is_skipped() -> None:
    content = b"\xef\xbb\xbf" + json.dumps(RESIDUAL).encode()
    assert read_layer_list(content) == _read(RESIDUAL)


RELU = _layer("RELU", [[1, 8]], [[1, 8]])
CONV = _layer("CONV_2D", [[1, 8, 8, 3]], [[1, 8, 8, 4]], **WINDOW)
# What is wrong with each list, as the message says it.
MALFORMED: dict[str, Any] = {
    "not a layer list: Input should be an object": [1, 2],
    "inputs: Field required": {"layers": [RELU]},
    "layers: List should have at least 1 item": {"inputs": [{"shape": [8]}], "layers": []},
    "at most 5000 items": _list(*[RELU] * (LARGEST_LIST + 1)),
    "layer 1.op: Field required": _list(RELU, {"ins": RELU["ins"], "outs": RELU["outs"]}),
    "layer 0.ins.0.shape: Field required": _list(RELU | {"ins": [{}]}, inputs=RELU["ins"]),
    "layer 0.ins.0.shape.1: Input should be a valid integer": _list(
        _layer("A", [[1, "8"]], [[8]]), inputs=RELU["ins"]
    ),
    "layer 0.ins.0.shape.0: Input should be greater than or equal to 0": _list(
        _layer("A", [[-1]], [[8]]), inputs=RELU["ins"]
    ),
    "at most 16 items": _list(_layer("A", [[1] * 17], [[8]])),
    "less than or equal to 2147483647": _list(_layer("A", [[2**31]], [[8]])),
    "layer 0.outs: List should have at least 1 item": _list(_layer("A", [[8]], [])),
    "layer 0.outs.0.type: Input should be 'INT8', 'UINT8'": _list(
        _layer("A", [[8]], [{"shape": [8], "type": "INT4"}])
    ),
    "layer 0.kernel.1: Input should be greater than or equal to 1": _list(
        CONV | {"kernel": [3, 0]}
    ),
    "layer 0.pad: Input should be 'SAME' or 'VALID'": _list(CONV | {"pad": "FULL"}),
    "layer 0.act: Input should be 'NONE', 'RELU', 'RELU_N1_TO_1' or 'RELU6'": _list(
        CONV | {"act": "GELU"}
    ),
    "1 tensors of this layer list have no number 't'": _list(
        _layer("RELU", [_t(0, 8)], [_t(1, 8)]), _layer("RELU", [_t(1, 8)], [[8]])
    ),
    "tensor 1 of this layer list has more than one shape or type, one of them INT8 [9]": _list(
        _layer("RELU", [_t(0, 8)], [_t(1, 8)]), _layer("RELU", [_t(1, 9)], [_t(2, 9)])
    ),
    "tensor 5 of this layer list is read, but": _list(
        _layer("ADD", [_t(0, 8), _t(5, 8)], [_t(1, 8)])
    ),
    "output of this layer list, INT8 [7], belongs to no layer": _list(
        RELU, outputs=[{"shape": [7]}]
    ),
    "input or output of this layer list, INT8 [1, 8], belongs": _list(
        RELU, outputs=RELU["outs"] * 2
    ),
    "belongs to no layer": _list(_layer("RELU", [_t(0, 8)], [_t(1, 8)]), outputs=[_t(9, 8)]),
    "layer 0 (CONV_2D) of this layer list needs kernel, stride and pad": _list(
        _layer("CONV_2D", [[1, 8, 8, 3]], [[1, 8, 8, 4]])
    ),
    "layer 0 (MAX_POOL_2D) of this layer list needs kernel": _list(
        _layer("MAX_POOL_2D", [[1, 8, 8, 4]], [[1, 8, 8, 4]], kernel=[3, 3], pad="SAME")
    ),
    "layer 0 (CONV_2D) of this layer list has no weights: its channels and": _list(
        CONV | {"groups": 2}
    ),
    "layer 0 (FULLY_CONNECTED) of this layer list has no weights": _list(
        _layer("FULLY_CONNECTED", [[]], [[8]])
    ),
    "layer 1 (RELU) of this layer list needs 1 x INT8 [9], but the inputs and layers before it": (
        _list(RELU, _layer("RELU", [[9]], [[9]]))
    ),
    "layer 0 (ADD) of this layer list needs 2 x INT8 [1, 8], but": _list(
        _layer("ADD", [[1, 8], [1, 8]], [[1, 8]])
    ),
    "layer 1 (RELU) of this layer list reads INT8 [1, 8], but the layer before it gives": (
        _list(_layer("RESHAPE", [[1, 8]], [[8]]), RELU)
    ),
    "operator CONV_2D 0 must give shape [1, 8, 8, 5], but": _list(CONV | {"cout": 5}),
    "operator CONV_2D 0 reads 3 channels with a filter of shape [4, 3, 3, 2]": _list(
        CONV | {"cin": 2}
    ),
    "operator RELU 0 must give shape [1, 8]": _list(_layer("RELU", [[1, 8]], [[1, 9]])),
    "operator SPLIT 0 needs 2 inputs, got 1": _list(_layer("SPLIT", [[1, 8]], [[1, 4]])),
    "operator TANH 1 writes tensor 1, which has content already": _list(
        _layer("RELU", [_t(0, 8)], [_t(1, 8)]), _layer("TANH", [_t(0, 8)], [_t(1, 8)])
    ),
}


@pytest.mark.parametrize("reason", MALFORMED)
def test_each_fault_of_a_list_is_named_in_a_sentence(reason: str) -> None:
    with pytest.raises(ModelFileError) as raised:
        _read(MALFORMED[reason])
    assert reason in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Invalid JSON: EOF while parsing"),
        (b'{"layers": [', "Invalid JSON: EOF while parsing"),
        (b"{" * 100_000, "Invalid JSON: "),
        (b'{"a":' + b"[" * 100_000, "recursion limit exceeded"),
        (b'{"inputs":[{"shape":[' + b"9" * 100_000 + b"]}]}", "number out of range"),
        (b'{"inputs":[{"shape":[NaN]}],"layers":[]}', "shape.0: Input should be a valid integer"),
        (b'{"name":"\xff"}', "invalid unicode"),
        (b" " * (LARGEST_BYTES + 1), "1,048,577 bytes; at most 1,048,576 can be read"),
    ],
)
def test_what_is_no_json_is_refused_in_a_sentence(content: bytes, reason: str) -> None:
    with pytest.raises(ModelFileError, match=reason) as raised:
        read_layer_list(content)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 300


def test_names_of_operators_are_printable_on_one_line() -> None:
    listed = _list(_layer("\n\x1b[31m" + "x" * 1000, [[8]], [[8]]), name="a\nb")
    graph = _read(listed).graph
    assert graph.ops[0].kind.isprintable() and graph.name.isprintable()
    assert len(graph.ops[0].kind) <= 200


def test_lists_of_too_many_tensors_are_refused() -> None:
    layers = [_layer("SPLIT", [[2]], [[2]] * 101) for _ in range(LARGEST_LIST // 100)]
    with pytest.raises(ModelFileError, match="5,051 tensors; at most 5,000 can be read"):
        _read(_list(*layers))


def test_made_constants_share_no_number_with_an_input_that_no_layer_reads() -> None:
    layer = _layer("FULLY_CONNECTED", [_t(0, 1, 4)], [_t(1, 1, 10)])
    graph = _read(_list(layer, inputs=[_t(0, 1, 4), _t(3, 10, type="INT32")])).graph
    assert graph.ops[0].inputs == (0, 3, 4)
    assert [tensor.constant for tensor in graph.tensors] == [False, False, False, True, True]


def test_a_wide_layer_after_a_wide_layer_is_judged_at_once() -> None:
    wide = [[2]] * (LARGEST_LIST // 2 - 1)
    layers = (_layer("SPLIT", [[2], [5]], wide), _layer("PACK", wide, [[len(wide), 2]]))
    start = time.perf_counter()
    with pytest.raises(ModelFileError, match="SPLIT 0 must cut its input along one axis"):
        _read(_list(*layers, inputs=layers[0]["ins"]))
    assert time.perf_counter() - start < 5
