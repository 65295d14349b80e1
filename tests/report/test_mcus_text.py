"""The list of chips: what was measured behind each table and how far off it was."""

from __future__ import annotations

import io
import json

from rich.console import Console

from tinynas.cost.device import shipped_devices
from tinynas.report.mcus_text import known_mcus, mcus_json, mcus_lines, mcus_table
from tinynas.report.whole_table import print_whole


def printed() -> str:
    console = Console(file=io.StringIO(), width=60, highlight=False)
    print_whole(console, mcus_table(known_mcus(None)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_chip_has_its_line_and_no_figure_is_cut() -> None:
    text = printed()
    names = [line.split()[0] for line in text.splitlines()[1:] if not line.startswith(" ")]
    assert names == list(shipped_devices())
    assert "\N{HORIZONTAL ELLIPSIS}" not in text


def test_rows_and_errors_are_those_of_the_model_that_answers() -> None:
    known = next(mcu for mcu in known_mcus(None) if mcu.device.name == "stm32h743")
    found = known.runtimes["tflm-cmsis-nn"]
    assert found is not None and found.checked is not None
    line = next(
        line
        for line in printed().splitlines()
        if line.startswith("stm32h743") and "tflm-cmsis-nn" in line
    )
    assert f"{found.checked.mean_percent:.1f}" in line.split()
    assert str(found.model.rows) in line.split() and line.split()[-1] == found.provenance


def test_json_has_every_version_with_source_and_validation() -> None:
    everything = json.loads(json.dumps(mcus_json(known_mcus(None)), allow_nan=False))
    for name, device in shipped_devices().items():
        latency = everything[name]["latency"]
        assert set(device.runtimes) <= latency.keys()
        for runtime in device.runtimes:
            assert latency[runtime]["answers"] and latency[runtime]["rests_on"]
        versions = [v for found in latency.values() for v in found["versions"]]
        assert all(version["source"] for version in versions)


def test_the_columns_are_explained() -> None:
    assert any("Kendall's" in line for line in mcus_lines(known_mcus(None)))
