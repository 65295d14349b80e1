"""Energy as measured power times latency, on the energy runs of MLPerf Tiny."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tinynas.cost.device import Power, shipped_devices
from tinynas.lut.models import Checked, checked_rows, is_nominal
from tinynas.lut.scores import scores


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRow:
    """One energy run: what it took, and what power times latency says (1 mW x 1 ms is 1 uJ).

    `from_latency_uj` takes the measured latency, `predicted_uj` the predicted one.
    """

    mcu: str
    measured_uj: float
    from_latency_uj: float
    predicted_uj: float
    inside: bool


def energy_rows() -> list[EnergyRow]:
    """Every energy run of a nominal network on an MCU whose file has a power."""
    devices = shipped_devices()
    found = []
    for checked in checked_rows():
        device = devices.get(checked.row.mcu)
        if checked.row.energy_uj and is_nominal(checked.row) and device and device.active_power_mw:
            found.append(_energy_row(checked, device.active_power_mw))
    return found


def _energy_row(checked: Checked, power: Power) -> EnergyRow:
    row = checked.row
    latency_ms = row.cycles * 1e3 / row.clock_hz
    measured = row.energy_uj or 0.0
    return EnergyRow(
        mcu=row.mcu,
        measured_uj=measured,
        from_latency_uj=power.value * latency_ms,
        predicted_uj=power.value * checked.cycles * 1e3 / row.clock_hz,
        inside=power.lowest <= measured / latency_ms <= power.highest,
    )


def energy_table(rows: list[EnergyRow]) -> str:
    """Errors by MCU of power times measured latency, and times latency of unseen networks."""
    found: dict[str, list[EnergyRow]] = defaultdict(list)
    for row in rows:
        found[row.mcu].append(row)
    lines = [
        "| MCU | energy runs | power x measured latency, mean % | power x predicted latency, "
        "mean % |\n|---|---|---|---|\n"
    ]
    for mcu, of in sorted(found.items()):
        truth = [r.measured_uj for r in of]
        known = scores(truth, [r.from_latency_uj for r in of]).mean_percent
        unseen = scores(truth, [r.predicted_uj for r in of]).mean_percent
        lines.append(f"| {mcu} | {len(of)} | {known:.1f} | {unseen:.1f} |\n")
    return "".join(lines)
