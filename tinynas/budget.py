"""Budgets: what a person types, in bytes, ms and mJ, and what a chip leaves of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from tinynas.cost.device import Device, Figure
from tinynas.errors import UsageError

KIB, MIB = 1024, 1024**2
MS_PER_S = 1000
# Data sheets of MCUs mean powers of 1,024 by all of these, so we do too.
SIZE_UNITS = {"": 1, "b": 1, "k": KIB, "kb": KIB, "kib": KIB, "m": MIB, "mb": MIB, "mib": MIB}
LATENCY_UNITS_MS = {"us": Fraction(1, 1000), "ms": Fraction(1), "s": Fraction(1000)}
FREQUENCY_UNITS_HZ = {"Hz": Fraction(1), "kHz": Fraction(1000), "MHz": Fraction(10**6)}
DURATION_UNITS_S = {"s": Fraction(1), "m": Fraction(60), "h": Fraction(3600)}
ENERGY_UNITS_MJ = {"uJ": Fraction(1, 1000), "mJ": Fraction(1), "J": Fraction(1000)}
# An MCU addresses 32 bits.
LARGEST_SIZE_BYTES = 2**32
QUANTITY = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]*)\s*")


def _split(text: str) -> tuple[Fraction, str] | None:
    match = QUANTITY.fullmatch(text)
    return (Fraction(match[1]), match[2]) if match else None


def parse_size(text: str) -> int:
    """Bytes of a size like 320k, 320KiB, 1.5m or 1048576; k is 1,024 and m 1,048,576.

    Raises UsageError for anything that is no whole number of bytes from 1 to 4 GiB.
    """
    parts = _split(text)
    if parts is None or parts[1].lower() not in SIZE_UNITS:
        raise UsageError(
            f"size {text!r} is not understood; write bytes or use k (1,024) or m (1,048,576), "
            "as in 320k, 320KiB, 1m or 327680"
        )
    size = parts[0] * SIZE_UNITS[parts[1].lower()]
    if size.denominator != 1:
        raise UsageError(f"size {text!r} is not a whole number of bytes; write the bytes out")
    if not 1 <= size <= LARGEST_SIZE_BYTES:
        raise UsageError(f"size {text!r} must be from 1 byte to 4 GiB, what an MCU can address")
    return int(size)


def _parse_unit(text: str, what: str, units: Mapping[str, Fraction], example: str) -> float:
    parts = _split(text)
    if parts is None or parts[1] not in units:
        raise UsageError(
            f"{what} {text!r} is not understood; write a number and a unit "
            f"({', '.join(units)}), as in {example}"
        )
    if parts[0] == 0:
        raise UsageError(f"{what} {text!r} must be above 0")
    return float(parts[0] * units[parts[1]])


def parse_latency(text: str) -> float:
    """Milliseconds of a latency like 100ms, 250us or 1.5s.

    Raises UsageError for anything else and for 0.
    """
    return _parse_unit(text, "latency", LATENCY_UNITS_MS, "100ms")


def parse_energy(text: str) -> float:
    """Millijoules of an energy like 5mJ or 300uJ.

    Raises UsageError for anything else and for 0.
    """
    return _parse_unit(text, "energy", ENERGY_UNITS_MJ, "5mJ")


def parse_frequency(text: str) -> float:
    """Hertz of a frequency like 64MHz or 32768Hz.

    Raises UsageError for anything else and for 0.
    """
    return _parse_unit(text, "frequency", FREQUENCY_UNITS_HZ, "64MHz")


def parse_duration(text: str) -> float:
    """Seconds of a time to spend like 90s, 10m or 1.5h.

    Raises UsageError for anything else and for 0.
    """
    return _parse_unit(text, "time", DURATION_UNITS_S, "10m")


def format_bytes(size_bytes: int) -> str:
    """Bytes as people read them: `327,680 bytes (320.0 KiB)`."""
    return f"{size_bytes:,} bytes ({size_bytes / KIB:,.1f} KiB)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a subnet may cost: bytes of arena and of model file, and ms and mJ per inference.

    Latency is predicted. With a `confidence` the upper end of its interval is held against the
    limits, which is the prediction times `margin`; else the prediction itself. Energy is that
    latency times `power_mw`. `macs` are multiply-accumulates, all that patches repeat counted.
    """

    sram_bytes: int
    flash_bytes: int
    latency_ms: float | None = None
    energy_mj: float | None = None
    confidence: float | None = None
    margin: float = 1.0
    power_mw: float | None = None
    macs: int | None = None

    @property
    def predicted_ms(self) -> float | None:
        """The most that a latency may be predicted to be; None where nothing limits it."""
        limits = [] if self.latency_ms is None else [self.latency_ms]
        if self.energy_mj is not None and self.power_mw is not None:
            limits.append(self.energy_mj / self.power_mw * MS_PER_S)
        return min(limits) / self.margin if limits else None

    @property
    def timed(self) -> bool:
        """Whether latency or energy are limited."""
        return self.predicted_ms is not None

    def at_most_ms(self, predicted_ms: float) -> float:
        """The latency that is held against the limit where one is predicted."""
        return predicted_ms * self.margin

    def at_most_mj(self, predicted_ms: float) -> float | None:
        """The energy that is held against the limit; None where the power is not known."""
        if self.power_mw is None:
            return None
        return self.at_most_ms(predicted_ms) * self.power_mw / MS_PER_S


