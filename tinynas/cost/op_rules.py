"""What the operators of a model that was read demand of their tensors.

A file may say that a convolution of 8 pixels gives 8,000: TFLM would believe it, and every cost
would silently be wrong. Only shapes are compared, since a Graph has no data: that an axis or a
permutation says the same as the shapes do is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from tinynas.errors import ModelFileError
from tinynas.graph import Graph, Op, Tensor, output_size

Shape = tuple[int, ...]
# What is wrong with an operator's shapes, to follow its name; "" if nothing is.
Rule = Callable[[Op, Sequence[Shape], Sequence[Shape]], str]

# The data of one tensor must be within reach of a 32-bit chip.
LARGEST_TENSOR_BYTES = 2**32 - 1
MANY = 1_000_000
SHOWN_SHAPES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How many inputs a kind reads, its outputs, and the rule for their shapes.

    Inputs beyond the least number are optional, -1 where left out, unless there may be MANY.
    `rank` is that of the first input, of the filter where there is one, and of the output.
    """

    rule: Rule
    least: int = 1
    most: int = 1
    rank: int | None = None
    outputs: int = 1

    def required(self, op: Op) -> tuple[int, ...]:
        """The inputs that cannot be left out."""
        return op.inputs if self.most == MANY else op.inputs[: self.least]


def _listed(shapes: Sequence[Shape]) -> str:
    shown = ", ".join(str(list(shape)) for shape in shapes[:SHOWN_SHAPES])
    return shown + (", ..." if len(shapes) > SHOWN_SHAPES else "")


