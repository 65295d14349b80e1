"""What a run is for and what came out of it, as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from tinynas.budget import format_bytes
from tinynas.cost.interval import CONFIDENCE
from tinynas.target import Target


def timing_lines(target: Target) -> Iterator[str]:
    """The limits on latency, energy and MACs, and what is known of the latency, by lines."""
    budget, known = target.budget, target.timer.known
    surely = "" if budget.confidence is None else f", at a confidence of {budget.confidence:g}"
    if budget.latency_ms is not None:
        yield f"latency                    {budget.latency_ms:g} ms{surely}"
    if budget.energy_mj is not None:
        power = f"at {budget.power_mw:g} mW"
        yield f"energy                     {budget.energy_mj:g} mJ {power}{surely}"
    if budget.margin > 1 or budget.energy_mj is not None:
        yield f"so that may be predicted   {budget.predicted_ms:.4g} ms"
    if budget.macs is not None:
        yield f"multiply-accumulates       {budget.macs:,}"
    mhz = target.timer.clock_hz / 1e6
    why = "" if target.named else " (the default: no --mcu given, so it limits no memory)"
    chip = f"{target.device.name} at {mhz:g} MHz with {target.runtime}{why}"
    yield f"latency is {known.provenance + ' for':<16}{chip}"
    yield f"  {known.words()}, {known.rests_on()}; {known.error_text()}"


def _bytes(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row of the result; `source` says where its numbers come from, in a numbered note."""

    label: str
    predicted: str = "-"
    measured: str = "-"
    limit: str = ""
    source: str | None = None


def result_table(report: dict[str, Any]) -> Table:
    """Predicted beside measured, each in a column of its own, with the limit."""
    table = Table(title="Result", title_justify="left", title_style="bold", box=SIMPLE)
    table.add_column("")
    for name in ("predicted", "measured", "limit"):
        table.add_column(name, justify="right")
    number = count(1)
    for row in _rows(report):
        label = f"{row.label} ({next(number)})" if row.source else row.label
        table.add_row(label, row.predicted, row.measured, row.limit)
    return table


def sources(report: dict[str, Any]) -> list[str]:
    """Where the numbers of the table come from, by their marks."""
    notes = [row.source for row in _rows(report) if row.source]
    return [f"({number}) {words}" for number, words in enumerate(notes, start=1)]


def _rows(report: dict[str, Any]) -> Iterator[_Row]:
    """The rows from top to bottom."""
    yield from _memory_rows(report)
    yield from _time_rows(report)
    most = report["budget"]["macs"]
    yield _Row(
        label="MACs",
        predicted=f"{report['predicted']['macs']:,}",
        limit="" if most is None else f"{most:,}",
    )
    measured = report["measured"]
    where = report["executed_by"] or "integer simulation: there is no runtime for this host"
    yield _Row(
        label="accuracy int8",
        measured=f"{measured['accuracy_int8']:.4f}",
        source=f"{report['test_images']:,} test images; {where}",
    )
    yield _Row(
        label="accuracy float",
        measured=f"{measured['accuracy_float']:.4f}",
        source="the same images before quantisation, PyTorch",
    )


def _memory_rows(report: dict[str, Any]) -> Iterator[_Row]:
    predicted, measured, budget = report["predicted"], report["measured"], report["budget"]
    yield _Row(
        label="SRAM, arena, bytes",
        predicted=_bytes(predicted["sram_bytes"]),
        limit=_bytes(budget["sram_bytes"]),
        source=f"to reserve on the chip: memory plan, {report['runtime']} scratch buffers and "
        "TFLM's 32-bit records, by rule",
    )
    yield _Row(
        label="  its head, bytes",
        predicted=_bytes(predicted["sram_head_bytes"]),
        measured=_bytes(measured["sram_head_bytes"]),
        source="activations with reference kernels; measured by "
        f"{report['executed_by'] or 'nothing'}",
    )
    yield _Row(
        label="flash, file, bytes",
        predicted=_bytes(predicted["flash_bytes"]),
        measured=_bytes(measured["file_bytes"]),
        limit=_bytes(budget["flash_bytes"]),
        source="computed from the graph; measured is the length of 6_model.tflite",
    )


