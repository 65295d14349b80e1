"""A model of six operators, a board it runs on, and what MicroProfiler prints of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hand_models import (
    HandOp,
    HandTensor,
    add_options,
    conv_options,
    fully_connected_options,
    hand_model,
    softmax_options,
)
from latency_tables import model, write_models

from tinynas.cost.op_shape import OpShape
from tinynas.lut.board import Board, find_board

MAP = HandTensor(shape=(1, 6, 6, 8))
ROW = HandTensor(shape=(1, 10))


def _weights(*shape: int) -> tuple[HandTensor, HandTensor]:
    """Weights of ones and biases of zeros."""
    count = shape[0]
    return (
        HandTensor(shape=shape, data=np.ones(shape, np.int8), scales=(0.01,) * count),
        HandTensor(
            shape=(count,), dtype="int32", data=np.zeros(count, np.int32), scales=(5e-4,) * count
        ),
    )


TENSORS = (
    *(HandTensor(shape=(1, 8, 8, 4)), MAP, MAP, MAP, MAP, ROW, ROW),
    *(*_weights(8, 3, 3, 4), *_weights(8, 1, 1, 8), *_weights(10, 288)),
)
OPS = (
    HandOp(kind="CONV_2D", inputs=(0, 7, 8), outputs=(1,), options=conv_options()),
    HandOp(kind="CONV_2D", inputs=(1, 9, 10), outputs=(2,), options=conv_options()),
    HandOp(kind="CONV_2D", inputs=(2, 9, 10), outputs=(3,), options=conv_options()),
    HandOp(kind="ADD", inputs=(2, 3), outputs=(4,), options=add_options()),
    HandOp(
        kind="FULLY_CONNECTED",
        inputs=(4, 11, 12),
        outputs=(5,),
        options=fully_connected_options,
    ),
    HandOp(kind="SOFTMAX", inputs=(5,), outputs=(6,), options=softmax_options),
)
KINDS = tuple(op.kind for op in OPS)
MODEL = hand_model(TENSORS, OPS, inputs=[0], outputs=[6])
# The two 1x1 convolutions are alike.
TICKS = (90_000, 21_000, 23_000, 6_000, 12_000, 3_000)
STEM = OpShape("CONV_2D", 8, 8, 4, 6, 6, 8, 3, 3, padding="valid")
POINTWISE = OpShape("CONV_2D", 6, 6, 8, 6, 6, 8, padding="valid")
ADDED = OpShape("ADD", 6, 6, 8, 6, 6, 8)
DENSE = OpShape("FULLY_CONNECTED", 1, 1, 288, 1, 1, 10)
SOFTMAX = OpShape("SOFTMAX", 1, 1, 10, 1, 1, 10)

DEVICE = """\
name: my_board
description: a board of mine
core: Cortex-M99
clock_hz: {value: 64000000, source: me}
sram_bytes: {value: 262144, source: me}
sram_contiguous_bytes: {value: 262144, source: me}
flash_bytes: {value: 1048576, source: me}
reserve_sram_bytes: {value: 16384, source: me}
runtimes:
  tflm:
    description: what runs the model
    runtime_code_bytes: {value: 131072, source: me}
"""


def as_log(ticks: Sequence[int] = TICKS, kinds: Sequence[str] = KINDS) -> str:
    """Of Log, at 64 ticks a microsecond."""
    return "".join(
        f"{kind} took {count} ticks ({count // 64_000} ms).\n"
        for kind, count in zip(kinds, ticks, strict=True)
    )


def as_csv(ticks: Sequence[int] = TICKS, kinds: Sequence[str] = KINDS) -> str:
    """Of LogCsv."""
    events = enumerate(zip(kinds, ticks, strict=True))
    lines = (f"{number},{kind},{count}\n" for number, (kind, count) in events)
    return '"Event","Tag","Ticks"\n' + "".join(lines)


def as_sums(ticks: Sequence[int] = TICKS, kinds: Sequence[str] = KINDS) -> str:
    """Of LogTicksPerTagCsv."""
    sums = {kind: 0 for kind in kinds}
    for kind, count in zip(kinds, ticks, strict=True):
        sums[kind] += count
    lines = (f"{kind}, {count}\n" for kind, count in sums.items())
    header = '"Unique Tag","Total ticks across all events with that tag."\n'
    return header + "".join(lines) + f'"total number of ticks", {sum(sums.values())}\n'


def describe_board(folder: Path, with_core: bool = True) -> Path:
    """A folder of devices with my_board, and with what is known of its core."""
    folder.mkdir(exist_ok=True)
    (folder / "my_board.yaml").write_text(DEVICE)
    if with_core:
        write_models(folder, "core-cortex-m99", model("tflm", spread=0.4))
    return folder


def board_in(folder: Path) -> Board:
    """my_board, at 64 MHz with tflm."""
    return find_board("my_board", None, None, folder)
