"""Cycles of operators as people measure them: CSV files, and what TFLM's MicroProfiler printed.

What a log has more than once counts as its median.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from tinynas.cost.latency import CONVERSIONS, OTHER_TYPES
from tinynas.cost.latency_table import LARGEST_CYCLES
from tinynas.cost.model_file import read_model
from tinynas.cost.op_shape import WINDOWED, OpShape, op_shape
from tinynas.errors import UsageError
from tinynas.graph import Graph, Op, Padding, output_size
from tinynas.lut.board import Board
from tinynas.lut.names import mcu_name, runtime_name
from tinynas.lut.profiled import cycles_per_tick, match, operator_names
from tinynas.lut.profiler_log import ProfilerLog, read_profiler_log
from tinynas.lut.rows import Row, RowFile, parse_rows, positive, read_text, shape_of

# Columns that say how long an operator took, and what a figure in them is multiplied by to get
# cycles: 1, or the clock times that many seconds.
TIMES = {"cycles": None, "op_cycles": None, "us": 1e-6, "ms": 1e-3}
# What an operator must take to be timed to a tenth.
LEAST_TICKS = 10
SHOWN_OTHERS, LONGEST_SHOWN = 3, 60
ACTIVATIONS = ("", "relu", "relu6")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Cycles of operators, each the median of what the log has, and how they were read."""

    cycles: dict[OpShape, float]
    source: str
    notes: tuple[str, ...]


def read_log(
    path: Path, board: Board, *, model: Path | None = None, ticks_per_second: float | None = None
) -> Measured:
    """What a log has measured.

    `model` is the file that was profiled, needed for what MicroProfiler prints; its ticks are
    cycles unless the log or `ticks_per_second` says otherwise. Raises UsageError for a log of
    another model or of no known form.
    """
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    columns = {name.strip().strip('"') for name in first.split(",")}
    if columns & {"kind", "op"} and columns & TIMES.keys():
        return _from_rows(parse_rows(text.lstrip(), path), board)
    log = read_profiler_log(text)
    if not log.blocks and not log.totals:
        raise UsageError(
            f"{path} has neither events of TFLM's MicroProfiler (Log, LogCsv) nor a first line of "
            f"columns with op or kind, sizes, and one of {', '.join(TIMES)}"
        )
    if model is None:
        raise UsageError(
            f"{path} is what MicroProfiler printed, which does not say how large its operators "
            "are; give the model that was profiled with --model FILE.tflite"
        )
    return _from_profiler(log, path, model, board, ticks_per_second)


def _from_rows(file: RowFile, board: Board) -> Measured:
    """The rows of a CSV file that are of the board and its runtime."""
    found: dict[OpShape, list[float]] = defaultdict(list)
    others: Counter[str] = Counter()
    for number, row in file.rows:
        other = _other(row, board)
        if other:
            others[other] += 1
            continue
        try:
            shape = shape_of(row)
            if _is_of_another(shape):
                others[f"{shape.kind} with another operator's columns"] += 1
            else:
                found[_settled(shape)].append(_cycles(row, board))
        except ValueError as error:
            raise UsageError(f"{file.path}, line {number}: {error}") from None
    listed = [f"{count:,} of {name}" for name, count in others.most_common(SHOWN_OTHERS)]
    if len(others) > SHOWN_OTHERS:
        listed.append("others")
    left = f"; left out: {', '.join(listed)}" if listed else ""
    if not found:
        raise UsageError(
            f"{file.path} has no row of {board.device.name} with {board.runtime}{left}"
        )
    rows = sum(map(len, found.values()))
    return Measured(
        cycles={shape: median(each) for shape, each in found.items()},
        source=file.path.name,
        notes=(f"{rows:,} rows of {len(found):,} operators{left}",),
    )


def _other(row: Row, board: Board) -> str:
    """What a row is of that is not of the board and its runtime, or not measured; else empty."""
    names = ("mcu", "runtime", "provenance", "dtype")
    mcu, runtime, provenance, kind = (
        " ".join((row.get(name) or "")[:LONGEST_SHOWN].split()) for name in names
    )
    own = {mcu.lower(), mcu_name(mcu, row.get("core") or "")} if mcu else {board.device.name}
    named = runtime_name(runtime)[0] if runtime else board.runtime
    if board.device.name not in own or board.runtime not in (named, runtime.lower()):
        return f"{mcu or board.device.name} with {runtime or board.runtime}"
    if provenance not in ("", "measured"):
        return f"{provenance} latency"
    return "" if kind == "" or kind.split()[0] == "int8" else f"type {kind}"


