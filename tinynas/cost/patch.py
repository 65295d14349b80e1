"""The first operators of a graph on one patch of the image at a time, in ordinary operators.

The idea is MCUNetV2's (Lin et al. 2021, section 3.1): early maps are the largest, so only a piece
of each is ever computed, and neighbouring pieces overlap by the halo that kernels reach beyond
them. Here a patch is a chain of TFLite operators. STRIDED_SLICE reads what it needs straight from
the image, and crops where a block adds its input; convolutions keep SAME padding where it means
the same on a patch, run without where nothing is to be padded, and read a PAD else;
CONCATENATION joins the patches of a row, then the rows. Results are those of the whole graph, bit
for bit: padding with the zero point adds nothing, as SAME does. All patches read the same
constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tinynas.cost.memory import CONVOLUTIONS, live_bytes
from tinynas.cost.patch_regions import (
    COLUMNS,
    ROWS,
    Interval,
    Region,
    clip_region,
    cuts,
    kernel_reach,
    read_region,
    regions,
)
from tinynas.graph import Graph, Op, Padding, Tensor, same_padding

PATCH_MARK = "@"  # between an operator's name and its patch
LARGEST_JOIN = 10  # kMaxInputNum of TFLM's concatenation.cc
FEWEST_PATCHES = 2


def source_name(name: str) -> str:
    """The name, in the graph that was patched, of an operator or tensor of the patched graph."""
    return name.partition(PATCH_MARK)[0]


def _runs_on_patches(graph: Graph, op: Op) -> bool:
    """Whether the operator's output at a pixel depends on pixels around it alone."""
    inputs = [graph.tensors[t] for t in graph.activations(op)]
    shapes = {tensor.shape for tensor in inputs}
    if any(len(tensor.shape) != 4 or tensor.dtype != "int8" for tensor in inputs):
        return False
    if op.kind == "ADD":
        return len(inputs) == 2 and len(shapes) == 1
    return op.kind in CONVOLUTIONS and len(inputs) == 1


def _prefixes(graph: Graph) -> Iterator[int]:
    """How many operators from the first on can run in patches and end with one activation."""
    if len(graph.inputs) != 1:
        return
    unread = {graph.inputs[0]: 0}
    lifetimes = graph.lifetimes()
    for step, op in enumerate(graph.ops[:-1]):
        if not _runs_on_patches(graph, op):
            return
        unread |= {t: lifetimes[t][1] for t in op.outputs}
        if [t for t, last in unread.items() if last > step] == list(op.outputs):
            yield step + 1


def _output(graph: Graph, split: int) -> Tensor:
    return graph.tensors[graph.ops[split - 1].outputs[0]]


def _pixels(tensor: Tensor) -> int:
    return tensor.shape[ROWS] * tensor.shape[COLUMNS]


def splits(graph: Graph) -> tuple[int, ...]:
    """Numbers of operators that may run in patches, in ascending order.

    After them one activation alone is in memory, of fewer pixels than the image has.
    """
    return tuple(
        split
        for split in _prefixes(graph)
        if _pixels(_output(graph, split)) < _pixels(graph.tensors[graph.inputs[0]])
    )


def _smallest_maps(graph: Graph) -> list[int]:
    """Of the splits at maps of each size in pixels, the first of those with the fewest bytes."""
    best: dict[int, int] = {}
    for split in splits(graph):
        output = _output(graph, split)
        other = best.get(_pixels(output))
        if other is None or output.size_bytes < _output(graph, other).size_bytes:
            best[_pixels(output)] = split
    return sorted(best.values())


def candidates(graph: Graph, largest: int = 4) -> Iterator[tuple[int, int]]:
    """Splits and numbers p of rows and columns, 2 to `largest`, with less alive than the graph.

    Splits are where maps have become small. For one p, later splits make the peak of the patches
    higher and that of the operators after them lower, so the last one that is looked at is the
    first at which the patches have the peak.
    """
    peak = max(live_bytes(graph))
    for p in range(FEWEST_PATCHES, largest + 1):
        for split in _smallest_maps(graph):
            if p > min(_output(graph, split).shape[ROWS : COLUMNS + 1]):
                break
            patched = patch(graph, split, p, p)
            live = live_bytes(patched)
            if max(live) < peak:
                yield split, p
            if max(live) > max(live[len(patched.ops) - len(graph.ops) + split :]):
                break


