"""Files of random operators with random weights in random wiring, to be planned and run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hand_models import HandOp, HandTensor, hand_model
from kind_models import options, whole

from tinynas.graph import output_size

Shape = tuple[int, ...]


@dataclass(slots=True)
class _Drawing:
    """Tensors and operators so far, and which tensors can be read as images."""

    rng: np.random.Generator
    tensors: list[HandTensor] = field(default_factory=list)
    ops: list[HandOp] = field(default_factory=list)
    images: list[int] = field(default_factory=list)

    def add(self, tensor: HandTensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def shape(self, tensor: int) -> Shape:
        return self.tensors[tensor].shape

    def pick(self) -> int:
        """An image, more often one of the last."""
        back = min(int(self.rng.geometric(0.5)), len(self.images))
        return self.images[-back]

    def weights(self, shape: Shape, channels: int, axis: int) -> tuple[int, int]:
        data = self.rng.integers(-60, 61, shape).astype(np.int8)
        bias = self.rng.integers(-500, 501, channels).astype(np.int32)
        scales = (0.01,) * channels
        return (
            self.add(HandTensor(shape=shape, data=data, scales=scales, axis=axis)),
            self.add(
                HandTensor(
                    shape=(channels,), dtype="int32", data=bias, scales=(0.0005,) * channels
                )
            ),
        )

    def result(self, kind: str, inputs: tuple[int, ...], shape: Shape, option: Any) -> None:
        out = self.add(HandTensor(shape=shape))
        self.ops.append(HandOp(kind=kind, inputs=inputs, outputs=(out,), options=option))
        self.images.append(out)


def _window(drawing: _Drawing, kind: str, table: str) -> None:
    rng, image = drawing.rng, drawing.pick()
    _, rows, columns, channels = drawing.shape(image)
    kernel, stride = int(rng.choice([1, 3, 5])), int(rng.choice([1, 1, 2]))
    same = bool(rng.integers(2)) or min(rows, columns) < kernel
    size = [output_size(n, kernel, stride, "SAME" if same else "VALID") for n in (rows, columns)]
    more = {"StrideH": stride, "StrideW": stride, "Padding": int(not same)}
    more |= {"DilationHFactor": 1, "DilationWFactor": 1}
    if kind == "CONV_2D":
        out = int(rng.integers(1, 13))
        constants = drawing.weights((out, kernel, kernel, channels), out, 0)
    else:
        out, more = channels, {**more, "DepthMultiplier": 1}
        constants = drawing.weights((1, kernel, kernel, channels), out, 3)
    drawing.result(kind, (image, *constants), (1, *size, out), options(table, **more))


def _conv(drawing: _Drawing) -> None:
    _window(drawing, "CONV_2D", "Conv2DOptions")


def _depthwise(drawing: _Drawing) -> None:
    _window(drawing, "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions")


def _pair(drawing: _Drawing) -> None:
    image = drawing.pick()
    shape = drawing.shape(image)
    other = int(drawing.rng.choice([t for t in drawing.images if drawing.shape(t) == shape]))
    kind, table = (("ADD", "AddOptions"), ("MUL", "MulOptions"))[int(drawing.rng.integers(2))]
    drawing.result(kind, (image, other), shape, options(table))


def _activation(drawing: _Drawing) -> None:
    image = drawing.pick()
    drawing.result("RELU", (image,), drawing.shape(image), None)


def _pad(drawing: _Drawing) -> None:
    image = drawing.pick()
    pads = np.zeros((4, 2), np.int32)
    pads[1:3] = drawing.rng.integers(0, 3, (2, 2))
    constant = drawing.add(HandTensor(shape=(4, 2), dtype="int32", data=pads))
    shape = tuple(int(n + p) for n, p in zip(drawing.shape(image), pads.sum(1), strict=True))
    drawing.result("PAD", (image, constant), shape, options("PadOptions"))


def _slice(drawing: _Drawing) -> None:
    image = drawing.pick()
    shape = drawing.shape(image)
    begin = [0, *(int(drawing.rng.integers(0, n)) for n in shape[1:3]), 0]
    end = [1, *(int(drawing.rng.integers(begin[k] + 1, shape[k] + 1)) for k in (1, 2)), shape[3]]
    constants = tuple(drawing.add(whole(*values)) for values in (begin, end, [1] * 4))
    size = tuple(e - b for b, e in zip(begin, end, strict=True))
    drawing.result("STRIDED_SLICE", (image, *constants), size, options("StridedSliceOptions"))


Drawer = Callable[[_Drawing], None]
DRAWN: tuple[Drawer, ...] = (
    *(_conv, _conv, _depthwise, _depthwise, _pair, _activation, _pad, _slice),
)


def _draw(drawing: _Drawing, most_inputs: int, kinds: Sequence[Drawer]) -> list[int]:
    """Inputs, which are returned, and 2 to 9 operators of these kinds."""
    rng = drawing.rng
    inputs = [
        drawing.add(HandTensor(shape=(1, *(int(n) for n in rng.integers(4, 13, 2)), 4)))
        for _ in range(int(rng.integers(1, most_inputs + 1)))
    ]
    drawing.images += inputs
    for _ in range(int(rng.integers(2, 10))):
        kinds[int(rng.integers(len(kinds)))](drawing)
    return inputs


def _unread(drawing: _Drawing) -> list[int]:
    """What operators write and none reads."""
    read = {t for op in drawing.ops for t in op.inputs}
    return [op.outputs[0] for op in drawing.ops if op.outputs[0] not in read]


def random_file(rng: np.random.Generator) -> bytes:
    """A .tflite file of 2 to 9 operators, with one or two inputs and several outputs."""
    drawing = _Drawing(rng)
    inputs = _draw(drawing, 2, DRAWN)
    return hand_model(drawing.tensors, drawing.ops, inputs=inputs, outputs=_unread(drawing))


def _state(drawing: _Drawing) -> None:
    """A variable that an operator adds to, or that is read before or after it is written."""
    image, way = drawing.pick(), int(drawing.rng.integers(3))
    state = drawing.add(HandTensor(shape=drawing.shape(image), variable=True))
    if way == 0:
        kept = HandOp(
            kind="ADD", inputs=(image, state), outputs=(state,), options=options("AddOptions")
        )
    else:
        kept = HandOp(kind="RELU", inputs=(image,), outputs=(state,))
    if way == 1:
        drawing.result("ADD", (image, state), drawing.shape(image), options("AddOptions"))
    drawing.ops.append(kept)
    if way != 1:
        drawing.images.append(state)


def _another_order(drawing: _Drawing) -> list[HandOp]:
    """The operators in a random order in which each runs when its inputs are there."""
    writers = {t: step for step, op in enumerate(drawing.ops) for t in op.outputs}
    order: list[int] = []
    while len(order) < len(drawing.ops):
        ready = [
            step
            for step, op in enumerate(drawing.ops)
            if step not in order and {writers[t] for t in op.inputs if t in writers} <= {*order}
        ]
        order.append(int(drawing.rng.choice(ready)))
    return [drawing.ops[step] for step in order]


def odd_file(rng: np.random.Generator, *, variables: bool) -> bytes:
    """A .tflite file with up to three inputs in any order and outputs of all sorts.

    Some outputs are read again and some are inputs too. Either some tensors are variables, or the
    operators come in another order than that in which they were drawn.
    """
    drawing = _Drawing(rng)
    kinds = (*DRAWN, *(_state,) * 3) if variables else DRAWN
    inputs = _draw(drawing, 3, kinds)
    ops = drawing.ops if variables else _another_order(drawing)
    more = [t for t in (*inputs, *drawing.images[len(inputs) :]) if rng.random() < 0.15]
    outputs = list(dict.fromkeys([*_unread(drawing), *more])) or [drawing.images[-1]]
    return hand_model(
        drawing.tensors,
        ops,
        inputs=rng.permutation(inputs).tolist(),
        outputs=rng.permutation(outputs).tolist(),
    )
