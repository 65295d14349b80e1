"""The board that something was measured on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tinynas.cost.device import Device, shipped_devices
from tinynas.errors import UsageError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
# A device file with the figures of a chip that does not exist.
EXAMPLE = """\
name: {name}
description: my board
core: Cortex-M4F
clock_hz: {{value: {clock_hz:.0f}, source: data sheet}}
sram_bytes: {{value: 262144, source: data sheet}}
sram_contiguous_bytes: {{value: 262144, source: data sheet}}
flash_bytes: {{value: 1048576, source: data sheet}}
reserve_sram_bytes: {{value: 16384, source: my firmware's map file}}
runtimes:
  {runtime}:
    description: what runs the model
    runtime_code_bytes: {{value: 131072, source: my firmware's map file}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What was measured on: the chip as its file describes it, its runtime and its clock."""

    device: Device
    runtime: str
    clock_hz: float


def find_board(
    mcu: str, runtime: str | None, clock_hz: float | None, devices: Path | None
) -> Board:
    """The board of that name, at its device file's clock if no other is given.

    Raises UsageError where no file describes it, with one that would.
    """
    known, name = shipped_devices(devices), mcu.lower()
    if not NAME.fullmatch(name):
        raise UsageError(
            f"--mcu {mcu!r} is no name: it must be of small letters, digits, '.', '_' and '-'"
        )
    if name not in known:
        text = EXAMPLE.format(
            name=name, clock_hz=clock_hz or 64e6, runtime=runtime or "tflm-cmsis-nn"
        )
        raise UsageError(
            f"no device file describes {mcu!r}, and an import needs its core and clock: take one "
            f"that `tinynas mcus` lists, or write {devices or 'devices'}/{name}.yaml, with your "
            f"own figures in\n{text}".rstrip()
        )
    device = known[name]
    device.runtime(runtime)
    return Board(
        device=device,
        runtime=runtime or device.default_runtime,
        clock_hz=clock_hz or device.clock_hz.value,
    )
