"""Plans chosen for kernel libraries: what they save, what they are safe with, in which order."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_models import random_graph

from tinynas.cost.kernels import Kernels, scratch_by_op
from tinynas.cost.layer_list import read_layer_list
from tinynas.cost.overlap import SafeKernels, overlaps, safe_kernels
from tinynas.cost.tflite_reader import ModelFile
from tinynas.deploy.plan import greedy_plan, head_with_scratch, lower_bound, plan_memory
from tinynas.deploy.plan_model import LIBRARIES, compare, plan_model
from tinynas.errors import ModelFileError
from tinynas.graph import Graph, Op, Tensor

LISTS = Path(__file__).parents[1] / "fixtures" / "layer_lists"
RESNET8 = read_layer_list((LISTS / "mlperf_ic_resnet8.json").read_bytes()).graph
WAKE_WORDS = read_layer_list((LISTS / "mlperf_vww_mbv1_025_96.json").read_bytes()).graph


def heads(graph: Graph, made_for: SafeKernels) -> dict[Kernels, int]:
    planned = plan_model(graph, made_for)
    return {kernels: planned.head_bytes(kernels) for kernels in LIBRARIES[made_for]}


def test_overlap_saves_a_third_of_resnet_8_with_cmsis_nn() -> None:
    before = greedy_plan(RESNET8, scratch_by_op(RESNET8, "cmsis-nn-dsp")).head_bytes
    assert (before, heads(RESNET8, "cmsis-nn")["cmsis-nn-dsp"]) == (49_728, 33_888)


def test_visual_wake_words_needs_less_without_overlap_and_half_with_it() -> None:
    assert set(heads(WAKE_WORDS, "any").values()) == {55_296}
    assert greedy_plan(WAKE_WORDS).head_bytes == 73_728
    assert heads(WAKE_WORDS, "reference")["reference"] <= 36_880


@pytest.mark.parametrize("made_for", get_args(SafeKernels))
def test_a_plan_is_safe_for_what_it_was_made_for_and_no_worse_than_greedy(
    made_for: SafeKernels,
) -> None:
    rng = np.random.default_rng(0)
    graphs = [RESNET8, *(random_graph(rng, max_classes=50) for _ in range(5))]
    for graph in graphs:
        planned = plan_model(graph, made_for)
        assert planned.safety.safe_for == ("any",) or made_for in planned.safety.safe_for
        assert planned.safe_for == ("any" if not planned.safety.pairs else made_for)
        for kernels in LIBRARIES[made_for]:
            scratch = scratch_by_op(graph, kernels)
            head = head_with_scratch(planned.graph, planned.offsets, scratch)
            assert planned.order is None  # a chain of blocks has no other
            assert lower_bound(graph, scratch, planned.overlaps) <= head
            assert head <= greedy_plan(graph, scratch).head_bytes


def test_a_plan_for_any_kernels_has_no_overlap() -> None:
    planned = plan_model(RESNET8, "any")
    assert (planned.safety.pairs, planned.safe_for, planned.overlaps) == ((), "any", {})


def test_where_overlap_saves_nothing_there_is_none() -> None:
    assert plan_model(WAKE_WORDS, "cmsis-nn").safety.pairs == ()


def test_one_library_gets_a_plan_for_its_own_scratch_buffers() -> None:
    for kernels in get_args(Kernels):
        planned = plan_model(RESNET8, safe_kernels(kernels), (kernels,))
        scratch = scratch_by_op(RESNET8, kernels)
        wanted = plan_memory(RESNET8, scratch, overlaps(RESNET8, safe_kernels(kernels)))
        assert planned.head_bytes(kernels) <= wanted.head_bytes


def _branching(sizes: list[int]) -> Graph:
    """Branches of one large tensor each, all of the same small input, joined at the end.

    The first operators of all branches come first.
    """
    count = len(sizes)
    shapes = [(1, 16), *((1, size) for size in sizes), *((1, 16) for _ in sizes), (1, 16 * count)]
    tensors = tuple(Tensor(name=str(t), shape=shape) for t, shape in enumerate(shapes))
    wide = [(0, 1 + k) for k in range(count)]
    narrow = [(1 + k, 1 + count + k) for k in range(count)]
    ops = [
        Op(name=f"RELU {step}", kind="RELU", inputs=(a,), outputs=(b,))
        for step, (a, b) in enumerate(wide + narrow)
    ]
    joined = tuple(b for _, b in narrow)
    last = Op(
        name="CONCATENATION", kind="CONCATENATION", inputs=joined, outputs=(2 * count + 1,), axis=1
    )
    return Graph(
        name="wide",
        tensors=tensors,
        ops=(*ops, last),
        inputs=(0,),
        outputs=(2 * count + 1,),
    )


def test_branches_run_one_after_the_other_where_that_needs_less() -> None:
    graph = _branching([160, 320])
    planned = plan_model(graph, "any")
    assert planned.order is not None and sorted(planned.order) == [0, 1, 2, 3, 4]
    assert [graph.ops[step] for step in planned.order] == list(planned.graph.ops)
    # The input, what the other branch left and one of 320 bytes with what it becomes.
    assert planned.head_bytes("reference") == 16 + 320 + 16
    assert greedy_plan(graph).head_bytes == 160 + 320 + 16


@given(st.lists(st.integers(1, 500), min_size=1, max_size=4))
def test_another_order_is_taken_only_where_it_needs_less(sizes: list[int]) -> None:
    graph = _branching(sizes)
    planned = plan_model(graph, "any")
    kept = plan_memory(graph).head_bytes
    if planned.order is None:
        assert planned.graph == graph and planned.head_bytes("reference") <= kept
    else:
        assert planned.head_bytes("reference") < kept


def test_arenas_are_compared_with_those_of_tflm_and_of_the_file() -> None:
    planned = plan_model(RESNET8, "cmsis-nn")
    bare = ModelFile(graph=RESNET8, offsets={}, description="")
    found = compare(bare, planned, "cmsis-nn-dsp")
    assert found.own is None
    assert (found.greedy.head_bytes, found.planned.head_bytes) == (49_728, 33_888)
    assert (found.plain_bound_bytes, found.bound_bytes) == (49_728, 33_888)
    assert found.greedy.sram_bytes - found.planned.sram_bytes == 49_728 - 33_888
    carried = ModelFile(graph=RESNET8, offsets=dict(planned.offsets), description="")
    own = compare(carried, plan_model(RESNET8, "any"), "cmsis-nn-dsp").own
    assert own is not None and own.head_bytes == 33_888


def test_what_no_rule_covers_is_refused_by_name() -> None:
    op = Op(name="ELU 0", kind="ELU", inputs=(0,), outputs=(1,))
    tensor = Tensor(name="", shape=(1, 8))
    graph = Graph(name="", tensors=(tensor, tensor), ops=(op,), inputs=(0,), outputs=(1,))
    with pytest.raises(ModelFileError, match="cannot be planned: .* operator kind ELU"):
        plan_model(graph, "any")