def time_text(budget: Budget, predicted_ms: float) -> str:
    """A latency as predicted, and what is held against the limits where that is more."""
    words = f"a predicted {predicted_ms:.3g} ms"
    if budget.confidence is not None:
        words += (
            f" (at most {budget.at_most_ms(predicted_ms):.3g} ms at a confidence of "
            f"{budget.confidence:g})"
        )
    energy_mj = budget.at_most_mj(predicted_ms) if budget.energy_mj is not None else None
    return words if energy_mj is None else f"{words} and {energy_mj:.3g} mJ"


def _limit(flag: str, memory: str, asked: int | None, chip: Figure, usable: int, name: str) -> int:
    """What is asked, but no more than is usable; UsageError beyond the whole of the chip."""
    if asked is None:
        return usable
    if asked > chip.value:
        raise UsageError(
            f"{flag} asks for {format_bytes(asked)}, but {name} has {format_bytes(chip.value)} "
            f"of {memory}; ask for at most that"
        )
    return min(asked, usable)


def effective_budget(
    sram_bytes: int | None,
    flash_bytes: int | None,
    latency_ms: float | None,
    energy_mj: float | None,
    device: Device | None,
    runtime: str | None,
) -> Budget:
    """The limits that hold: what is asked, cut to what the chip leaves a model.

    With a device SRAM is at most its contiguous SRAM less the reserve, and flash at most its flash
    less the code of `runtime` (of its default runtime if None). Without one both are as given.
    Raises UsageError for a budget above the chip, for a runtime not known on it, and without a
    device for a budget that is missing.
    """
    if device is None:
        if sram_bytes is None or flash_bytes is None:
            raise UsageError(
                "without --mcu both --sram and --flash are needed, as in --sram 320k --flash 1m"
            )
    else:
        name, code = device.name, device.runtime(runtime).runtime_code_bytes.value
        sram_left = device.sram_contiguous_bytes.value - device.reserve_sram_bytes.value
        flash_left = device.flash_bytes.value - code
        sram_bytes = _limit("--sram", "SRAM", sram_bytes, device.sram_bytes, sram_left, name)
        flash_bytes = _limit("--flash", "flash", flash_bytes, device.flash_bytes, flash_left, name)
    return Budget(
        sram_bytes=sram_bytes, flash_bytes=flash_bytes, latency_ms=latency_ms, energy_mj=energy_mj
    )
