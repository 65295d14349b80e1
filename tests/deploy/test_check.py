import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_models import (
    HandOp,
    HandTensor,
    add_options,
    fully_connected_options,
    hand_model,
    reshape_options,
    softmax_options,
)
from random_models import random_constants, small_graph

from tinynas.budget import Budget
from tinynas.cost.kernels import Kernels
from tinynas.cost.model_file import LARGEST_FILE_BYTES
from tinynas.deploy.build import predict
from tinynas.deploy.check import check_file
from tinynas.deploy.plan import greedy_plan, head_with_scratch, plan_memory
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.deploy.verify import measure_arena, runtime_available, smallest_arena_bytes
from tinynas.errors import ModelFileError, TinynasError
from tinynas.graph import Graph
from tinynas.report.result_text import check_lines

needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")

LARGE = Budget(sram_bytes=2**24, flash_bytes=2**24)
RUNTIMES: dict[Kernels, str] = {
    "reference": "tflm",
    "cmsis-nn-dsp": "tflm-cmsis-nn",
    "cmsis-nn-c": "tflm-cmsis-nn",
}
ROW = HandTensor(shape=(1, 10))
SHARES = replace(ROW, scales=(1 / 256,), zero_point=-128)
IMAGE = HandTensor(shape=(1, 4, 4, 8))  # 128 bytes


def _check(
    folder: Path, content: bytes, budget: Budget = LARGE, kernels: Kernels = "cmsis-nn-dsp"
) -> dict[str, Any]:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return check_file(path, budget, kernels, RUNTIMES[kernels])


def _one(
    kind: str, source: HandTensor = ROW, result: HandTensor | None = None, **of_op: Any
) -> bytes:
    op = HandOp(kind=kind, inputs=(0,), outputs=(1,), **of_op)
    return hand_model([source, result or source], [op], inputs=[0], outputs=[1])


def _adds(plan: list[int] | None = None) -> bytes:
    """Three operators in a row, four tensors of 128 bytes."""
    ops = [
        HandOp(kind="ADD", inputs=(t, t), outputs=(t + 1,), options=add_options())
        for t in range(3)
    ]
    return hand_model([IMAGE] * 4, ops, inputs=[0], outputs=[3], plan=plan)


def _subnet(seed: int) -> tuple[Graph, bytes, bytes]:
    """A subnet, its file with our memory plan, and its file without one."""
    rng = np.random.default_rng(seed)
    graph = small_graph(rng)
    model = random_constants(graph, rng)
    return graph, write_tflite(model, plan=plan_memory(graph).offsets), write_tflite(model)


