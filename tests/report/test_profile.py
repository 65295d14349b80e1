"""The figures of a profile, against a model counted by hand."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from profile_models import OPS, TENSORS, TINY, profile_of, target_of, target_without

from tinynas.cost.kernels import scratch_sizes
from tinynas.cost.memory import align, head_by_op
from tinynas.cost.model_file import read_model
from tinynas.deploy.plan import head_with_scratch, lower_bound
from tinynas.errors import ModelFileError
from tinynas.graph import MACS, Graph, Op, Tensor, total_macs
from tinynas.report.profile import COLUMNS, profile_file, to_csv, to_json

LISTS = Path(__file__).parents[1] / "fixtures" / "layer_lists"
# Of the group elementwise.
UNTIMED = "TANH"


def with_last(kind: str) -> Graph:
    """The tiny model with one more operator behind it."""
    tensor = Tensor(name="end", shape=(1, 4, 4, 8))
    op = Op(name=f"{kind} 5", kind=kind, inputs=(5,), outputs=(len(TENSORS),))
    return replace(TINY, tensors=(*TENSORS, tensor), ops=(*OPS, op), outputs=(len(TENSORS),))


def test_rows_are_those_counted_by_hand() -> None:
    rows = profile_of().operators
    assert [row.number for row in rows] == [0, 1, 2, 3, 4]
    assert [row.kind for row in rows] == [op.kind for op in OPS]
    assert [row.writes for row in rows] == ["stem", "middle", "added", "once", "tensor 5"]
    assert [row.window for row in rows] == ["3x3 s2", "3x3", "", "1x1", "1x1"]
    # 4 * 4 pixels of 8 channels: 27 taps, 9 taps, no multiplications, 8 taps, 8 taps
    assert [row.macs for row in rows] == [3456, 1152, 0, 1024, 1024]
    # image + stem, stem + middle, stem + middle + added, added + once, once + last
    assert [row.live_bytes for row in rows] == [320, 256, 384, 256, 256]
    # int8 weights and int32 biases; the last operator reads those of the one before
    assert [row.flash_bytes for row in rows] == [216 + 32, 72 + 32, 0, 64 + 32, 0]
    assert rows[2].inputs == ((1, 4, 4, 8), (1, 4, 4, 8))
    assert rows[0].outputs == ((1, 4, 4, 8),)


def test_totals_are_the_sums_and_shared_weights_count_once() -> None:
    profile = profile_of()
    assert profile.macs == 3456 + 1152 + 1024 + 1024
    assert profile.constants_bytes == 248 + 104 + 96
    assert profile.parameters == 216 + 8 + 72 + 8 + 64 + 8
    assert profile.flash_bytes == 2000 + profile.code.bytes


def test_a_layer_list_has_no_length_so_its_constants_count() -> None:
    profile = profile_of(file_bytes=None)
    assert profile.file_bytes is None
    assert profile.flash_bytes == 448 + profile.code.bytes


def test_latency_and_energy_are_those_of_the_chip() -> None:
    target = target_of()
    profile = profile_of(target=target)
    power = target.device.active_power_mw
    assert power is not None
    expected = [target.timer.op_us(TINY, op) for op in OPS]
    latency = target.timer.graph(TINY)
    assert [row.latency_us for row in profile.operators] == expected
    assert profile.operators_ms == pytest.approx(sum(expected) / 1000)
    assert profile.latency == latency and profile.energy is not None
    assert latency.ms == pytest.approx(profile.operators_ms + target.timer.inference_us / 1000)
    assert profile.energy.mj == pytest.approx(latency.ms * power.value / 1000)
    assert profile.energy.low_mj == pytest.approx(latency.low_ms * power.lowest / 1000)
    assert profile.energy.high_mj == pytest.approx(latency.high_ms * power.highest / 1000)
    # a microsecond at a milliwatt is a nanojoule
    assert profile.operators[0].energy_uj == pytest.approx(expected[0] * power.value / 1000)
    shares = sum(row.share or 0 for row in profile.operators)
    assert shares == pytest.approx(profile.operators_ms / latency.ms) and shares <= 1
    assert {row.provenance for row in profile.operators} == set(latency.shares)


def test_without_the_chips_power_energy_is_not_known() -> None:
    profile = profile_of(target=target_of("stm32f746"))
    assert {row.energy_uj for row in profile.operators} == {None}
    assert profile.energy is None and profile.latency is not None


def test_an_unknown_latency_is_none_and_the_total_leaves_it_out() -> None:
    target = target_without("elementwise")
    whole, more = profile_of(target=target), profile_of(with_last(UNTIMED), target=target)
    last = more.operators[-1]
    assert (last.latency_us, last.share, last.energy_uj) == (None, None, None)
    assert more.untimed == (UNTIMED,)
    assert more.latency and whole.latency and more.latency.ms == whole.latency.ms
    assert whole.untimed == ()


def test_the_peak_holds_what_is_live_there() -> None:
    memory = profile_of().memory
    assert memory.peak == 2 and memory.bound_bytes == 384
    held = memory.at(2)
    assert {box.name for box in held} == {"stem", "middle", "added"}
    assert sum(box.size_bytes for box in held) == 384


def test_scratch_buffers_are_live_and_on_the_map() -> None:
    target = target_of("stm32l4r5", "tflm-cmsis-nn")
    profile = profile_of(target=target)
    asked = scratch_sizes(TINY, OPS[0], target.kernels)
    assert asked and profile.operators[0].live_bytes == 320 + sum(map(align, asked))
    boxes = [box for box in profile.memory.boxes if box.shape is None and box.first == 0]
    assert [box.name for box in boxes] == ["scratch of CONV_2D 0"] * len(asked)
    assert [(box.first, box.last) for box in boxes] == [(0, 0)] * len(asked)


@pytest.mark.parametrize("name", ["mlperf_ic_resnet8", "mlperf_kws_dscnn"])
@pytest.mark.parametrize("runtime", ["tflm", "tflm-cmsis-nn"])
def test_head_and_bound_are_those_of_the_planner(name: str, runtime: str) -> None:
    target = target_of("stm32l4r5", runtime)
    profile = profile_file(LISTS / f"{name}.json", target)
    graph = read_model(LISTS / f"{name}.json").graph
    scratch = [scratch_sizes(graph, op, target.kernels) for op in graph.ops]
    assert profile.memory.head_bytes == head_with_scratch(graph, {}, scratch)
    assert profile.memory.bound_bytes == lower_bound(graph, scratch)
    live = [row.live_bytes for row in profile.operators]
    assert live == head_by_op(graph, target.kernels)
    assert profile.macs == total_macs(graph)


def test_the_plan_is_tflms_or_the_files() -> None:
    assert profile_of().plan == "TFLM's greedy plan"
    own = {0: 0, 1: 256, 2: 128, 3: 0, 4: 128, 5: 0}
    profile = profile_of(offsets=own)
    assert profile.plan == "the file's own plan"
    assert {box.name: box.offset for box in profile.memory.boxes}["stem"] == 256
    assert profile.memory.head_bytes == 384
    part = profile_of(offsets={1: 1024})
    assert part.plan == "the file's own plan for 1 of 6 tensors, TFLM's for the rest"
    assert part.memory.head_bytes == 1024 + 128


def test_the_arena_is_head_and_tail() -> None:
    profile = profile_of()
    assert profile.arena is not None and profile.unknown == ()
    assert profile.arena.head_bytes == profile.memory.head_bytes
    assert profile.arena.sram_bytes >= profile.arena.head_bytes + profile.arena.tail_bytes


def test_where_a_rule_is_missing_the_arena_is_not_known() -> None:
    floats = tuple(replace(t, dtype="float32") if t.name == "" else t for t in TENSORS)
    profile = profile_of(replace(TINY, tensors=floats))
    assert profile.arena is None
    assert any("float32" in part for part in profile.unknown)
    assert to_json(profile)["predicted"]["sram_bytes"] is None


def test_csv_sums_equal_the_totals() -> None:
    profile = profile_of()
    rows = list(csv.DictReader(io.StringIO(to_csv(profile))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["number"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert sum(int(row["macs"]) for row in rows) == profile.macs
    assert sum(int(row["flash_bytes"]) for row in rows) == profile.constants_bytes
    milliseconds = sum(float(row["latency_ms_predicted"]) for row in rows)
    assert milliseconds == pytest.approx(profile.operators_ms)
    microjoules = sum(float(row["energy_uj_predicted"]) for row in rows)
    assert microjoules == pytest.approx(sum(op.energy_uj or 0 for op in profile.operators))
    assert [row["latency_provenance"] for row in rows] == [
        op.provenance for op in profile.operators
    ]
    assert max(int(row["live_bytes"]) for row in rows) == profile.memory.bound_bytes
    assert rows[2]["inputs"] == "1x4x4x8;1x4x4x8"


def test_what_is_not_known_is_an_empty_cell_and_null() -> None:
    profile = profile_of(with_last(UNTIMED), target=target_without("elementwise"))
    *_, last = csv.DictReader(io.StringIO(to_csv(profile)))
    assert last["latency_ms_predicted"] == "" and last["energy_uj_predicted"] == ""
    answer = json.loads(json.dumps(to_json(profile), allow_nan=False))
    assert answer["operators"][-1]["latency_us"] is None
    assert answer["unknown"]["latency"] == [UNTIMED]


def test_no_name_becomes_a_formula_in_a_spreadsheet() -> None:
    evil = tuple(replace(t, name="=cmd|' /C calc'!A0") if t.name == "stem" else t for t in TENSORS)
    first, *_ = csv.DictReader(io.StringIO(to_csv(profile_of(replace(TINY, tensors=evil)))))
    assert first["writes"].startswith("'=cmd")


def test_json_has_totals_rows_and_the_peak() -> None:
    profile = profile_of()
    answer = json.loads(json.dumps(to_json(profile), allow_nan=False))
    assert answer["mcu"] == "stm32l4r5" and answer["runtime"] == "tflm"
    assert answer["counted"] == {
        "file_bytes": 2000,
        "constants_bytes": 448,
        "parameters": 376,
        "macs": 6656,
    }
    assert sum(row["macs"] for row in answer["operators"]) == 6656
    assert answer["predicted"]["head_bytes"] == profile.memory.head_bytes
    assert answer["peak"]["operator"] == 2
    assert sum(b["size_bytes"] for b in answer["peak"]["buffers"]) == 384


def test_an_operator_that_is_not_known_is_named_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    shape = {"shape": [1, 4]}
    layers = [{"op": "FANCY", "ins": [shape], "outs": [shape]}]
    path.write_text(json.dumps({"inputs": [shape], "layers": layers}))
    assert "FANCY" not in MACS
    with pytest.raises(ModelFileError) as error:
        profile_file(path, target_of())
    assert str(error.value).startswith(f"{path}: ") and "FANCY" in str(error.value)
