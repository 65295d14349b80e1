"""`tinynas lut check` as a person meets it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = (
    "id,model,arch_json,dtype,mcu,core,clock_mhz,runtime,runtime_version,latency_ms,trust,notes\n"
    "a,ResNet,models/mlperf_ic_resnet8.json,int8,STM32L4R5ZIT6U,Cortex-M4,120.0,TFLM+CMSIS-NN,"
    '-O3? (default study),407.746,A,"kept, as it is"\n'
    "b,unknown,,int8,STM32L4R5ZIT6U,Cortex-M4,120.0,TFLM+CMSIS-NN,,10.0,A,\n"
    "c,ResNet,models/mlperf_ic_resnet8.json,int8,Z80,Z80,4,BASIC,1,10.0,A,\n"
)
MODELS = Path(__file__).parent / "fixtures" / "layer_lists"


def check(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tinynas", "lut", "check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)


def test_models_with_the_spellings_of_others_are_predicted_and_the_rest_listed(
    tmp_path: Path,
) -> None:
    (tmp_path / "rows.csv").write_text(ROWS)
    flags = ("--rows", "rows.csv", "--models", str(MODELS), "--out", "out.csv")
    answer = check(tmp_path, *flags, "--json")
    assert answer.returncode == 0, answer.stderr
    (line,) = answer.stdout.splitlines()
    found = json.loads(line)
    assert (found["rows"], found["predicted"], found["out"]) == (3, 1, str(tmp_path / "out.csv"))
    (group,) = found["groups"]
    assert (group["mcu"], group["runtime"], group["count"]) == ("stm32l4r5", "tflm-cmsis-nn", 1)
    reasons = {reason["ids"][0]: reason["reason"] for reason in found["not_predicted"]}
    assert reasons == {
        "b": "its layer list is not known",
        "c": "no latency is known for basic on z80",
    }
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["notes"] == "kept, as it is"
    ends = [float(rows[0][name]) for name in ("low_ms", "predicted_ms", "high_ms")]
    assert ends == sorted(ends) and rows[0]["provenance"]
    error = float(rows[0]["error_percent"])
    assert group["mean_percent"] == pytest.approx(abs(error), abs=0.01)
    printed = check(tmp_path, *flags).stdout
    assert (
        "stm32l4r5" in printed and "not predicted, 1: its layer list is not known (b)" in printed
    )


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        ("", ("--rows", "rows.csv"), "rows.csv is empty"),
        ("a,b\n1,2\n", ("--rows", "rows.csv"), "has neither the columns of operators"),
        (ROWS, ("--rows", "none.csv"), "none.csv cannot be read"),
        (ROWS, ("--rows", "rows.csv", "--models", "none"), "none is not a folder of models"),
        (ROWS, ("--rows", "rows.csv", "--devices", "none"), "none is not a folder of device"),
        (ROWS, ("--rows", "rows.csv", "--out", "no/out.csv"), "no/out.csv cannot be written"),
        ("a" * 200_000 + ",b\n", ("--rows", "rows.csv"), "line 1, is no row of CSV"),
    ],
)
def test_what_cannot_be_checked_is_refused_in_one_sentence(
    text: str, arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text(text)
    answer = check(tmp_path, *arguments)
    assert answer.returncode == 2 and sentence in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1 and "Traceback" not in answer.stderr


def test_bytes_that_are_no_text_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(bytes(range(256)) * 20)
    answer = check(tmp_path, "--rows", "rows.csv")
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
