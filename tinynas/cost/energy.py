"""Energy of an inference: its latency times the active power that was measured."""

from __future__ import annotations

from dataclasses import dataclass

from tinynas.cost.device import Power
from tinynas.cost.latency import Latency

MJ_PER_MS_MW = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Millijoules of one inference and their interval."""

    mj: float
    low_mj: float
    high_mj: float


def energy_of(latency: Latency, power: Power) -> Energy:
    """The energy of a latency; the interval is as wide as those of latency and power together."""
    return Energy(
        mj=latency.ms * power.value * MJ_PER_MS_MW,
        low_mj=latency.low_ms * power.lowest * MJ_PER_MS_MW,
        high_mj=latency.high_ms * power.highest * MJ_PER_MS_MW,
    )
