"""Which latency table answers for a runtime and version on an MCU.

Its own model of that version; else its model for any version; else its model of the best other
version; else the one of its core. What comes from another version or from the core is estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import hypot
from pathlib import Path

from tinynas.cost.latency_table import (
    ANY_VERSION,
    Entry,
    Model,
    Provenance,
    Table,
    Validation,
    core_table_name,
    find_table,
)
from tinynas.cost.op_shape import OpShape
from tinynas.errors import UsageError

# Standard deviation of the logarithm of what two versions of a runtime take for the same model on
# the same chip: 300 pairs of int8 models in latency_models/evidence, most of them of X-CUBE-AI.
BETWEEN_VERSIONS = 0.53
ENOUGH_FOR_TENTHS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The model and the measured operators that answer for a runtime on an MCU.

    `table` is the name of the table that the model is from, the MCU's or its core's; `provenance`
    and `spread` are those that the model has here.
    """

    mcu: str
    table: str
    model: Model
    provenance: Provenance
    spread: float
    entries: Mapping[OpShape, Entry] = field(default_factory=dict)

    @property
    def borrowed(self) -> bool:
        """Whether the model is that of the core."""
        return self.table != self.mcu

    @property
    def checked(self) -> Validation | None:
        """How far the model was off on models it had not seen, else on operators."""
        return next(
            (v for of in ("models", "operators") for v in self.model.validation if v.of == of),
            None,
        )

    def operator_spread(self) -> tuple[float, int]:
        """Spread and degrees of freedom of the latency of a single operator."""
        checked = next((v for v in self.model.validation if v.of == "operators"), None)
        if checked is None or self.spread != self.model.spread or not checked.spread:
            return self.spread, self.model.degrees
        return checked.spread, max(checked.groups - 1, 1)

    def words(self) -> str:
        """Runtime, version and whose model it is, as in `tflm-cmsis-nn 2022 of stm32f446`."""
        version = "" if self.model.version == ANY_VERSION else f" {self.model.version}"
        return f"{self.model.runtime}{version} of {self.table}"

    def rests_on(self) -> str:
        """What the model rests on, in words."""
        rows, networks = self.model.rows, self.model.architectures
        if self.borrowed:
            return f"carried over from other chips of its core, {self.table}"
        if not rows:
            return "fitted to no latency of this chip"
        of = f" of {_counted(networks, 'architecture')}" if networks else ""
        return f"fitted to {_counted(rows, 'measurement')}{of}"

    def error_text(self) -> str:
        """How far off the model was where it was checked, in words."""
        checked = self.checked
        if checked is None:
            return "checked against no measured latency"
        tau = checked.kendall_tau
        rank = "" if tau is None else f", Kendall's tau {tau:.2f}"
        most = f"by at most {checked.max_percent:.1f} %"
        if checked.count >= ENOUGH_FOR_TENTHS:
            most = f"by at most {checked.p90_percent:.1f} % on nine in ten"
        return (
            f"on {_counted(checked.count, checked.of[:-1])} that it had not seen off by "
            f"{checked.mean_percent:.1f} % on average, {most}{rank}"
        )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def known_of(table: Table, core: Table, runtime: str, version: str | None = None) -> Known | None:
    """What answers for a runtime, from the tables of the MCU and of its core; None for nothing.

    Without a version the best one answers.
    """
    exact = table.model(runtime, version) or table.model(runtime, ANY_VERSION)
    if exact:
        return _known(table, table, exact, exact.provenance, exact.spread)
    other = table.model(runtime)
    if other:
        return _known(table, table, other, "estimated", hypot(other.spread, BETWEEN_VERSIONS))
    of_core = core.model(runtime, version) or core.model(runtime, ANY_VERSION)
    if of_core:
        return _known(table, core, of_core, "estimated", of_core.spread)
    other = core.model(runtime)
    if other:
        return _known(table, core, other, "estimated", hypot(other.spread, BETWEEN_VERSIONS))
    return None


def _known(table: Table, of: Table, model: Model, provenance: Provenance, spread: float) -> Known:
    return Known(
        mcu=table.mcu,
        table=of.mcu,
        model=model,
        provenance=provenance,
        spread=spread,
        entries=table.measured(model.runtime, model.version),
    )


def find_known(
    mcu: str,
    core: str,
    runtime: str,
    version: str | None = None,
    devices: Path | None = None,
) -> Known:
    """What answers for a runtime on an MCU of a core, shipped or in the user's folder `devices`.

    Raises UsageError, with the runtimes whose latency is known there, where nothing does.
    """
    table, of_core = find_table(mcu, devices), find_table(core_table_name(core), devices)
    known = known_of(table, of_core, runtime, version)
    if known is None:
        names = dict.fromkeys((*table.runtimes, *of_core.runtimes))
        there = f"known there: {', '.join(names)}" if names else "nothing is known of its core"
        raise UsageError(
            f"no latency is known for {runtime} on {mcu} ({core}); {there}; import measurements "
            "of your own with tinynas lut import"
        )
    return known
