"""Small latency tables for tests, with figures that can be added up by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinynas.cost.latency import Timer
from tinynas.cost.latency_choice import Known
from tinynas.cost.latency_features import FEATURES
from tinynas.cost.latency_table import Entry, Model, Provenance, Table, table_yaml
from tinynas.cost.op_shape import OpShape

# Cycles of every group's call, and of these features wherever a group has them.
COSTS = {"calls": 100.0, "macs": 2.0, "outputs": 10.0, "window": 3.0, "copied": 5.0, "runs": 7.0}


def model(
    runtime: str = "tflm",
    version: str = "any",
    *,
    provenance: Provenance = "calibrated",
    spread: float = 0.1,
    scale: float = 1.0,
    without: tuple[str, ...] = (),
    **more: Any,
) -> Model:
    """A model in which features cost what COSTS says, times a scale."""
    cycles = {
        group: {name: scale * COSTS[name] for name in names if name in COSTS}
        for group, names in FEATURES.items()
        if group not in without
    }
    content = {
        "runtime": runtime,
        "version": version,
        "provenance": provenance,
        "source": "made up",
        "rows": 3,
        "architectures": 2,
        "spread": spread,
        "degrees": 4,
        "cycles": cycles,
        **more,
    }
    return Model.model_validate(content)


def table(*models: Model, mcu: str = "round", **entries: dict[OpShape, float]) -> Table:
    """A table of these models, with entries of any version by runtime."""
    return Table(
        mcu=mcu,
        models={(m.runtime, m.version): m for m in models},
        entries={
            (runtime, "any"): {
                shape: Entry(cycles=cycles, provenance="measured", source="bench")
                for shape, cycles in some.items()
            }
            for runtime, some in entries.items()
        },
    )


def timer(known_model: Model | None = None, clock_hz: float = 1e6, **known: Any) -> Timer:
    """A timer of one cycle to the microsecond."""
    found = known_model or model()
    facts = {
        "mcu": "round",
        "table": "round",
        "model": found,
        "provenance": found.provenance,
        "spread": found.spread,
        **known,
    }
    return Timer(Known(**facts), clock_hz)


def write_models(folder: Path, name: str, *models: Model) -> None:
    """The tables/<name>.yaml of a folder of devices."""
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    (folder / "tables" / f"{name}.yaml").write_text(table_yaml(models), encoding="utf-8")