def _time_rows(report: dict[str, Any]) -> Iterator[_Row]:
    """Latency and energy with their intervals; no energy where the power is not known."""
    predicted, budget, worst = report["predicted"], report["budget"], report["latency_provenance"]
    written = {"latency": _latency_source, "energy": _energy_source}
    for what, unit in (("latency", "ms"), ("energy", "mJ")):
        value, low, high = (
            predicted[f"{what}_{end}{unit.lower()}"] for end in ("", "low_", "high_")
        )
        limit = budget[f"{what}_{unit.lower()}"]
        if value is not None:
            yield _Row(
                label=f"{what}, {unit}",
                predicted=f"{worst} {value:.4g}",
                limit="" if limit is None else f"{limit:g}",
                source=written[what](report),
            )
            ends = f"{low:.3g} to {high:.3g}"
            yield _Row(label=f"  its interval at {CONFIDENCE:.0%}", predicted=ends, measured="")


def _latency_source(report: dict[str, Any]) -> str:
    """What the latency rests on, how far off its model was, and the share of each provenance."""
    model = report["latency_model"]
    shares = ", ".join(
        f"{share['time']:.0%} of it and {share['operators']:.0%} of the operators {name}"
        for name, share in report["latency_shares"].items()
    )
    return (
        f"{model['words']} at {model['clock_hz'] / 1e6:g} MHz, {model['rests_on']}; "
        f"{model['error_text']}; {shares}"
    )


def _energy_source(report: dict[str, Any]) -> str:
    power_mw = report["active_power_mw"]["value"]
    return f"latency times the active power of {report['mcu']}, {power_mw:g} mW"


def remarks(report: dict[str, Any]) -> list[str]:
    """What the table leaves open, in sentences."""
    facts = report["firmware"]
    lines = []
    if report["bit_exact"] is not None:
        same = "equal" if report["bit_exact"] else "DIFFER from"
        lines.append(f"All int8 outputs of the runtime {same} those of the integer simulation.")
    else:
        lines.append("The runtime has not executed this model: it is not installed here.")
    if report["active_power_mw"] is None:
        lines.append(f"There is no energy: the active power of {report['mcu']} is not known.")
    lines.append(
        f"Firmware: reserve an arena of {facts['arena_bytes']:,} bytes, register "
        f"{', '.join(facts['operators'])}; input {facts['input']['shape']} int8 = pixel - 128."
    )
    if report["left"]:
        left = report["left"]
        lines.append(
            f"Left of {report['mcu']} for the application: {format_bytes(left['sram_bytes'])} of "
            f"SRAM and {format_bytes(left['flash_bytes'])} of flash."
        )
    return lines


def check_lines(result: dict[str, Any]) -> list[str]:
    """What `tinynas verify` found, line by line."""
    predicted, measured, budget = result["predicted"], result["measured"], result["budget"]
    safety = result["plan_safety"]
    verdict = "inside the budget" if result["holds"] else "NOT inside the budget"
    if safety and not safety["safe"]:
        verdict = f"its memory plan is NOT known to be safe with {result['runtime']}"
    lines = [f"{result['model']}: {verdict}"]
    lines.append(
        f"  flash  file {format_bytes(result['file_bytes'])}, "
        f"limit {format_bytes(budget['flash_bytes'])}"
    )
    if predicted:
        lines.append(
            f"  SRAM   predicted arena {format_bytes(predicted['sram_bytes'])}, "
            f"limit {format_bytes(budget['sram_bytes'])}"
        )
        lines.append(f"         predicted head {format_bytes(predicted['sram_head_bytes'])}")
    if measured and measured["sram_head_bytes"] is not None:
        lines.append(
            f"         measured head {format_bytes(measured['sram_head_bytes'])}, by "
            f"{result['executed_by']}"
        )
    return lines + [f"  {why}" for why in (*result["why"], *(safety["words"] if safety else ()))]
