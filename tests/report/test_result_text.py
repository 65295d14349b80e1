"""The result of a search: each note belongs to a row, and they are numbered in order."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from tinynas.report.result_text import remarks, result_table, sources


def report(*, power_mw: float | None, runtime: str | None = "TFLM 1") -> dict[str, Any]:
    """As in 7_verify.json, as far as the result shows it."""
    times = {"latency_ms": 10.0, "latency_low_ms": 8.0, "latency_high_ms": 12.5}
    energy = None if power_mw is None else power_mw * 0.01
    return {
        "mcu": "board",
        "runtime": "tflm-cmsis-nn",
        "executed_by": runtime,
        "bit_exact": True if runtime else None,
        "test_images": 359,
        "predicted": {
            "sram_bytes": 3000,
            "sram_head_bytes": 2000,
            "flash_bytes": 5000,
            "macs": 123456,
            **times,
            **dict.fromkeys(("energy_mj", "energy_low_mj", "energy_high_mj"), energy),
        },
        "measured": {
            "sram_head_bytes": 2000 if runtime else None,
            "file_bytes": 5000,
            "accuracy_int8": 0.9,
            "accuracy_float": 0.91,
        },
        "budget": {
            "sram_bytes": 4000,
            "flash_bytes": 6000,
            "latency_ms": 20.0,
            "energy_mj": None,
            "macs": None,
        },
        "latency_provenance": "calibrated",
        "latency_shares": {"calibrated": {"time": 1.0, "operators": 1.0}},
        "latency_model": {
            "words": "a table",
            "clock_hz": 64_000_000,
            "rests_on": "fitted",
            "error_text": "off by 3 %",
        },
        "active_power_mw": None if power_mw is None else {"value": power_mw},
        "firmware": {"arena_bytes": 3000, "operators": ["AddAdd()"], "input": {"shape": [1]}},
        "left": None,
    }


def shown(content: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(result_table(content))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("power_mw", [None, 50.0])
@pytest.mark.parametrize("runtime", [None, "TFLM 1"])
def test_rows_refer_to_all_notes_in_order_and_to_no_others(
    power_mw: float | None, runtime: str | None
) -> None:
    content = report(power_mw=power_mw, runtime=runtime)
    marks = re.findall(r"\(\d+\)", shown(content))
    assert marks == [note.split()[0] for note in sources(content)]
    assert marks == [f"({n})" for n in range(1, 7 if power_mw is None else 8)]


def test_every_note_stands_by_its_row() -> None:
    content = report(power_mw=50.0)
    marks = dict(re.findall(r"^  +([^(\n]+?) (\(\d\))", shown(content), re.MULTILINE))
    notes = {note[:3]: note[4:] for note in sources(content)}
    assert notes[marks["energy, mJ"]] == "latency times the active power of board, 50 mW"
    assert notes[marks["latency, ms"]].startswith("a table at 64 MHz, fitted; off by 3 %; 100%")
    assert notes[marks["accuracy int8"]] == "359 test images; TFLM 1"
    assert notes[marks["its head, bytes"]].endswith("measured by TFLM 1")


@pytest.mark.parametrize("limit", [None, 234567])
def test_macs_stand_beside_their_limit(limit: int | None) -> None:
    content = report(power_mw=None)
    content["budget"]["macs"] = limit
    (row,) = (line.split() for line in shown(content).splitlines() if "MACs" in line)
    assert row == ["MACs", "123,456", "-", *([] if limit is None else ["234,567"])]


def test_energy_that_is_not_known_is_a_remark_and_no_row() -> None:
    without, powered = report(power_mw=None), report(power_mw=50.0)
    assert "energy" not in shown(without) and "energy, mJ" in shown(powered)
    words = "There is no energy: the active power of board is not known."
    assert words in remarks(without) and words not in remarks(powered)
    assert not any("there is no energy" in note for note in sources(without))
