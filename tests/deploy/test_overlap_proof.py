"""Distances of tinynas.cost.overlap against the order in which kernels read and write.

The proof is as good as the traces in kernel_traces.py, which follow the kernels' sources, and as
the C compiler, which must keep the order of accesses that may concern the same bytes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hand_models import HandOp, HandTensor, hand_model
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernel_traces import (
    Run,
    Trace,
    Window,
    cmsis_convolution,
    cmsis_convolution_1x1,
    cmsis_depthwise_3x3,
    cmsis_depthwise_columns,
    cmsis_pad,
    copied,
    element_wise,
    pad,
    reference_convolution,
    reference_depthwise,
    run,
    strided_slice,
)
from kind_models import KINDS, LOGISTIC, TANH
from random_models import random_images, random_model, small_graph

from tinynas.cost.kernels import HOST_KERNELS, scratch_by_op
from tinynas.cost.overlap import SafeKernels, distance, overlaps
from tinynas.cost.tflite_reader import read_tflite
from tinynas.deploy.plan import plan_memory
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.deploy.verify import measure_arenas, run_int8, runtime_available
from tinynas.graph import Graph, Op, Tensor
from tinynas.space.lower import GraphBuilder

Tracer = Callable[[Window], Trace]
MOVED = ("PAD", "STRIDED_SLICE")
IN_PLACE = (
    *(*MOVED, "RELU", "SUB", "LEAKY_RELU", "QUANTIZE", "MAXIMUM", "TANH", "MINIMUM"),
    *("HARD_SWISH", "MUL", "LOGISTIC", "ADD", "RELU6"),
)
needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")


def graph_of(kind: str, data: tuple[int, ...], out: tuple[int, ...], **traits: object) -> Graph:
    """One operator that reads tensor 0, and with weights tensor 2, and writes tensor 1."""
    weights = traits.pop("weights", None)
    tensors = [Tensor(name="in", shape=data), Tensor(name="out", shape=out)]
    if isinstance(weights, tuple):
        tensors.append(Tensor(name="", shape=weights, constant=True))
    inputs = (0, 2) if weights else (0,)
    op = Op(name="op", kind=kind, inputs=inputs, outputs=(1,), **traits)  # type: ignore[arg-type]
    return Graph(name="one", tensors=tuple(tensors), ops=(op,), inputs=(0,), outputs=(1,))


def distance_of(graph: Graph, safe: SafeKernels) -> int | None:
    return distance(graph, graph.ops[0], 0, safe)


def window_distance(kind: str, window: Window, safe: SafeKernels) -> int | None:
    one = kind == "DEPTHWISE_CONV_2D"
    graph = graph_of(
        kind,
        window.data,
        window.out,
        weights=(1 if one else window.cout, *window.kernel, window.cin),
        kernel=window.kernel,
        stride=window.stride,
        padding=window.padding,
    )
    return distance_of(graph, safe)


@st.composite
def windows(draw: st.DrawFn, *, depthwise: bool = False, largest_kernel: int = 5) -> Window:
    """Any image, kernel, stride and padding that give an output."""
    rows, columns = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    padding = draw(st.sampled_from(("SAME", "VALID")))
    limits = (largest_kernel,) * 2 if padding == "SAME" else (rows, columns)
    height, width = (draw(st.integers(1, min(largest_kernel, limit))) for limit in limits)
    cin = draw(st.integers(1, 9 if depthwise else 4))
    return Window(
        rows=rows,
        columns=columns,
        cin=cin,
        cout=cin if depthwise else draw(st.integers(1, 6)),
        kernel=(height, width),
        stride=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding=padding,
    )


def traced(tracer: Tracer, window: Window) -> Run:
    return run(tracer(window), prod(window.data), prod(window.out))


def assert_safe(traced_run: Run, found: int | None) -> None:
    """At the distance, and anywhere below, nothing is read after it was overwritten."""
    assert found is not None and found >= 0
    assert not any(traced_run.spoils(d) for d in range(found, len(traced_run.written)))


def assert_tight(traced_run: Run, found: int | None) -> None:
    assert_safe(traced_run, found)
    assert not found or traced_run.spoils(found - 1)


@pytest.mark.parametrize("safe", ["reference", "cmsis-nn"])
@pytest.mark.parametrize("tracer", [reference_depthwise, cmsis_depthwise_columns])
@settings(deadline=None, max_examples=80)
@given(windows(depthwise=True))
def test_depthwise_convolutions_of_any_shape_are_safe_at_no_less_than_the_distance(
    tracer: Tracer, safe: SafeKernels, window: Window
) -> None:
    assert_tight(traced(tracer, window), window_distance("DEPTHWISE_CONV_2D", window, safe))


@settings(deadline=None, max_examples=80)
@given(windows(depthwise=True))
def test_depthwise_convolutions_in_blocks_of_four_channels_are_safe_at_no_less(
    window: Window,
) -> None:
    found = window_distance("DEPTHWISE_CONV_2D", window, "cmsis-nn")
    assert_tight(traced(cmsis_depthwise_3x3, window), found)


@settings(deadline=None, max_examples=120)
@given(windows())
def test_convolutions_of_the_reference_kernel_are_safe_at_no_less_than_the_distance(
    window: Window,
) -> None:
    found = window_distance("CONV_2D", window, "reference")
    assert_tight(traced(reference_convolution, window), found)


@settings(deadline=None, max_examples=120)
@given(windows())
def test_convolutions_of_cmsis_nn_are_safe_at_the_distance(window: Window) -> None:
    found = window_distance("CONV_2D", window, "cmsis-nn")
    assume(found is not None)
    assert_safe(traced(cmsis_convolution, window), found)


def keeps_order(first: Run, second: Run) -> bool:
    """Whether every write that comes after a byte's last read in `first` does in `second` too."""
    after, still = (r.written[:, None] > r.last_read for r in (first, second))
    return bool(np.all(still[after]))