class _Piece(NamedTuple):
    """A tensor of the patched graph, and the region of the original that it holds."""

    tensor: int
    region: Region


class _Patcher:
    """The patched graph as it grows, with the tensors that its operators share."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self._copies: dict[int, int] = {}
        self._constants: dict[tuple[int, ...], int] = {}
        self._pieces: Counter[str] = Counter()

    def copy(self, tensor: int) -> int:
        """Number of the tensor that stands for an original as it is."""
        if tensor not in self._copies:
            self._copies[tensor] = self._new(self.graph.tensors[tensor])
        return self._copies[tensor]

    def append(self, op: Op) -> None:
        """An operator that does not run in patches."""
        inputs = tuple(t if t < 0 else self.copy(t) for t in op.inputs)
        outputs = tuple(self.copy(t) for t in op.outputs)
        self.ops.append(replace(op, inputs=inputs, outputs=outputs))

    def run(self, split: int, wanted: Region, patch: str) -> int:
        """The tensor that holds a region of the prefix's output, and what computes it."""
        graph, image = self.graph, self.graph.inputs[0]
        needed = regions(graph, split, wanted)
        _, rows, columns, _ = graph.tensors[image].shape
        pieces = {image: _Piece(self.copy(image), ((0, rows), (0, columns)))}
        for op in graph.ops[:split]:
            out = op.outputs[0]
            pieces[out] = self._run_op(op, pieces, needed[out], patch)
        return pieces[out].tensor

    def join(self, parts: Sequence[int], axis: int, name: str, out: int) -> int:
        """`out`, which the parts laid side by side along an axis are."""
        op = Op(name=name, kind="CONCATENATION", inputs=tuple(parts), outputs=(out,), axis=axis)
        self.ops.append(op)
        return out

    def piece(self, tensor: int, region: Region, patch: str) -> int:
        """A new tensor for a region of an original, which may reach beyond it."""
        original = self.graph.tensors[tensor]
        name = f"{original.name}{PATCH_MARK}{patch}"
        self._pieces[name] += 1
        if self._pieces[name] > 1:
            name = f"{name}.{self._pieces[name]}"
        rows, columns = (last - first for first, last in region)
        batch, _, _, channels = original.shape
        return self._new(replace(original, name=name, shape=(batch, rows, columns, channels)))

    def _new(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _constant(self, values: Sequence[int], shape: tuple[int, ...] = (4,)) -> int:
        key = tuple(values)
        if key not in self._constants:
            tensor = Tensor(name="", shape=shape, dtype="int32", constant=True, quantized=False)
            self._constants[key] = self._new(tensor)
        return self._constants[key]

    def _run_op(self, op: Op, pieces: Mapping[int, _Piece], out: Region, patch: str) -> _Piece:
        """`op` for a region of its output, and what its inputs need before it."""
        inputs, padding = [], op.padding
        for t in op.inputs:
            if t not in pieces:
                inputs.append(self.copy(t))
                continue
            read = read_region(self.graph, op, t, out)
            inside = clip_region(read, self.graph.tensors[t])
            number = self._slice(t, pieces[t], inside, patch)
            alone = _own_padding(op, read, inside)
            if alone is None:
                number = self._pad(t, number, read, inside, patch)
            padding = alone or "VALID"
            inputs.append(number)
        result = self.piece(op.outputs[0], out, patch)
        self.ops.append(
            replace(
                op,
                name=f"{op.name}{PATCH_MARK}{patch}",
                inputs=tuple(inputs),
                outputs=(result,),
                padding=padding,
            )
        )
        return _Piece(result, out)

    def _slice(self, tensor: int, piece: _Piece, wanted: Region, patch: str) -> int:
        if piece.region == wanted:
            return piece.tensor
        result = self.piece(tensor, wanted, patch)
        moved = (wanted[axis][0] - piece.region[axis][0] for axis in (0, 1))
        begin, shape = (0, *moved, 0), self.tensors[result].shape
        end = [first + size for first, size in zip(begin, shape, strict=True)]
        places = [self._constant(values) for values in (begin, end, (1, 1, 1, 1))]
        self.ops.append(
            Op(
                name=self.tensors[result].name,
                kind="STRIDED_SLICE",
                inputs=(piece.tensor, *places),
                outputs=(result,),
                begin=begin,
            )
        )
        return result

    def _pad(self, tensor: int, piece: int, read: Region, inside: Region, patch: str) -> int:
        result = self.piece(tensor, read, patch)
        pads = ((0, 0), *_pads(read, inside), (0, 0))
        self.ops.append(
            Op(
                name=self.tensors[result].name,
                kind="PAD",
                inputs=(piece, self._constant([n for pair in pads for n in pair], (4, 2))),
                outputs=(result,),
                pads=pads,
            )
        )
        return result


def _pads(read: Region, inside: Region) -> tuple[Interval, Interval]:
    """Pixels of padding before and after rows and columns."""
    rows, columns = ((b[0] - a[0], a[1] - b[1]) for a, b in zip(read, inside, strict=True))
    return rows, columns


def _own_padding(op: Op, read: Region, inside: Region) -> Padding | None:
    """How the operator pads what lies inside its input to all that it reads, if it can."""
    wanted = _pads(read, inside)
    if not any(map(any, wanted)):
        return "VALID"
    same = tuple(
        same_padding(last - first, kernel_reach(op, axis), op.stride[axis - 1])
        for axis, (first, last) in zip((ROWS, COLUMNS), inside, strict=True)
    )
    return "SAME" if same == wanted else None


def patch(graph: Graph, split: int, rows: int, columns: int) -> Graph:
    """The graph with its first `split` operators running on rows x columns patches.

    Names of patches' operators and tensors have a suffix, see `source_name`. The graph's own must
    not contain PATCH_MARK. Raises ValueError for a split after which more than one activation is
    in memory, or that is behind an operator that cannot run in patches, and for more patches
    along an axis than there are pixels or than TFLM can join.
    """
    _check(graph, split, rows, columns)
    if rows == columns == 1:
        return graph
    output = graph.ops[split - 1].outputs[0]
    width = graph.tensors[output].shape[COLUMNS]
    name = graph.tensors[output].name + PATCH_MARK
    patcher = _Patcher(graph)
    bands = []
    for row, down in enumerate(cuts(graph, split, ROWS, rows)):
        parts = [
            patcher.run(split, (down, across), f"{row}.{column}")
            for column, across in enumerate(cuts(graph, split, COLUMNS, columns))
        ]
        if rows > 1 and columns > 1:
            band = patcher.piece(output, (down, (0, width)), f"{row}")
            parts = [patcher.join(parts, COLUMNS, f"{name}{row}", band)]
        bands += parts
    patcher.join(bands, ROWS if rows > 1 else COLUMNS, f"{name}all", patcher.copy(output))
    for op in graph.ops[split:]:
        patcher.append(op)
    return Graph(
        name=graph.name,
        tensors=tuple(patcher.tensors),
        ops=tuple(patcher.ops),
        inputs=tuple(map(patcher.copy, graph.inputs)),
        outputs=tuple(map(patcher.copy, graph.outputs)),
    )


def _check(graph: Graph, split: int, rows: int, columns: int) -> None:
    possible = list(_prefixes(graph))
    if split not in possible:
        raise ValueError(f"patches must end after one of {possible} operators, got {split}")
    _, height, width, _ = _output(graph, split).shape
    for count, size, axis in ((rows, height, "rows"), (columns, width, "columns")):
        most = min(size, LARGEST_JOIN)
        if not 1 <= count <= most:
            raise ValueError(f"a map of {size} {axis} has 1 to {most} patches, got {count}")
