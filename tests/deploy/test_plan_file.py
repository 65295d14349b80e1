"""Files under new plans: equal outputs or nothing, measured in TFLM."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from flow_models import FLOW, REFUSED, lone_if
from graph_models import graph_model
from hand_models import HandOp, HandTensor, add_options, hand_model
from kind_models import kind_model, options
from random_files import odd_file, random_file
from random_models import random_model, small_graph

from tinynas.cost.layer_list import read_layer_list
from tinynas.cost.overlap import SafeKernels
from tinynas.cost.tflite_reader import read_tflite
from tinynas.deploy import plan_file as module
from tinynas.deploy.plan_file import (
    PlannedFile,
    check_place,
    plan_file,
    random_inputs,
    write_file,
)
from tinynas.deploy.replan import with_plan
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.deploy.verify import execute, runtime_available
from tinynas.errors import ModelFileError, TinynasError, UsageError
from tinynas.graph import Graph, Tensor
from tinynas.report.plan_text import plan_lines

needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")
LISTS = Path(__file__).parents[1] / "fixtures" / "layer_lists"
PIXELS = HandTensor(shape=(1, 4, 4, 8))
STATE = replace(PIXELS, variable=True)


def add(a: int, b: int, out: int) -> HandOp:
    return HandOp(kind="ADD", inputs=(a, b), outputs=(out,), options=add_options())


def planned(folder: Path, content: bytes, made_for: SafeKernels = "reference") -> PlannedFile:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return plan_file(path, made_for)


def published(name: str) -> bytes:
    """A model of MLPerf Tiny with random weights."""
    graph = read_layer_list((LISTS / f"{name}.json").read_bytes()).graph
    return graph_model(graph, rng=np.random.default_rng(0))


@needs_tflm
@pytest.mark.parametrize(
    ("name", "made_for", "before", "after"),
    [
        ("mlperf_ic_resnet8", "cmsis-nn", 49_728, 33_888),
        ("mlperf_ic_resnet8", "reference", 49_152, 33_312),
        ("mlperf_vww_mbv1_025_96", "any", 73_728, 55_296),
        ("mlperf_vww_mbv1_025_96", "reference", 73_728, 36_880),
        ("mlperf_kws_dscnn", "reference", 16_000, 9_792),
        ("mlperf_ad_autoencoder", "cmsis-nn-mve", 3_328, 3_328),
    ],
)
def test_published_models_need_less_and_give_the_same(
    tmp_path: Path, name: str, made_for: SafeKernels, before: int, after: int
) -> None:
    result = planned(tmp_path, published(name), made_for)
    comparison = result.comparisons[0]
    assert comparison.greedy.head_bytes == before
    assert comparison.planned.head_bytes <= after
    assert result.measured.inputs == 4
    read = read_tflite(result.content)
    assert read.offsets == result.planned.offsets
    assert read.plan_safe_for == (made_for if result.planned.safety.pairs else "any")
    assert len(result.content) - result.old_bytes < 1_000


@needs_tflm
def test_random_subnets_with_sensible_weights_give_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for _ in range(3):
        content = write_tflite(random_model(small_graph(rng), rng))
        result = planned(tmp_path, content)
        assert result.planned.safety.pairs
        assert result.measured.head_bytes < result.measured.greedy_head_bytes


@needs_tflm
@pytest.mark.parametrize("seed", range(12))
def test_files_of_random_operators_give_the_same(tmp_path: Path, seed: int) -> None:
    content = random_file(np.random.default_rng(seed))
    made_for = get_args(SafeKernels)[seed % 4]
    result = planned(tmp_path, content, made_for)
    for comparison in result.comparisons:
        assert comparison.planned.head_bytes <= comparison.greedy.head_bytes


def assert_planned_right(folder: Path, content: bytes, seed: int) -> PlannedFile:
    """The file under its plan, which gives what it gave without, for inputs of our own."""
    result = planned(folder, content, get_args(SafeKernels)[seed % 4])
    graph = read_tflite(content).graph
    inputs = random_inputs(graph, 3, np.random.default_rng(seed))
    before, after = execute([content, result.content], inputs, len(graph.outputs))
    for turns in zip(before.outputs, after.outputs, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(*turns, strict=True))
    return result


@needs_tflm
@pytest.mark.parametrize("variables", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_odd_files_of_others_are_planned_right(tmp_path: Path, seed: int, variables: bool) -> None:
    content = odd_file(np.random.default_rng(seed), variables=variables)
    assert_planned_right(tmp_path, content, seed)


@needs_tflm
@pytest.mark.slow
@pytest.mark.parametrize("variables", [False, True])
def test_200_odd_files_of_others_are_planned_right(tmp_path: Path, variables: bool) -> None:
    shared = 0
    for seed in range(2000, 2200):
        content = odd_file(np.random.default_rng(seed), variables=variables)
        shared += bool(assert_planned_right(tmp_path, content, seed).planned.safety.pairs)
    assert shared > 40


@needs_tflm
@pytest.mark.slow
def test_400_files_of_random_operators_give_the_same(tmp_path: Path) -> None:
    shared = 0
    for seed in range(1000, 1400):
        content = random_file(np.random.default_rng(seed))
        result = planned(tmp_path, content, get_args(SafeKernels)[seed % 3])
        shared += bool(result.planned.safety.pairs)
    assert shared > 120


@needs_tflm
@pytest.mark.parametrize("size", [16, 100, 400, 600])
def test_an_input_that_nothing_reads_takes_the_arena_that_was_predicted(
    tmp_path: Path, size: int
) -> None:
    row, other = HandTensor(shape=(1, 320)), HandTensor(shape=(1, size))
    content = hand_model([other, row, row], [add(1, 1, 2)], inputs=[0, 1], outputs=[2])
    measured = planned(tmp_path, content).measured
    # It lies beside the other input before the operators, where the sum may be over both.
    above = max(640, 320 + -(-size // 16) * 16)
    assert measured.greedy_head_bytes == above
    assert measured.head_bytes == max(320 + -(-size // 16) * 16, 320)


@needs_tflm
def test_where_no_plan_is_better_with_all_kernels_tflm_places_all_as_before(
    tmp_path: Path,
) -> None:
    # Libraries ask for scratch buffers as large as the tensors, so that each needs a plan of its
    # own: no plan is as good as TFLM's with all of them.
    result = planned(tmp_path, random_file(np.random.default_rng(1)), "any")
    assert result.planned.offsets == {} == read_tflite(result.content).offsets
    assert result.measured.head_bytes == result.measured.greedy_head_bytes
    assert all(c.planned == c.greedy for c in result.comparisons)
    lines = " ".join(plan_lines(result, tmp_path / "out"))
    assert "TFLM places all tensors as before" in lines


@needs_tflm
def test_a_file_that_has_a_plan_is_compared_with_tflms_own(tmp_path: Path) -> None:
    first = planned(tmp_path, published("mlperf_ic_resnet8"))
    second = planned(tmp_path, first.content, "any")
    assert second.measured.own_agrees is True
    own = second.comparisons[0].own
    assert own is not None and own.head_bytes == first.comparisons[0].planned.head_bytes
    assert second.measured.greedy_head_bytes == 49_152
    assert read_tflite(second.content).plan_safe_for == "any"


@needs_tflm
def test_an_old_plan_that_spoils_the_outputs_is_said_to(tmp_path: Path) -> None:
    content = hand_model([PIXELS] * 4, [add(0, 0, 1), add(0, 1, 2), add(1, 2, 3)],
                         inputs=[0], outputs=[3], plan=[1, 0, 4, 0, 16, 256, 512])  # fmt: skip
    result = planned(tmp_path, content, "any")
    assert result.measured.own_agrees is False


@needs_tflm
def test_several_inputs_and_outputs_and_another_order(tmp_path: Path) -> None:
    join = options("ConcatenationOptions", Axis=3)
    window = {"StrideH": 4, "StrideW": 4, "FilterHeight": 4, "FilterWidth": 4, "Padding": 1}
    pool, wide = options("Pool2DOptions", **window), HandTensor(shape=(1, 4, 4, 32))
    ops = [
        HandOp(kind="CONCATENATION", inputs=(0, 0, 0, 0), outputs=(2,), options=join),
        HandOp(kind="CONCATENATION", inputs=(1, 1, 1, 1), outputs=(3,), options=join),
        HandOp(kind="MAX_POOL_2D", inputs=(2,), outputs=(4,), options=pool),
        HandOp(kind="MAX_POOL_2D", inputs=(3,), outputs=(5,), options=pool),
    ]
    small = HandTensor(shape=(1, 1, 1, 32))
    content = hand_model(
        [PIXELS, PIXELS, wide, wide, small, small], ops, inputs=[0, 1], outputs=[4, 5]
    )
    result = planned(tmp_path, content, "any")
    assert result.planned.order is not None
    kinds = [op.kind for op in read_tflite(result.content).graph.ops]
    assert kinds == ["CONCATENATION", "MAX_POOL_2D"] * 2
    assert result.measured.head_bytes < result.measured.greedy_head_bytes


@needs_tflm
def test_variables_keep_their_content_from_one_invocation_to_the_next(tmp_path: Path) -> None:
    ops = [add(0, 1, 1), add(1, 0, 2), add(2, 2, 3)]
    content = hand_model([PIXELS, STATE, PIXELS, PIXELS], ops, inputs=[0], outputs=[3])
    graph = read_tflite(content).graph
    ones = [[np.ones((1, 4, 4, 8), np.int8)]] * 3
    (run,) = execute([content], ones, 1)
    assert [int(turn[0].flat[0]) for turn in run.outputs] == [4, 6, 8]
    result = planned(tmp_path, content)
    assert 1 not in result.planned.offsets and 1 not in graph.lifetimes()
    assert result.planned.order is None
    (again,) = execute([result.content], ones, 1)
    assert [int(turn[0].flat[0]) for turn in again.outputs] == [4, 6, 8]


@needs_tflm
@pytest.mark.parametrize("kind", ["QUANTIZE", "DEQUANTIZE", "SHAPE", "UNPACK", "MEAN", "PADV2"])
def test_inputs_and_outputs_of_other_types(tmp_path: Path, kind: str) -> None:
    result = planned(tmp_path, kind_model(kind), "any")
    assert result.measured.head_bytes <= result.measured.greedy_head_bytes


def test_random_inputs_have_the_types_and_shapes_of_the_graphs_inputs() -> None:
    types = ("int8", "uint8", "bool", "int16", "int32", "float32", "int64")
    tensors = tuple(Tensor(name="", shape=(1, 500), dtype=dtype) for dtype in types)
    graph = Graph(name="", tensors=tensors, ops=(), inputs=tuple(range(7)), outputs=())
    first, second = random_inputs(graph, 2, np.random.default_rng(0))
    assert [(a.dtype.name, a.shape) for a in first] == [(dtype, (1, 500)) for dtype in types]
    assert first[0].min() < -120 and first[0].max() > 120
    assert all(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@needs_tflm
def test_a_plan_that_changes_outputs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(content: bytes, offsets: Any, order: Any, note: str) -> bytes:
        return with_plan(content, dict.fromkeys(offsets, 0), order, note)

    monkeypatch.setattr(module, "with_plan", wrong)
    with pytest.raises(TinynasError, match="TFLM gives other outputs than with its own"):
        planned(tmp_path, published("mlperf_ic_resnet8"))


@needs_tflm
def test_a_head_that_is_not_the_predicted_one_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def higher(content: bytes, offsets: Any, order: Any, note: str) -> bytes:
        return with_plan(content, {t: o + 16 for t, o in offsets.items()}, order, note)

    monkeypatch.setattr(module, "with_plan", higher)
    with pytest.raises(TinynasError, match="33,328 bytes in TFLM, predicted were 33,312"):
        planned(tmp_path, published("mlperf_ic_resnet8"))


def test_without_the_runtime_nothing_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tflite_micro", None)  # as where it is not installed
    with pytest.raises(TinynasError, match="TensorFlow Lite Micro is not installed"):
        planned(tmp_path, published("mlperf_ic_resnet8"))


@needs_tflm
@pytest.mark.parametrize("kind", FLOW)
def test_what_tflm_runs_but_no_plan_is_made_for(tmp_path: Path, kind: str) -> None:
    model = FLOW[kind]()
    (run,) = execute([model.content], model.inputs, 1)
    assert [int(turn[0].flat[0]) for turn in run.outputs] == model.answers
    with pytest.raises(ModelFileError, match=f"model.tflite: .*{REFUSED[kind]}"):
        planned(tmp_path, model.content)


def _backwards() -> bytes:
    ops = [add(1, 1, 2), add(0, 0, 1)]
    return hand_model([PIXELS] * 3, ops, inputs=[0], outputs=[2])


def _unknown() -> bytes:
    op = HandOp(kind="ELU", inputs=(0,), outputs=(1,))
    return hand_model([PIXELS] * 2, [op], inputs=[0], outputs=[1])


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lone_if, "cannot be planned: no rule covers operator kind IF"),
        (_backwards, "operator ADD 0 reads tensor 1 before ADD 1 writes it"),
        (_unknown, "cannot be planned: no rule covers operator kind ELU"),
        (lambda: b"{}", "this is not a .tflite file"),
        (lambda: kind_model("ADD")[:300], "damaged or cut off"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_the_path(
    tmp_path: Path, build: Callable[[], bytes], reason: str
) -> None:
    with pytest.raises(ModelFileError, match=f"model.tflite: .*{reason}"):
        planned(tmp_path, build())


@needs_tflm
def test_what_tflm_cannot_run_is_refused(tmp_path: Path) -> None:
    op = HandOp(kind="LOGISTIC", inputs=(0,), outputs=(1,))  # whose scale must be 1 / 256
    content = hand_model([PIXELS] * 2, [op], inputs=[0], outputs=[1])
    with pytest.raises(ModelFileError, match="model.tflite: TFLM cannot run this model: "):
        planned(tmp_path, content)


def test_a_file_is_written_whole_and_over_a_file_alone(tmp_path: Path) -> None:
    out, link = tmp_path / "out.tflite", tmp_path / "link.tflite"
    write_file(out, b"first")
    link.symlink_to(out)
    write_file(link, b"second")
    assert out.read_bytes() == b"second" and link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.tflite", "out.tflite"]
    with pytest.raises(UsageError, match="cannot be written"):
        write_file(tmp_path / "none" / "out.tflite", b"")


def test_places_where_nothing_may_be_written_are_refused(tmp_path: Path) -> None:
    model, other = tmp_path / "model.tflite", tmp_path / "same.tflite"
    model.write_bytes(b"")
    other.hardlink_to(model)
    for out, reason in (
        (model, "is the model itself"),
        (tmp_path / ".." / tmp_path.name / "model.tflite", "is the model itself"),
        (other, "is the model itself"),
        (tmp_path, "not a regular file"),
        (Path("/dev/null"), "not a regular file"),
        (tmp_path / "none" / "out", "there is no folder"),
    ):
        with pytest.raises(UsageError, match=reason):
            check_place(out, model)
    check_place(tmp_path / "out.tflite", model)
