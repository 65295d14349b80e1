import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.cost.op_rules import FORMS, LARGEST_TENSOR_BYTES, check_graph
from tinynas.errors import ModelFileError
from tinynas.graph import MACS, Graph, Op, Padding, Tensor, total_macs

Shape = tuple[int, ...]
IMAGE: Shape = (1, 6, 6, 4)
SCALAR: Shape = ()


def _graph(kind: str, ins: list[Shape], outs: list[Shape], **of_op: object) -> Graph:
    """One operator; its inputs are the graph's."""
    first = len(ins)
    inputs, outputs = tuple(range(first)), tuple(range(first, first + len(outs)))
    op = Op(name=f"{kind} 0", kind=kind, inputs=inputs, outputs=outputs, **of_op)  # type: ignore
    tensors = tuple(Tensor(name="", shape=shape) for shape in (*ins, *outs))
    return Graph(name="", tensors=tensors, ops=(op,), inputs=inputs, outputs=outputs)


def _complaint(graph: Graph) -> str:
    """What is wrong with a graph, "" if nothing is."""
    try:
        check_graph(graph)
    except ModelFileError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


def test_there_is_a_rule_for_every_kind_whose_costs_are_known() -> None:
    assert FORMS.keys() == MACS.keys()


def test_nothing_is_asked_of_unknown_kinds() -> None:
    check_graph(_graph("CUSTOM:mystery", [(3, 3), (7,)], [(0,), SCALAR]))


# Kind, inputs, outputs that are right, outputs that are not.
ONE_OUTPUT: list[tuple[str, list[Shape], list[Shape], list[Shape]]] = [
    ("FULLY_CONNECTED", [(1, 8), (5, 8), (5,)], [(1, 5)], [(1, 8), (2, 5), (5, 1), SCALAR]),
    ("FULLY_CONNECTED", [IMAGE, (5, 144)], [(1, 5), (5,), (1, 1, 5)], [(1, 6), (144, 5)]),
    ("FULLY_CONNECTED", [(1, 3, 8), (5, 8)], [(1, 3, 5), (3, 5)], [(1, 5), (1, 3, 8)]),
    ("ADD", [IMAGE, IMAGE], [IMAGE], [(1, 6, 6, 1), (1, 6, 6), (6, 6, 4)]),
    ("SUB", [(4,), IMAGE], [IMAGE], [(4,), (1, 6, 6, 5)]),
    ("MUL", [IMAGE, (1, 1, 1, 4)], [IMAGE], [(1, 1, 1, 4)]),
    ("MINIMUM", [(1, 6, 1, 4), (1, 1, 6, 4)], [IMAGE], [(1, 6, 1, 4)]),
    ("MAXIMUM", [IMAGE, SCALAR], [IMAGE], [SCALAR]),
    *[
        (kind, [IMAGE], [IMAGE], [(1, 6, 6, 5), (6, 6, 4), SCALAR])
        for kind in ("DEQUANTIZE", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "QUANTIZE", "RELU")
    ],
    *[(kind, [(2, 3)], [(2, 3)], [(3, 2), (6,)]) for kind in ("RELU6", "SOFTMAX", "TANH")],
    *[
        (kind, [IMAGE, (2,)], [(1, 4), (1, 1, 1, 4), (6, 6), SCALAR], [(4, 1), (1, 3, 6, 4)])
        for kind in ("MEAN", "SUM", "REDUCE_MAX")
    ],
    ("RESHAPE", [IMAGE, (2,)], [(1, 144), (12, 12)], [(1, 143)]),
    ("RESHAPE", [(1, 1)], [SCALAR], [(2,)]),
    ("SQUEEZE", [(1, 1, 8)], [(1, 8), (8,)], [(9,)]),
    ("EXPAND_DIMS", [(2, 3), (1,)], [(2, 1, 3)], [(2, 2, 3)]),
    ("PAD", [IMAGE, (4, 2)], [(1, 8, 7, 4), IMAGE], [(1, 5, 8, 4), (6, 6, 4)]),
    ("PADV2", [IMAGE, (4, 2), (1,)], [(1, 8, 7, 4)], [(1, 5, 8, 4)]),
    ("TILE", [(2, 3), (2,)], [(2, 3), (6, 6)], [(2, 4), (6,)]),
    ("TRANSPOSE", [(2, 3, 4), (3,)], [(4, 2, 3)], [(4, 3, 3), (24,), (2, 12)]),
    ("RESIZE_BILINEAR", [IMAGE, (2,)], [(1, 9, 2, 4)], [(1, 9, 2, 5), (2, 6, 6, 4)]),
    ("RESIZE_NEAREST_NEIGHBOR", [IMAGE, (2,)], [(1, 9, 2, 4)], [(1, 9, 2, 5)]),
    ("STRIDED_SLICE", [(4, 6), (2,), (2,), (2,)], [(3,), (4, 6), SCALAR], [(25,)]),
    ("CONCATENATION", [(1, 2, 4), (1, 3, 4)], [(1, 5, 4)], [(2, 5, 4), (1, 6, 4), (5, 4)]),
    ("CONCATENATION", [(1, 2, 4), (1, 3, 5)], [], [(1, 5, 4), (1, 5, 9), (1, 2, 4)]),
    ("CONCATENATION", [(1, 2)], [(1, 2)], [(2, 2)]),
    ("CONCATENATION", [(1, 2)] * 3, [(3, 2), (1, 6)], [(1, 2), (3, 6), SCALAR]),
    ("PACK", [(2, 3), (2, 3)], [(2, 2, 3), (2, 3, 2)], [(2, 3), (3, 2, 3), (4, 3)]),
    ("PACK", [SCALAR, SCALAR], [(2,)], [(3,), SCALAR]),
    ("PACK", [(2, 3), (3, 2)], [], [(2, 2, 3), (2, 3, 2)]),
    ("SHAPE", [IMAGE], [(4,)], [(3,), SCALAR]),
    ("SHAPE", [SCALAR], [], [(1,), SCALAR]),
]


