"""Latency of a graph on an MCU, estimated: a sum of cycles over operators, over the clock.

Each operator costs its rates' cycles per multiply-accumulate, per output and per call. The rates,
how they were derived and how far off they were on measurements lie in `latency_models/<mcu>.yaml`.
Operators are additive: single-operator counts sum to whole models within 0.45 % (emulated
Cortex-M, TensorFlow Lite Micro).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from tinynas.cost.device import Device, OperatorCycles, Rates
from tinynas.cost.op_values import Shape
from tinynas.graph import Graph, Op, op_macs, output_size, same_padding

US_PER_S, MS_PER_US = 1e6, 1e-3


def _conv_rates(cycles: OperatorCycles, graph: Graph, op: Op) -> Rates:
    _, kh, kw, _ = graph.tensors[op.inputs[1]].shape
    return cycles.conv_1x1 if (kh, kw) == (1, 1) else cycles.conv_kxk


RATES: dict[str, Callable[[OperatorCycles, Graph, Op], Rates | None]] = {
    "CONV_2D": _conv_rates,
    "DEPTHWISE_CONV_2D": lambda cycles, graph, op: cycles.depthwise_conv_2d,
    "FULLY_CONNECTED": lambda cycles, graph, op: cycles.fully_connected,
    "ADD": lambda cycles, graph, op: cycles.add,
    "AVERAGE_POOL_2D": lambda cycles, graph, op: cycles.average_pool_2d,
    "PAD": lambda cycles, graph, op: cycles.pad,
    "STRIDED_SLICE": lambda cycles, graph, op: cycles.move,
    "CONCATENATION": lambda cycles, graph, op: cycles.move,
}


def _pad_runs(shape: Shape, op: Op) -> int:
    """Three to a row: what is added before, the input's bytes, what is added after."""
    return 3 * prod(shape[:-2])


def _slice_runs(shape: Shape, op: Op) -> int:
    """One for each pixel, even where neighbours are taken (reference/strided_slice.h)."""
    return prod(shape[:-1]) if op.begin else prod(shape)


def _joined_runs(shape: Shape, op: Op) -> int:
    """One of each part for each index before the axis (reference/concatenation.h)."""
    return len(op.inputs) * prod(shape[: op.axis]) if op.axis is not None else prod(shape)


# Runs of neighbouring bytes moved at once, by the output's shape; each element alone, which is
# the most there can be, where the graph does not say what is taken or joined.
RUNS: dict[str, Callable[[Shape, Op], int]] = {
    "PAD": _pad_runs,
    "STRIDED_SLICE": _slice_runs,
    "CONCATENATION": _joined_runs,
}


def _taps_inside(size: int, kernel: int, op: Op, axis: int) -> float:
    """Share of an axis' kernel taps that fall inside its `size` pixels, padding left out."""
    stride = op.stride[axis]
    outputs = output_size(size, kernel, stride, op.padding)
    before = same_padding(size, kernel, stride)[0] if op.padding == "SAME" else 0
    starts = [i * stride - before for i in range(outputs)]
    inside = sum(min(start + kernel, size) - max(start, 0) for start in starts)
    return inside / (outputs * kernel)


def _steps(graph: Graph, op: Op, rates: Rates) -> float:
    """What `per_mac` counts: multiply-accumulates, elements under a pool's windows, or runs."""
    if op.kind in RUNS:
        return RUNS[op.kind](graph.tensors[op.outputs[0]].shape, op)
    if op.kind == "AVERAGE_POOL_2D":
        return prod(graph.tensors[op.outputs[0]].shape) * prod(op.kernel)
    macs = op_macs(graph, op)
    if not rates.skips_padding:
        return macs
    _, height, width, _ = graph.tensors[op.inputs[0]].shape
    _, kh, kw, _ = graph.tensors[op.inputs[1]].shape
    return macs * _taps_inside(height, kh, op, 0) * _taps_inside(width, kw, op, 1)


def op_latency_us(graph: Graph, op: Op, device: Device, runtime: str) -> float:
    """Estimated microseconds of one operator.

    Raises ValueError for an operator kind that has no rates (PAD, STRIDED_SLICE and CONCATENATION
    where the device's file leaves them out), UsageError for an unknown runtime.
    """
    if op.kind not in RATES:
        raise ValueError(f"operator kind {op.kind!r} has no latency; known: {', '.join(RATES)}")
    rates = RATES[op.kind](device.runtime(runtime).latency.cycles, graph, op)
    if rates is None:
        raise ValueError(
            f"operator kind {op.kind!r} has no latency for {runtime} on {device.name}"
        )
    outputs = prod(graph.tensors[op.outputs[0]].shape)
    cycles = rates.per_mac * _steps(graph, op, rates) + rates.per_output * outputs + rates.per_call
    return cycles / device.clock_hz.value * US_PER_S


def graph_latency_ms(graph: Graph, device: Device, runtime: str) -> float:
    """Estimated milliseconds of one inference: the sum over the operators.

    Raises ValueError for an operator kind that has no rates, UsageError for an unknown runtime.
    """
    return sum(op_latency_us(graph, op, device, runtime) for op in graph.ops) * MS_PER_US
