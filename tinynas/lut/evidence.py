"""The rows behind the latency tables, from `latency_models/evidence`, whose README has sources."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from tinynas.cost.layer_list import read_layer_list
from tinynas.cost.op_shape import OpShape, op_shape, read_op_shape
from tinynas.errors import UsageError
from tinynas.graph import Graph, Padding, output_size
from tinynas.lut.names import OPERATOR_VERSION, core_name, mcu_name, runtime_name
from tinynas.paths import data_dir

# When the rows were collected; the date of every fit, which nothing else changes.
COLLECTED = "2026-11-22"
HZ_PER_MHZ = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRow:
    """One operator timed on a device: its cycles, and those of the whole Invoke around it."""

    mcu: str
    core: str
    clock_hz: float
    runtime: str
    version: str
    shape: OpShape
    cycles: float
    invoke_cycles: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedRow:
    """Instructions of one operator in the emulator, as `invoke` with what is around it.

    `instructions` is None where only the whole Invoke could be counted.
    """

    sample: str
    shape: OpShape
    instructions: float | None
    invoke: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """One whole network timed on a device; `architecture` names its layer list, if known.

    `step_ms` is half a unit of the last digit that the source prints.
    """

    id: str
    group: str
    model: str
    architecture: str
    dtype: str
    mcu: str
    core: str
    clock_hz: float
    runtime: str
    version: str
    latency_ms: float | None
    step_ms: float
    energy_uj: float | None
    trust: str
    source: str
    notes: str

    @property
    def cycles(self) -> float:
        """Cycles of one inference at the row's clock; ValueError without a latency."""
        if self.latency_ms is None:
            raise ValueError(f"row {self.id} has no latency")
        return self.latency_ms * 1e-3 * self.clock_hz


def _text(name: str) -> str:
    path = data_dir("latency_models") / "evidence" / name
    if not path.is_file():
        raise UsageError(f"there is no {path}: the rows behind the tables come with a checkout")
    return gzip.decompress(path.read_bytes()).decode()


def _rows(name: str) -> Iterator[dict[str, str]]:
    return csv.DictReader(io.StringIO(_text(name)))


def _number(text: str) -> float | None:
    return float(text) if text else None


@cache
def operator_rows() -> tuple[OperatorRow, ...]:
    """The single operators timed on boards (TFLM with CMSIS-NN of 2022)."""
    return tuple(
        OperatorRow(
            mcu=mcu_name(row["mcu"], row["core"]),
            core=core_name(row["core"]),
            clock_hz=float(row["clock_mhz"]) * HZ_PER_MHZ,
            runtime=runtime_name(row["runtime"])[0],
            version=OPERATOR_VERSION,
            shape=read_op_shape(row),
            cycles=float(row["op_cycles"]),
            invoke_cycles=float(row["invoke_cycles"]),
            source=row["source"],
        )
        for row in _rows("operators.csv.gz")
    )


# Operators of vendors' pages in words: conv3x3 s2, 19x23x32->16 or 8x8x3->64 pad0.
KERNEL = re.compile(r"(dw)?conv(\d)x(\d)(?: s(?:(\d)|\((\d),(\d)\)))?")
SIZES = re.compile(r"(\d+)x(\d+)x(\d+)(?:->(\d+))?(?: pad(\d))?")
PAGE_RUNTIMES = {"ESP-NN optimized": "esp-nn", "ESP-DL SIMD": "esp-dl"}
PAGE_VERSION = "page"


@cache
def page_rows() -> tuple[OperatorRow, ...]:
    """Single convolutions of ESP-NN and ESP-DL, as Espressif's pages have them."""
    rows = (row for row in _rows("operators_scattered.csv.gz") if row["library"] in PAGE_RUNTIMES)
    return tuple(
        OperatorRow(
            mcu=mcu_name(row["mcu"], row["core"]),
            core=core_name(row["core"]),
            clock_hz=float(row["clock_mhz"]) * HZ_PER_MHZ,
            runtime=PAGE_RUNTIMES[row["library"]],
            version=PAGE_VERSION,
            shape=_page_shape(row["op"], row["shape"]),
            cycles=float(row["cycles"]),
            invoke_cycles=float(row["cycles"]),
            source=row["source"],
        )
        for row in rows
        if KERNEL.match(row["op"])
    )


