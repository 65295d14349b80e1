"""Models of several subgraphs, or with variables behind handles, all of which TFLM runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite
from hand_models import HandOp, HandSubgraph, HandTensor, add_options, hand_model
from kind_models import options

Array = npt.NDArray[Any]

PIXELS, NUMBER = HandTensor(shape=(1, 4, 4, 8)), HandTensor(shape=(1,))
FLAG = HandTensor(shape=(1,), dtype="bool", scales=())
HANDLE = HandTensor(shape=(), dtype="resource", scales=())


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowModel:
    """A model, what it is fed in each invocation, and the first number that it answers."""

    content: bytes
    inputs: list[list[Array]]
    answers: list[int]


def _op(kind: str, inputs: tuple[int, ...], outputs: tuple[int, ...], **fields: float) -> HandOp:
    """An operator whose table of options is called as it is."""
    table = "".join(part.capitalize() for part in kind.split("_")) + "Options"
    return HandOp(kind=kind, inputs=inputs, outputs=outputs, options=options(table, **fields))


def _number(value: int) -> HandTensor:
    return HandTensor(shape=(1,), data=np.array([value], np.int8))


def _pixels(value: int) -> Array:
    return np.full(PIXELS.shape, value, np.int8)


def lone_if() -> bytes:
    """A choice between two subgraphs that are not in the file."""
    choice = _op("IF", (0, 1), (2,), ThenSubgraphIndex=1, ElseSubgraphIndex=2)
    return hand_model([FLAG, PIXELS, PIXELS], [choice], inputs=[0, 1], outputs=[2])


def _choice() -> FlowModel:
    """Twice a value or four times, as a flag says."""
    sums = [_op("ADD", (0, 0), (1,)), _op("ADD", (1, 1), (2,))]
    twice = HandSubgraph(tensors=[PIXELS] * 2, ops=sums[:1], inputs=[0], outputs=[1])
    again = HandSubgraph(tensors=[PIXELS] * 3, ops=sums, inputs=[0], outputs=[2])
    choice = _op("IF", (0, 1), (2,), ThenSubgraphIndex=1, ElseSubgraphIndex=2)
    tensors = [FLAG, PIXELS, PIXELS]
    return FlowModel(
        content=hand_model(tensors, [choice], inputs=[0, 1], outputs=[2], more=[twice, again]),
        inputs=[[np.array([flag]), _pixels(3)] for flag in (True, False)],
        answers=[6, 12],
    )


def _loop() -> FlowModel:
    """Sevens are added until there are 30 or more."""
    less, more = _op("LESS", (0, 1), (2,)), _op("ADD", (0, 1), (2,))
    test = HandSubgraph(tensors=[NUMBER, _number(30), FLAG], ops=[less], inputs=[0], outputs=[2])
    turn = HandSubgraph(tensors=[NUMBER, _number(7), NUMBER], ops=[more], inputs=[0], outputs=[2])
    loop = _op("WHILE", (0,), (1,), CondSubgraphIndex=1, BodySubgraphIndex=2)
    return FlowModel(
        content=hand_model([NUMBER] * 2, [loop], inputs=[0], outputs=[1], more=[test, turn]),
        inputs=[[np.array([value], np.int8)] for value in (0, 29)],
        answers=[35, 36],
    )


def _named_handle(builder: Any) -> tuple[int, int]:
    """Options of a handle of the variable called "state"."""
    name = builder.CreateString("state")
    tflite.VarHandleOptionsStart(builder)
    tflite.VarHandleOptionsAddSharedName(builder, name)
    return tflite.VarHandleOptionsEnd(builder), tflite.BuiltinOptions.VarHandleOptions


def _handle(output: int) -> HandOp:
    return HandOp(kind="VAR_HANDLE", inputs=(), outputs=(output,), options=_named_handle)


def _sum_behind_a_handle(*before: HandOp, more: tuple[HandSubgraph, ...] = ()) -> bytes:
    """The sum of all that was ever fed, kept where only a handle leads."""
    ops = [
        *before,
        _handle(1),
        _op("READ_VARIABLE", (1,), (2,)),
        HandOp(kind="ADD", inputs=(0, 2), outputs=(3,), options=add_options()),
        _op("ASSIGN_VARIABLE", (1, 3), ()),
    ]
    tensors = [PIXELS, HANDLE, PIXELS, PIXELS]
    return hand_model(tensors, ops, inputs=[0], outputs=[3], more=more)


def _handles() -> FlowModel:
    content = _sum_behind_a_handle()
    return FlowModel(content=content, inputs=[[_pixels(3)]] * 3, answers=[3, 6, 9])


def _first() -> FlowModel:
    """As _handles, but a subgraph that runs once writes a one there."""
    ones = HandTensor(shape=PIXELS.shape, data=_pixels(1))
    ops = [_handle(0), _op("ASSIGN_VARIABLE", (0, 1), ())]
    start = HandSubgraph(tensors=[HANDLE, ones], ops=ops, inputs=[], outputs=[])
    once = _op("CALL_ONCE", (), (), InitSubgraphIndex=1)
    content = _sum_behind_a_handle(once, more=(start,))
    return FlowModel(content=content, inputs=[[_pixels(3)]] * 3, answers=[4, 7, 10])


FLOW = {"IF": _choice, "WHILE": _loop, "VAR_HANDLE": _handles, "CALL_ONCE": _first}
# What is said of each by who does not read it.
REFUSED = {
    "IF": "3 subgraphs; only models of one subgraph, without control flow",
    "WHILE": "3 subgraphs; only models of one subgraph, without control flow",
    "VAR_HANDLE": "tensor 1 has type resource, which is not known",
    "CALL_ONCE": "2 subgraphs; only models of one subgraph, without control flow",
}
