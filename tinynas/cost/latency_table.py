"""Latency tables: what is known of the cycles of one runtime's operators on one MCU.

`latency_models/tables/<mcu>.yaml` has the fitted models, a document for each runtime and version,
and `<mcu>.csv` beside it the operators that were measured on the device.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tinynas.cost.op_shape import KEY, OpShape, read_op_shape
from tinynas.errors import UsageError
from tinynas.space.spec import explain

Provenance = Literal["measured", "emulated", "calibrated", "estimated"]
# Best first: a sum is worth what its worst part is worth.
PROVENANCES: tuple[Provenance, ...] = ("measured", "emulated", "calibrated", "estimated")
# Where what applies to every version of a runtime is kept.
ANY_VERSION = "any"
ENTRY_COLUMNS = ("runtime", "version", *KEY, "cycles", "provenance", "source")

Text = Annotated[str, Field(min_length=1)]
Cycles = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Validation(_Strict):
    """How far off a model was on `count` latencies that it had not seen, of `groups` groups.

    A group is an architecture, or an operator's configuration: folds keep groups whole.
    `spread` is the standard deviation of log(measured / predicted) about zero. The baseline is one
    figure of cycles per multiply-accumulate, fitted and checked in the same way.
    """

    of: Literal["models", "operators"]
    count: Annotated[int, Field(gt=0, strict=True)]
    groups: Annotated[int, Field(gt=0, strict=True)]
    method: Text
    mean_percent: Percent
    p90_percent: Percent
    max_percent: Percent
    within_10_percent: Percent
    kendall_tau: Annotated[float, Field(ge=-1, le=1)] | None = None
    spread: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    baseline_mean_percent: Percent | None = None


class Model(_Strict):
    """A kernel cost model: cycles by group of operators and feature, and of a whole inference.

    Groups and features are those of `latency_features`. `spread` is the standard deviation of
    log(measured / predicted) that intervals are made of, at `degrees` degrees of freedom.
    """

    runtime: Text
    version: Text
    provenance: Provenance
    source: Text
    rows: Count
    architectures: Count
    spread: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    degrees: Annotated[int, Field(gt=0, strict=True)]
    validation: tuple[Validation, ...] = ()
    per_inference: Cycles = 0.0
    cycles: dict[Text, dict[Text, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The cycles of one operator, and where they come from."""

    cycles: float
    provenance: Provenance
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All that is known of one MCU: models by (runtime, version), the best version first.

    `entries` are by the same keys, then by configuration.
    """

    mcu: str
    models: dict[tuple[str, str], Model] = field(default_factory=dict)
    entries: dict[tuple[str, str], dict[OpShape, Entry]] = field(default_factory=dict)

    def model(self, runtime: str, version: str | None = None) -> Model | None:
        """The model of a runtime's version, of its first one without a version."""
        if version is not None:
            return self.models.get((runtime, version))
        return next((m for (name, _), m in self.models.items() if name == runtime), None)
