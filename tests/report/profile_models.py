"""A model small enough to be profiled by hand, for the tests of profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tinynas.config import config_from
from tinynas.cost.latency import Timer
from tinynas.cost.tflite_reader import ModelFile
from tinynas.graph import Graph, Op, Tensor
from tinynas.report.profile import Profile, profile_model
from tinynas.target import Target, resolve_target

# A 3x3 convolution, a 3x3 depthwise one, both added, and the same 1x1 convolution twice.
TENSORS = (
    Tensor(name="image", shape=(1, 8, 8, 3)),  # 192 bytes, in memory at operator 0
    Tensor(name="stem", shape=(1, 4, 4, 8)),  # 128, operators 0 to 2
    Tensor(name="middle", shape=(1, 4, 4, 8)),  # 128, operators 1 to 2
    Tensor(name="added", shape=(1, 4, 4, 8)),  # 128, operators 2 to 3
    Tensor(name="once", shape=(1, 4, 4, 8)),  # 128, operators 3 to 4
    Tensor(name="", shape=(1, 4, 4, 8)),  # 128, operator 4
    Tensor(name="stem/weights", shape=(8, 3, 3, 3), constant=True),
    Tensor(name="stem/bias", shape=(8,), dtype="int32", constant=True),
    Tensor(name="middle/weights", shape=(1, 3, 3, 8), constant=True),
    Tensor(name="middle/bias", shape=(8,), dtype="int32", constant=True),
    Tensor(name="shared/weights", shape=(8, 1, 1, 8), constant=True),
    Tensor(name="shared/bias", shape=(8,), dtype="int32", constant=True),
)
OPS = (
    Op(
        name="CONV_2D 0",
        kind="CONV_2D",
        inputs=(0, 6, 7),
        outputs=(1,),
        kernel=(3, 3),
        stride=(2, 2),
        padding="SAME",
        activation="RELU",
    ),
    Op(
        name="DEPTHWISE_CONV_2D 1",
        kind="DEPTHWISE_CONV_2D",
        inputs=(1, 8, 9),
        outputs=(2,),
        kernel=(3, 3),
        padding="SAME",
    ),
    Op(name="ADD 2", kind="ADD", inputs=(1, 2), outputs=(3,)),
    Op(name="CONV_2D 3", kind="CONV_2D", inputs=(3, 10, 11), outputs=(4,)),
    Op(name="CONV_2D 4", kind="CONV_2D", inputs=(4, 10, 11), outputs=(5,)),
)
TINY = Graph(name="tiny", tensors=TENSORS, ops=OPS, inputs=(0,), outputs=(5,))


def target_of(mcu: str = "stm32l4r5", runtime: str = "tflm") -> Target:
    """A chip; reference kernels have no scratch buffers for the operators here."""
    return resolve_target(config_from(None, {"target": {"mcu": mcu, "runtime": runtime}}))


def target_without(group: str, mcu: str = "stm32l4r5") -> Target:
    """A chip for which nothing is known of a group of operators."""
    target = target_of(mcu)
    known = target.timer.known
    cycles = {name: costs for name, costs in known.model.cycles.items() if name != group}
    less = replace(known, model=known.model.model_copy(update={"cycles": cycles}))
    return replace(target, timer=Timer(less, target.timer.clock_hz))


def profile_of(
    graph: Graph = TINY,
    *,
    target: Target | None = None,
    offsets: Mapping[int, int] | None = None,
    file_bytes: int | None = 2000,
    plan: bool = False,
) -> Profile:
    """The profile of a graph as if it had been read from a file of so many bytes."""
    return profile_model(
        ModelFile(graph=graph, offsets=dict(offsets or {}), description=""),
        target or target_of(),
        path=Path("models/tiny.tflite"),
        file_bytes=file_bytes,
        plan=plan,
    )
