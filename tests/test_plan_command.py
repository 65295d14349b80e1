"""`tinynas plan` and `profile --plan` as a person meets them, each call a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "deploy"))

from flow_models import FLOW, REFUSED  # noqa: E402
from graph_models import graph_model  # noqa: E402
from hand_models import HandOp, HandTensor, add_options, hand_model  # noqa: E402
from random_files import odd_file  # noqa: E402

from tinynas.cost.layer_list import read_layer_list  # noqa: E402
from tinynas.cost.tflite_reader import read_tflite  # noqa: E402
from tinynas.deploy.plan_file import random_inputs  # noqa: E402
from tinynas.deploy.verify import execute, runtime_available  # noqa: E402

needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")
LISTS = HERE / "fixtures" / "layer_lists"
PIXELS = HandTensor(shape=(1, 4, 4, 8))
ADD = HandOp(kind="ADD", inputs=(0, 0), outputs=(1,), options=add_options())
# Of files with operators in another order, and with variables, that can be planned better.
ODD_SEEDS = {False: 28, True: 22}


def tinynas(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tinynas", *arguments]
    path = os.pathsep.join([env.get("PYTHONPATH", ""), *sys.path])
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        env={**os.environ, **env, "PYTHONPATH": path},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ResNet-8 and models that cannot be planned."""
    graph = read_layer_list((LISTS / "mlperf_ic_resnet8.json").read_bytes()).graph
    content = graph_model(graph, rng=np.random.default_rng(0))
    (tmp_path / "model.tflite").write_bytes(content)
    (tmp_path / "cut.tflite").write_bytes(content[:5000])
    odd = HandOp(kind="ELU", inputs=(0,), outputs=(1,))
    (tmp_path / "odd.tflite").write_bytes(hand_model([PIXELS] * 2, [odd], inputs=[0], outputs=[1]))
    return tmp_path


@needs_tflm
def test_a_model_is_planned_for_a_chip_run_and_written(folder: Path) -> None:
    answer = tinynas("plan", "model.tflite", "-o", "out.tflite", "--mcu", "nrf52840", cwd=folder)
    assert (answer.returncode, answer.stderr) == (0, "")
    text = " ".join(answer.stdout.split())
    assert "planned for CMSIS-NN without Helium" in text
    assert "head of the arena 49,728 33,888 31.9 %" in text
    assert "No plan with the overlaps that these kernels allow can do with a smaller head" in text
    assert "Without overlap no plan could do with a head below 49,728 bytes" in text
    assert "all outputs for 4 random inputs are those under TFLM's own plan, bit by bit" in text
    assert "with others outputs may be silently wrong" in text
    written = (folder / "out.tflite").read_bytes()
    assert read_tflite(written).plan_safe_for == "cmsis-nn"
    old = (folder / "model.tflite").stat().st_size
    assert f"out.tflite: {len(written):,} bytes" in text
    assert f"{len(written) - old:,} more than before" in text


@needs_tflm
def test_json_is_one_line_and_by_default_the_plan_is_safe_with_any_kernels(folder: Path) -> None:
    answer = tinynas("plan", "model.tflite", "--out", "out.tflite", "--json", cwd=folder)
    (line,) = answer.stdout.splitlines()
    found = json.loads(line)
    assert (found["kernels"], found["safe_for"], found["order"]) == ("any", ["any"], None)
    assert [row["kernels"] for row in found["predicted"]] == [
        *("reference", "cmsis-nn-dsp", "cmsis-nn-mve"),
    ]
    for row in found["predicted"]:
        assert row["planned"]["head_bytes"] == row["bound_head_bytes"]
        assert row["planned"]["head_bytes"] <= row["tflm"]["head_bytes"]
        assert row["file"] is None
    assert found["measured"]["outputs_identical"] is True
    assert found["measured"]["head_bytes"] == 49_152
    assert found["file_bytes"]["after"] == (folder / "out.tflite").stat().st_size
    assert "safe with any kernels" in answer.stderr


