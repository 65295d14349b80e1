"""Which pixels of every map a patch needs, and where to cut so that no patch needs many.

Intervals along rows and along columns do not depend on each other, so all of it is arithmetic on
intervals: from a piece of an output back through kernels, strides and padding to the image.
"""

from __future__ import annotations

import numpy as np

from tinynas.graph import Graph, Op, Tensor, same_padding

Interval = tuple[int, int]  # the first pixel and the one after the last
Region = tuple[Interval, Interval]  # of rows and of columns

ROWS, COLUMNS = 1, 2  # axes of an activation


def reach(out: Interval, *, kernel: int, stride: int, before: int) -> Interval:
    """Pixels along an axis that outputs `out` read; those outside of the map are padding.

    `before` is how many pixels of padding the whole map has before its first.
    """
    return out[0] * stride - before, (out[1] - 1) * stride - before + kernel


def clip(interval: Interval, size: int) -> Interval:
    """What of an interval lies inside an axis of `size` pixels."""
    return max(interval[0], 0), min(interval[1], size)


def hull(a: Interval, b: Interval) -> Interval:
    """The smallest interval that holds both."""
    return min(a[0], b[0]), max(a[1], b[1])


def kernel_reach(op: Op, axis: int) -> int:
    """Pixels along an axis from a kernel's first to its last."""
    return (op.kernel[axis - 1] - 1) * op.dilation[axis - 1] + 1


def read_region(graph: Graph, op: Op, tensor: int, out: Region) -> Region:
    """Pixels of an input that `op` reads for a region of its output, padding included."""
    intervals = []
    for axis in (ROWS, COLUMNS):
        kernel, stride = kernel_reach(op, axis), op.stride[axis - 1]
        padded = op.padding == "SAME"
        size = graph.tensors[tensor].shape[axis]
        before = same_padding(size, kernel, stride)[0] if padded else 0
        intervals.append(reach(out[axis - 1], kernel=kernel, stride=stride, before=before))
    return intervals[0], intervals[1]


def clip_region(region: Region, tensor: Tensor) -> Region:
    """What of a region lies inside a map of shape (1, H, W, C)."""
    return clip(region[0], tensor.shape[ROWS]), clip(region[1], tensor.shape[COLUMNS])


def regions(graph: Graph, split: int, wanted: Region) -> dict[int, Region]:
    """The region of each activation that is needed for one of the prefix's output.

    By tensor number. Where several operators read a tensor, what holds all of their regions.
    """
    needed = {graph.ops[split - 1].outputs[0]: wanted}
    for op in reversed(graph.ops[:split]):
        for t in graph.activations(op):
            region = clip_region(
                read_region(graph, op, t, needed[op.outputs[0]]), graph.tensors[t]
            )
            rows, columns = needed.get(t, region)
            needed[t] = hull(rows, region[0]), hull(columns, region[1])
    return needed


def _piece_bytes(graph: Graph, split: int, axis: int) -> list[list[int]]:
    """Bytes of the largest piece of a map for outputs [a, b) along an axis, at [a][b].

    All of the other axis is taken. The image does not count: it is there as a whole.
    """
    output = graph.ops[split - 1].outputs[0]
    size, other = (graph.tensors[output].shape[a] for a in (axis, ROWS + COLUMNS - axis))
    # Where a region begins depends on a alone, where it ends on b alone: single pixels tell both.
    first, last = [], []
    for pixel in range(size):
        one, all_of = (pixel, pixel + 1), (0, other)
        needed = regions(graph, split, (one, all_of) if axis == ROWS else (all_of, one))
        del needed[graph.inputs[0]]
        first.append([region[axis - 1][0] for region in needed.values()])
        last.append([region[axis - 1][1] for region in needed.values()])
    line = [graph.tensors[t].size_bytes // graph.tensors[t].shape[axis] for t in needed]
    pixels = np.array(last)[None, :] - np.array(first)[:, None]  # (size, size, maps)
    largest: list[list[int]] = (pixels * line).max(axis=2).tolist()
    return [[0, *row] for row in largest]


def cuts(graph: Graph, split: int, axis: int, parts: int) -> tuple[Interval, ...]:
    """The prefix's output along an axis in `parts` whose largest piece of a map is smallest.

    Of such cuts one with about equal pieces. Patches in the middle need more pixels of earlier
    maps around them than those at the ends, so they are shorter.
    """
    weights = _piece_bytes(graph, split, axis)
    # By where the parts so far end: their largest piece, the sum of squares, where each ends.
    best: dict[int, tuple[int, int, tuple[int, ...]]] = {
        end: (weight, weight**2, (0, end)) for end, weight in enumerate(weights[0]) if end
    }
    for part in range(1, parts):
        best = {
            end: min(
                (max(most, weights[begin][end]), squares + weights[begin][end] ** 2, (*ends, end))
                for begin, (most, squares, ends) in best.items()
                if begin < end
            )
            for end in range(part + 1, len(weights) + 1)
        }
    ends = best[len(weights)][2]
    return tuple(zip(ends, ends[1:], strict=False))
