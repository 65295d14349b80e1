"""How far an operator's output may lie over an input that it reads for the last time.

A kernel works from the front of its tensors to their end. If its output begins far enough below
such an input, every value is read before it is overwritten. How far depends on the order in which
the kernel reads and writes, so it is known per kernel library, for the kinds listed in RULES and
for nothing else. The same idea: diagonal memory optimisation (Blacker et al. 2020), in-place
depthwise convolution (Lin et al. 2020, MCUNet).

Orders were read from the sources of tflite-micro (kernels/internal/reference, micro/kernels) and
CMSIS-NN as of 2026; tests/deploy/test_overlap_proof.py replays them address by address. Distances
are those of the reference kernels, which the host runs too: the others read no later and write no
earlier, so what is safe for a library is safe for the host that verifies it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Literal

import numpy as np
import numpy.typing as npt

from tinynas.cost.kernels import Kernels
from tinynas.cost.memory import align
from tinynas.graph import Graph, Op, same_padding

SafeKernels = Literal["reference", "cmsis-nn", "cmsis-nn-mve", "any"]
# Distance from an operator's output up to an input, None where they must not overlap.
Rule = Callable[[Graph, Op, int], int | None]

SAFE_KERNELS: dict[Kernels, SafeKernels] = {
    "reference": "reference",
    "reference-int-enums": "reference",
    "host": "reference",
    "cmsis-nn-dsp": "cmsis-nn",
    "cmsis-nn-c": "cmsis-nn",
    "cmsis-nn-mve": "cmsis-nn-mve",
}


def safe_kernels(kernels: Kernels) -> SafeKernels:
    """The kernels for which a plan must be safe when a model runs on this library."""
    return SAFE_KERNELS[kernels]


def _first_read(
    size: int, outputs: int, kernel: int, stride: int, op: Op
) -> npt.NDArray[np.int64]:
    """First pixel along an axis that each of the output pixels reads."""
    before = same_padding(size, kernel, stride)[0] if op.padding == "SAME" else 0
    return np.maximum(np.arange(outputs, dtype=np.int64) * stride - before, 0)


def _lead(graph: Graph, op: Op) -> int:
    """Bytes by which writing gets ahead of reading: the largest p * Cout - m(p).

    Pixels p of the output are made in row-major order, Cout bytes each; m(p) is the lowest input
    byte that pixel p reads. Both are sums over rows and columns, so the maximum is one of each.
    """
    _, rows, columns, cin = graph.tensors[op.inputs[0]].shape
    _, out_rows, out_columns, cout = graph.tensors[op.outputs[0]].shape
    _, height, width, _ = graph.tensors[op.inputs[1]].shape
    y = _first_read(rows, out_rows, height, op.stride[0], op)
    x = _first_read(columns, out_columns, width, op.stride[1], op)
    by_row = np.arange(out_rows) * out_columns * cout - y * columns * cin
    by_column = np.arange(out_columns) * cout - x * cin
    return int(by_row.max() + by_column.max())


def _is_plain(graph: Graph, op: Op, tensor: int) -> bool:
    """Whether a convolution reads `tensor` as its image alone, one image, without holes."""
    image, weights = (graph.tensors[t] for t in op.inputs[:2])
    as_image = op.inputs[0] == tensor and op.inputs.count(tensor) == 1
    int8 = weights.constant and weights.dtype == "int8"
    return as_image and int8 and op.dilation == (1, 1) and image.shape[0] == 1


def _depthwise(graph: Graph, op: Op, tensor: int) -> int | None:
    """Bytes for a depthwise convolution of multiplier 1: pixel by pixel, channel by channel.

    For channel c of pixel p the kernel reads bytes m(p) + c and above, then writes byte p * C + c.
    Before pixel q it has written bytes up to q * C - 1, and it will read from m(q) on, which by
    D >= q * C - m(q) begins above them. Within pixel q, byte q * C + c is written before channel
    c + 1 is read, from m(q) + c + 1 on: the same D keeps them apart. Tight: with one byte less,
    the last byte written before the q with the largest lead falls on the first that it reads.
    """
    cin, cout = (graph.tensors[t].shape[-1] for t in (tensor, op.outputs[0]))
    plain = _is_plain(graph, op, tensor) and cin == cout
    return max(0, _lead(graph, op)) if plain else None


def _convolution(graph: Graph, op: Op, tensor: int) -> int | None:
    """Bytes for a convolution: pixel by pixel, the whole window again for each output channel.

    Before it reads for the last channel of pixel p, the kernel has written bytes up to
    p * Cout + Cout - 2, and what it reads begins at m(p): D > p * Cout + Cout - 2 - m(p). Reads of
    later pixels ask for less: what was written before pixel q ends at q * Cout - 1. Tight.
    """
    cin, cout = (graph.tensors[t].shape[-1] for t in (tensor, op.outputs[0]))
    grouped = graph.tensors[op.inputs[1]].shape[-1] != cin
    if grouped or not _is_plain(graph, op, tensor):
        return None
    return max(0, _lead(graph, op) + cout - 1)


def _two_at_once(graph: Graph, op: Op, tensor: int) -> int | None:
    """Bytes for a convolution in CMSIS-NN, scalar and DSP: None for 1x1 and within a single row.

    arm_convolve_s8 copies the windows of two pixels before it writes both: reads only move
    forward, writes only back, so that the reference distance is safe; it may not be tight. 1x1 is
    another function (arm_nn_mat_mult_nt_t_s8), with output channels in its outer loop: every pixel
    is read again after outputs of all were written. A row has a function of its own too
    (arm_convolve_1_x_n_s8), which without Helium calls arm_convolve_s8 in all versions seen.
    """
    _, height, width, _ = graph.tensors[op.inputs[1]].shape
    in_row = height == 1 and graph.tensors[tensor].shape[1] == 1
    return None if in_row or (height, width) == (1, 1) else _convolution(graph, op, tensor)


def _element_wise(graph: Graph, op: Op, tensor: int) -> int | None:
    """Bytes for operators that make byte i of the output from bytes i of their inputs: 0.

    Bytes in front of i are written when bytes i are read, one by one or in vectors. So the output
    may begin where the input does, or anywhere below; also over both inputs, or over one read
    twice. With broadcasting a byte is read again and again.
    """
    shape = graph.tensors[op.outputs[0]].shape
    read = [graph.tensors[t] for t in op.inputs]
    return 0 if all(t.shape == shape and t.dtype == "int8" for t in read) else None


def _strides(shape: tuple[int, ...]) -> list[int]:
    """Elements from one index to the next on each axis of a dense tensor."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _slice(graph: Graph, op: Op, tensor: int) -> int | None:
    """Bytes for a STRIDED_SLICE of neighbours: one memcpy for each run of the last axis.

    Run r of n bytes goes to r * n from r * n + s(r), where s(0) is what is skipped first and s
    never falls. C leaves a memcpy within overlapping memory undefined, so each run must lie wholly
    below its source: D >= n - s(0). That also keeps it below all later sources. Tight unless n is
    1: a single byte is read before it is written.
    """
    data, out = graph.tensors[tensor].shape, graph.tensors[op.outputs[0]].shape
    if op.inputs[0] != tensor or not len(op.begin) == len(data) == len(out):
        return None
    skipped = sum(b * s for b, s in zip(op.begin, _strides(data), strict=True))
    run = out[-1]
    return max(0, run - skipped) if run > 1 else 0


