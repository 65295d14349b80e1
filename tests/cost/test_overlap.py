"""Distances by hand; that they are safe is proved in tests/deploy/test_overlap_proof.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tinynas.cost.kernels import Kernels
from tinynas.cost.layer_list import read_layer_list
from tinynas.cost.overlap import RULES, SafeKernels, distance, overlaps, safe_kernels
from tinynas.graph import Graph, Op, Tensor, output_size
from tinynas.space.arch import decode, random_genes
from tinynas.space.lower import GraphBuilder, lower
from tinynas.space.spec import find_space

RESNET = Path(__file__).parents[1] / "fixtures" / "layer_lists" / "mlperf_ic_resnet8.json"
Shape = tuple[int, ...]


def convolution(
    kind: str,
    image: Shape,
    kernel: int,
    stride: int = 1,
    cout: int | None = None,
    **traits: object,
) -> Graph:
    """A convolution with SAME padding: tensor 0 is read, tensor 1 holds weights, 2 is written."""
    one, rows, columns, cin = image
    cout = cout or cin
    weights = (1 if kind == "DEPTHWISE_CONV_2D" else cout, kernel, kernel, cin)
    out = (one, *(output_size(n, kernel, stride, "SAME") for n in (rows, columns)), cout)
    op = Op(
        name="op",
        kind=kind,
        inputs=(0, 1),
        outputs=(2,),
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding="SAME",
    )
    tensors = (
        Tensor(name="image", shape=image),
        Tensor(name="weights", shape=weights, constant=True),
        Tensor(name="out", shape=out),
    )
    return with_op(
        Graph(name="one", tensors=tensors, ops=(op,), inputs=(0,), outputs=(2,)), **traits
    )


def with_op(graph: Graph, **traits: object) -> Graph:
    return replace(graph, ops=(replace(graph.ops[0], **traits),))  # type: ignore[arg-type]


def with_tensor(graph: Graph, number: int, **traits: object) -> Graph:
    tensors = list(graph.tensors)
    tensors[number] = replace(tensors[number], **traits)  # type: ignore[arg-type]
    return replace(graph, tensors=tuple(tensors))


def depthwise(rows: int, columns: int, channels: int, kernel: int, stride: int = 1) -> Graph:
    return convolution("DEPTHWISE_CONV_2D", (1, rows, columns, channels), kernel, stride)


def moved(kind: str, *shapes: Shape, **traits: object) -> Graph:
    """An operator that reads all tensors but the last, which it writes."""
    tensors = tuple(Tensor(name=str(n), shape=shape) for n, shape in enumerate(shapes))
    last = len(tensors) - 1
    op = Op(name="op", kind=kind, inputs=tuple(range(last)), outputs=(last,))
    graph = Graph(name="one", tensors=tensors, ops=(op,), inputs=op.inputs, outputs=(last,))
    return with_op(graph, **traits)


def first(graph: Graph, safe: SafeKernels = "reference") -> int | None:
    return distance(graph, graph.ops[0], 0, safe)


def test_every_kernel_library_has_kernels_to_be_safe_for() -> None:
    assert {safe_kernels(kernels) for kernels in get_args(Kernels)} < set(get_args(SafeKernels))
    assert RULES.keys() == set(get_args(SafeKernels))
    assert safe_kernels("host") == safe_kernels("reference-int-enums") == "reference"
    assert safe_kernels("cmsis-nn-dsp") == safe_kernels("cmsis-nn-c") == "cmsis-nn"
    assert safe_kernels("cmsis-nn-mve") == "cmsis-nn-mve"


def test_a_3x3_depthwise_convolution_keeps_a_row_and_a_pixel() -> None:
    # Pixel (1, 1) of 6 columns is number 7 and reads from pixel 0: 7 * 5 bytes.
    for safe in ("reference", "cmsis-nn"):
        assert first(depthwise(9, 6, 5, 3), safe) == 7 * 5


@pytest.mark.parametrize(("kernel", "stride", "needed"), [(5, 1, 14), (7, 1, 21), (3, 2, 0)])
def test_wider_kernels_keep_more_and_strides_nothing(
    kernel: int, stride: int, needed: int
) -> None:
    # Half of the kernel in rows of 6 pixels, and in pixels, of 1 channel.
    assert first(depthwise(9, 6, 1, kernel, stride)) == needed


def test_without_padding_a_depthwise_convolution_may_work_in_place() -> None:
    graph = with_tensor(depthwise(9, 6, 5, 3), 2, shape=(1, 7, 4, 5))
    assert first(with_op(graph, padding="VALID")) == 0


def test_the_stem_of_resnet_8_by_hand() -> None:
    # The last pixel (31, 31) is number 1023 of 16 channels; its 3x3 window begins at (30, 30), 990
    # pixels of 3 channels from the start. 15 of its channels are written before it is read last.
    graph = read_layer_list(RESNET.read_bytes()).graph
    needed = distance(graph, graph.ops[0], graph.inputs[0], "cmsis-nn")
    assert needed == 1023 * 16 - 990 * 3 + 15 == 13_413
    assert overlaps(graph, "cmsis-nn")[graph.ops[0].outputs[0], graph.inputs[0]] == 13_424


def test_a_1x1_convolution_keeps_its_output_pixel_with_reference_kernels_alone() -> None:
    graph = convolution("CONV_2D", (1, 4, 4, 8), 1, cout=6)
    assert [first(graph, safe) for safe in get_args(SafeKernels)] == [5, None, None, None]


def test_a_convolution_within_a_row_is_not_known_to_be_safe_with_cmsis_nn() -> None:
    graph = with_tensor(convolution("CONV_2D", (1, 1, 8, 4), 3), 1, shape=(4, 1, 3, 4))
    assert (first(graph), first(graph, "cmsis-nn")) == (4 + 3, None)


@pytest.mark.parametrize(
    "graph",
    [
        with_op(depthwise(6, 6, 4, 3), dilation=(2, 2)),
        with_op(convolution("CONV_2D", (1, 6, 6, 4), 3), dilation=(1, 2)),
        convolution("DEPTHWISE_CONV_2D", (1, 6, 6, 4), 3, cout=8),
        convolution("DEPTHWISE_CONV_2D", (2, 6, 6, 4), 3),
        convolution("CONV_2D", (2, 6, 6, 4), 3),
        with_tensor(convolution("CONV_2D", (1, 6, 6, 4), 3), 1, shape=(4, 3, 3, 2)),
        with_tensor(convolution("CONV_2D", (1, 6, 6, 4), 3), 1, dtype="int16"),
        with_tensor(convolution("CONV_2D", (1, 6, 6, 4), 3), 1, constant=False),
        with_tensor(convolution("CONV_2D", (1, 6, 6, 4), 3), 0, dtype="int16"),
        with_tensor(depthwise(6, 6, 4, 3), 2, dtype="float32"),
        moved("ADD", (1, 4, 4, 2), (1, 1, 1, 2), (1, 4, 4, 2)),
        moved("RESHAPE", (1, 8), (8,)),
        moved("FULLY_CONNECTED", (1, 8), (1, 8)),
        moved("AVERAGE_POOL_2D", (1, 4, 4, 2), (1, 2, 2, 2)),
        moved("CONCATENATION", (1, 4), (1, 4), (1, 8)),
        moved("STRIDED_SLICE", (1, 8), (1, 4)),
        moved("PAD", (1, 8), (1, 10)),
    ],
)
def test_what_is_not_known_to_be_safe_must_not_overlap(graph: Graph) -> None:
    assert all(first(graph, safe) is None for safe in get_args(SafeKernels))


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL", "MINIMUM", "MAXIMUM"])
def test_sums_and_the_like_may_lie_on_either_operand_or_one_read_twice(kind: str) -> None:
    graph = moved(kind, (1, 9), (1, 9), (1, 9))
    assert overlaps(graph, "cmsis-nn-mve") == {(2, 0): 0, (2, 1): 0}
    assert overlaps(with_op(graph, inputs=(1, 1)), "cmsis-nn-mve") == {(2, 1): 0}


@pytest.mark.parametrize(
    "kind",
    ["RELU", "RELU6", "LEAKY_RELU", "HARD_SWISH", "LOGISTIC", "TANH", "QUANTIZE"],
)
def test_activations_may_lie_on_their_input(kind: str) -> None:
    graph = moved(kind, (1, 9), (1, 9))
    assert [first(graph, safe) for safe in get_args(SafeKernels)] == [0, 0, 0, None]
    assert first(with_tensor(graph, 0, dtype="int16")) is None


def test_a_slice_keeps_its_first_run_unless_more_is_skipped() -> None:
    # Runs of 3 channels; the first source begins at byte 0, 2 * 4, or 1 * 20.
    data, out = (1, 6, 5, 4), (1, 2, 2, 3)
    for begin, needed in (((0, 0, 0, 0), 3), ((0, 0, 0, 1), 2), ((0, 0, 2, 0), 0)):
        assert first(moved("STRIDED_SLICE", data, out, begin=begin), "cmsis-nn") == needed


def test_a_pad_keeps_what_it_adds_up_to_the_last_byte_it_reads() -> None:
    # The last of 2 x 3 pixels goes to row 2, column 3 of rows of 5: byte 13 from byte 5.
    graph = moved("PAD", (1, 2, 3, 1), (1, 4, 5, 1), pads=((0, 0), (1, 1), (1, 1), (0, 0)))
    assert first(graph) == 13 - 5
    # The last row of 3 bytes goes whole from byte 3 to byte 11 and ends before its source.
    assert first(graph, "cmsis-nn") == first(graph, "cmsis-nn-mve") == 11 + 3 - 3


def _branches() -> Graph:
    """x is read twice, and only the last time it may be overwritten."""
    builder = GraphBuilder()
    x = builder.tensor("x", (1, 4, 4, 8))
    a = builder.depthwise("a", x, 3, 1)
    b = builder.depthwise("b", x, 3, 1)
    return builder.build("branches", (x,), (builder.add("sum", a, b),))


def test_only_an_input_that_nothing_needs_later_may_be_overwritten() -> None:
    graph = _branches()
    x, (a, b, total) = graph.inputs[0], (op.outputs[0] for op in graph.ops)
    assert overlaps(graph, "cmsis-nn") == {(b, x): 48, (total, a): 0, (total, b): 0}
    assert (total, a) not in overlaps(replace(graph, outputs=(total, a)), "cmsis-nn")
    for kept in ({"constant": True}, {"variable": True}):
        assert (b, x) not in overlaps(with_tensor(graph, x, **kept), "cmsis-nn")


def test_what_is_safe_for_a_library_is_safe_for_the_host_that_verifies_it() -> None:
    rng = np.random.default_rng(0)
    space = find_space("mcunet")
    for genes in random_genes(space, 10, rng):
        arch = decode(space, genes, width=0.5, resolution=64)
        graph = lower(space, arch, classes=10)
        every = [overlaps(graph, safe) for safe in ("reference", "cmsis-nn", "cmsis-nn-mve")]
        assert every[0].items() > every[1].items() > every[2].items()
        assert all(d % 16 == 0 for d in every[0].values())
        assert overlaps(graph, "any") == {}
