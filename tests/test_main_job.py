"""The whole job on a space small enough for a test: real data, training, export and runtime."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinynas.api import run_search
from tinynas.deploy.verify import runtime_available

SPACE = """
name: mini
stem: {kernel: 3, stride: 2, channels: 8}
stages:
  - {channels: 8, stride: 1, depth: [1], kernel: [3], expansion: [1]}
  - {channels: 16, stride: 2, depth: [1, 2], kernel: [3, 5], expansion: [2, 3]}
width_multipliers: [0.5, 1.0]
resolutions: [8, 12]
"""
CONFIG = """
target: {sram: 32k, flash: 32k}
data: {max_train_images: 200, max_val_images: 100}
space: mini.yaml
train: {epochs: 4}
search: {evaluations: 6, population: 3}
finetune: {epochs: 1}
quantize: {calibration_images: 32}
threads: 1
"""


def setup(folder: Path) -> None:
    (folder / "mini.yaml").write_text(SPACE)
    (folder / "mini-config.yaml").write_text(CONFIG)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tinynas", "search", *arguments]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, timeout=280
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished run: its folder, and the line of JSON that it printed."""
    folder = tmp_path_factory.mktemp("job")
    setup(folder)
    answer = run(folder, "--config", "mini-config.yaml", "--out", "run", "--json")
    assert answer.returncode == 0, answer.stderr
    return folder, json.loads(answer.stdout.splitlines()[-1])


