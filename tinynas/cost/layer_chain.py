"""What a layer list leaves out because it follows: who reads what in a chain, and constants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from math import prod
from typing import Literal

from tinynas.cost.layer_schema import LayerList, ListedLayer, ListedTensor, shown, wrong
from tinynas.cost.op_rules import Shape

WINDOWS = ("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D")
Earlier = dict[tuple[Shape, str], list[ListedTensor]]
Sizes = Sequence[int]


def number_chain(listed: LayerList) -> LayerList:
    """A list without tensor numbers with those that it has as a chain.

    Each layer reads what the layer before it wrote, and for further inputs the latest earlier
    tensors of their shapes, as a residual ADD does. Raises ModelFileError where there is none.
    """
    numbers, earlier = count(), Earlier()
    inputs = latest = [_written(entry, numbers, earlier) for entry in listed.inputs]
    layers = []
    for step, layer in enumerate(listed.layers):
        ins = list(_sources(step, layer, latest, earlier, numbers))
        if step > 0 and {entry.t for entry in ins}.isdisjoint(entry.t for entry in latest):
            raise wrong(
                step,
                layer,
                f"reads {shown(layer.ins)}, but the layer before it gives {shown(latest)}: a list "
                "that is no chain needs numbers of tensors, 't'",
            )
        latest = [_written(entry, numbers, earlier) for entry in layer.outs]
        layers.append(layer.model_copy(update={"ins": ins, "outs": latest}))
    outputs = listed.outputs and [entry.numbered(None) for entry in listed.outputs]
    return listed.model_copy(update={"inputs": inputs, "outputs": outputs, "layers": layers})


def _written(entry: ListedTensor, numbers: Iterator[int], earlier: Earlier) -> ListedTensor:
    """The tensor with the next number, added to those that later layers can read."""
    tensor = entry.numbered(next(numbers))
    earlier.setdefault(entry.form, []).append(tensor)
    return tensor


def _sources(
    step: int,
    layer: ListedLayer,
    latest: Sequence[ListedTensor],
    earlier: Earlier,
    numbers: Iterator[int],
) -> Iterator[ListedTensor]:
    """The tensors that a layer of a chain reads: the latest of each shape, none of them twice."""
    taken: Counter[tuple[Shape, str]] = Counter()
    for entry in layer.ins:
        if entry.const:
            yield entry.numbered(next(numbers))
        elif layer.op == "FULLY_CONNECTED" and prod(entry.shape) == prod(latest[-1].shape):
            yield latest[-1]  # it flattens what it reads
        else:
            taken[entry.form] += 1
            candidates = earlier.get(entry.form, [])
            if taken[entry.form] > len(candidates):
                raise wrong(
                    step,
                    layer,
                    f"needs {taken[entry.form]} x {shown([entry])}, but the inputs and layers "
                    f"before it give {len(candidates)}",
                )
            yield candidates[-taken[entry.form]]


def with_constants(listed: LayerList) -> LayerList:
    """The list with the constants that its layers lack, numbered after all others.

    Raises ModelFileError for a layer that does not say what they are.
    """
    used = (entry.t or 0 for entry in (*listed.inputs, *listed.read_or_written()))
    numbers = count(1 + max(used))
    layers = []
    for step, layer in enumerate(listed.layers):
        if layer.op in WINDOWS and None in (layer.kernel, layer.stride, layer.pad):
            raise wrong(step, layer, "needs kernel, stride and pad")
        constants = [] if len(layer.ins) > 1 else _constants(step, layer)
        entries = [entry.numbered(next(numbers)) for entry in constants]
        layers.append(layer.model_copy(update={"ins": [*layer.ins, *entries]}))
    return listed.model_copy(update={"layers": layers})


def _constant(shape: Sizes, dtype: Literal["INT8", "INT32"] = "INT32") -> ListedTensor:
    return ListedTensor(shape=list(shape), type=dtype, const=True)


def _constants(step: int, layer: ListedLayer) -> list[ListedTensor]:
    """The constants of a layer that names its data alone."""
    data, out = layer.ins[0].shape, layer.outs[0].shape
    if layer.op not in WEIGHTS:
        return [_constant(shape) for shape in ARGUMENTS.get(layer.op, _none)(data, out)]
    weights = WEIGHTS[layer.op](layer, data, out) if data and out else (0,)
    if 0 in weights:
        raise wrong(step, layer, "has no weights: its channels and groups do not go together")
    bias = weights[-1] if layer.op == "DEPTHWISE_CONV_2D" else weights[0]
    return [_constant(weights, "INT8"), _constant((bias,))]


def _conv_weights(layer: ListedLayer, data: Sizes, out: Sizes) -> Shape:
    cin = layer.cin or data[-1]
    per_group = 0 if cin % layer.groups else cin // layer.groups
    return (layer.cout or out[-1], *(layer.kernel or ()), per_group)


def _depthwise_weights(layer: ListedLayer, data: Sizes, out: Sizes) -> Shape:
    return (1, *(layer.kernel or ()), (layer.cin or data[-1]) * layer.mult)


def _dense_weights(layer: ListedLayer, data: Sizes, out: Sizes) -> Shape:
    return (layer.cout or out[-1], layer.cin or prod(data) // max(1, prod(out[:-1])))


def _none(data: Sizes, out: Sizes) -> list[Shape]:
    return []


def _one_per_axis(data: Sizes, out: Sizes) -> list[Shape]:
    return [(len(data),)]


def _reduced_axes(data: Sizes, out: Sizes) -> list[Shape]:
    gone = len(data) - len(out)
    return [(gone or sum(d != o for d, o in zip(data, out, strict=True)),)]


WEIGHTS: dict[str, Callable[[ListedLayer, Sizes, Sizes], Shape]] = {
    "CONV_2D": _conv_weights,
    "DEPTHWISE_CONV_2D": _depthwise_weights,
    "FULLY_CONNECTED": _dense_weights,
}
# Shapes of the int32 constants that say how data is moved or reduced, by those of data and output.
ARGUMENTS: dict[str, Callable[[Sizes, Sizes], list[Shape]]] = {
    **dict.fromkeys(("MEAN", "REDUCE_MAX", "SUM"), _reduced_axes),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), lambda data, out: [(2,)]),
    **dict.fromkeys(("TILE", "TRANSPOSE"), _one_per_axis),
    "EXPAND_DIMS": lambda data, out: [()],
    "PAD": lambda data, out: [(len(data), 2)],
    "RESHAPE": lambda data, out: [(len(out),)],
    "STRIDED_SLICE": lambda data, out: [(len(data),)] * 3,
}
