"""The chips that are known, and how far off the latencies predicted for them were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from tinynas.cost.device import DEFAULT_DEVICE, Device, shipped_devices
from tinynas.cost.latency_choice import Known, known_of
from tinynas.cost.latency_table import Table, core_table_name, find_table
from tinynas.paths import data_dir

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownMcu:
    """A chip, its table of latencies, and what answers for each runtime on it."""

    device: Device
    table: Table
    runtimes: dict[str, Known | None]


def known_mcus(devices: Path | None) -> list[KnownMcu]:
    """All chips, shipped and in the user's folder, by name."""
    found = []
    for name, device in shipped_devices(devices).items():
        table = find_table(name, devices)
        core = find_table(core_table_name(device.core), devices, entries=False)
        names = dict.fromkeys((*device.runtimes, *table.runtimes))
        runtimes = {runtime: known_of(table, core, runtime) for runtime in names}
        found.append(KnownMcu(device=device, table=table, runtimes=runtimes))
    return found


def tables_without_a_device(known: Sequence[KnownMcu]) -> list[str]:
    """Names of shipped tables of chips whose memories no file describes."""
    folder = data_dir("latency_models") / "tables"
    names = {path.stem for path in folder.glob("*.yaml") if not path.stem.startswith("core-")}
    return sorted(names - {mcu.device.name for mcu in known})


def mcus_table(known: Sequence[KnownMcu]) -> RichTable:
    """A line for each runtime of each chip."""
    table = RichTable(box=None, padding=(0, 2, 0, 0))
    for name in ("name", "core", "MHz", "SRAM KiB", "flash KiB", "runtime", "version"):
        table.add_column(name, no_wrap=True)
    for name in ("rows", "mean %", "p90 %", "tau"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("provenance", no_wrap=True)
    for mcu in known:
        chip = _chip_cells(mcu.device)
        for runtime, found in mcu.runtimes.items():
            table.add_row(*chip, runtime, *_latency_cells(found))
            chip = ("",) * len(chip)
    return table


def _chip_cells(device: Device) -> tuple[str, ...]:
    whole, piece = device.sram_bytes.value, device.sram_contiguous_bytes.value
    sram = f"{whole / KIB:g}" + (f" ({piece / KIB:g})" if piece < whole else "")
    return (
        f"{device.name} *" if device.name == DEFAULT_DEVICE else device.name,
        device.core,
        f"{device.clock_hz.value / 1e6:g}",
        sram,
        f"{device.flash_bytes.value / KIB:g}",
    )


def _latency_cells(known: Known | None) -> tuple[str, ...]:
    if known is None:
        return ("", "", "", "", "", "not known")
    rows = "-" if known.borrowed else f"{known.model.rows:,}"
    checked = known.checked
    if checked is None:
        return (known.model.version, rows, "-", "-", "-", known.provenance)
    tau = "-" if checked.kendall_tau is None else f"{checked.kendall_tau:.2f}"
    errors = f"{checked.mean_percent:.1f}", f"{checked.p90_percent:.1f}"
    return (known.model.version, rows, *errors, tau, known.provenance)


def mcus_lines(known: Sequence[KnownMcu]) -> Iterator[str]:
    """What the columns of the table mean."""
    yield (
        "* the default. SRAM in brackets: the largest region. rows: measured latencies behind the "
        "model of the runtime's best version; mean, p90: its errors on latencies that it had not "
        "seen, tau: Kendall's, of their order; - where nothing was measured."
    )
    others = tables_without_a_device(known)
    if others:
        yield f"Latencies alone, for lut check, are known of {', '.join(others)}."
    yield "All versions and every source: tinynas mcus --json"


def mcus_json(known: Sequence[KnownMcu]) -> dict[str, Any]:
    """By chip, what its file says, and for each runtime the models of all versions."""
    return {
        mcu.device.name: {
            **mcu.device.model_dump(mode="json"),
            "latency": {runtime: _runtime_json(mcu, runtime) for runtime in mcu.runtimes},
        }
        for mcu in known
    }


def _runtime_json(mcu: KnownMcu, runtime: str) -> dict[str, Any]:
    known = mcu.runtimes[runtime]
    models = [model for (name, _), model in mcu.table.models.items() if name == runtime]
    entries = [len(e) for (name, _), e in mcu.table.entries.items() if name == runtime]
    return {
        "answers": known and {"table": known.table, "version": known.model.version},
        "provenance": known and known.provenance,
        "rests_on": known and known.rests_on(),
        "entries": sum(entries),
        "versions": [model.model_dump(mode="json") for model in models],
    }
