"""What a network's latency is a sum of: parts whose cost differs from engine to engine.

A part is some features of some groups of operators (multiplying in 1x1 convolutions, all else that
these do...). Emulated instructions of CMSIS-NN or of reference kernels say what its features cost
beside each other; how much the part takes is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tinynas.cost.latency_features import FEATURES, feature_values, group_of
from tinynas.cost.op_shape import OpShape
from tinynas.lut.evidence import op_shapes
from tinynas.lut.nonnegative import Coefficients
from tinynas.lut.operators import instructions

POINTWISE, WINDOWED, DEPTHWISE, DENSE = "pointwise", "windowed", "depthwise", "dense"
# Groups that multiply are split into multiplying and the rest.
MULTIPLYING = {
    "conv_1x1": POINTWISE,
    "conv_1x1_ragged": POINTWISE,
    "conv_1x1_strided": POINTWISE,
    "conv_stem": "stem",
    "conv_kxk": WINDOWED,
    "depthwise_3x3": DEPTHWISE,
    "depthwise": DEPTHWISE,
    "depthwise_multiplied": DEPTHWISE,
    "fully_connected": DENSE,
}
OTHERS = {
    "add": "add",
    "average_pool": "pool",
    "max_pool": "pool",
    "mean": "mean",
    "softmax": "softmax",
    "pad": "move",
    "move": "move",
    "reshape": "calls",
    "elementwise": "elementwise",
}
# 3x3 windows have kernels of their own for the multiplying in depthwise convolutions.
THREE_BY_THREE = "depthwise_3x3"
LOOPS = ("sixteens", "tap_fours", "row_fours")
# What the engines of vendors do with each layer's weights before they use them is no part of
# CMSIS-NN's instructions: a figure to start from for each output channel and each weight.
OWN_KERNELS: Mapping[str, float] = {"channels": 100.0, "weights": 1.0}
# Cycles of an inference around its operators, to start from.
INFERENCE_COST = 1000.0
PARTS = (
    "pointwise.macs",
    "pointwise.rest",
    "windowed.macs",
    "windowed.rest",
    "stem.macs",
    "stem.rest",
    "depthwise_3x3.macs",
    "depthwise.macs",
    "depthwise.rest",
    "dense.macs",
    "dense.rest",
    "channels",
    "weights",
    "add",
    "pool",
    "mean",
    "softmax",
    "move",
    "elementwise",
    "interpolated",
    "calls",
    "inference",
)


def part_of(group: str, feature: str, own_kernels: bool) -> str:
    """The part that a feature of a group of operators belongs to."""
    if feature == "calls":
        return "calls"
    if group not in MULTIPLYING:
        return "interpolated" if feature == "interpolated" else OTHERS[group]
    if own_kernels and feature in OWN_KERNELS:
        return feature
    multiplies = feature.endswith("macs") or feature in LOOPS
    name = THREE_BY_THREE if multiplies and group == THREE_BY_THREE else MULTIPLYING[group]
    return f"{name}.{'macs' if multiplies else 'rest'}"


@cache
def base(build: str, own_kernels: bool) -> Coefficients:
    """What each feature costs at a factor of one, by group: a build's instructions."""
    found = {group: dict(known) for group, known in instructions(build).items()}
    if own_kernels:
        for group, known in found.items():
            if group in MULTIPLYING and MULTIPLYING[group] != DENSE:
                here = {
                    name: cost for name, cost in OWN_KERNELS.items() if name in FEATURES[group]
                }
                found[group] = {**known, **here}
    return found


@cache
def _op_costs(shape: OpShape, build: str, own_kernels: bool) -> tuple[tuple[str, float], ...]:
    group = group_of(shape)
    known = base(build, own_kernels)[group]
    named = zip(FEATURES[group], feature_values(shape), strict=True)
    return tuple(
        (part_of(group, name, own_kernels), known[name] * value)
        for name, value in named
        if name in known and value
    )


@cache
def part_costs(architecture: str, build: str, own_kernels: bool) -> tuple[float, ...]:
    """The cost of each of PARTS of a network at a factor of one."""
    return shape_costs(op_shapes(architecture), build, own_kernels, INFERENCE_COST)


def shape_costs(
    shapes: tuple[OpShape, ...], build: str, own_kernels: bool, inference: float = 0.0
) -> tuple[float, ...]:
    """The same of operators, with what goes on around them."""
    found = dict.fromkeys(PARTS, 0.0)
    for shape in shapes:
        for part, cost in _op_costs(shape, build, own_kernels):
            found[part] += cost
    found["inference"] += inference
    return tuple(found.values())
