"""`tinynas lut import` and `tinynas lut build` as a person meets them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from profiled_model import KINDS, MODEL, TICKS, as_csv, describe_board

ENTRIES = "devices/tables/my_board.csv"


def tinynas(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tinynas", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def lut(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return tinynas("lut", *arguments, cwd=cwd)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a profiled model, its log, one of another model, and devices/."""
    (tmp_path / "model.tflite").write_bytes(MODEL)
    (tmp_path / "log.txt").write_text("*** booting\n" + as_csv())
    (tmp_path / "other.txt").write_text(as_csv(TICKS[:4], KINDS[:4]))
    describe_board(tmp_path / "devices")
    return tmp_path


def test_a_log_becomes_a_table_that_a_space_is_written_out_with(folder: Path) -> None:
    answer = lut(
        *("import", "log.txt", "--mcu", "my_board", "--model", "model.tflite", "--json"),
        cwd=folder,
    )
    assert answer.returncode == 0, answer.stderr
    assert "1 inference of 6 operators; 1 other line skipped" in answer.stderr
    assert "use them with --mcu my_board --devices devices" in answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["operators"] == 5 and found["files"][0] == str((folder / ENTRIES).resolve())
    assert found["base"] == "tflm of core-cortex-m99"
    assert len((folder / ENTRIES).read_text().splitlines()) == 6
    answer = lut(
        *("build", "--mcu", "my_board", "--space", "mcunet-small", "--devices", "devices"),
        *("--out", "space.csv", "--classes", "10"),
        cwd=folder,
    )
    assert answer.returncode == 0, answer.stderr
    with (folder / "space.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert f"space.csv: {len(rows):,} operators of mcunet-small (10 classes" in answer.stdout
    assert "100.0% calibrated" in answer.stdout
    assert all(float(row["us"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("other.txt --mcu my_board --model model.tflite", "the log is of another model"),
        ("log.txt --mcu my_board", "give the model that was profiled with --model FILE.tflite"),
        ("none.txt --mcu my_board", "none.txt cannot be read"),
        ("log.txt --mcu your_board --clock 80MHz", "clock_hz: {value: 80000000"),
        ("log.txt --mcu my_board --clock fast", "frequency 'fast'"),
        ("log.txt --mcu my_board --runtime magic", "'magic' is not known on my_board"),
    ],
)
def test_an_import_that_cannot_be_done_is_explained(
    arguments: str, sentence: str, folder: Path
) -> None:
    answer = lut("import", *arguments.split(), cwd=folder)
    assert answer.returncode == 2
    assert sentence in answer.stderr and "Traceback" not in answer.stderr
    assert not (folder / "devices" / "tables" / "my_board.csv").exists()


def test_a_search_with_entries_alone_says_what_is_not_known(folder: Path) -> None:
    (folder / "devices" / "tables" / "core-cortex-m99.yaml").unlink()
    answer = lut("import", "log.txt", "--mcu", "my_board", "--model", "model.tflite", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "operators that were not measured cannot be predicted" in answer.stdout
    command = ("shrink", "--mcu", "my_board", "--devices", "devices")
    answer = tinynas(*command, cwd=folder)
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    assert "is not known for tflm of my_board; measure such operators" in answer.stderr