@settings(deadline=None, max_examples=80)
@given(windows(), windows(depthwise=True))
def test_cmsis_nn_reads_no_later_and_writes_no_earlier_than_the_reference(
    window: Window, depthwise: Window
) -> None:
    assert keeps_order(traced(reference_convolution, window), traced(cmsis_convolution, window))
    reference = traced(reference_depthwise, depthwise)
    for tracer in (cmsis_depthwise_3x3, cmsis_depthwise_columns):
        assert keeps_order(reference, traced(tracer, depthwise))


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 6), st.integers(1, 6), st.integers(3, 8), st.integers(0, 5))
def test_convolutions_1x1_of_cmsis_nn_read_what_was_overwritten(
    rows: int, columns: int, cout: int, more: int
) -> None:
    window = Window(
        rows=rows,
        columns=columns,
        cin=cout + more,
        cout=cout,
        kernel=(1, 1),
        stride=(1, 1),
        padding="VALID",
    )
    found = window_distance("CONV_2D", window, "reference")
    assert_safe(traced(reference_convolution, window), found)
    assert found is not None and traced(cmsis_convolution_1x1, window).spoils(found)
    assert window_distance("CONV_2D", window, "cmsis-nn") is None


@given(st.integers(1, 70), st.sampled_from([1, 4, 16]))
def test_element_wise_operators_are_safe_in_place_in_vectors_of_any_length(
    size: int, lanes: int
) -> None:
    found = distance_of(graph_of("RELU", (1, size), (1, size)), "cmsis-nn-mve")
    assert found == 0
    assert_safe(run(element_wise(size, lanes), size, size), found)


