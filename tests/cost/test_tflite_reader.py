import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))

import numpy as np
import pytest
from hand_models import (
    HandOp,
    HandTensor,
    add_options,
    fully_connected_options,
    hand_model,
    softmax_options,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from kind_models import KINDS, kind_model, options, whole
from random_models import random_constants, random_graph

from tinynas.cost.tflite_reader import (
    LARGEST_LIST,
    LARGEST_RANK,
    LONGEST_NAME,
    MOST_ITEMS,
    ModelFile,
    read_tflite,
)
from tinynas.deploy.plan import plan_memory
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.errors import ModelFileError
from tinynas.graph import MACS, Op, total_macs

PIXELS = HandTensor(shape=(1, 6, 6, 4))
ROW = HandTensor(shape=(1, 8))


def _weights(*shape: int, dtype: str = "int8", scales: int = 1) -> HandTensor:
    data = np.ones(shape, dtype)
    return HandTensor(shape=shape, dtype=dtype, data=data, scales=(0.05,) * scales)


def _adds(count: int, **changes: object) -> list[HandOp]:
    """Each operator doubles the tensor before it."""
    ops = [
        HandOp(kind="ADD", inputs=(t, t), outputs=(t + 1,), options=add_options())
        for t in range(count)
    ]
    return [replace(ops[0], **changes), *ops[1:]]  # type: ignore[arg-type]


def _rows(count: int = 2, plan: list[int] | None = None, **changes: object) -> bytes:
    """Doubled rows of eight numbers, with changes to the first operator."""
    ops = _adds(count, **changes)
    return hand_model([ROW] * (count + 1), ops, inputs=[0], outputs=[count], plan=plan)


def _single(
    kind: str,
    tensors: list[HandTensor],
    table: str | None = None,
    outputs: int = 1,
    **fields: float,
) -> bytes:
    """A model of one operator: its inputs, then its outputs."""
    last = len(tensors) - outputs
    op = HandOp(
        kind=kind,
        inputs=tuple(range(last)),
        outputs=tuple(range(last, len(tensors))),
        options=options(table, **fields) if table else None,
    )
    inputs = [t for t in op.inputs if tensors[t].data is None]
    return hand_model(tensors, [op], inputs=inputs, outputs=op.outputs)


WINDOW = {"StrideH": 1, "StrideW": 1, "Padding": 1}


def _conv(out: HandTensor, *constants: HandTensor, **fields: float) -> bytes:
    """A convolution of PIXELS, VALID with stride 1 unless changed."""
    return _single("CONV_2D", [PIXELS, *constants, out], "Conv2DOptions", **{**WINDOW, **fields})


def _depthwise(out: HandTensor, *constants: HandTensor, **fields: float) -> bytes:
    """As _conv."""
    tensors = [PIXELS, *constants, out]
    table = "DepthwiseConv2DOptions"
    return _single("DEPTHWISE_CONV_2D", tensors, table, **{**WINDOW, **fields})


def _image(*shape: int) -> HandTensor:
    return HandTensor(shape=shape)


def _op(content: bytes) -> Op:
    (op,) = read_tflite(content).graph.ops
    return op


def _dense(scales: int) -> bytes:
    op = HandOp(
        kind="FULLY_CONNECTED",
        inputs=(0, 1, -1),
        outputs=(2,),
        options=fully_connected_options,
    )
    tensors = [ROW, _weights(16, 8, scales=scales), HandTensor(shape=(1, 16))]
    return hand_model(tensors, [op], inputs=[0], outputs=[2])


def _one(kind: str, tensor: HandTensor = ROW, custom: str | None = None) -> bytes:
    """A single operator without options."""
    op = HandOp(kind=kind, custom=custom, inputs=(0,), outputs=(1,))
    return hand_model([tensor, tensor], [op], inputs=[0], outputs=[1])


def test_random_subnets_read_back_as_their_graphs_plans_and_descriptions() -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        graph = random_graph(rng, max_classes=50)
        plan = plan_memory(graph).offsets if number % 2 else {}
        content = write_tflite(random_constants(graph, rng), plan=plan, description="some text")
        read = read_tflite(content)
        names = tuple(f"{op.kind} {step}" for step, op in enumerate(graph.ops))
        assert tuple(op.name for op in read.graph.ops) == names
        ops = tuple(
            replace(op, name=old.name) for op, old in zip(read.graph.ops, graph.ops, strict=True)
        )
        named = replace(read.graph, name=graph.name, ops=ops)
        assert named == graph
        assert read.offsets == dict(plan)
        assert read.description == "some text"


def test_operators_without_options_in_a_graph_keep_their_kind_and_tensors() -> None:
    read = read_tflite(_one("TANH"))
    (op,) = read.graph.ops
    assert (op.name, op.kind, op.inputs, op.outputs) == ("TANH 0", "TANH", (0,), (1,))
    assert read.graph.tensors[0].shape == (1, 8)
    assert (read.graph.inputs, read.graph.outputs) == ((0,), (1,))
    assert (read.offsets, read.description) == ({}, "by hand")


def test_kinds_above_127_and_custom_ones_have_their_names() -> None:
    assert read_tflite(_one("GELU")).graph.ops[0].kind == "GELU"
    assert read_tflite(_one("CUSTOM", custom="my_op")).graph.ops[0].kind == "CUSTOM:my_op"


@pytest.mark.parametrize("kind", MACS)
def test_models_of_every_known_kind_are_read(kind: str) -> None:
    read, constants, written, _ = KINDS[kind]
    graph = read_tflite(kind_model(kind)).graph
    (op,) = graph.ops
    assert (op.kind, len(op.inputs)) == (kind, len(read) + len(constants))
    assert [graph.tensors[t].shape for t in op.outputs] == [tensor.shape for tensor in written]
    assert sum(tensor.constant for tensor in graph.tensors) == len(constants)


def test_a_convolution_has_kernel_stride_dilation_and_padding() -> None:
    op = _op(_conv(_image(1, 2, 3, 8), _weights(8, 3, 2, 4), StrideH=2, StrideW=2))
    assert (op.kernel, op.stride, op.dilation, op.padding) == ((3, 2), (2, 2), (1, 1), "VALID")
    assert (op.inputs, op.activation) == ((0, 1), None)
    op = _op(_conv(_image(1, 6, 2, 8), _weights(8, 1, 3, 4), DilationWFactor=2))
    assert (op.kernel, op.dilation) == ((1, 3), (1, 2))
    op = _op(_conv(_image(1, 2, 3, 8), _weights(8, 3, 3, 4), StrideH=3, StrideW=2, Padding=0))
    assert (op.stride, op.padding) == ((3, 2), "SAME")
    op = _op(_depthwise(_image(1, 2, 5, 8), _weights(1, 3, 2, 8), DilationHFactor=2))
    assert (op.kernel, op.stride, op.dilation) == ((3, 2), (1, 1), (2, 1))


def test_macs_of_groups_and_multipliers_by_hand() -> None:
    # Two groups: each of 5 x 5 x 8 outputs sees 2 x 2 taps of 2 of the 4 channels.
    grouped = read_tflite(_conv(_image(1, 5, 5, 8), _weights(8, 2, 2, 2)))
    assert total_macs(grouped.graph) == 5 * 5 * 8 * 2 * 2 * 2
    # Multiplier 3: each of 4 x 4 x 12 outputs sees 3 x 3 taps of one channel.
    multiplied = read_tflite(_depthwise(_image(1, 4, 4, 12), _weights(1, 3, 3, 12)))
    assert total_macs(multiplied.graph) == 4 * 4 * 12 * 3 * 3
    # An image that is flattened: 36 x 4 numbers to 5.
    dense = _single("FULLY_CONNECTED", [PIXELS, _weights(5, 144), _image(1, 5)])
    assert total_macs(read_tflite(dense).graph) == 144 * 5


def test_fused_activations_are_read_wherever_there_may_be_one() -> None:
    assert _op(_rows(1, options=add_options(3))).activation == "RELU6"
    fields = {"FusedActivationFunction": 2}
    for kind in ("MUL", "SUB"):
        table = f"{kind.capitalize()}Options"
        assert _op(_single(kind, [ROW] * 3, table, **fields)).activation == "RELU_N1_TO_1"
    content = _single("CONCATENATION", [ROW, ROW, _image(1, 16)], "ConcatenationOptions", **fields)
    assert _op(content).activation == "RELU_N1_TO_1"


def test_a_pool_has_its_window_in_its_options() -> None:
    window = {"FilterHeight": 2, "FilterWidth": 3, "StrideH": 2, "StrideW": 3, "Padding": 1}
    op = _op(_single("MAX_POOL_2D", [PIXELS, _image(1, 3, 2, 4)], "Pool2DOptions", **window))
    assert (op.kernel, op.stride, op.dilation, op.padding) == ((2, 3), (2, 3), (1, 1), "VALID")


def test_scales_per_channel_and_variables_are_shown() -> None:
    assert [_op(_dense(scales)).per_channel for scales in (1, 16)] == [False, True]
    constants = (_weights(8, 3, 3, 4, scales=8), whole(*[0] * 8))
    assert not _op(_conv(_image(1, 4, 4, 8), *constants)).per_channel  # they always have
    tensors = read_tflite(_one("TANH", replace(ROW, variable=True))).graph.tensors
    assert [tensor.variable for tensor in tensors] == [True, True]


def test_names_are_cut_and_printable_on_one_line() -> None:
    kind = _op(_one("CUSTOM", custom="a\n\x1b[31m" + "b" * 1000)).kind
    assert kind.startswith("CUSTOM:a\ufffd\ufffd[31mbbb") and kind.isprintable()
    assert len(kind) == len("CUSTOM:") + LONGEST_NAME


def test_a_plan_gives_offsets_of_activations_that_it_places() -> None:
    assert read_tflite(_rows(plan=[1, 0, 3, 64, -1, 0])).offsets == {0: 64, 2: 0}


def _of(tensors: list[HandTensor], **changes: object) -> bytes:
    return hand_model(tensors, _adds(1, **changes), inputs=[0], outputs=[1])


# What is wrong with each file, as the message says it.
MALFORMED = {
    "this is not a .tflite file": b"",
    "bytes 4 to 7 are not 'TFL3'": b"a text of some length, not a model",
    "lies outside": b"\xff\xff\xff\x7fTFL3",
    "2 subgraphs": hand_model([ROW, ROW], _adds(1), inputs=[0], outputs=[1], subgraphs=2),
    "0 subgraphs": hand_model([ROW, ROW], _adds(1), inputs=[0], outputs=[1], subgraphs=0),
    "no operators": hand_model([ROW], [], inputs=[0], outputs=[0]),
    "or no output": hand_model([ROW, ROW], _adds(1), inputs=[0], outputs=[]),
    "type int4, which is not known; known: int8": _of([replace(ROW, dtype="int4"), ROW]),
    "type string": _of([replace(ROW, dtype="string"), ROW]),
    r"impossible shape \[1, -8\]": _of([replace(ROW, shape=(1, -8)), ROW]),
    "impossible shape": _of([replace(ROW, shape=(1,) * (LARGEST_RANK + 1)), ROW]),
    "takes 9 bytes, but its data has 8": _of([ROW, ROW, replace(_weights(8), shape=(9,))]),
    "the graph refers to tensor 7, but there are 2": hand_model(
        [ROW, ROW], _adds(1), inputs=[7], outputs=[1]
    ),
    "the graph refers to tensor -1": hand_model([ROW, ROW], _adds(1), inputs=[0], outputs=[-1]),
    "ADD 0 refers to tensor 9": _rows(inputs=(0, 9)),
    "ADD 0 refers to tensor -2": _rows(inputs=(0, -2)),
    "ADD 0 needs 2 inputs, got 1": _rows(inputs=(0,)),
    "needs 2 inputs, got 1": _rows(inputs=(0, -1)),
    "ADD 0 needs one output, got 0": _rows(outputs=()),
    "ADD 0 reads tensor 2 before ADD 1 writes it": _rows(inputs=(0, 2)),
    "ADD 0 reads tensor 1 before ADD 0 writes it": _rows(inputs=(0, 1)),
    "ADD 1 writes tensor 2, which has content already": hand_model(
        [ROW] * 3,
        [replace(op, inputs=(0, 0), outputs=(2,)) for op in _adds(2)],
        inputs=[0],
        outputs=[2],
    ),
    "ADD 0 writes tensor 1, which has content": _of([ROW, _weights(1, 8)]),
    "input of its graph is a constant": _of([_weights(1, 8), ROW]),
    "activation 4, which is not known; known: 0": _rows(options=add_options(4)),
    "ADD 0 has the options of another kind": _rows(options=softmax_options),
    "CONV_2D 0 has no options": _single("CONV_2D", [PIXELS, _weights(8, 3, 3, 4), PIXELS]),
    "AVERAGE_POOL_2D 0 has no options": _single("AVERAGE_POOL_2D", [PIXELS, PIXELS]),
    "padding 2, which is not known; known: 0, 1": _conv(PIXELS, _weights(4, 1, 1, 4), Padding=2),
    "CONV_2D 0 has an impossible stride": _conv(PIXELS, _weights(4, 1, 1, 4), StrideH=0),
    "impossible stride, kernel or d": _conv(PIXELS, _weights(4, 1, 1, 4), DilationWFactor=-1),
    "CONV_2D 0 works on tensor 1, which has no element": _conv(PIXELS, _weights(4, 0, 1, 4)),
    "CONV_2D 0 needs tensors of 4 dimensions": _conv(PIXELS, _weights(4, 36)),
    r"CONV_2D 0 must give shape \[1, 4, 4, 4\]": _conv(PIXELS, _weights(4, 3, 3, 4)),
    "CONV_2D 0 needs 2 or 3 inputs, got 1": _conv(PIXELS),
    "SOFTMAX 0 needs one output, got 2": _single("SOFTMAX", [ROW] * 3, outputs=2),
    "STRIDED_SLICE 0 needs 4 inputs, got 1": _single("STRIDED_SLICE", [ROW, ROW]),
    "PACK 0 needs 1 or more inputs, got 0": _single("PACK", [ROW]),
    "one offset for each of 3 tensors": _rows(plan=[1, 0, 2, 0, 0]),
    "one offset for each of": _rows(plan=[1, 0, 3, 0, 0]),
    "one offset for each": _rows(plan=[1, 0]),
    "one offset for": _rows(plan=[1, 1, 3, 0, 0, 0]),
    "memory plan is empty": _rows(plan=[]),
    "impossible offset -5": _rows(plan=[1, 0, 3, 0, -5, 0]),
}


@pytest.mark.parametrize("reason", MALFORMED)
def test_each_fault_is_named_in_a_sentence(reason: str) -> None:
    with pytest.raises(ModelFileError, match=reason) as raised:
        read_tflite(MALFORMED[reason])
    assert "\n" not in str(raised.value)


def test_lists_too_long_for_a_microcontroller_are_refused() -> None:
    tensors = [HandTensor(shape=(1,))] * (LARGEST_LIST + 1)
    with pytest.raises(ModelFileError, match="a list of 5,001 tensors; at most 5,000"):
        read_tflite(hand_model(tensors, _adds(1), inputs=[0], outputs=[1]))


def test_an_operator_with_too_many_inputs_is_refused() -> None:
    op = HandOp(kind="CONCATENATION", inputs=(0,) * (LARGEST_LIST + 1), outputs=(1,))
    with pytest.raises(ModelFileError, match="CONCATENATION 0 .* has 5,001 inputs; at most 5,000"):
        read_tflite(hand_model([ROW, ROW], [op], inputs=[0], outputs=[1]))


def test_a_list_that_many_operators_share_is_not_read_without_end() -> None:
    count = MOST_ITEMS // LARGEST_LIST + 1
    tensors = [ROW] * count + [ROW]
    ops = [HandOp(kind="GELU", inputs=(0,) * LARGEST_LIST, outputs=(1 + n,)) for n in range(count)]
    with pytest.raises(ModelFileError, match=f"more than {MOST_ITEMS:,} numbers"):
        read_tflite(hand_model(tensors, ops, inputs=[0], outputs=[1]))


def _readable(content: bytes) -> ModelFile | None:
    """What is read; None where a ModelFileError says why not in one sentence."""
    try:
        return read_tflite(content)
    except ModelFileError as error:
        assert str(error) and "\n" not in str(error)
        return None


def test_a_file_cut_anywhere_is_refused() -> None:
    content = _conv(_image(1, 4, 4, 8), _weights(8, 3, 3, 4, scales=8), whole(*[0] * 8))
    assert _readable(content)
    assert not any(_readable(content[:end]) for end in range(len(content)))


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused_in_a_sentence(content: bytes) -> None:
    assert _readable(content) is None
    assert _readable(content[:4] + b"TFL3" + content[4:]) is None
