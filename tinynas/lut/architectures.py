"""Which layer lists are one architecture, so that a fold never holds half of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import combinations

from tinynas.cost.op_shape import OpShape
from tinynas.lut.evidence import op_shapes

# Variants that were trained otherwise, or for other classes, share more of their work than this.
SHARED_WORK = 0.9

Work = Counter[tuple[object, ...]]


def _macs(shape: OpShape) -> int:
    window = shape.kernel_h * shape.kernel_w * shape.outputs
    return window if shape.kind == "DEPTHWISE_CONV_2D" else window * shape.in_c


@cache
def _work(architecture: str) -> Work:
    """Multiply-accumulates by convolution, by fully connected operator where there is none."""
    shapes = op_shapes(architecture)
    convolutions = [s for s in shapes if s.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    found: Work = Counter()
    for shape in convolutions or [s for s in shapes if s.kind == "FULLY_CONNECTED"]:
        sizes = (shape.in_h, shape.in_w, shape.in_c, shape.out_h, shape.out_w, shape.out_c)
        found[shape.kind, sizes, shape.kernel_h, shape.kernel_w] += _macs(shape)
    return found


def shared_work(first: str, second: str) -> float:
    """The share of two networks' multiply-accumulates that both spend on the same operators."""
    a, b = _work(first), _work(second)
    both, either = (a & b).total(), (a | b).total()
    return both / either if either else 0.0


def architecture_groups(architectures: Sequence[str]) -> dict[str, str]:
    """The group of each layer list, named by one of it: those that are variants of one network."""
    names = sorted(set(architectures))
    group = {name: name for name in names}
    for first, second in combinations(names, 2):
        if group[first] != group[second] and shared_work(first, second) >= SHARED_WORK:
            kept, gone = sorted((group[first], group[second]))
            group = {name: kept if of == gone else of for name, of in group.items()}
    return group