def _page_shape(op: str, sizes: str) -> OpShape:
    kernel, size = KERNEL.match(op), SIZES.match(sizes)
    assert kernel and size, (op, sizes)
    high, wide = int(kernel[2]), int(kernel[3])
    down, across = int(kernel[4] or kernel[5] or 1), int(kernel[4] or kernel[6] or 1)
    pad = int(size[5] or 0)
    rows, columns, channels = int(size[1]) + 2 * pad, int(size[2]) + 2 * pad, int(size[3])
    padding: Padding = "VALID" if size[5] else "SAME"
    return OpShape(
        "DEPTHWISE_CONV_2D" if kernel[1] else "CONV_2D",
        rows,
        columns,
        channels,
        output_size(rows, high, down, padding),
        output_size(columns, wide, across, padding),
        int(size[4] or channels),
        kernel_h=high,
        kernel_w=wide,
        stride_h=down,
        stride_w=across,
        padding=padding.lower(),
    )


@cache
def emulated_rows(build: str) -> tuple[EmulatedRow, ...]:
    """The single operators counted in one build, cortex-m4-cmsisnn for one."""
    return tuple(
        EmulatedRow(
            sample=row["set"],
            shape=read_op_shape(row),
            instructions=_number(row["op_instructions"]),
            invoke=float(row["instructions"]),
        )
        for row in _rows("emulated_operators.csv.gz")
        if row["build"] == build
    )


@cache
def emulated_models(build: str) -> dict[str, float]:
    """Instructions of whole networks in one build, by layer list."""
    rows = _rows("emulated_models.csv.gz")
    return {row["model"]: float(row["instructions"]) for row in rows if row["build"] == build}


@cache
def emulated_kinds(build: str) -> dict[str, dict[str, float]]:
    """Instructions of whole networks in one build, by layer list and kind of operator."""
    rows = _rows("emulated_models.csv.gz")
    parts = {row["model"]: row["by_op"].split(";") for row in rows if row["build"] == build}
    return {
        model: {kind: float(count) for kind, _, count in (p.partition(":") for p in listed if p)}
        for model, listed in parts.items()
    }


@cache
def model_rows() -> tuple[ModelRow, ...]:
    """All whole networks timed on boards, those without latency or layer list too."""
    return tuple(_model_row(row) for row in _rows("models.csv.gz"))


def _model_row(row: dict[str, str]) -> ModelRow:
    runtime, version = runtime_name(row["runtime"], row["runtime_version"])
    return ModelRow(
        id=row["id"],
        group=row["group"],
        model=row["model"],
        architecture=PurePosixPath(row["arch_json"]).stem if row["arch_json"] else "",
        dtype=row["dtype"],
        mcu=mcu_name(row["mcu"], row["core"]),
        core=core_name(row["core"]),
        clock_hz=float(row["clock_mhz"]) * HZ_PER_MHZ,
        runtime=runtime,
        version=version,
        latency_ms=_number(row["latency_ms"]),
        step_ms=_step(row["latency_ms"]),
        energy_uj=_number(row["energy_uj"]),
        trust=row["trust"],
        source=row["source"],
        notes=row["notes"],
    )


def _step(printed: str) -> float:
    """Half a unit of the last digit: 0.05 of `12.3`; a last 0 is none, as 13 is given as 13.0."""
    digits = printed.rstrip("0").partition(".")[2]
    return 0.5 * 10.0 ** -len(digits)


@cache
def _layer_lists() -> dict[str, object]:
    lists: dict[str, object] = json.loads(_text("layer_lists.json.gz"))
    return lists


def architectures() -> tuple[str, ...]:
    """Names of all layer lists."""
    return tuple(_layer_lists())


@cache
def graph(architecture: str) -> Graph:
    """The network of a layer list. Raises KeyError for an unknown one."""
    return read_layer_list(json.dumps(_layer_lists()[architecture]).encode()).graph


@cache
def op_shapes(architecture: str) -> tuple[OpShape, ...]:
    """The configurations of a network's operators, in order of execution."""
    network = graph(architecture)
    return tuple(op_shape(network, op) for op in network.ops)


@cache
def mcu_facts() -> tuple[dict[str, str], ...]:
    """Memories, clock, measured power and sources of MCUs, as collected."""
    return tuple(_rows("mcus.csv.gz"))