@pytest.mark.parametrize(("kind", "ins", "right", "wrong"), ONE_OUTPUT)
def test_shapes_of_outputs_agree_with_those_of_inputs(
    kind: str, ins: list[Shape], right: list[Shape], wrong: list[Shape]
) -> None:
    for out in right:
        assert _complaint(_graph(kind, ins, [out])) == ""
    for out in wrong:
        assert f"operator {kind} 0 " in _complaint(_graph(kind, ins, [out]))


# Small sizes, so that some agree.
shapes = st.lists(st.lists(st.integers(0, 4), max_size=5).map(tuple), max_size=5)


@given(
    kind=st.sampled_from(sorted(FORMS)),
    ins=shapes,
    outs=shapes,
    kernel=st.tuples(st.integers(-1, 3), st.integers(-1, 3)),
)
def test_any_shapes_agree_or_are_refused_in_a_sentence(
    kind: str, ins: list[Shape], outs: list[Shape], kernel: tuple[int, int]
) -> None:
    graph = _graph(kind, ins, outs, kernel=kernel)
    if not _complaint(graph):
        assert total_macs(graph) >= 0


def test_operators_of_several_outputs_cut_one_input() -> None:
    split, thirds = [(1,), (2, 6)], [(2, 2)] * 3
    assert _complaint(_graph("SPLIT", split, thirds)) == ""
    assert _complaint(_graph("SPLIT", split, [(1, 6), (1, 6)])) == ""
    assert "must cut its input along one axis" in _complaint(_graph("SPLIT", split, thirds[1:]))
    assert _complaint(_graph("UNPACK", [(2, 3)], [(2,)] * 3)) == ""
    assert _complaint(_graph("UNPACK", [(2, 3)], [(3,)] * 2)) == ""
    wrong = _complaint(_graph("UNPACK", [(2, 3)], [(3,)] * 5))
    assert "must cut its input into slices, but makes [3], [3], [3], [3], ... of [2, 3]" in wrong


