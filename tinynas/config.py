"""The whole of a run's settings: one tree, one YAML file, unknown keys refused with their path."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tinynas.budget import parse_duration, parse_energy, parse_latency, parse_size
from tinynas.errors import UsageError
from tinynas.search.settings import SearchSettings
from tinynas.shrink import Method
from tinynas.supernet.settings import Accelerator, FinetuneSettings, TrainSettings
from tinynas.validation import validated
from tinynas.yaml_file import read_mapping

EXAMPLE = "of settings, such as seed: 1"


def _size(value: object) -> object:
    return _parsed(parse_size, value)


def _latency(value: object) -> object:
    return _parsed(parse_latency, value)


def _energy(value: object) -> object:
    return _parsed(parse_energy, value)


def _duration(value: object) -> object:
    return _parsed(parse_duration, value)


def _parsed(parse: Any, value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse(value)
    except UsageError as error:
        raise ValueError(str(error)) from None


SizeBytes = Annotated[int, BeforeValidator(_size), Field(gt=0)]
LatencyMs = Annotated[float, BeforeValidator(_latency), Field(gt=0)]
EnergyMj = Annotated[float, BeforeValidator(_energy), Field(gt=0)]
DurationS = Annotated[float, BeforeValidator(_duration), Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetConfig(_Strict):
    """The budget as asked for, and what the model will run on.

    `sram` and `flash` in bytes or as 320k, `latency` in ms or as 100ms, `energy` in mJ or as 5mJ.
    With a `confidence` the upper end of the interval that holds the latency with that probability
    must keep these limits. `max_macs` limits the multiply-accumulates of an inference. `devices`
    is a folder of the user's own device files and tables.
    """

    sram: SizeBytes | None = None
    flash: SizeBytes | None = None
    latency: LatencyMs | None = None
    energy: EnergyMj | None = None
    confidence: float | None = Field(default=None, gt=0, lt=1)
    max_macs: int | None = Field(default=None, ge=1)
    mcu: str | None = None
    runtime: str | None = None
    devices: str | None = None


class DataConfig(_Strict):
    """What to train on: `source` as after --data; at most so many images of each split."""

    source: str | None = None
    max_train_images: int | None = Field(default=None, ge=2)
    max_val_images: int | None = Field(default=None, ge=1)


class ShrinkConfig(_Strict):
    """How stage 1 looks at the spaces.

    With `patch` auto, networks may begin on patches where that lets a better one fit.
    """

    method: Method = "exact"
    patch: Literal["auto", "off"] = "auto"


class TrainConfig(TrainSettings):
    """How to train the supernet; `time`, in seconds or as 10m, replaces `epochs`."""

    time: DurationS | None = None


class QuantizeConfig(_Strict):
    """How many training images the ranges of activations are taken from."""

    calibration_images: int = Field(default=256, ge=1)


class Config(_Strict):
    """Everything that decides a run's result.

    `threads` is resolved when a run starts: results on a CPU depend on it.
    """

    target: TargetConfig = TargetConfig()
    data: DataConfig = DataConfig()
    space: str | None = None
    shrink: ShrinkConfig = ShrinkConfig()
    train: TrainConfig = TrainConfig()
    search: SearchSettings = SearchSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    quantize: QuantizeConfig = QuantizeConfig()
    seed: int = Field(default=0, ge=0, lt=2**32)
    threads: int | None = Field(default=None, ge=1, le=256)
    accelerator: Accelerator = "auto"

    def resolved(self) -> Config:
        """The same with every default that depends on this machine filled in."""
        return self if self.threads else self.model_copy(update={"threads": usable_cores()})

    def digest(self) -> str:
        """A hash of all settings: stages of another configuration are not taken over."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def to_yaml(self) -> str:
        """The YAML that `read_config` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_config(path: Path) -> Config:
    """The configuration of a YAML file; UsageError names file, key and rule if it breaks one."""
    return build_config(read_mapping(path, EXAMPLE, may_be_empty=True), {}, str(path))


def build_config(content: dict[str, Any], flags: dict[str, Any], name: str) -> Config:
    """The configuration of a file's content with command-line flags laid over it.

    `flags` has the same tree, None where a flag was not given. Raises UsageError.
    """
    return validated(Config, _overlay(content, flags), name)


def config_from(path: Path | None, flags: dict[str, Any]) -> Config:
    """The configuration of an optional file and flags over it."""
    content = read_mapping(path, EXAMPLE, may_be_empty=True) if path else {}
    return build_config(content, flags, str(path) if path else "command line")


def _overlay(content: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    merged = dict(content)
    for key, value in flags.items():
        if isinstance(value, dict):
            under = merged.get(key) or {}
            merged[key] = _overlay(under, value) if isinstance(under, dict) else under
        elif value is not None:
            merged[key] = value
    return merged
