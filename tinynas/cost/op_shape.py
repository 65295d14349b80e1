"""One operator as its cost sees it: kind, shapes, window; the key of a latency table's entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from math import prod
from typing import Any

from tinynas.graph import Graph, Op, same_padding

Shape = tuple[int, ...]


@dataclass(frozen=True, order=True)
class OpShape:
    """An operator's configuration, activations as H x W x C of one image.

    Shapes of a lower rank are filled up with ones from the front; a fully connected operator has
    its inputs in `in_c`, its outputs in `out_c`. `padding` is same, valid or empty where there is
    no window, `activation` relu, relu6 or empty; `runs` counts the pieces of neighbouring bytes
    that an operator moves which only moves bytes.
    """

    kind: str
    in_h: int
    in_w: int
    in_c: int
    out_h: int
    out_w: int
    out_c: int
    kernel_h: int = 1
    kernel_w: int = 1
    stride_h: int = 1
    stride_w: int = 1
    padding: str = ""
    activation: str = ""
    runs: int = 0

    @cached_property
    def inputs(self) -> int:
        """Elements of the first input."""
        return self.in_h * self.in_w * self.in_c

    @cached_property
    def outputs(self) -> int:
        """Elements of the output."""
        return self.out_h * self.out_w * self.out_c

    @cached_property
    def pixels(self) -> int:
        """Pixels of the output."""
        return self.out_h * self.out_w

    @cached_property
    def taps_inside(self) -> tuple[int, int]:
        """Taps of the window that fall inside the image, summed over the rows, the columns."""
        return (
            _taps_inside(self.in_h, self.out_h, self.kernel_h, self.stride_h, self.padding),
            _taps_inside(self.in_w, self.out_w, self.kernel_w, self.stride_w, self.padding),
        )


KEY = tuple(field.name for field in fields(OpShape))
SIZES = KEY[KEY.index("in_h") : KEY.index("padding")]


def _taps_inside(size: int, outputs: int, kernel: int, stride: int, padding: str) -> int:
    """All taps less those before the first pixel and past the last, at the outputs near them."""
    if padding != "same":
        return outputs * kernel
    before = same_padding(size, kernel, stride)[0]
    after = (outputs - 1) * stride - before + kernel - size
    missing = sum(range(before, 0, -stride)[:outputs]) + sum(range(after, 0, -stride)[:outputs])
    return outputs * kernel - missing


def _hwc(shape: Shape) -> tuple[int, int, int]:
    """Height, width and channels; what else there is, as a batch, belongs to the height."""
    filled = (1, 1, 1, *shape)
    return prod(filled[:-2]), filled[-2], filled[-1]


def _window(graph: Graph, op: Op) -> tuple[int, int]:
    if op.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return op.kernel
    _, height, width, _ = graph.tensors[op.inputs[1]].shape
    return height, width


def _pad_runs(shape: Shape, op: Op) -> int:
    """Three to a row: what is added before, the input's bytes, what is added after."""
    return 3 * prod(shape[:-2])


def _slice_runs(shape: Shape, op: Op) -> int:
    """One for each pixel, even where neighbours are taken (reference/strided_slice.h)."""
    return prod(shape[:-1]) if op.begin else prod(shape)


def _joined_runs(shape: Shape, op: Op) -> int:
    """One of each part for each index before the axis (reference/concatenation.h)."""
    return len(op.inputs) * prod(shape[: op.axis]) if op.axis is not None else prod(shape)


# Runs of neighbouring bytes moved at once, by the output's shape; each element alone, which is
# the most there can be, where the graph does not say what is taken or joined.
RUNS: dict[str, Callable[[Shape, Op], int]] = {
    "PAD": _pad_runs,
    "STRIDED_SLICE": _slice_runs,
    "CONCATENATION": _joined_runs,
}
WINDOWED = ("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D")


def op_shape(graph: Graph, op: Op) -> OpShape:
    """The configuration of one operator of a graph."""
    data = next((t for t in op.inputs if t >= 0), op.outputs[0])
    source, target = graph.tensors[data].shape, graph.tensors[op.outputs[0]].shape
    if op.kind == "FULLY_CONNECTED":
        source = (target[0] if target else 1, graph.tensors[op.inputs[1]].shape[-1])
        target = (source[0], prod(target) // source[0])
    height, width = _window(graph, op)
    return OpShape(
        op.kind,
        *_hwc(source),
        *_hwc(target),
        kernel_h=height,
        kernel_w=width,
        stride_h=op.stride[0],
        stride_w=op.stride[1],
        padding=op.padding.lower() if op.kind in WINDOWED else "",
        activation=(op.activation or "").lower(),
        runs=RUNS[op.kind](target, op) if op.kind in RUNS else 0,
    )


def read_op_shape(row: Mapping[str, str]) -> OpShape:
    """The configuration in a row of a CSV file with the columns of KEY, `op` allowed for `kind`.

    An empty or missing size counts as one, so that a fully connected operator needs only `in_c`
    and `out_c`; the runs of a PAD follow from its output's rows. Raises KeyError for a row without
    a kind and ValueError for a size that is no number.
    """
    texts: dict[str, Any] = {n: (row.get(n) or "").lower() for n in ("padding", "activation")}
    sizes: dict[str, Any] = {name: int(float(row.get(name) or 1)) for name in SIZES}
    kind = row["kind"] if "kind" in row else row["op"]
    runs = int(float(row.get("runs") or (3 * sizes["out_h"] if kind == "PAD" else 0)))
    return OpShape(kind, **sizes, **texts, runs=runs)