@st.composite
def slices(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Shape, first indices and shape of what is taken."""
    data = (1, *(draw(st.integers(1, 6)) for _ in range(3)))
    out = tuple(draw(st.integers(1, n)) for n in data)
    begin = tuple(draw(st.integers(0, n - m)) for n, m in zip(data, out, strict=True))
    return data, begin, out


@settings(deadline=None, max_examples=150)
@given(slices())
def test_slices_are_safe_at_no_less_than_the_distance(
    drawn: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
) -> None:
    data, begin, out = drawn
    found = distance_of(graph_of("STRIDED_SLICE", data, out, begin=begin), "reference")
    assert_tight(run(strided_slice(data, begin, out), prod(data), prod(out)), found)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3), st.integers(0, 3)), min_size=4))
def test_pads_are_safe_at_no_less_than_the_distance(axes: list[tuple[int, int, int]]) -> None:
    data = tuple(size for size, _, _ in axes[:4])
    pads = tuple((before, after) for _, before, after in axes[:4])
    out = tuple(size + sum(added) for size, added in zip(data, pads, strict=True))
    found = distance_of(graph_of("PAD", data, out, pads=pads), "reference")
    assert_tight(run(pad(data, pads), prod(data), prod(out)), found)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.integers(0, 3), st.integers(0, 3)),
        min_size=4,
        max_size=4,
    ),
    st.booleans(),
)
def test_pads_of_cmsis_nn_are_safe_at_no_less_than_the_distance(
    axes: list[tuple[int, int, int]], with_channels: bool
) -> None:
    data = tuple(size for size, _, _ in axes)
    pads = tuple((before, after) for _, before, after in axes)
    pads = pads if with_channels else (*pads[:3], (0, 0))
    out = tuple(size + sum(added) for size, added in zip(data, pads, strict=True))
    graph = graph_of("PAD", data, out, pads=pads)
    traced_run = run(cmsis_pad(data, pads), prod(data), prod(out))
    for safe in ("cmsis-nn", "cmsis-nn-mve"):
        found = distance_of(graph, safe)
        run_bytes = data[3] if any(pads[3]) else data[2] * data[3]
        (assert_tight if run_bytes > 1 else assert_safe)(traced_run, found)
        reference = distance_of(graph, "reference")
        assert found is not None and reference is not None and found >= reference


def test_a_reshape_copies_all_at_once_and_may_not_overlap_in_part() -> None:
    moved = run(copied(range(8), range(8)), 8, 8)
    assert all(moved.spoils(d) for d in range(8))
    assert distance_of(graph_of("RESHAPE", (1, 8), (8,)), "reference") is None


@needs_tflm
@pytest.mark.parametrize("safe", ["reference", "cmsis-nn"])
def test_planned_subnets_give_the_same_outputs_in_the_predicted_arena(safe: SafeKernels) -> None:
    rng = np.random.default_rng(4)
    files, heads, without = [], [], []
    for _ in range(8):
        graph = small_graph(rng)
        scratch = scratch_by_op(graph, HOST_KERNELS)
        plan = plan_memory(graph, scratch, overlaps(graph, safe))
        heads.append(plan.head_bytes)
        without.append(plan_memory(graph, scratch).head_bytes)
        model, images = random_model(graph, rng), random_images(graph, 3, rng)
        files.append(write_tflite(model, plan=plan.offsets))
        expected = run_int8(write_tflite(model), images)
        assert len(np.unique(expected, axis=0)) == len(images)  # outputs tell images apart
        assert np.array_equal(run_int8(files[-1], images), expected)
    assert [use.head_bytes for use in measure_arenas(files)] == heads
    assert all(map(operator.le, heads, without)) and sum(heads) < sum(without)


def moved_and_mapped(plan: dict[int, int] | None = None) -> bytes:
    """A chain of every kind but convolutions that may write over what it reads."""
    rng = np.random.default_rng(6)
    tensors, ops = [HandTensor(shape=(1, 8, 8, 4))], []
    for kind in IN_PLACE:
        read, constants, written, option = KINDS[kind]
        last = len(tensors) - 1
        if len(read) == 2 and kind != "ADD":  # the other operand is a constant
            values = rng.integers(-128, 128, tensors[last].shape).astype(np.int8)
            constants = [HandTensor(shape=values.shape, data=values)]
        taken = (last, last) if kind == "ADD" else (last,)
        first = len(tensors)
        out = replace(written[0], shape=tensors[last].shape, dtype="int8", scales=(0.03,))
        out = {"LOGISTIC": replace(out, **LOGISTIC), "TANH": replace(out, **TANH)}.get(kind, out)
        if kind in MOVED:
            out = written[0]
        tensors += [*constants, out]
        inputs = (*taken, *range(first, first + len(constants)))
        ops.append(HandOp(kind=kind, inputs=inputs, outputs=(len(tensors) - 1,), options=option))
    numbers = range(len(tensors))
    header = None if plan is None else [1, 0, len(tensors), *(plan.get(t, -1) for t in numbers)]
    return hand_model(tensors, ops, inputs=(0,), outputs=(len(tensors) - 1,), plan=header)


@needs_tflm
def test_all_kinds_but_convolutions_give_the_same_outputs_at_exactly_their_distance() -> None:
    graph = read_tflite(moved_and_mapped()).graph
    allowed = overlaps(graph, "reference")
    assert len(allowed) == len(graph.ops) == len(IN_PLACE)
    lift, offsets = 0, {graph.outputs[0]: 0}
    for op in reversed(graph.ops):
        lift += allowed[op.outputs[0], op.inputs[0]]
        offsets[op.inputs[0]] = lift
    images = np.random.default_rng(7).integers(-128, 128, (5, 8, 8, 4)).astype(np.int8)
    expected = run_int8(moved_and_mapped(), images)
    assert len(np.unique(expected.reshape(5, -1), axis=0)) == 5
    assert np.array_equal(run_int8(moved_and_mapped(offsets), images), expected)


def stem_and_depthwise() -> Graph:
    """A graph whose depthwise convolution needs exactly 272 bytes: a row and a pixel of 16."""
    builder = GraphBuilder()
    image = builder.tensor("image", (1, 16, 16, 3))
    stem = builder.conv("stem", image, 16, 1, 1, "RELU6")
    mixed = builder.depthwise("mixed", stem, 3, 1)
    logits = builder.conv("logits", mixed, 4, 1, 1, None)
    return builder.build("stem and depthwise", (image,), (logits,))


@needs_tflm
def test_an_overlap_one_step_too_deep_changes_outputs() -> None:
    graph = stem_and_depthwise()
    image, (stem, mixed, logits) = graph.inputs[0], (op.outputs[0] for op in graph.ops)
    needed = overlaps(graph, "cmsis-nn")[mixed, stem]
    assert needed == distance(graph, graph.ops[1], stem, "cmsis-nn") == 272
    rng = np.random.default_rng(5)
    model, images = random_model(graph, rng), random_images(graph, 3, rng)
    expected = run_int8(write_tflite(model), images)
    for lift, same in ((needed, True), (needed - 16, False)):
        offsets = {mixed: 0, stem: lift, image: 8192, logits: 8192}
        found = run_int8(write_tflite(model, plan=offsets), images)
        assert np.array_equal(found, expected) is same