@needs_tflm
def test_verify_and_profile_say_what_the_plan_is_safe_with(folder: Path) -> None:
    planned = ("plan", "model.tflite", "-o", "out.tflite", "--kernels", "cmsis-nn")
    assert tinynas(*planned, cwd=folder).returncode == 0
    good = tinynas("verify", "out.tflite", "--mcu", "stm32f746", "--json", cwd=folder)
    assert good.returncode == 0 and "inside the budget" in good.stderr
    safety = json.loads(good.stdout)["plan_safety"]
    assert safety["noted"] == "cmsis-nn" and safety["safe"] is True
    assert safety["safe_for"] == ["reference", "cmsis-nn"]
    devices = _with_helium(folder)
    helium = ("--mcu", "helium", "--devices", devices)
    bad = tinynas("verify", "out.tflite", *helium, cwd=folder)
    assert bad.returncode == 1
    assert "its memory plan is NOT known to be safe with tflm-cmsis-nn" in bad.stdout
    shown = tinynas("profile", "out.tflite", *helium, cwd=folder)
    assert shown.returncode == 0
    assert "NOT known to be safe with tflm-cmsis-nn" in " ".join(shown.stdout.split())
    fine = tinynas("profile", "out.tflite", "--mcu", "stm32f746", cwd=folder)
    assert "NOT known" not in fine.stdout and "silently wrong" in " ".join(fine.stdout.split())


def _with_helium(folder: Path) -> str:
    """A folder of device files with a Cortex-M55 that has all else of a chip that is shipped."""
    shipped = Path(__file__).parents[1] / "latency_models" / "stm32h743.yaml"
    text = shipped.read_text(encoding="utf-8").replace("stm32h743", "helium")
    (folder / "devices").mkdir()
    (folder / "devices" / "helium.yaml").write_text(text.replace("Cortex-M7", "Cortex-M55"))
    return str(folder / "devices")


@needs_tflm
def test_an_existing_file_is_replaced_and_nothing_else_is_left(folder: Path) -> None:
    (folder / "out.tflite").write_text("old")
    assert tinynas("plan", "model.tflite", "-o", "out.tflite", cwd=folder).returncode == 0
    assert read_tflite((folder / "out.tflite").read_bytes()).offsets
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.tflite", "cut.tflite", "odd.tflite", "out.tflite"}


