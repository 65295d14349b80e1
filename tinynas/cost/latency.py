"""Latency of operators and networks on an MCU, where it comes from and how sure it is.

The cycles of an operator are those that were measured, where its configuration is in the table,
else a sum of features times the coefficients of the table's model. A network takes the sum over
its operators and what an inference costs besides: single operators sum to whole models within
0.45 % (emulated Cortex-M, TensorFlow Lite Micro).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tinynas.cost.device import Device
from tinynas.cost.interval import CONFIDENCE, interval_factor
from tinynas.cost.latency_choice import Known, find_known
from tinynas.cost.latency_features import FEATURES, feature_values, group_of
from tinynas.cost.latency_table import ANY_VERSION, PROVENANCES, Model, Provenance
from tinynas.cost.op_shape import OpShape, op_shape
from tinynas.errors import UsageError
from tinynas.graph import Graph, Op

US_PER_S, MS_PER_US = 1e6, 1e-3
# Types of activations that have kernels of their own, and the kinds between them and int8.
OTHER_TYPES, CONVERSIONS = frozenset({"float32", "int16"}), ("QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTime:
    """Microseconds of one operator, and where they come from."""

    us: float
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Parts of a network's latency and of its operators, as fractions."""

    time: float
    operators: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of one inference, their interval, and the shares of each provenance."""

    ms: float
    low_ms: float
    high_ms: float
    shares: Mapping[Provenance, Share]

    @property
    def provenance(self) -> Provenance:
        """The worst one that takes any of the time: a sum is worth what its worst part is."""
        return next((p for p in reversed(PROVENANCES) if p in self.shares), "estimated")


class Timer:
    """Times operators for one MCU, runtime and clock. Two timers are never equal.

    Raises UsageError for a model with coefficients of features that tinynas does not know.
    """

    def __init__(self, known: Known, clock_hz: float) -> None:
        self.known = known
        self.clock_hz = clock_hz
        self._us_per_cycle = US_PER_S / clock_hz
        self._coefficients = coefficients_of(known.model, known.table)

    @property
    def inference_us(self) -> float:
        """What an inference takes beside its operators."""
        return self.known.model.per_inference * self._us_per_cycle

    def cycles(self, shape: OpShape) -> tuple[float, Provenance]:
        """Cycles of an operator and where they come from.

        Raises ValueError for a kind that has no latency here: nothing costs zero by being unknown.
        """
        entry = self.known.entries.get(shape)
        if entry:
            return entry.cycles, entry.provenance
        group = group_of(shape)
        if group not in self._coefficients:
            raise ValueError(
                f"the latency of operator kind {shape.kind!r} ({group}) is not known for "
                f"{self.known.words()}"
            )
        values = feature_values(shape)
        cycles = sum(values[place] * cost for place, cost in self._coefficients[group])
        return cycles, self.known.provenance

    def op(self, graph: Graph, op: Op) -> OpTime:
        """Time of one operator of a graph; ValueError as of `cycles`, and for one not of int8."""
        if op.kind not in CONVERSIONS:
            wide = {graph.tensors[t].dtype for t in graph.activations(op)} & OTHER_TYPES
            if wide:
                raise ValueError(f"the latency of {op.kind} with {wide.pop()} is not known")
        cycles, provenance = self.cycles(op_shape(graph, op))
        return OpTime(us=cycles * self._us_per_cycle, provenance=provenance)

    def op_us(self, graph: Graph, op: Op) -> float:
        """Microseconds of one operator of a graph; ValueError as of `cycles`."""
        return self.op(graph, op).us

    def graph(self, graph: Graph) -> Latency:
        """Latency of a whole graph; ValueError as of `cycles`."""
        return self.total(self.op(graph, op) for op in graph.ops)

    def total(self, times: Iterable[OpTime]) -> Latency:
        """Latency of an inference that runs operators of these times, at least one."""
        each = list(times)
        whole = OpTime(us=self.inference_us, provenance=self.known.provenance)
        total_us = whole.us + sum(time.us for time in each)
        shares = {}
        for provenance in PROVENANCES:
            here = [time.us for time in each if time.provenance == provenance]
            us = sum(here) + (whole.us if whole.provenance == provenance else 0.0)
            if here or us:
                shares[provenance] = Share(
                    time=us / total_us if total_us else 0.0, operators=len(here) / len(each)
                )
        ms, factor = total_us * MS_PER_US, self.factor()
        return Latency(ms=ms, low_ms=ms / factor, high_ms=ms * factor, shares=shares)

    def factor(self, confidence: float = CONFIDENCE) -> float:
        """From a predicted latency to the upper end of its interval, and down to the lower."""
        return interval_factor(self.known.spread, self.known.model.degrees, confidence)


def coefficients_of(model: Model, name: str) -> dict[str, tuple[tuple[int, float], ...]]:
    """By group, the places of features that cost something, and cycles of each.

    Raises UsageError, with the `name` of the table, for a group or feature that is not known.
    """
    found = {}
    for group, cycles in model.cycles.items():
        unknown = sorted(cycles.keys() - set(FEATURES.get(group, ())))
        if group not in FEATURES or unknown:
            what = f"{group}.{unknown[0]}" if group in FEATURES else group
            known = ", ".join(FEATURES.get(group, FEATURES))
            raise UsageError(
                f"the table {name} gives {model.runtime} {model.version} cycles of {what!r}, "
                f"which is not known; known: {known}"
            )
        places = {feature: place for place, feature in enumerate(FEATURES[group])}
        found[group] = tuple((places[f], cost) for f, cost in cycles.items() if cost)
    return found


def unknowing_timer(device: Device, runtime: str) -> Timer:
    """A timer that knows the latency of no operator, for where memory is all that is asked."""
    nothing = Model(
        runtime=runtime,
        version=ANY_VERSION,
        provenance="estimated",
        source="nothing is known",
        rows=0,
        architectures=0,
        spread=1.0,
        degrees=1,
        cycles={},
    )
    known = Known(
        mcu=device.name, table=device.name, model=nothing, provenance="estimated", spread=1.0
    )
    return Timer(known, device.clock_hz.value)


def find_timer(
    device: Device, runtime: str, version: str | None = None, devices: Path | None = None
) -> Timer:
    """The timer of a runtime on an MCU; errors as those of `find_known` and `Timer`."""
    known = find_known(device.name, device.core, runtime, version, devices)
    return Timer(known, device.clock_hz.value)