def _is_of_another(shape: OpShape) -> bool:
    """Whether a kind without a window has one: its sizes are another operator's, too."""
    window = (shape.kernel_h, shape.kernel_w, shape.stride_h, shape.stride_w)
    return shape.kind in operator_names() and "_2D" not in shape.kind and max(window) > 1


def _settled(shape: OpShape) -> OpShape:
    """The configuration as a graph would have it; ValueError for one that no operator can have."""
    if shape.kind not in operator_names() and not shape.kind.startswith("CUSTOM:"):
        shown = shape.kind[:LONGEST_SHOWN]
        raise ValueError(f"{shown!r} is no kind of operator in TFLite's spelling")
    if shape.activation not in ACTIVATIONS:
        raise ValueError(f"activation must be relu, relu6 or empty, got {shape.activation!r}")
    if shape.kind in WINDOWED:
        _refuse_impossible(shape)
        return shape
    if shape.kind == "FULLY_CONNECTED" and shape.pixels == 1:
        shape = replace(shape, in_h=1, in_w=1, in_c=shape.inputs)
    return replace(shape, padding="")


def _refuse_impossible(shape: OpShape) -> None:
    """ValueError for a window that does not make the output of the input: a size is missing."""
    if shape.padding not in ("same", "valid"):
        raise ValueError(f"padding must be same or valid for {shape.kind}, got {shape.padding!r}")
    padding: Padding = "SAME" if shape.padding == "same" else "VALID"
    for axis, size, kernel, stride, out in (
        ("out_h", shape.in_h, shape.kernel_h, shape.stride_h, shape.out_h),
        ("out_w", shape.in_w, shape.kernel_w, shape.stride_w, shape.out_w),
    ):
        wanted = output_size(size, kernel, stride, padding)
        if out != wanted:
            raise ValueError(
                f"{axis} is {out}, but {shape.kind} makes {wanted} of {size} with a window of "
                f"{kernel}, a stride of {stride} and {shape.padding} padding"
            )


def _cycles(row: Row, board: Board) -> float:
    for name, seconds in TIMES.items():
        value = positive(row, name)
        if value is not None:
            mhz = positive(row, "clock_mhz")
            clock_hz = mhz * 1e6 if mhz else board.clock_hz
            return _plausible(value if seconds is None else value * seconds * clock_hz)
    raise ValueError(f"none of {', '.join(TIMES)} is given")


def _plausible(cycles: float) -> float:
    if not 1 <= cycles < LARGEST_CYCLES:
        raise ValueError(f"no operator takes {cycles:.3g} cycles")
    return cycles


def _from_profiler(
    log: ProfilerLog, path: Path, model: Path, board: Board, ticks_per_second: float | None
) -> Measured:
    """The operators of a profiled model, the median of its inferences each."""
    graph = read_model(model).graph
    found: dict[OpShape, list[float]] = defaultdict(list)
    left: Counter[str] = Counter()
    try:
        profiled = match(log, graph)
        tick = cycles_per_tick(profiled.events, board.clock_hz, ticks_per_second)
        for op, ticks in profiled.ticks:
            why = f"of fewer than {LEAST_TICKS} ticks" if ticks < LEAST_TICKS else _wide(graph, op)
            if why:
                left[why] += 1
            else:
                found[op_shape(graph, op)].append(_plausible(ticks * tick))
    except ValueError as error:
        raise UsageError(f"{path} and {model}: {error}") from None
    without = ", ".join(f"{count} {why}" for why, count in left.items())
    if not found:
        raise UsageError(f"{path} and {model}: none of the operators is of use: {without}")
    per_tick = "a cycle" if tick == 1 else f"{tick:.6g} cycles"
    return Measured(
        cycles={shape: median(each) for shape, each in found.items()},
        source=f"{path.name} of {model.name}",
        notes=(
            profiled.note + (f"; operators left out: {without}" if left else ""),
            f"a tick is taken for {per_tick} of the {board.clock_hz / 1e6:g} MHz clock",
        ),
    )


def _wide(graph: Graph, op: Op) -> str:
    """The type of an operator that does not run the kernels for int8; else empty."""
    if op.kind in CONVERSIONS:
        return ""
    wide = {graph.tensors[t].dtype for t in graph.activations(op)} & OTHER_TYPES
    return f"of {min(wide)}" if wide else ""