def _pad(graph: Graph, op: Op, tensor: int) -> int | None:
    """Bytes for a PAD: outputs in order, each a constant or the next byte of the input.

    Byte i of the input goes to o(i); by then the output is written up to o(i) - 1, and bytes from
    i on are still to be read: D >= o(i) - i, which grows with i. Tight.
    """
    data, out = graph.tensors[tensor].shape, graph.tensors[op.outputs[0]].shape
    if op.inputs[0] != tensor or not len(op.pads) == len(data) == len(out):
        return None
    last = (before + size - 1 for (before, _), size in zip(op.pads, data, strict=True))
    written = sum(index * stride for index, stride in zip(last, _strides(out), strict=True))
    return written - (prod(data) - 1)


def _pad_rows(graph: Graph, op: Op, tensor: int) -> int | None:
    """Bytes for a PAD in CMSIS-NN: a memcpy for each row, or pixel where channels are added.

    arm_pad_s8 copies n bytes from i to o(i) and fills what lies between. A run must lie wholly
    below its source, D >= o(i) + n - i, which grows with i; so do all later ones then. Tight for
    runs of several bytes. Never less than for the reference kernel, which PADV2 runs.
    """
    data = graph.tensors[tensor].shape
    bytewise = _pad(graph, op, tensor)
    if bytewise is None or len(data) != 4:
        return None
    run = data[3] if any(op.pads[3]) else data[2] * data[3]
    # The last byte goes from total - 1 to where its run of `run` bytes ends.
    return bytewise + run


