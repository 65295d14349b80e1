"""The latency estimate against sums by hand, a loop over every tap, and one real board."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.cost.device import Device, find_device, shipped_devices
from tinynas.cost.latency import RATES, graph_latency_ms, op_latency_us
from tinynas.errors import UsageError
from tinynas.graph import MACS, Graph, Op, total_macs
from tinynas.space.arch import largest
from tinynas.space.lower import GraphBuilder, lower
from tinynas.space.spec import SearchSpace, shipped_spaces

CYCLES = {
    "conv_1x1": {"per_mac": 1, "per_output": 10, "per_call": 100},
    "conv_kxk": {"per_mac": 2, "per_output": 20, "per_call": 200},
    "depthwise_conv_2d": {"per_mac": 3, "per_output": 30, "per_call": 300},
    "fully_connected": {"per_mac": 4, "per_output": 40, "per_call": 400},
    "add": {"per_mac": 0, "per_output": 50, "per_call": 500},
    "average_pool_2d": {"per_mac": 6, "per_output": 60, "per_call": 600},
    "pad": {"per_mac": 7, "per_output": 70, "per_call": 700},
    "move": {"per_mac": 8, "per_output": 80, "per_call": 800},
}
MOVES = ("PAD", "STRIDED_SLICE", "CONCATENATION")


def device(
    skips_padding: bool = False, clock_hz: int = 1_000_000, without: tuple[str, ...] = ()
) -> Device:
    """A chip of one cycle per microsecond with round rates."""
    figure = {"value": 1000, "source": "made up"}
    cycles = {kind: dict(rates) for kind, rates in CYCLES.items() if kind not in without}
    for kind in ("conv_kxk", "depthwise_conv_2d"):
        cycles[kind]["skips_padding"] = skips_padding
    runtime = {
        "description": "made up",
        "runtime_code_bytes": {"value": 1, "source": "made up"},
        "latency": {
            "provenance": "estimated",
            "source": "made up",
            "cycles": cycles,
            "error": {"count": 0, "checked_on": "nothing"},
        },
    }
    return Device.model_validate(
        {
            "name": "round",
            "description": "made up",
            "core": "made up",
            "clock_hz": {"value": clock_hz, "source": "made up"},
            "sram_bytes": figure,
            "sram_contiguous_bytes": figure,
            "flash_bytes": figure,
            "reserve_sram_bytes": {"value": 1, "source": "made up"},
            "runtimes": {"tflm": runtime},
        }
    )


def one_of_each() -> Graph:
    """Every kind once, on 6x5 images of 3 channels."""
    builder = GraphBuilder()
    image = builder.tensor("image", (1, 6, 5, 3))
    x = builder.conv("stem", image, 8, 3, 2, "RELU6")
    y = builder.conv("point", x, 8, 1, 1, None)
    x = builder.add("add", x, y)
    x = builder.depthwise("depthwise", x, 5, 1)
    x = builder.global_pool("pool", x)
    logits = builder.fully_connected("logits", x, 10)
    return builder.build("one of each", (image,), (logits,))


def test_each_kind_costs_its_macs_outputs_and_call_by_hand() -> None:
    graph = one_of_each()
    # The stem makes 3x3x8 = 72 outputs of 27 MACs each; pool: 9 elements under each of 8 windows.
    wanted = {
        "stem": 2 * 72 * 27 + 20 * 72 + 200,
        "point": 1 * 72 * 8 + 10 * 72 + 100,
        "add": 50 * 72 + 500,
        "depthwise": 3 * 72 * 25 + 30 * 72 + 300,
        "pool": 6 * 8 * 9 + 60 * 8 + 600,
        "logits": 4 * 80 + 40 * 10 + 400,
    }
    got = {op.name: op_latency_us(graph, op, device(), "tflm") for op in graph.ops}
    assert got == pytest.approx(wanted)


def test_a_graph_costs_the_sum_of_its_operators() -> None:
    graph = one_of_each()
    us = [op_latency_us(graph, op, device(), "tflm") for op in graph.ops]
    assert graph_latency_ms(graph, device(), "tflm") == pytest.approx(sum(us) / 1000)


def test_twice_the_clock_takes_half_the_time() -> None:
    slow, fast = (graph_latency_ms(one_of_each(), device(clock_hz=hz), "tflm") for hz in (1, 2))
    assert fast == pytest.approx(slow / 2)


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.sampled_from([1, 2]),
)
def test_skipped_padding_counts_the_taps_inside_the_image(
    height: int, width: int, kernel: int, stride: int
) -> None:
    builder = GraphBuilder()
    image = builder.tensor("image", (1, height, width, 4))
    out = builder.depthwise("depthwise", image, kernel, stride)
    graph = builder.build("depthwise", (image,), (out,))
    _, rows, columns, channels = graph.tensors[out].shape
    # TensorFlow's SAME: half of what is missing goes before, rounded down.
    top = max((rows - 1) * stride + kernel - height, 0) // 2
    left = max((columns - 1) * stride + kernel - width, 0) // 2
    taps = sum(
        0 <= row * stride - top + i < height and 0 <= column * stride - left + j < width
        for row in range(rows)
        for column in range(columns)
        for i in range(kernel)
        for j in range(kernel)
    )
    outputs = rows * columns * channels
    wanted = 3 * taps * channels + 30 * outputs + 300
    got = op_latency_us(graph, graph.ops[0], device(skips_padding=True), "tflm")
    assert got == pytest.approx(wanted)


def test_without_padding_there_is_nothing_to_skip() -> None:
    builder = GraphBuilder()
    image = builder.tensor("image", (1, 5, 5, 2))
    weights = builder.tensor("", (4, 3, 3, 2), constant=True)
    out = builder.tensor("out", (1, 3, 3, 4))
    op = Op(name="conv", kind="CONV_2D", inputs=(image, weights), outputs=(out,), kernel=(3, 3))
    builder.ops.append(op)
    graph = builder.build("valid", (image,), (out,))
    both = [op_latency_us(graph, op, device(skips_padding=skips), "tflm") for skips in (0, 1)]
    assert both == pytest.approx([2 * 36 * 18 + 20 * 36 + 200] * 2)


def moving(kind: str, **known: Any) -> Graph:
    """An operator of two 4x6x3 images, or of the first, whose output has 5x7x3 = 105 elements."""
    builder = GraphBuilder()
    images = tuple(builder.tensor(name, (1, 4, 6, 3)) for name in ("a", "b"))
    read = images if kind == "CONCATENATION" else images[:1]
    out = builder.tensor("out", (1, 5, 7, 3))
    builder.ops.append(Op(name="move", kind=kind, inputs=read, outputs=(out,), **known))
    return builder.build("move", images, (out,))


@pytest.mark.parametrize(
    ("graph", "wanted"),
    [
        # Five rows of three runs; 35 pixels; two parts in each of five rows, in the one image.
        (moving("PAD", pads=((0, 0), (0, 1), (1, 0), (0, 0))), 7 * 15 + 70 * 105 + 700),
        (moving("STRIDED_SLICE", begin=(0, 1, 1, 0)), 8 * 35 + 80 * 105 + 800),
        (moving("CONCATENATION", axis=2), 8 * 2 * 5 + 80 * 105 + 800),
        (moving("CONCATENATION", axis=1), 8 * 2 + 80 * 105 + 800),
        # What is taken or joined is not known: every element may be a run.
        (moving("STRIDED_SLICE"), 8 * 105 + 80 * 105 + 800),
        (moving("CONCATENATION"), 8 * 105 + 80 * 105 + 800),
    ],
)
def test_moves_cost_their_runs_of_bytes_outputs_and_call_by_hand(
    graph: Graph, wanted: int
) -> None:
    assert op_latency_us(graph, graph.ops[0], device(), "tflm") == pytest.approx(wanted)


@pytest.mark.parametrize("kind", MOVES)
def test_a_move_raises_where_a_device_file_has_no_rates_for_it(kind: str) -> None:
    graph, chip = moving(kind), device(without=("pad", "move"))
    with pytest.raises(ValueError) as error:
        op_latency_us(graph, graph.ops[0], chip, "tflm")
    assert str(error.value) == f"operator kind {kind!r} has no latency for tflm on round"


@pytest.mark.parametrize("kind", MOVES)
@pytest.mark.parametrize("chip", shipped_devices().values(), ids=lambda chip: chip.name)
def test_moves_cost_time_on_every_shipped_device_and_runtime(chip: Device, kind: str) -> None:
    graph = moving(kind, axis=2, begin=(0, 1, 1, 0))
    assert all(op_latency_us(graph, graph.ops[0], chip, name) > 0 for name in chip.runtimes)


@pytest.mark.parametrize("chip", shipped_devices().values(), ids=lambda chip: chip.name)
def test_slices_and_joins_run_the_same_kernels_in_every_runtime(chip: Device) -> None:
    assert len({runtime.latency.cycles.move for runtime in chip.runtimes.values()}) == 1


def test_an_unknown_kind_raises_instead_of_costing_nothing() -> None:
    graph = Graph(name="odd", tensors=(), ops=(), inputs=(), outputs=())
    op = Op(name="softmax", kind="SOFTMAX", inputs=(), outputs=())
    with pytest.raises(ValueError) as error:
        op_latency_us(graph, op, device(), "tflm")
    assert str(error.value) == (
        "operator kind 'SOFTMAX' has no latency; known: CONV_2D, DEPTHWISE_CONV_2D, "
        "FULLY_CONNECTED, ADD, AVERAGE_POOL_2D, PAD, STRIDED_SLICE, CONCATENATION"
    )


@pytest.mark.parametrize("space", shipped_spaces().values(), ids=lambda space: space.name)
def test_latency_knows_the_kinds_of_every_space(space: SearchSpace) -> None:
    graph = lower(space, largest(space, width=1.0, resolution=48), classes=10)
    assert {op.kind for op in graph.ops} <= RATES.keys() <= MACS.keys()


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(UsageError, match=r"runtime 'tvm' is not known on round; known: tflm"):
        graph_latency_ms(one_of_each(), device(), "tvm")


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


def test_resnet8_on_a_real_stm32l4r5_lies_within_the_error_stated() -> None:
    # Black3rror/EdgeMark@3e7237db2d, TFLM + CMSIS-NN, int8, NUCLEO-L4R5ZI at 120 MHz.
    measured_ms = 407.746
    graph, chip = resnet8(), find_device("stm32l4r5")
    assert total_macs(graph) == 12_501_632
    allowed = chip.runtime("tflm-cmsis-nn").latency.error.max_percent
    assert allowed is not None
    error = abs(graph_latency_ms(graph, chip, "tflm-cmsis-nn") / measured_ms - 1) * 100
    assert error < allowed
