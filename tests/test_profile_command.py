"""`tinynas profile` as a person meets it: every call is a process of its own."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "deploy"))

from hand_models import HandOp, HandTensor, add_options, conv_options, hand_model  # noqa: E402

LISTED = HERE / "fixtures" / "layer_lists" / "mlperf_vww_mbv1_025_96.json"
IMAGE = HandTensor(shape=(1, 8, 8, 4))
ONES, ZEROS = np.ones((4, 1, 1, 4), np.int8), np.zeros(4, np.int32)
TENSORS = (
    *(IMAGE, IMAGE, IMAGE),
    HandTensor(shape=(4, 1, 1, 4), data=ONES, scales=(0.01,) * 4),
    HandTensor(shape=(4,), dtype="int32", data=ZEROS, scales=(0.0005,) * 4),
)
CONV = HandOp(kind="CONV_2D", inputs=(0, 3, 4), outputs=(1,), options=conv_options())
ADD = HandOp(kind="ADD", inputs=(0, 1), outputs=(2,), options=add_options())
CUSTOM = HandOp(kind="CUSTOM", inputs=(0, 1), outputs=(2,), custom="Sparkle")
MODEL = hand_model(TENSORS, [CONV, ADD], inputs=(0,), outputs=(2,))


def profile(
    *arguments: str, cwd: Path, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-m", "tinynas", "profile", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model that can be profiled and some that cannot."""
    (tmp_path / "model.tflite").write_bytes(MODEL)
    (tmp_path / "cut.tflite").write_bytes(MODEL[: len(MODEL) // 2])
    (tmp_path / "notes.tflite").write_text("My model scored 97 % yesterday.\n")
    custom = hand_model(TENSORS, [CONV, CUSTOM], inputs=(0,), outputs=(2,))
    (tmp_path / "custom.tflite").write_bytes(custom)
    return tmp_path


def test_a_tflite_file_is_profiled_without_the_heavy_libraries(folder: Path) -> None:
    answer = profile("model.tflite", "--mcu", "nrf52840", cwd=folder, options=("-X", "importtime"))
    assert answer.returncode == 0
    assert "nrf52840" in answer.stdout and "default chip" not in answer.stdout
    assert f"{len(MODEL):,}" in answer.stdout
    # image and the convolution's output and sum, 256 bytes each, while ADD runs
    assert "Operator 1, ADD (8x8x4 +1 to 8x8x4) has 768 bytes" in answer.stdout
    imported = {line.rsplit("|")[-1].strip() for line in answer.stderr.splitlines()}
    assert "tinynas.report.profile" in imported
    assert not {"torch", "torchvision", "sklearn", "tflite_micro"} & imported


def test_a_layer_list_is_profiled_and_the_default_chip_is_said(folder: Path) -> None:
    answer = profile(str(LISTED), cwd=folder)
    assert answer.returncode == 0 and answer.stderr == ""
    assert "stm32f746" in answer.stdout and "the default chip as no" in answer.stdout
    assert "73,728" in answer.stdout  # the head that TFLM reports for this model
    assert "55,296" in answer.stdout  # its lower bound
    assert max(map(len, answer.stdout.splitlines())) <= 80


def test_json_is_one_line_and_the_last_of_stdout(folder: Path) -> None:
    answer = profile("model.tflite", "--json", cwd=folder)
    (line,) = answer.stdout.splitlines()
    found = json.loads(line)
    assert found["model"] == str((folder / "model.tflite").resolve())
    assert found["mcu_named"] is False
    assert found["counted"]["file_bytes"] == len(MODEL)
    assert found["counted"]["macs"] == 8 * 8 * 4 * 4
    assert [row["kind"] for row in found["operators"]] == ["CONV_2D", "ADD"]
    assert "Memory map" in answer.stderr


def test_page_and_table_are_written_where_asked(folder: Path) -> None:
    written = ("--html", "page.html", "--csv", "table.csv")
    assert profile("model.tflite", *written, cwd=folder).returncode == 0
    page = (folder / "page.html").read_text(encoding="utf-8")
    ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["macs"] for row in rows] == ["1024", "0"]
    assert [row["flash_bytes"] for row in rows] == ["32", "0"]


@pytest.mark.parametrize(
    "arguments,code,sentence",
    [
        (["none.tflite"], 1, "none.tflite: there is no such file"),
        (["."], 1, "not a file"),
        (["cut.tflite"], 1, "damaged or cut off"),
        (["notes.tflite"], 1, "notes.tflite: this is neither a .tflite file"),
        (["custom.tflite"], 1, "Sparkle"),
        (["model.tflite", "--mcu", "stm32f74"], 2, "did you mean"),
        (["model.tflite", "--runtime", "magic"], 2, "runtime 'magic' is not known"),
        (["model.tflite", "--devices", "none"], 2, "is not a folder of device files"),
        (["model.tflite", "--html", "none/page.html"], 2, "none/page.html cannot be written"),
        (["model.tflite", "--csv", "."], 2, "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    folder: Path, arguments: list[str], code: int, sentence: str
) -> None:
    answer = profile(*arguments, cwd=folder)
    assert answer.returncode == code
    assert answer.stdout == ""
    assert sentence in answer.stderr and "Traceback" not in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
