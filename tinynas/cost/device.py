"""MCUs as people describe them: YAML files, every figure with its source."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tinynas.errors import UsageError
from tinynas.paths import data_dir
from tinynas.validation import validated
from tinynas.yaml_file import read_mapping

DEFAULT_DEVICE = "stm32f746"
# Preferred in this order: CMSIS-NN is what TFLM is built with on a Cortex-M.
DEFAULT_RUNTIMES = ("tflm-cmsis-nn", "tflm")

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Text = Annotated[str, Field(min_length=1)]
Milliwatts = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Strict):
    """A whole number above 0 (bytes, Hz) and where it comes from."""

    value: int = Field(gt=0, strict=True)
    source: Text


class Power(_Strict):
    """A power in mW and where it comes from; `low` and `high` are those of single measurements."""

    value: Milliwatts
    low: Milliwatts | None = None
    high: Milliwatts | None = None
    source: Text

    @model_validator(mode="after")
    def _value_between_its_ends(self) -> Power:
        if not self.lowest <= self.value <= self.highest:
            raise ValueError(
                f"value must lie from low ({self.lowest:g}) to high ({self.highest:g}), "
                f"got {self.value:g}"
            )
        return self

    @property
    def lowest(self) -> float:
        """The lower end of what was measured."""
        return self.value if self.low is None else self.low

    @property
    def highest(self) -> float:
        """The upper end of what was measured."""
        return self.value if self.high is None else self.high


class RuntimeInfo(_Strict):
    """What is known of one runtime on one MCU beside its latency, which tables have."""

    description: Text
    runtime_code_bytes: Figure


class Device(_Strict):
    """An MCU: clock in Hz, memories in bytes, active power in mW, and the runtimes known for it.

    `sram_contiguous_bytes` is the largest region that one arena can occupy, `reserve_sram_bytes`
    what stack and runtime take of it.
    """

    name: Name
    description: Text
    core: Text
    clock_hz: Figure
    sram_bytes: Figure
    sram_contiguous_bytes: Figure
    flash_bytes: Figure
    reserve_sram_bytes: Figure
    active_power_mw: Power | None = None
    runtimes: dict[Name, RuntimeInfo] = Field(min_length=1)

    @model_validator(mode="after")
    def _parts_fit_into_the_whole(self) -> Device:
        contiguous = self.sram_contiguous_bytes.value
        if contiguous > self.sram_bytes.value:
            raise ValueError(
                f"sram_contiguous_bytes must be at most sram_bytes ({self.sram_bytes.value}), "
                f"got {contiguous}"
            )
        if self.reserve_sram_bytes.value >= contiguous:
            raise ValueError(
                f"reserve_sram_bytes must be below sram_contiguous_bytes ({contiguous}), "
                f"got {self.reserve_sram_bytes.value}"
            )
        for name, runtime in self.runtimes.items():
            if runtime.runtime_code_bytes.value >= self.flash_bytes.value:
                raise ValueError(
                    f"runtimes.{name}.runtime_code_bytes must be below flash_bytes "
                    f"({self.flash_bytes.value}), got {runtime.runtime_code_bytes.value}"
                )
        return self

    @property
    def default_runtime(self) -> str:
        """The runtime taken when none is named: CMSIS-NN, else reference TFLM, else the first."""
        return next((r for r in DEFAULT_RUNTIMES if r in self.runtimes), next(iter(self.runtimes)))

    def runtime(self, name: str | None = None) -> RuntimeInfo:
        """What is known of a runtime, of the default one without a name.

        Raises UsageError, with the runtimes known, for any other.
        """
        if name is None:
            name = self.default_runtime
        if name not in self.runtimes:
            raise UsageError(
                f"runtime {name!r} is not known on {self.name}; known: {', '.join(self.runtimes)}"
            )
        return self.runtimes[name]


def read_device(path: Path) -> Device:
    """The MCU that a YAML file describes; its name is the file's.

    Raises UsageError, naming file, key and rule, for a file that cannot be read or breaks one.
    """
    content = read_mapping(path, "with name, core, clock_hz, ...")
    device = validated(Device, content, str(path))
    if device.name != path.stem:
        raise UsageError(f"{path}: name: must be the file's, {path.stem!r}, got {device.name!r}")
    return device


def shipped_devices(extra: Path | None = None) -> dict[str, Device]:
    """All MCUs that come with tinynas, by name, and those of the user's folder `extra`.

    A file in `extra` wins over the shipped one of its name. Raises UsageError when `extra` is no
    folder.
    """
    if extra is not None and not extra.is_dir():
        raise UsageError(f"{extra} is not a folder of device files (*.yaml)")
    folders = [data_dir("latency_models")] + ([extra] if extra else [])
    devices = [read_device(path) for folder in folders for path in sorted(folder.glob("*.yaml"))]
    return {device.name: device for device in devices}


def find_device(name: str, extra: Path | None = None) -> Device:
    """The MCU of that name, capitals allowed, shipped or in the user's folder `extra`.

    Raises UsageError with the nearest known name.
    """
    devices = shipped_devices(extra)
    wanted = name.lower()
    if wanted not in devices:
        near = difflib.get_close_matches(wanted, devices, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "or describe it in a folder of --devices"
        raise UsageError(f"unknown MCU {name!r}; known: {', '.join(devices)}; {hint}")
    return devices[wanted]