def _must(holds: bool, rule: str, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    return "" if holds else f"must {rule}, but makes {_listed(outs)} of {_listed(ins)}"


def _gives(wanted: Shape, outs: Sequence[Shape]) -> str:
    return (
        ""
        if outs[0] == wanted
        else f"must give shape {list(wanted)}, but its output has {list(outs[0])}"
    )


def _pixels(op: Op, data: Shape) -> tuple[int, int]:
    """Rows and columns after a kernel has passed over an image of shape (N, H, W, C)."""
    rows, columns = (
        output_size(size, (kernel - 1) * dilation + 1, stride, op.padding)
        for size, kernel, dilation, stride in zip(
            data[1:3], op.kernel, op.dilation, op.stride, strict=True
        )
    )
    return rows, columns


def _bias(ins: Sequence[Shape], outputs: int) -> str:
    if len(ins) < 3 or ins[2] == (outputs,):
        return ""
    return f"must have {outputs} biases, but has {list(ins[2])}"


def _conv(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    """The filter is (Cout, kh, kw, Cin / groups)."""
    data, (cout, kh, kw, per_group) = ins[0], ins[1]
    if (kh, kw) != op.kernel:
        return f"has kernel {list(op.kernel)}, but a filter of shape {list(ins[1])}"
    if data[3] % per_group or cout % (data[3] // per_group):
        return f"reads {data[3]} channels with a filter of shape {list(ins[1])}"
    return _bias(ins, cout) or _gives((data[0], *_pixels(op, data), cout), outs)


def _depthwise(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    """The filter is (1, kh, kw, Cin * multiplier)."""
    data, (one, kh, kw, cout) = ins[0], ins[1]
    if (kh, kw) != op.kernel:
        return f"has kernel {list(op.kernel)}, but a filter of shape {list(ins[1])}"
    if one != 1 or cout % data[3]:
        return f"reads {data[3]} channels with a filter of shape {list(ins[1])}"
    return _bias(ins, cout) or _gives((data[0], *_pixels(op, data), cout), outs)


def _pool(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    data = ins[0]
    return _gives((data[0], *_pixels(op, data), data[3]), outs)


def _fully_connected(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    """The filter is (Cout, Cin); the input is flattened into rows of Cin."""
    data, filters, out = ins[0], ins[1], outs[0]
    if len(filters) != 2 or prod(data) % filters[1]:
        return f"reads {prod(data)} numbers with a filter of shape {list(filters)}"
    rows = prod(data) // filters[1]
    holds = out[-1:] == filters[:1] and prod(out) == rows * filters[0]
    rule = f"give {rows} x {filters[0]} numbers"
    return _bias(ins, filters[0]) or _must(holds, rule, ins[:1], outs)


def _broadcast(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    rank = max(map(len, ins))
    pairs = zip(*((1,) * (rank - len(shape)) + shape for shape in ins), strict=True)
    wanted = []
    for a, b in pairs:
        if a != b and 1 not in (a, b):
            return f"cannot combine the shapes {_listed(ins)}"
        wanted.append(max(a, b))
    return _gives(tuple(wanted), outs)


def _same(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    return _gives(ins[0], outs)


def _moves(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    holds = prod(ins[0]) == prod(outs[0])
    return _must(holds, "keep the number of elements", ins[:1], outs)


def _reduces(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    """Axes that are reduced have one element, or are gone."""
    data, out = ins[0], outs[0]
    left = iter(data)
    if len(data) == len(out):
        holds = all(o in (1, d) for d, o in zip(data, out, strict=True))
    else:
        holds = all(size in left for size in out)
    return _must(holds, "keep or reduce each axis", ins[:1], outs)


def _pads(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    data, out = ins[0], outs[0]
    holds = len(data) == len(out) and all(o >= d for d, o in zip(data, out, strict=True))
    return _must(holds, "make no axis shorter", ins[:1], outs)


def _tiles(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    data, out = ins[0], outs[0]
    holds = len(data) == len(out) and not any(o % d for d, o in zip(data, out, strict=True))
    return _must(holds, "repeat each axis", ins[:1], outs)


def _permutes(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    return _must(sorted(ins[0]) == sorted(outs[0]), "exchange axes", ins[:1], outs)


def _resizes(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    holds = (ins[0][0], ins[0][3]) == (outs[0][0], outs[0][3])
    return _must(holds, "keep batch and channels", ins[:1], outs)


def _slices(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    holds = prod(outs[0]) <= prod(ins[0])
    return _must(holds, "give no more than it reads", ins[:1], outs)


def _is_joined(parts: Sequence[Shape], whole: Shape) -> bool:
    """Whether `parts` laid side by side along one axis are `whole`."""
    if any(len(part) != len(whole) for part in parts):
        return False
    differing = [a for a, size in enumerate(whole) if parts[0][a] != size]
    if len(differing) != 1:
        return not differing and len(parts) == 1
    axis = differing[0]
    around = [part[:axis] + part[axis + 1 :] for part in parts]
    sizes = sum(part[axis] for part in parts)
    return sizes == whole[axis] and all(a == whole[:axis] + whole[axis + 1 :] for a in around)


def _is_stacked(parts: Sequence[Shape], whole: Shape) -> bool:
    """Whether `parts` laid one upon another along a new axis are `whole`."""
    rests = (whole[:a] + whole[a + 1 :] for a, size in enumerate(whole) if size == len(parts))
    return len(set(parts)) == 1 and parts[0] in rests


def _joins(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    return _must(_is_joined(ins, outs[0]), "join its inputs along one axis", ins, outs)


def _splits(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    """The axis comes first, the data second."""
    return _must(_is_joined(outs, ins[1]), "cut its input along one axis", ins[1:], outs)


def _packs(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    return _must(_is_stacked(ins, outs[0]), "stack equal inputs", ins, outs)


def _unpacks(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    return _must(_is_stacked(outs, ins[0]), "cut its input into slices", ins, outs)


def _shape(op: Op, ins: Sequence[Shape], outs: Sequence[Shape]) -> str:
    return _gives((len(ins[0]),), outs)


# Every kind of tinynas.graph.MACS. The numbers of inputs are those that TFLM's kernels ask for.
FORMS = {
    "CONV_2D": Form(rule=_conv, least=2, most=3, rank=4),
    "DEPTHWISE_CONV_2D": Form(rule=_depthwise, least=2, most=3, rank=4),
    "FULLY_CONNECTED": Form(rule=_fully_connected, least=2, most=3),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), Form(rule=_pool, rank=4)),
    **dict.fromkeys(
        ("ADD", "MAXIMUM", "MINIMUM", "MUL", "SUB"), Form(rule=_broadcast, least=2, most=2)
    ),
    **dict.fromkeys(
        ("DEQUANTIZE", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "QUANTIZE", "RELU", "RELU6")
        + ("SOFTMAX", "TANH"),
        Form(rule=_same),
    ),
    **dict.fromkeys(("MEAN", "REDUCE_MAX", "SUM"), Form(rule=_reduces, least=2, most=2)),
    **dict.fromkeys(
        ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
        Form(rule=_resizes, least=2, most=2, rank=4),
    ),
    "CONCATENATION": Form(rule=_joins, most=MANY),
    "EXPAND_DIMS": Form(rule=_moves, least=2, most=2),
    "PACK": Form(rule=_packs, most=MANY),
    "PAD": Form(rule=_pads, least=2, most=2),
    "PADV2": Form(rule=_pads, least=3, most=3),
    "RESHAPE": Form(rule=_moves, most=2),
    "SHAPE": Form(rule=_shape),
    "SPLIT": Form(rule=_splits, least=2, most=2, outputs=MANY),
    "SQUEEZE": Form(rule=_moves),
    "STRIDED_SLICE": Form(rule=_slices, least=4, most=4),
    "TILE": Form(rule=_tiles, least=2, most=2),
    "TRANSPOSE": Form(rule=_permutes, least=2, most=2),
    "UNPACK": Form(rule=_unpacks, outputs=MANY),
}
WITH_FILTER = ("CONV_2D", "DEPTHWISE_CONV_2D")


def contradiction(what: str) -> ModelFileError:
    """The error for a model whose parts do not agree."""
    return ModelFileError(f"this model contradicts itself: {what}")


def check_form(op: Op, tensors: Sequence[Tensor]) -> None:
    """ModelFileError unless an operator has the inputs and outputs that its kind needs.

    The numbers of its tensors must exist. Nothing is asked of kinds that are not known.
    """
    form = FORMS.get(op.kind)
    if form is None:
        return
    needed = form.required(op)
    if not form.least <= len(op.inputs) <= form.most or min(needed) < 0:
        most = "more" if form.most == MANY else str(form.most)
        inputs = f"{form.least}" + (f" or {most}" if form.least < form.most else "")
        given = sum(t >= 0 for t in op.inputs)
        raise contradiction(f"operator {op.name} needs {inputs} inputs, got {given}")
    if not 1 <= len(op.outputs) <= form.outputs:
        raise contradiction(f"operator {op.name} needs one output, got {len(op.outputs)}")
    shaped = [op.inputs[0], *op.outputs, *(op.inputs[1:2] if op.kind in WITH_FILTER else ())]
    if form.rank is not None and any(len(tensors[t].shape) != form.rank for t in shaped):
        raise contradiction(f"operator {op.name} needs tensors of {form.rank} dimensions")
    empty = [t for t in (*needed, *op.outputs) if 0 in tensors[t].shape]
    if empty:
        raise contradiction(f"operator {op.name} works on tensor {empty[0]}, which has no element")


def check_graph(graph: Graph) -> None:
    """ModelFileError, in a sentence, unless the parts of a graph agree with each other.

    Tensors must be written once, before they are read, and operators' shapes must be possible.
    """
    if not graph.ops or not graph.outputs:
        raise ModelFileError("this model has no operators or no output: nothing to run")
    if any(graph.tensors[t].constant for t in graph.inputs):
        raise contradiction("an input of its graph is a constant")
    for number, tensor in enumerate(graph.tensors):
        if tensor.size_bytes > LARGEST_TENSOR_BYTES:
            raise contradiction(
                f"tensor {number} of shape {list(tensor.shape)} is larger than 4 GiB"
            )
    _check_order(graph)
    for op in graph.ops:
        check_form(op, graph.tensors)
        _check_shapes(graph, op)


def _check_order(graph: Graph) -> None:
    writers = {t: op for op in graph.ops for t in op.outputs}
    written = set(graph.inputs)
    for op in graph.ops:
        early = [t for t in graph.activations(op) if t in writers and t not in written]
        if early and not graph.tensors[early[0]].variable:
            writer = writers[early[0]].name
            raise contradiction(
                f"operator {op.name} reads tensor {early[0]} before {writer} writes it"
            )
        for t in op.outputs:
            if t in written or graph.tensors[t].constant:
                raise contradiction(
                    f"operator {op.name} writes tensor {t}, which has content already"
                )
            written.add(t)


def _check_shapes(graph: Graph, op: Op) -> None:
    if min((*op.kernel, *op.stride, *op.dilation)) < 1:
        raise contradiction(f"operator {op.name} has an impossible stride, kernel or dilation")
    if op.kind not in FORMS:
        return
    ins = [graph.tensors[t].shape for t in op.inputs if t >= 0]
    complaint = FORMS[op.kind].rule(op, ins, [graph.tensors[t].shape for t in op.outputs])
    if complaint:
        raise contradiction(f"operator {op.name} {complaint}")