def test_the_line_of_json_says_what_was_predicted_and_measured(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    folder, line = finished
    model = Path(line["model"])
    assert model == folder / "run" / "6_model.tflite" and line["run_dir"] == str(folder / "run")
    predicted, measured = line["predicted"], line["measured"]
    assert model.stat().st_size == predicted["flash_bytes"] == measured["file_bytes"] <= 32_768
    assert predicted["sram_head_bytes"] < predicted["sram_bytes"] <= 32_768
    assert predicted["macs"] > 0 and predicted["latency_ms"] > 0
    if runtime_available():
        assert measured["sram_head_bytes"] == predicted["sram_head_bytes"]
    assert 0.1 < measured["accuracy_int8"] <= 1 and 0.1 < measured["accuracy_float"] <= 1
    assert set(line["seconds"]) == {"shrink", "supernet", "search", "deploy"}


def test_the_run_directory_has_every_stage(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, line = finished
    names = {path.name for path in (folder / "run").iterdir()}
    assert {
        "config.yaml",
        "1_budget.json",
        "2_shrink.csv",
        "2_space.yaml",
        "3_supernet.pt",
        "4_candidates.csv",
        "4_front.csv",
        "5_subnet.pt",
        "6_model.tflite",
        "6_model.cc",
        "6_model.h",
        "6_model.md",
        "6_vectors.npz",
        "7_verify.json",
        "log.jsonl",
        "stages.json",
    } <= names
    assert not [name for name in names if name.endswith(".tmp")]
    report = json.loads((folder / "run" / "7_verify.json").read_text())
    assert report["arch"] == line["arch"]
    assert report["bit_exact"] is (True if runtime_available() else None)


def test_the_test_vectors_are_what_the_runtime_answers(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    if not runtime_available():
        pytest.skip("no tflite-micro on this platform")
    from tinynas.deploy.verify import run_int8

    folder, line = finished
    with np.load(folder / "run" / "6_vectors.npz", allow_pickle=False) as vectors:
        assert len(vectors["inputs"]) == 8
        answers = run_int8(Path(line["model"]).read_bytes(), vectors["inputs"])
        assert (answers == vectors["outputs"]).all()


def test_a_finished_run_resumed_prints_its_result_again(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    folder, line = finished
    before = (folder / "run" / "6_model.tflite").stat().st_mtime_ns
    answer = run(folder, "--resume", "run", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout.splitlines()[-1]) == line
    assert (folder / "run" / "6_model.tflite").stat().st_mtime_ns == before


def test_a_finished_run_can_be_searched_further_from_python(
    finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, line = finished
    monkeypatch.chdir(folder)
    before = (folder / "run" / "4_candidates.csv").read_bytes()
    found = run_search(run="run", algorithm="random", evaluations=5, seed=3)
    assert (found.scored.count == 100).all() and len(found.front) >= 1
    recorded = csv.DictReader((folder / "run" / "4_candidates.csv").read_text().splitlines())
    known = {row["genes"]: float(row["accuracy"]) for row in recorded}
    again = run_search(run="run", algorithm="exhaustive", callbacks=[lambda p: True])
    genes = [" ".join(map(str, row)) for row in again.scored.genes.tolist()]
    for text, accuracy in zip(genes, again.scored.accuracy.tolist(), strict=True):
        assert known.get(text, accuracy) == accuracy
    assert (folder / "run" / "4_candidates.csv").read_bytes() == before


def test_a_used_run_directory_is_refused(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = finished
    answer = run(folder, "--config", "mini-config.yaml", "--out", "run")
    assert answer.returncode == 2 and "go on with it by --resume" in answer.stderr


def test_verify_agrees_with_the_run(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, line = finished
    sram = line["predicted"]["sram_bytes"]

    def verify(sram_bytes: int) -> subprocess.CompletedProcess[str]:
        arguments = [line["model"], "--sram", str(sram_bytes), "--flash", "32k", "--json"]
        return subprocess.run(
            [sys.executable, "-m", "tinynas", "verify", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
        )

    inside, outside = verify(sram), verify(sram - 16)
    assert inside.returncode == 0, inside.stderr
    assert json.loads(inside.stdout)["predicted"]["sram_bytes"] == sram
    assert outside.returncode == 1 and json.loads(outside.stdout)["holds"] is False
    shown = subprocess.run(
        [sys.executable, "-m", "tinynas", "profile", line["model"], "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    for answer in (inside, shown):
        safety = json.loads(answer.stdout)["plan_safety"]
        assert safety["noted"] in safety["safe_for"] and safety["safe"] is True


def test_a_run_killed_while_training_ends_with_the_same_bytes(
    finished: tuple[Path, dict[str, Any]],
) -> None:
    folder, line = finished
    checkpoint = folder / "killed" / "3_supernet.pt"
    process = subprocess.Popen(
        command("--config", "mini-config.yaml", "--out", "killed", "--quiet"),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not checkpoint.exists():  # written after the first epoch
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "killed" / "6_model.tflite").exists()
    answer = run(folder, "--resume", "killed", "--json")
    assert answer.returncode == 0, answer.stderr
    model = (folder / "killed" / "6_model.tflite").read_bytes()
    assert model == Path(line["model"]).read_bytes()


def test_ctrl_c_while_searching_says_how_to_go_on_and_then_goes_on(
    tmp_path: Path,
) -> None:
    """Pressed at a terminal, so that the processes that score hear of it too."""
    setup(tmp_path)
    more = CONFIG.replace("evaluations: 6", "evaluations: 18").replace("threads: 1", "threads: 2")
    (tmp_path / "more.yaml").write_text(more)
    process = subprocess.Popen(
        command("--config", "more.yaml", "--out", "pressed", "--quiet"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    journal = tmp_path / "pressed" / "4_candidates.csv"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 4:  # heading, first batch
        assert process.poll() is None
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert output.splitlines() == [
        "Ending after this batch; Ctrl-C again stops at once",
        f"Stopped. Go on with: python -m tinynas search --resume {tmp_path / 'pressed'}",
    ]
    rows = journal.read_text().splitlines()
    assert 4 <= len(rows) < 19 and len(rows) % 3 == 1  # whole batches
    answer = run(tmp_path, "--resume", "pressed", "--quiet")
    assert answer.returncode == 0, answer.stderr
    after = journal.read_text().splitlines()
    assert len(after) == 19 and after[: len(rows)] == rows
    assert (tmp_path / "pressed" / "7_verify.json").exists()


def test_a_limit_of_time_is_planned_written_down_and_kept_to(tmp_path: Path) -> None:
    setup(tmp_path)
    limit = ("--train-time", "12s", "--accelerator", "cpu")
    answer = run(tmp_path, "--config", "mini-config.yaml", "--out", "run", *limit)
    assert answer.returncode == 0, answer.stderr
    plan = json.loads((tmp_path / "run" / "3_plan.json").read_text())
    assert f"12 s are {plan['steps']:,} steps" in answer.stdout
    assert plan["seconds"] == 12 and plan["steps"] * plan["step_s"][0] <= 12
    stages = json.loads((tmp_path / "run" / "stages.json").read_text())
    assert 4 < stages["supernet"]["seconds"] < 36  # wide, for a loaded machine must not fail it


def test_without_the_runtime_the_run_ends_with_the_simulation(tmp_path: Path) -> None:
    """A stand-in `find_spec` hides the package, as on a platform that has no wheel of it."""
    setup(tmp_path)
    script = (
        "import importlib.util, sys\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: "
        "None if name == 'tflite_micro' else real(name, *a)\n"
        "sys.modules['tflite_micro'] = None\n"
        "from tinynas.cli import main\n"
        "main()\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, *command()[3:], "--config", "mini-config.yaml", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert answer.returncode == 0, answer.stderr
    line = json.loads(answer.stdout.splitlines()[-1])
    assert line["executed_by"] is None and line["measured"]["sram_head_bytes"] is None
    assert "The runtime has not executed this model" in answer.stderr
    assert 0.1 < line["measured"]["accuracy_int8"] <= 1
