import os
import subprocess
import sys

import numpy as np
import pytest
from hand_models import HandOp, HandTensor, add_options, hand_model
from random_models import random_constants, random_graph, random_images, random_model, small_graph

from tinynas.deploy.plan import plan_memory
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.deploy.verify import (
    execute,
    measure_arena,
    measure_arenas,
    run_int8,
    runtime_available,
    smallest_arena_bytes,
)
from tinynas.errors import ModelFileError

needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")


def _model_bytes(seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    graph = small_graph(rng)
    return write_tflite(random_constants(graph, rng), plan=plan_memory(graph).offsets)


@needs_tflm
@pytest.mark.parametrize("resolution", [8, 20, 48])
def test_the_smallest_arena_holds_the_tail_and_either_head_or_planner(resolution: int) -> None:
    # While it plans, TFLM keeps an AllocationInfo (32 bytes on a 64-bit host) per tensor and 40
    # bytes per planned buffer where the head will be (greedy_memory_planner.h).
    rng = np.random.default_rng(resolution)
    graph = random_graph(rng, widths=(0.2,), resolutions=(resolution,))
    content = write_tflite(random_constants(graph, rng), plan=plan_memory(graph).offsets)
    use, smallest = measure_arena(content), smallest_arena_bytes(content)
    planner = 32 * len(graph.tensors) + 40 * len(graph.lifetimes())
    assert smallest % 16 == 0
    assert smallest == pytest.approx(use.tail_bytes + max(use.head_bytes, planner), abs=32)
    assert smallest >= use.total_bytes - 32


@needs_tflm
def test_a_plan_changes_no_output() -> None:
    rng = np.random.default_rng(1)
    model = random_model(small_graph(rng), rng)
    images = random_images(model.graph, 3, rng)
    plan = plan_memory(model.graph).offsets
    planned = run_int8(write_tflite(model, plan=plan), images)
    assert np.array_equal(planned, run_int8(write_tflite(model), images))


@needs_tflm
def test_models_of_several_inputs_and_outputs_are_executed_on_the_same_values() -> None:
    pixels = HandTensor(shape=(1, 6))
    ops = [
        HandOp(kind="ADD", inputs=(0, 1), outputs=(2,), options=add_options()),
        HandOp(kind="ADD", inputs=(0, 0), outputs=(3,), options=add_options()),
    ]
    sums = hand_model([pixels] * 4, ops, inputs=[0, 1], outputs=[2, 3])
    other = hand_model([pixels] * 4, ops[::-1], inputs=[1, 0], outputs=[2, 3])
    turns = [
        [np.full((1, 6), a, np.int8), np.full((1, 6), b, np.int8)] for a, b in ((1, 2), (3, 5))
    ]
    first, second = execute([sums, other], turns, 2)
    assert [[int(o[0, 0]) for o in turn] for turn in first.outputs] == [[3, 2], [8, 6]]
    assert [[int(o[0, 0]) for o in turn] for turn in second.outputs] == [[3, 4], [8, 10]]
    assert first.use == measure_arena(sums)


@needs_tflm
def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    measure_arena(_model_bytes())
    assert capfd.readouterr() == ("", "")


def test_no_models_need_no_runtime() -> None:
    assert measure_arenas([]) == ()


@pytest.mark.parametrize("content", [b"", b"TFL3", b"a text file of some length"])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(ModelFileError, match="this is not a .tflite file"):
        measure_arena(content)


@needs_tflm
def test_a_truncated_file_is_refused() -> None:
    content = _model_bytes()
    with pytest.raises(ModelFileError, match="its content is damaged"):
        measure_arena(content[: len(content) // 2])


@needs_tflm
def test_a_file_that_crashes_the_runtime_is_one_sentence() -> None:
    content = bytearray(_model_bytes())
    content[300:900] = bytes(600)
    with pytest.raises(ModelFileError, match="TFLM cannot run this model: "):
        measure_arena(bytes(content))


@needs_tflm
def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ModelFileError, match="Dimension mismatch. Got 5"):
        run_int8(_model_bytes(), np.zeros((1, 5, 5, 3), np.int8))


@needs_tflm
def test_a_model_that_takes_too_long_is_refused() -> None:
    with pytest.raises(ModelFileError, match="did not finish with this model in 0.001 s"):
        measure_arena(_model_bytes(), timeout_s=0.001)


WITHOUT_TFLM = """
import sys
sys.modules["tflite_micro"] = None
import numpy as np
from random_models import random_model, small_graph
from tinynas.cost.flash import file_bytes
from tinynas.deploy.plan import plan_memory
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.deploy.verify import measure_arena, runtime_available
from tinynas.errors import TinynasError
assert not runtime_available()
rng = np.random.default_rng(0)
model = random_model(small_graph(rng), rng)
content = write_tflite(model, plan=plan_memory(model.graph).offsets)
assert len(content) == file_bytes(model.graph)
try:
    measure_arena(content)
except TinynasError as error:
    print(error)
"""


def test_export_works_where_tflm_is_not_installed() -> None:
    path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    child = subprocess.run(
        [sys.executable, "-c", WITHOUT_TFLM],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.startswith("TensorFlow Lite Micro is not installed")
