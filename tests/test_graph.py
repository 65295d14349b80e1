"""Graphs: when tensors live, where padding goes, what operators compute."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.graph import (
    ITEM_BYTES,
    Graph,
    Op,
    Tensor,
    op_macs,
    output_size,
    same_padding,
    total_macs,
)


def graph_of(
    ops: list[tuple[tuple[int, ...], int]],
    *,
    outputs: tuple[int, ...],
    constants: tuple[int, ...] = (),
) -> Graph:
    """Operators as (numbers of the inputs, number of the output); tensor 0 is the input."""
    count = 1 + max(max(*inputs, output) for inputs, output in ops)
    return Graph(
        name="graph",
        tensors=tuple(
            Tensor(name=str(t), shape=(1, 1, 1, 8), constant=t in constants) for t in range(count)
        ),
        ops=tuple(
            Op(name=str(step), kind="ADD", inputs=inputs, outputs=(output,))
            for step, (inputs, output) in enumerate(ops)
        ),
        inputs=(0,),
        outputs=outputs,
    )


def test_in_a_chain_each_tensor_lives_from_its_operator_to_the_next() -> None:
    graph = graph_of([((0,), 1), ((1,), 2), ((2,), 3)], outputs=(3,))
    assert graph.lifetimes() == {0: (0, 0), 1: (0, 1), 2: (1, 2), 3: (2, 2)}


def test_the_input_of_a_skip_connection_lives_until_the_add() -> None:
    graph = graph_of([((0,), 1), ((1,), 2), ((2,), 3), ((1, 3), 4)], outputs=(4,))
    assert graph.lifetimes() == {0: (0, 0), 1: (0, 3), 2: (1, 2), 3: (2, 3), 4: (3, 3)}


def test_an_input_read_late_is_in_memory_from_the_first_operator() -> None:
    graph = graph_of([((1,), 2), ((0, 2), 3)], outputs=(3,), constants=(1,))
    assert graph.lifetimes() == {0: (0, 1), 2: (0, 1), 3: (1, 1)}


def test_an_input_that_nothing_reads_is_in_memory_with_the_others_before_the_operators() -> None:
    graph = graph_of([((1, 1), 2)], outputs=(2,))
    assert replace(graph, inputs=(0, 1)).lifetimes() == {0: (-1, -1), 1: (-1, 0), 2: (0, 0)}


def test_a_graph_output_lives_to_the_last_operator() -> None:
    graph = graph_of([((0,), 1), ((1,), 2), ((2,), 3)], outputs=(1, 3))
    assert graph.lifetimes()[1] == (0, 2)


def test_a_tensor_that_nobody_reads_lives_at_its_own_operator() -> None:
    graph = graph_of([((0,), 1), ((0,), 2), ((2,), 3)], outputs=(3,))
    assert graph.lifetimes()[1] == (0, 0)


def test_absent_and_constant_inputs_have_no_lifetime() -> None:
    graph = graph_of([((0, 1, -1), 2)], outputs=(2,), constants=(1,))
    assert graph.activations(graph.ops[0]) == (0,)
    assert graph.lifetimes() == {0: (0, 0), 2: (0, 0)}


@pytest.mark.parametrize(
    ("dtype", "size_bytes"), [("int8", 24), ("int16", 48), ("int32", 96), ("int64", 192)]
)
def test_a_tensor_takes_its_items_times_their_bytes(dtype: str, size_bytes: int) -> None:
    assert Tensor(name="t", shape=(1, 2, 3, 4), dtype=dtype).size_bytes == size_bytes


def test_item_sizes_are_those_of_tflite() -> None:
    assert ITEM_BYTES["float32"] == 4
    assert ITEM_BYTES["bool"] == ITEM_BYTES["uint8"] == 1


@pytest.mark.parametrize(("kernel", "pads"), [(3, (0, 1)), (5, (1, 2)), (7, (2, 3))])
@pytest.mark.parametrize("size", [8, 32, 224])
def test_stride_2_on_even_sizes_pads_one_more_after(
    size: int, kernel: int, pads: tuple[int, int]
) -> None:
    assert same_padding(size, kernel, 2) == pads


@pytest.mark.parametrize(("kernel", "pads"), [(3, (1, 1)), (5, (2, 2)), (7, (3, 3))])
def test_stride_2_on_odd_sizes_and_stride_1_pad_evenly(kernel: int, pads: tuple[int, int]) -> None:
    assert same_padding(9, kernel, 2) == pads
    assert same_padding(9, kernel, 1) == same_padding(8, kernel, 1) == pads


@given(size=st.integers(1, 300), kernel=st.integers(1, 11), stride=st.integers(1, 3))
def test_the_last_window_of_same_padding_ends_at_the_padded_edge(
    size: int, kernel: int, stride: int
) -> None:
    before, after = same_padding(size, kernel, stride)
    outputs = output_size(size, kernel, stride, "SAME")
    end = (outputs - 1) * stride + kernel
    assert 0 <= after - before <= 1
    assert end == before + size + after if before + after else end <= size
    # Every window sees a pixel of the image, and one more window would not.
    assert (outputs - 1) * stride < size <= outputs * stride


@given(size=st.integers(1, 300), kernel=st.integers(1, 11), stride=st.integers(1, 3))
def test_valid_windows_are_all_that_lie_inside(size: int, kernel: int, stride: int) -> None:
    starts = [start for start in range(0, size, stride) if start + kernel <= size]
    if starts:
        assert output_size(size, kernel, stride, "VALID") == len(starts)


def weighted(
    kind: str, source: tuple[int, ...], weights: tuple[int, ...], out: tuple[int, ...]
) -> Graph:
    """A graph of one operator with weights and bias."""
    tensors = (
        Tensor(name="x", shape=source),
        Tensor(name="w", shape=weights, constant=True),
        Tensor(name="b", shape=out[-1:], dtype="int32", constant=True),
        Tensor(name="y", shape=out),
    )
    op = Op(name="op", kind=kind, inputs=(0, 1, 2), outputs=(3,))
    return Graph(name="one", tensors=tensors, ops=(op,), inputs=(0,), outputs=(3,))


def test_macs_by_hand() -> None:
    conv = weighted("CONV_2D", (1, 8, 8, 3), (16, 3, 3, 3), (1, 4, 4, 16))
    assert total_macs(conv) == 4 * 4 * 16 * 27
    depthwise = weighted("DEPTHWISE_CONV_2D", (1, 8, 8, 16), (1, 5, 5, 16), (1, 4, 4, 16))
    assert total_macs(depthwise) == 4 * 4 * 16 * 25
    dense = weighted("FULLY_CONNECTED", (1, 1, 1, 64), (10, 64), (1, 10))
    assert total_macs(dense) == 640


def test_an_unknown_kind_raises_instead_of_costing_nothing() -> None:
    graph = graph_of([((0,), 1)], outputs=(1,))
    mystery = Op(name="mystery", kind="CUSTOM:mystery", inputs=(0,), outputs=(1,))
    with pytest.raises(ValueError) as error:
        op_macs(graph, mystery)
    assert str(error.value) == (
        "the multiply-accumulates of operator kind 'CUSTOM:mystery' are not known"
    )