# Kinds for which tflite-micro has kernels of CMSIS-NN (micro/kernels/cmsis_nn), and others, which
# run the reference kernel everywhere. RESHAPE and its like copy all at once: not safe.
_REPLACED = ("ADD", "MUL", "MAXIMUM", "MINIMUM")
_EVERYWHERE: dict[str, Rule] = {
    **dict.fromkeys(("SUB", "RELU", "RELU6", "LEAKY_RELU", "HARD_SWISH"), _element_wise),
    **dict.fromkeys(("LOGISTIC", "TANH", "QUANTIZE"), _element_wise),
    "STRIDED_SLICE": _slice,
}
_MVE: dict[str, Rule] = {
    **_EVERYWHERE,
    **dict.fromkeys(_REPLACED, _element_wise),
    **dict.fromkeys(("PAD", "PADV2"), _pad_rows),
}
RULES: dict[SafeKernels, Mapping[str, Rule]] = {
    "reference": {
        **_MVE,
        "DEPTHWISE_CONV_2D": _depthwise,
        "CONV_2D": _convolution,
        "PAD": _pad,
        "PADV2": _pad,
    },
    "cmsis-nn": {**_MVE, "DEPTHWISE_CONV_2D": _depthwise, "CONV_2D": _two_at_once},
    "cmsis-nn-mve": _MVE,
    "any": {},
}


def distance(graph: Graph, op: Op, tensor: int, safe: SafeKernels) -> int | None:
    """Bytes, not rounded, by which the output of `op` must begin below its input `tensor`.

    At that distance or more, the operator may write over that input while reading it, if nothing
    else needs it any more. None where no overlap is known to be safe with these kernels.
    """
    rule = RULES[safe].get(op.kind)
    if rule is None or tensor not in op.inputs or len(op.outputs) != 1:
        return None
    types = {graph.tensors[t].dtype for t in (tensor, op.outputs[0])}
    return rule(graph, op, tensor) if types == {"int8"} else None


def overlaps(graph: Graph, safe: SafeKernels) -> dict[tuple[int, int], int]:
    """Distance in bytes, a multiple of 16, for each pair (output, input) that may overlap.

    The input is one that its operator is the last to need: no constant, variable or graph output.
    """
    lifetimes = graph.lifetimes()
    allowed: dict[tuple[int, int], int] = {}
    for step, op in enumerate(graph.ops):
        for t in dict.fromkeys(graph.activations(op)):
            if t in lifetimes and t not in graph.outputs and lifetimes[t][1] == step:
                found = distance(graph, op, t, safe)
                if found is not None and op.outputs[0] in lifetimes:
                    allowed[op.outputs[0], t] = align(found)
    return allowed
