"""Latencies against sums by hand, their provenance and their intervals."""

from __future__ import annotations

import time
from math import exp
from typing import Any

import pytest
from latency_tables import model, timer

from tinynas.cost.device import Device, find_device, shipped_devices
from tinynas.cost.interval import student_quantile
from tinynas.cost.latency import find_timer
from tinynas.cost.latency_table import Entry
from tinynas.cost.op_shape import OpShape, op_shape
from tinynas.errors import UsageError
from tinynas.graph import MACS, Graph, Op, Tensor, total_macs
from tinynas.space.arch import largest
from tinynas.space.lower import GraphBuilder, lower
from tinynas.space.spec import SearchSpace, shipped_spaces


def one_of_each() -> Graph:
    """Every kind of a searched network once, on 6x5 images of 3 channels."""
    builder = GraphBuilder()
    image = builder.tensor("image", (1, 6, 5, 3))
    x = builder.conv("stem", image, 8, 3, 2, "RELU6")
    y = builder.conv("point", x, 8, 1, 1, None)
    x = builder.add("add", x, y)
    x = builder.depthwise("depthwise", x, 5, 1)
    x = builder.global_pool("pool", x)
    logits = builder.fully_connected("logits", x, 10)
    return builder.build("one of each", (image,), (logits,))


def measured(graph: Graph, **cycles: float) -> dict[OpShape, Entry]:
    """Entries of operators by name."""
    by_name = {op.name: op_shape(graph, op) for op in graph.ops}
    return {
        by_name[name]: Entry(cycles=each, provenance="measured", source="bench")
        for name, each in cycles.items()
    }


def test_each_kind_costs_its_features_by_hand() -> None:
    graph = one_of_each()
    # The stem makes 3x3x8 = 72 outputs of 27 MACs each; pool: 9 elements under each of 8 windows.
    wanted = {
        "stem": 2 * 72 * 27 + 10 * 72 + 100,
        "point": 2 * 72 * 8 + 10 * 72 + 100,
        "add": 10 * 72 + 100,
        "depthwise": 2 * 72 * 25 + 10 * 72 + 100,
        "pool": 3 * 8 * 9 + 10 * 8 + 100,
        "logits": 2 * 80 + 10 * 10 + 100,
    }
    got = {op.name: timer().op_us(graph, op) for op in graph.ops}
    assert got == pytest.approx(wanted)
    assert timer().op(graph, graph.ops[0]).provenance == "calibrated"


def test_a_graph_costs_its_operators_and_what_an_inference_takes_besides() -> None:
    graph, slow = one_of_each(), timer(model(per_inference=5000.0), clock_hz=2e6)
    us = [slow.op_us(graph, op) for op in graph.ops]
    assert slow.inference_us == 2500
    assert slow.graph(graph).ms == pytest.approx((sum(us) + 2500) / 1000)


def test_an_entry_answers_before_the_model_and_moves_the_network() -> None:
    graph, plain = one_of_each(), timer()
    known = timer(entries=measured(graph, point=5.0))
    point = next(op for op in graph.ops if op.name == "point")
    assert known.op(graph, point).us == 5 and known.op(graph, point).provenance == "measured"
    saved = plain.op_us(graph, point) - 5
    assert known.graph(graph).ms == pytest.approx(plain.graph(graph).ms - saved / 1000)


def test_shares_say_how_much_each_provenance_has_of_time_and_operators() -> None:
    graph = one_of_each()
    entries = measured(graph, stem=100.0, add=200.0)
    latency = timer(model(per_inference=300.0), entries=entries).graph(graph)
    assert set(latency.shares) == {"measured", "calibrated"}
    assert latency.shares["measured"].operators == pytest.approx(2 / 6)
    assert latency.shares["measured"].time == pytest.approx(0.3 / latency.ms)
    assert sum(share.time for share in latency.shares.values()) == pytest.approx(1)
    assert latency.provenance == "calibrated"
    every = {op.name: 1.0 for op in graph.ops}
    assert timer(entries=measured(graph, **every)).graph(graph).provenance == "measured"


def test_the_interval_follows_from_spread_and_degrees() -> None:
    latency = timer(model(spread=0.2)).graph(one_of_each())
    # Student's t of 4 degrees of freedom has 90 % within 2.1318 (any table of it).
    assert student_quantile(4, 0.9) == pytest.approx(2.1318, abs=1e-4)
    assert latency.high_ms == pytest.approx(latency.ms * exp(0.2 * 2.1318), rel=1e-4)
    assert latency.low_ms == pytest.approx(latency.ms / exp(0.2 * 2.1318), rel=1e-4)
    sure = timer(model(spread=0.2))
    assert sure.factor(0.5) < sure.factor(0.9) < sure.factor(0.99)


def test_a_kind_without_a_group_raises_instead_of_costing_nothing() -> None:
    graph = one_of_each()
    without = timer(model(without=("add",)))
    add = next(op for op in graph.ops if op.kind == "ADD")
    with pytest.raises(ValueError, match=r"'ADD' \(add\) is not known for tflm of round"):
        without.op_us(graph, add)
    with pytest.raises(ValueError):
        without.graph(graph)


