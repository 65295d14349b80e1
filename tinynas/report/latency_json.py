"""A predicted latency and energy as JSON, with what they rest on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tinynas.cost.energy import Energy
from tinynas.cost.latency import Latency, Timer

DIGITS = 6


def latency_json(latency: Latency | None, energy: Energy | None) -> dict[str, float | None]:
    """Latency in ms and energy in mJ with the ends of their 90 % intervals, None where unknown."""
    return {
        "latency_ms": _rounded(latency.ms if latency else None),
        "latency_low_ms": _rounded(latency.low_ms if latency else None),
        "latency_high_ms": _rounded(latency.high_ms if latency else None),
        "energy_mj": _rounded(energy.mj if energy else None),
        "energy_low_mj": _rounded(energy.low_mj if energy else None),
        "energy_high_mj": _rounded(energy.high_mj if energy else None),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def shares_json(latency: Latency | None) -> dict[str, dict[str, float]]:
    """The parts of a latency and of its operators by provenance."""
    return {name: asdict(share) for name, share in latency.shares.items()} if latency else {}


def model_json(timer: Timer) -> dict[str, Any]:
    """The model that predicts latencies, what it rests on and how far off it was."""
    known = timer.known
    return {
        "runtime": known.model.runtime,
        "version": known.model.version,
        "table": known.table,
        "words": known.words(),
        "provenance": known.provenance,
        "rests_on": known.rests_on(),
        "rows": known.model.rows,
        "architectures": known.model.architectures,
        "source": known.model.source,
        "clock_hz": timer.clock_hz,
        "error": known.checked.model_dump(mode="json") if known.checked else None,
        "error_text": known.error_text(),
    }
