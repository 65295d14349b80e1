"""A user's own measurements decide what his subnets cost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tinynas.config import build_config
from tinynas.cost.latency_table import Entry, entries_csv
from tinynas.cost.op_shape import OpShape, op_shape
from tinynas.graph import Graph
from tinynas.space.arch import encode, smallest
from tinynas.space.lower import lower
from tinynas.space.spec import find_space
from tinynas.target import Target, make_task, resolve_target
from tinynas.task import compile_task

SPACE, CLASSES = find_space("mcunet-small"), 10
ARCH = smallest(SPACE, width=0.5, resolution=32)
LIST = Path(__file__).parent / "fixtures" / "layer_lists" / "mlperf_ic_resnet8.json"


def graph() -> Graph:
    return lower(SPACE, ARCH, classes=CLASSES, channels=3)


def target(folder: Path) -> Target:
    asked = {"mcu": "stm32l4r5", "devices": str(folder)}
    return resolve_target(build_config({"target": asked}, {}, "test"))


def score_ms(folder: Path) -> float:
    """The latency of a subnet as search has it."""
    table = compile_task(SPACE, make_task(target(folder), CLASSES, 3), 0.5, 32)
    return float(table.evaluate(encode(SPACE, ARCH)).latency_ms[0])


def write_entry(folder: Path, shape: OpShape, cycles: float) -> None:
    (folder / "tables").mkdir(exist_ok=True)
    entry = Entry(cycles=cycles, provenance="measured", source="my bench")
    text = entries_csv({("tflm-cmsis-nn", "any"): {shape: entry}})
    (folder / "tables" / "stm32l4r5.csv").write_text(text)


def test_changing_one_entry_changes_the_score_of_a_subnet(tmp_path: Path) -> None:
    before = score_ms(tmp_path)
    stem = graph().ops[0]
    shape = op_shape(graph(), stem)
    stem_ms = target(tmp_path).timer.op_us(graph(), stem) / 1000
    write_entry(tmp_path, shape, 1_200_000)  # 10 ms at 120 MHz
    slow = score_ms(tmp_path)
    assert slow == pytest.approx(before - stem_ms + 10)
    write_entry(tmp_path, shape, 600_000)
    assert score_ms(tmp_path) == pytest.approx(slow - 5)
    assert score_ms(tmp_path) == pytest.approx(target(tmp_path).timer.graph(graph()).ms)
    shares = target(tmp_path).timer.graph(graph()).shares
    assert shares["measured"].operators == pytest.approx(1 / len(graph().ops))


def test_profile_says_how_much_was_measured(tmp_path: Path) -> None:
    # The first convolution of ResNet-8.
    shape = OpShape(
        *("CONV_2D", 32, 32, 3, 32, 32, 16),
        kernel_h=3,
        kernel_w=3,
        padding="same",
        activation="relu",
    )
    write_entry(tmp_path, shape, 1_200_000)
    command = [sys.executable, "-m", "tinynas", "profile", str(LIST), "--mcu", "stm32l4r5"]
    answer = subprocess.run(
        [*command, "--devices", str(tmp_path), "--json"], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["operators"][0]["latency_us"] == pytest.approx(10_000)
    assert found["operators"][0]["provenance"] == "measured"
    assert found["latency_shares"]["measured"]["time"] == pytest.approx(
        10 / found["predicted"]["latency_ms"]
    )
    assert "are measured" in " ".join(answer.stderr.split())