@pytest.mark.parametrize(
    "arguments,code,sentence",
    [
        (["none.tflite", "-o", "out"], 1, "none.tflite: there is no such file"),
        (["cut.tflite", "-o", "out"], 1, "damaged or cut off"),
        (["odd.tflite", "-o", "out"], 1, "no rule covers operator kind ELU"),
        (["model.tflite", "-o", "model.tflite"], 2, "is the model itself"),
        (["model.tflite", "-o", "."], 2, "not a regular file"),
        (["model.tflite", "-o", "none/out"], 2, "there is no folder none"),
        (["model.tflite", "-o", "out", "--kernels", "esp-nn"], 2, "one of reference, cmsis-nn"),
        (["model.tflite", "-o", "out", "--mcu", "stm32f74"], 2, "did you mean"),
        (["model.tflite", "-o", "out", "--mcu", "rp2040", "--kernels", "any"], 2, "drop"),
        (["model.tflite", "-o", "out", "--devices", "."], 2, "give both or none"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_writes_nothing(
    folder: Path, arguments: list[str], code: int, sentence: str
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    answer = tinynas("plan", *arguments, cwd=folder)
    assert (answer.returncode, answer.stdout) == (code, "")
    assert sentence in answer.stderr and "Traceback" not in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("kind", FLOW)
def test_control_flow_and_variables_behind_handles_are_refused_in_one_sentence(
    tmp_path: Path, kind: str
) -> None:
    (tmp_path / "model.tflite").write_bytes(FLOW[kind]().content)
    answer = tinynas("plan", "model.tflite", "-o", "out.tflite", cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert REFUSED[kind] in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out.tflite").exists()


@needs_tflm
@pytest.mark.parametrize("variables", [False, True])
def test_a_file_of_others_is_planned_right(tmp_path: Path, variables: bool) -> None:
    content = odd_file(np.random.default_rng(ODD_SEEDS[variables]), variables=variables)
    graph = read_tflite(content).graph
    assert len(graph.inputs) > 1 and len(graph.outputs) > 1
    assert any(tensor.variable for tensor in graph.tensors) is variables
    (tmp_path / "model.tflite").write_bytes(content)
    command = ("plan", "model.tflite", "-o", "out.tflite", "--kernels", "reference")
    assert tinynas(*command, cwd=tmp_path).returncode == 0
    new = (tmp_path / "out.tflite").read_bytes()
    assert read_tflite(new).plan_safe_for == "reference"
    inputs = random_inputs(graph, 3, np.random.default_rng(1))
    before, after = execute([content, new], inputs, len(graph.outputs))
    assert after.use.head_bytes < before.use.head_bytes
    for turns in zip(before.outputs, after.outputs, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(*turns, strict=True))


def test_without_the_runtime_nothing_is_written(folder: Path) -> None:
    (folder / "hidden").mkdir()
    (folder / "hidden" / "sitecustomize.py").write_text(
        "import sys\nsys.modules['tflite_micro'] = None\n"
    )
    hidden = str(folder / "hidden")
    answer = tinynas("plan", "model.tflite", "-o", "out.tflite", cwd=folder, PYTHONPATH=hidden)
    assert answer.returncode == 1
    assert "TensorFlow Lite Micro is not installed" in answer.stderr
    assert not (folder / "out.tflite").exists()


def test_a_profile_compares_before_and_after_without_running_anything(folder: Path) -> None:
    flags = ("--plan", "--mcu", "stm32f746", "--json", "--html", "page.html")
    answer = tinynas("profile", "model.tflite", *flags, cwd=folder)
    assert answer.returncode == 0
    found = json.loads(answer.stdout)
    assert found["plan_safety"] is None
    assert found["predicted"]["head_bytes"] == 49_728
    assert found["planned"]["head_bytes"] == 33_888
    assert found["planned"]["safe_for"] == ["reference", "cmsis-nn"]
    assert "Memory map before planning" in answer.stderr
    assert "Memory map after planning for CMSIS-NN without Helium" in answer.stderr
    assert "tinynas plan model.tflite -o OUT --kernels cmsis-nn" in answer.stderr
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 and 'class="shared"' in page
    without = json.loads(tinynas("profile", "model.tflite", "--json", cwd=folder).stdout)
    assert without["planned"] is None


def test_a_layer_list_can_be_planned_on_paper(folder: Path) -> None:
    listed = str(LISTS / "mlperf_vww_mbv1_025_96.json")
    answer = tinynas("profile", listed, "--plan", "--json", cwd=folder)
    assert json.loads(answer.stdout)["planned"]["head_bytes"] == 55_296
    assert "tinynas plan" not in answer.stderr
    refused = tinynas("plan", listed, "-o", "out.tflite", cwd=folder)
    assert refused.returncode == 1 and "this is not a .tflite file" in refused.stderr


def test_planning_a_profile_that_no_rule_covers_is_refused(folder: Path) -> None:
    real = HandTensor(shape=(1, 4, 4, 8), dtype="float32", scales=())
    content = hand_model([real, real], [ADD], inputs=[0], outputs=[1])
    (folder / "real.tflite").write_bytes(content)
    answer = tinynas("profile", "real.tflite", "--plan", cwd=folder)
    assert answer.returncode == 1 and answer.stdout == ""
    assert "cannot be planned: no rule covers ADD of type float32" in answer.stderr