CONV = {"kernel": (3, 3)}
# What is wrong with each, as the message says it.
CONTRADICTIONS = {
    r"CONV_2D 0 reads 4 channels with a filter of shape [8, 3, 3, 3]": _graph(
        "CONV_2D", [IMAGE, (8, 3, 3, 3)], [(1, 4, 4, 8)], **CONV
    ),
    # Two groups cannot share 7 filters.
    "CONV_2D 0 reads 4 channels with a filter of shape [7, 3, 3, 2]": _graph(
        "CONV_2D", [IMAGE, (7, 3, 3, 2)], [(1, 4, 4, 7)], **CONV
    ),
    "CONV_2D 0 must give shape [1, 4, 4, 8], but its output has [1, 4, 4, 7]": _graph(
        "CONV_2D", [IMAGE, (8, 3, 3, 4)], [(1, 4, 4, 7)], **CONV
    ),
    "CONV_2D 0 must give shape [1, -1, -1, 8]": _graph(
        "CONV_2D", [IMAGE, (8, 8, 8, 4)], [(1, 1, 1, 8)], kernel=(8, 8)
    ),
    "CONV_2D 0 must have 8 biases, but has [4]": _graph(
        "CONV_2D", [IMAGE, (8, 3, 3, 4), (4,)], [(1, 4, 4, 8)], **CONV
    ),
    "CONV_2D 0 has kernel [5, 5], but a filter of shape [8, 3, 3, 4]": _graph(
        "CONV_2D", [IMAGE, (8, 3, 3, 4)], [(1, 4, 4, 8)], kernel=(5, 5)
    ),
    "DEPTHWISE_CONV_2D 0 reads 4 channels with a filter of shape [1, 3, 3, 6]": _graph(
        "DEPTHWISE_CONV_2D", [IMAGE, (1, 3, 3, 6)], [(1, 4, 4, 6)], **CONV
    ),
    "DEPTHWISE_CONV_2D 0 reads 4 channels with a filter of shape [4, 3, 3, 4]": _graph(
        "DEPTHWISE_CONV_2D", [IMAGE, (4, 3, 3, 4)], [(1, 4, 4, 4)], **CONV
    ),
    "DEPTHWISE_CONV_2D 0 must give shape [1, 4, 4, 8]": _graph(
        "DEPTHWISE_CONV_2D", [IMAGE, (1, 3, 3, 8)], [(1, 4, 4, 4)], **CONV
    ),
    "AVERAGE_POOL_2D 0 must give shape [1, 5, 5, 4]": _graph(
        "AVERAGE_POOL_2D", [IMAGE], [(1, 5, 5, 8)], kernel=(2, 2)
    ),
    "FULLY_CONNECTED 0 reads 8 numbers with a filter of shape [5, 3]": _graph(
        "FULLY_CONNECTED", [(1, 8), (5, 3)], [(1, 5)]
    ),
    "FULLY_CONNECTED 0 reads 8 numbers with a filter of shape [5, 8, 1]": _graph(
        "FULLY_CONNECTED", [(1, 8), (5, 8, 1)], [(1, 5)]
    ),
    "FULLY_CONNECTED 0 must have 5 biases, but has [1, 5]": _graph(
        "FULLY_CONNECTED", [(1, 8), (5, 8), (1, 5)], [(1, 5)]
    ),
    "ADD 0 cannot combine the shapes [1, 8], [1, 4]": _graph("ADD", [(1, 8), (1, 4)], [(1, 8)]),
    "RELU 0 works on tensor 0, which has no element": _graph("RELU", [(0, 8)], [(0, 8)]),
    "MEAN 0 needs 2 inputs, got 1": _graph("MEAN", [IMAGE], [(1, 4)]),
    "RELU 0 needs one output, got 2": _graph("RELU", [(8,)], [(8,), (8,)]),
    "MAX_POOL_2D 0 needs tensors of 4 dimensions": _graph("MAX_POOL_2D", [(6, 6, 4)], [IMAGE]),
    "tensor 1 of shape [65536, 65536] is larger than 4 GiB": _graph(
        "CUSTOM:x", [(1,)], [(2**16, 2**16)]
    ),
}


@pytest.mark.parametrize("reason", CONTRADICTIONS)
def test_each_contradiction_is_named_in_a_sentence(reason: str) -> None:
    assert reason in _complaint(CONTRADICTIONS[reason])


def test_a_tensor_may_fill_what_32_bits_address() -> None:
    assert _complaint(_graph("RELU", [(LARGEST_TENSOR_BYTES,)], [(LARGEST_TENSOR_BYTES,)])) == ""


def test_a_variable_may_be_read_before_it_is_written() -> None:
    tensors = tuple(Tensor(name="", shape=(8,), variable=t == 2) for t in range(4))
    ops = (
        Op(name="ADD 0", kind="ADD", inputs=(0, 2), outputs=(1,)),
        Op(name="RELU 1", kind="RELU", inputs=(1,), outputs=(2,)),
        Op(name="RELU 2", kind="RELU", inputs=(2,), outputs=(3,)),
    )
    check_graph(Graph(name="", tensors=tensors, ops=ops, inputs=(0,), outputs=(3,)))


def _positions(size: int, kernel: int, stride: int, dilation: int, padding: Padding) -> int:
    """Places of a kernel along an axis, counted one by one."""
    if padding == "SAME":
        return len(range(0, size, stride))
    reach = (kernel - 1) * dilation
    return len([start for start in range(0, size, stride) if start + reach < size])


@given(
    size=st.integers(1, 20),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    padding=st.sampled_from(["SAME", "VALID"]),
    kind=st.sampled_from(["CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D"]),
    said=st.integers(1, 20),
)
def test_a_window_gives_one_pixel_for_each_of_its_places(
    size: int,
    kernel: int,
    stride: int,
    dilation: int,
    padding: Padding,
    kind: str,
    said: int,
) -> None:
    filters = {"CONV_2D": [(4, kernel, 1, 4)], "DEPTHWISE_CONV_2D": [(1, kernel, 1, 4)]}
    graph = _graph(
        kind,
        [(1, size, 7, 4), *filters.get(kind, [])],
        [(1, said, 7, 4)],
        kernel=(kernel, 1),
        stride=(stride, 1),
        dilation=(dilation, 1),
        padding=padding,
    )
    right = _positions(size, kernel, stride, dilation, padding)
    assert (_complaint(graph) == "") == (said == right)