@needs_tflm
@pytest.mark.parametrize("kernels", RUNTIMES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_subnets_need_what_was_predicted_when_they_were_built(
    tmp_path: Path, kernels: Kernels, seed: int
) -> None:
    graph, planned, unplanned = _subnet(seed)
    for content, plan in ((planned, plan_memory(graph)), (unplanned, greedy_plan(graph))):
        result = _check(tmp_path, content, kernels=kernels)
        # Our plan is one for reference kernels: with others TFLM adds their scratch buffers.
        assert result["predicted"]["sram_head_bytes"] == plan.head_bytes
        assert result["measured"]["sram_head_bytes"] == plan.head_bytes
        assert result["measured"]["file_bytes"] == result["file_bytes"] == len(content)
        if kernels == "reference":
            built = predict(graph, kernels, plan)
            assert result["predicted"]["sram_bytes"] == built.sram_bytes
        assert result["holds"] and len(result["why"]) == 1
        assert "TensorFlow Lite Micro" in result["executed_by"]
        assert json.loads(json.dumps(result)) == result


@needs_tflm
def test_a_budget_holds_up_to_its_last_byte(tmp_path: Path) -> None:
    _, content, _ = _subnet(3)
    need = _check(tmp_path, content)["predicted"]["sram_bytes"]
    exact = Budget(sram_bytes=need, flash_bytes=len(content))
    assert _check(tmp_path, content, exact)["holds"]
    less = _check(tmp_path, content, replace(exact, sram_bytes=need - 1))
    assert not less["holds"]
    assert f"needs {need:,} bytes" in less["why"][0]
    assert f"above {need - 1:,} bytes" in less["why"][0]
    both = _check(tmp_path, content, Budget(sram_bytes=1, flash_bytes=len(content) - 1))
    assert not both["holds"]
    assert f"the file has {len(content):,} bytes" in both["why"][1]
    assert f"above {len(content) - 1:,} bytes" in both["why"][1]


@needs_tflm
@pytest.mark.parametrize(
    ("plan", "head"),
    [
        (None, 256),
        ([1, 0, 4, 0, 128, 0, 256], 384),
        ([1, 0, 4, 0, 0, 0, 0], 128),  # every sum over its operand
        ([1, 0, 4, 64, 0, -1, -1], 256),  # half over it, and the last two placed by TFLM
    ],
)
def test_plans_of_others_are_followed_also_where_tensors_overlap(
    tmp_path: Path, plan: list[int] | None, head: int
) -> None:
    result = _check(tmp_path, _adds(plan))
    assert result["predicted"]["sram_head_bytes"] == head
    assert result["measured"]["sram_head_bytes"] == head
    assert result["holds"]


@needs_tflm
@pytest.mark.parametrize(
    "content",
    [
        _one("SOFTMAX", ROW, SHARES, options=softmax_options),
        hand_model(
            [
                ROW,
                HandTensor(shape=(2,), dtype="int32", data=np.array([2, 5], np.int32)),
                HandTensor(shape=(2, 5)),
            ],
            [HandOp(kind="RESHAPE", inputs=(0, 1), outputs=(2,), options=reshape_options)],
            inputs=[0],
            outputs=[2],
        ),
    ],
)
def test_single_known_operators_are_predicted(tmp_path: Path, content: bytes) -> None:
    result = _check(tmp_path, content)
    assert result["holds"]
    assert result["predicted"]["sram_head_bytes"] == result["measured"]["sram_head_bytes"] == 32
    # Tail of the host, whose structures are larger, above that of the chip.
    needed = smallest_arena_bytes(content)
    assert needed / 2 < result["predicted"]["sram_bytes"] < needed


def _dense(scales: int) -> bytes:
    weights = HandTensor(shape=(16, 10), data=np.ones((16, 10), np.int8), scales=(0.05,) * scales)
    op = HandOp(
        kind="FULLY_CONNECTED",
        inputs=(0, 1, -1),
        outputs=(2,),
        options=fully_connected_options,
    )
    tensors = [ROW, weights, HandTensor(shape=(1, 16))]
    return hand_model(tensors, [op], inputs=[0], outputs=[2])


@needs_tflm
def test_scales_per_channel_of_a_fully_connected_operator_are_predicted(tmp_path: Path) -> None:
    # fully_connected_common.cc: a multiplier and a shift, 4 bytes each, per channel.
    tails = [measure_arena(_dense(scales)).tail_bytes for scales in (1, 16)]
    assert tails[1] - tails[0] == 2 * 4 * 16
    sram = [_check(tmp_path, _dense(scales))["predicted"]["sram_bytes"] for scales in (1, 16)]
    assert sram[1] - sram[0] >= 2 * 4 * 16


@needs_tflm
def test_tensors_that_nothing_writes_take_arena(tmp_path: Path) -> None:
    op = HandOp(kind="ADD", inputs=(0, 0), outputs=(1,), options=add_options())
    content = hand_model([IMAGE] * 5, [op], inputs=[0], outputs=[1])
    result = _check(tmp_path, content)
    assert result["holds"]
    assert result["predicted"]["sram_head_bytes"] == measure_arena(content).head_bytes == 3 * 128


@needs_tflm
@pytest.mark.parametrize("kernels", ["reference", "cmsis-nn-dsp"])
def test_an_unknown_kind_is_judged_by_what_it_needs_on_the_host(
    tmp_path: Path, kernels: Kernels
) -> None:
    content = _one("ELU")
    needed = smallest_arena_bytes(content)
    exact = Budget(sram_bytes=needed, flash_bytes=len(content))
    result = _check(tmp_path, content, exact, kernels)
    assert result["holds"] and result["predicted"] is None
    assert result["measured"]["sram_host_needed_bytes"] == needed
    measured = result["measured"]
    assert measured["sram_head_bytes"] + measured["sram_host_tail_bytes"] <= needed
    (why,) = result["why"]
    assert "operator kind ELU is not known" in why and "upper bound" in why
    assert ("scratch buffers of tflm-cmsis-nn" in why) == (kernels != "reference")
    less = _check(tmp_path, content, replace(exact, sram_bytes=needed - 1), kernels)
    assert not less["holds"]
    assert "an upper bound, needs" in less["why"][0]


@needs_tflm
def test_what_the_rules_were_not_checked_for_is_not_predicted(tmp_path: Path) -> None:
    real = replace(ROW, dtype="float32")
    result = _check(tmp_path, _one("SOFTMAX", real, options=softmax_options))
    assert result["predicted"] is None
    assert "SOFTMAX of type float32" in result["why"][-1]


@needs_tflm
def test_several_inputs_are_predicted(tmp_path: Path) -> None:
    op = HandOp(kind="ADD", inputs=(0, 1), outputs=(2,), options=add_options())
    content = hand_model([ROW] * 3, [op], inputs=[0, 1], outputs=[2])
    result = _check(tmp_path, content)
    assert result["holds"]
    use = measure_arena(content)
    assert result["predicted"]["sram_head_bytes"] == use.head_bytes
    assert result["predicted"]["sram_host_tail_bytes"] == use.tail_bytes


@needs_tflm
@pytest.mark.parametrize("what", ["head", "records"])
def test_a_runtime_that_contradicts_the_prediction_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    from tinynas.deploy import check

    use = measure_arena(_adds())
    other = replace(
        use,
        head_bytes=use.head_bytes + 16 * (what == "head"),
        tail_bytes=use.tail_bytes + 16 * (what == "records"),
    )
    monkeypatch.setattr(check, "measure_arena", lambda content: other)
    result = _check(tmp_path, _adds())
    assert not result["holds"]
    assert what in result["why"][0] and "cannot be relied on" in result["why"][0]


@needs_tflm
@pytest.mark.parametrize(
    ("offsets", "safe_for"),
    [
        ([0, 128, 256, 384], ["any"]),
        ([0, 0, 0, 0], ["reference", "cmsis-nn", "cmsis-nn-mve"]),  # each sum over what it adds
        ([0, 16, 256, 384], []),  # above it by less than its size
    ],
)
def test_a_plan_that_is_not_known_to_be_safe_does_not_hold(
    tmp_path: Path, offsets: list[int], safe_for: list[str]
) -> None:
    result = _check(tmp_path, _adds([1, 0, 4, *offsets]))
    assert result["plan_safety"]["safe_for"] == safe_for
    assert result["plan_safety"]["safe"] is result["holds"] is bool(safe_for)
    lines = check_lines(result)
    if safe_for:
        assert lines[0].endswith(": inside the budget")
        assert lines[-1] == "  " + result["plan_safety"]["words"][-1]
    else:
        assert "NOT known to be safe with tflm-cmsis-nn" in lines[0]
        assert "outputs may be silently wrong" in result["why"][0]
    assert _check(tmp_path, _adds())["plan_safety"] is None


@needs_tflm
def test_a_custom_operator_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="TFLM cannot run .*operator kind CUSTOM:my_op"):
        _check(tmp_path, _one("CUSTOM", custom="my_op"))