def moving(kind: str, dtype: str = "int8", **known: Any) -> Graph:
    """An operator of two 4x6x3 images, or of the first, whose output has 5x7x3 elements."""
    builder = GraphBuilder()
    images = tuple(builder.tensor(name, (1, 4, 6, 3)) for name in ("a", "b"))
    read = images if kind == "CONCATENATION" else images[:1]
    out = builder.tensor("out", (1, 5, 7, 3))
    builder.ops.append(Op(name="move", kind=kind, inputs=read, outputs=(out,), **known))
    graph = builder.build("move", images, (out,))
    tensors = tuple(Tensor(name=t.name, shape=t.shape, dtype=dtype) for t in graph.tensors)
    return Graph(
        name=graph.name, tensors=tensors, ops=graph.ops, inputs=images, outputs=graph.outputs
    )


def test_an_unknown_kind_and_other_types_raise() -> None:
    odd = moving("SVDF")
    with pytest.raises(ValueError, match="operator kind 'SVDF' is not known"):
        timer().op_us(odd, odd.ops[0])
    wide = moving("ADD", dtype="float32")
    with pytest.raises(ValueError, match="the latency of ADD with float32 is not known"):
        timer().op_us(wide, wide.ops[0])
    converted = moving("QUANTIZE", dtype="float32")
    assert timer().op_us(converted, converted.ops[0]) >= 0


@pytest.mark.parametrize("kind", ["PAD", "STRIDED_SLICE", "CONCATENATION"])
@pytest.mark.parametrize("chip", shipped_devices().values(), ids=lambda chip: chip.name)
def test_what_patches_need_costs_time_on_every_shipped_device(chip: Device, kind: str) -> None:
    graph = moving(kind, axis=2, begin=(0, 1, 1, 0))
    for runtime in chip.runtimes:
        assert find_timer(chip, runtime).op_us(graph, graph.ops[0]) > 0


@pytest.mark.parametrize("space", shipped_spaces().values(), ids=lambda space: space.name)
@pytest.mark.parametrize("chip", shipped_devices().values(), ids=lambda chip: chip.name)
def test_every_network_of_a_space_can_be_timed_on_every_device(
    chip: Device, space: SearchSpace
) -> None:
    graph = lower(space, largest(space, width=1.0, resolution=48), classes=10)
    for runtime in chip.runtimes:
        latency = find_timer(chip, runtime).graph(graph)
        assert 0 < latency.low_ms < latency.ms < latency.high_ms


@pytest.mark.parametrize("chip", shipped_devices().values(), ids=lambda chip: chip.name)
def test_every_known_kind_can_be_timed_on_every_device(chip: Device) -> None:
    for runtime in chip.runtimes:
        known = find_timer(chip, runtime)
        for kind in MACS:
            assert known.cycles(OpShape(kind, 4, 4, 8, 4, 4, 8))[0] >= 0


def test_twice_the_clock_takes_half_the_time() -> None:
    slow, fast = (timer(clock_hz=hz).graph(one_of_each()).ms for hz in (1, 2))
    assert fast == pytest.approx(slow / 2)


def test_a_runtime_that_nothing_is_known_of_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UsageError, match="no latency is known for tvm on stm32f746") as error:
        find_timer(find_device("stm32f746"), "tvm")
    assert "tflm-cmsis-nn" in str(error.value) and "tinynas lut import" in str(error.value)


def test_a_model_with_a_feature_that_is_not_known_is_refused() -> None:
    wrong = model().model_copy(update={"cycles": {"add": {"calls": 1.0, "luck": 2.0}}})
    with pytest.raises(UsageError, match="cycles of 'add.luck', which is not known; known: outpu"):
        timer(wrong)
    wrong = model().model_copy(update={"cycles": {"luck": {"calls": 1.0}}})
    with pytest.raises(UsageError, match="cycles of 'luck', which is not known; known: conv_1x1"):
        timer(wrong)


def test_an_operator_is_timed_in_microseconds_of_work() -> None:
    graph, known = one_of_each(), timer()
    started = time.process_time()
    for _ in range(100):
        for op in graph.ops:
            known.op_us(graph, op)
    assert (time.process_time() - started) / 600 < 500e-6  # 25 us on an idle machine


def resnet8() -> Graph:
    """MLPerf Tiny's image classification model: three residual stacks, 12.5 M MACs."""
    builder = GraphBuilder()
    image = builder.tensor("image", (1, 32, 32, 3))
    x = builder.conv("stem", image, 16, 3, 1, "RELU")
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = builder.conv("first", x, channels, 3, stride, "RELU")
        y = builder.conv("second", y, channels, 3, 1, None)
        x = x if stride == 1 else builder.conv("skip", x, channels, 1, stride, None)
        x = builder.add("add", x, y)
    x = builder.global_pool("pool", x)
    logits = builder.fully_connected("logits", x, 10)
    return builder.build("resnet8", (image,), (logits,))


def test_resnet8_on_a_real_stm32l4r5_lies_inside_the_interval() -> None:
    # Black3rror/EdgeMark@3e7237db2d, TFLM + CMSIS-NN, int8, NUCLEO-L4R5ZI at 120 MHz.
    measured_ms = 407.746
    assert total_macs(resnet8()) == 12_501_632
    latency = find_timer(find_device("stm32l4r5"), "tflm-cmsis-nn").graph(resnet8())
    assert latency.low_ms < measured_ms < latency.high_ms
