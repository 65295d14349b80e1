import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))

import numpy as np
import pytest
from hand_models import (
    HandOp,
    HandTensor,
    add_options,
    conv_options,
    fully_connected_options,
    hand_model,
    softmax_options,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import random_constants, random_graph, small_graph

from tinynas.cost.tflite_reader import (
    LARGEST_LIST,
    LARGEST_RANK,
    MOST_ITEMS,
    ModelFile,
    read_tflite,
)
from tinynas.deploy.plan import plan_memory
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.errors import ModelFileError

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


def _conv(
    weights: HandTensor,
    options: Callable[..., tuple[int, int]] | None,
    inputs: tuple[int, ...] = (0, 1, -1),
) -> bytes:
    op = HandOp(kind="CONV_2D", inputs=inputs, outputs=(2,), options=options)
    out = HandTensor(shape=(1, 4, 4, 8))
    return hand_model([PIXELS, weights, out], [op], inputs=[0], outputs=[2])


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
        assert (read.description, read.beyond) == ("some text", ())


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


def test_a_convolution_has_kernel_stride_padding_and_an_optional_bias() -> None:
    (op,) = read_tflite(_conv(_weights(8, 3, 2, 4), conv_options(stride=2))).graph.ops
    assert (op.kernel, op.stride, op.padding, op.activation) == ((3, 2), (2, 2), "VALID", None)
    assert op.inputs == (0, 1, -1)


def test_a_fused_activation_is_read() -> None:
    (op,) = read_tflite(_rows(1, options=add_options(3))).graph.ops
    assert op.activation == "RELU6"


def test_a_plan_gives_offsets_of_activations_that_it_places() -> None:
    assert read_tflite(_rows(plan=[1, 0, 3, 64, -1, 0])).offsets == {0: 64, 2: 0}


@pytest.mark.parametrize(
    ("content", "beyond"),
    [
        (_dense(1), ()),
        (_dense(16), ("FULLY_CONNECTED with one scale per channel",)),
        (_conv(_weights(8, 3, 3, 4), conv_options()), ()),
        (_conv(_weights(8, 2, 2, 4), conv_options(dilation=2)), ("CONV_2D with dilation",)),
        (
            hand_model([ROW] * 3, _adds(1), inputs=[0], outputs=[1]),
            ("tensors that no operator writes or reads",),
        ),
        (
            hand_model([ROW, ROW, _weights(3)], _adds(1), inputs=[0], outputs=[1]),
            ("tensors that no operator writes or reads",),
        ),
        (_one("TANH", replace(ROW, variable=True)), ("variables",)),
    ],
)
def test_what_a_graph_cannot_express_is_named(content: bytes, beyond: tuple[str, ...]) -> None:
    assert read_tflite(content).beyond == beyond


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
    "ADD 0 needs 2 inputs and one output": _rows(inputs=(0,)),
    "needs 2 inputs and one": _rows(inputs=(0, -1)),
    "needs 2 inputs": _rows(outputs=()),
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
    "CONV_2D 0 has no options": _conv(_weights(8, 3, 3, 4), None),
    "impossible stride": _conv(_weights(8, 3, 3, 4), conv_options(stride=0)),
    "impossible stride, kernel": _conv(_weights(8, 0, 3, 4), conv_options()),
    "needs tensors of 4 dimensions": _conv(_weights(8, 36), conv_options()),
    "CONV_2D 0 needs 2 inputs": _conv(_weights(8, 3, 3, 4), conv_options(), inputs=(0,)),
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


def test_a_list_that_many_operators_share_is_not_read_without_end() -> None:
    wide = HandOp(kind="CONCATENATION", inputs=(0,) * 2_100_000, outputs=(1,))
    content = hand_model([ROW, ROW, ROW], [wide, wide], inputs=[0], outputs=[1])
    with pytest.raises(ModelFileError, match=f"more than {MOST_ITEMS:,} numbers"):
        read_tflite(content)


def _readable(content: bytes) -> ModelFile | None:
    """What is read; None where a ModelFileError says why not in one sentence."""
    try:
        return read_tflite(content)
    except ModelFileError as error:
        assert str(error) and "\n" not in str(error)
        return None


def test_a_file_cut_anywhere_is_refused() -> None:
    content = _conv(_weights(8, 3, 3, 4, scales=8), conv_options())
    assert _readable(content)
    assert not any(_readable(content[:end]) for end in range(len(content)))


def _mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes: bytes replaced, removed or inserted, words overwritten, the end cut."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(len(data)))
        change = rng.integers(5)
        if change == 0:
            data[place] = int(rng.integers(256))
        elif change == 1:
            values = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, int(rng.integers(2 * len(data)))]
            word = int(values[int(rng.integers(len(values)))])
            data[place // 4 * 4 : place // 4 * 4 + 4] = word.to_bytes(4, "little")
        elif change == 2:
            data[place:place] = rng.bytes(int(rng.integers(1, 9)))
        elif change == 3:
            del data[place : place + int(rng.integers(1, 9))]
        else:
            data = data[: max(place, 40)]
    data[4:8] = b"TFL3"
    return bytes(data)


def test_thousands_of_damaged_files_are_read_or_refused_in_a_sentence() -> None:
    rng = np.random.default_rng(1)
    graph = small_graph(rng)
    model = random_constants(graph, rng)
    whole = write_tflite(model, plan=plan_memory(graph).offsets)
    small = _rows(plan=[1, 0, 3, 64, -1, 0])
    read = [_readable(_mutated(small, rng)) for _ in range(3_000)]
    # Tables and lists lie in the first bytes of files that we write; elsewhere are weights.
    for _ in range(700):
        head = _mutated(whole[:6_000], rng)
        read.append(_readable(head + whole[6_000:]))
    assert 0 < sum(model is not None for model in read) < len(read) / 2


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused_in_a_sentence(content: bytes) -> None:
    assert _readable(content) is None
    assert _readable(content[:4] + b"TFL3" + content[4:]) is None