def test_without_the_runtime_the_prediction_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tflite_micro", None)  # as where it is not installed
    graph, content, _ = _subnet(4)
    result = _check(tmp_path, content, kernels="reference")
    assert (
        result["predicted"]["sram_bytes"]
        == predict(graph, "reference", plan_memory(graph)).sram_bytes
    )
    assert result["measured"]["sram_head_bytes"] is None
    assert result["executed_by"] is None
    assert result["holds"] and "not installed" in result["why"][0]


def test_without_the_runtime_an_unknown_kind_cannot_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tflite_micro", None)
    with pytest.raises(TinynasError, match="operator kind ELU not known, .* not installed"):
        _check(tmp_path, _one("ELU"))


def test_what_is_no_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    large = tmp_path / "large.tflite"
    with large.open("wb") as file:
        file.truncate(LARGEST_FILE_BYTES + 1)
    for path, reason in [
        (tmp_path / "absent.tflite", "there is no such file"),
        (tmp_path, "not a file that can be read"),
        (tmp_path / ("a" * 300), "cannot be read: File name too long"),
        (large, "models of at most"),
    ]:
        with pytest.raises(ModelFileError, match=reason) as raised:
            check_file(path, LARGE, "reference", "tflm")
        assert str(path) in str(raised.value)


def test_what_is_no_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    _, content, _ = _subnet(5)
    for wrong in (b"", b"a text file", content[: len(content) // 2]):
        with pytest.raises(ModelFileError, match="model.tflite: this .*file"):
            _check(tmp_path, wrong)


def test_scratch_of_the_chips_kernels_is_placed_around_the_plan(tmp_path: Path) -> None:
    graph, content, _ = _subnet(6)
    offsets = plan_memory(graph).offsets
    plain = _check(tmp_path, content, kernels="reference")["predicted"]
    other = _check(tmp_path, content, kernels="cmsis-nn-dsp")["predicted"]
    assert plain["sram_head_bytes"] == other["sram_head_bytes"]
    assert other["sram_bytes"] > plain["sram_bytes"]
    assert head_with_scratch(graph, offsets) == plain["sram_head_bytes"]
