"""Remembered costs of blocks against costing each block's graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.cost.blocks import SUMS, TAIL_SUMS, Block, Costing
from tinynas.cost.flash import op_file_bytes
from tinynas.cost.kernels import Kernels
from tinynas.cost.memory import head_by_op, preparing_by_op, sum_tail, tail_part
from tinynas.graph import Graph, Op, op_macs

LIBRARIES: tuple[Kernels, ...] = ("reference", "cmsis-nn-dsp", "cmsis-nn-c")
BLOCKS = st.builds(
    Block,
    prefix=st.sampled_from(["s0.b0", "s1.b1", "s10.b1"]),
    size=st.integers(1, 40),
    cin=st.sampled_from([8, 16, 24]),
    cout=st.sampled_from([8, 16]),
    kernel=st.sampled_from([1, 3, 5, 7]),
    expansion=st.sampled_from([1, 2, 6]),
    stride=st.sampled_from([1, 2]),
)


def latency_us(graph: Graph, op: Op) -> float:
    """Of a chip that is slow at additions."""
    return op_macs(graph, op) / 3 + (50.0 if op.kind == "ADD" else 1.0)


# Lives as long as all examples, so that most of what it is asked for has been seen in part.
COSTINGS = {kernels: Costing(kernels, latency_us) for kernels in LIBRARIES}


@given(blocks=st.lists(BLOCKS, min_size=1, max_size=8), kernels=st.sampled_from(LIBRARIES))
def test_a_block_adds_what_its_operators_add(blocks: list[Block], kernels: Kernels) -> None:
    for block in blocks:
        part, graph = COSTINGS[kernels].block(block), block.graph()
        tail = sum_tail([tail_part(graph, op, kernels) for op in graph.ops])
        expected = {
            "macs": sum(op_macs(graph, op) for op in graph.ops),
            "flash_bytes": sum(op_file_bytes(graph, op) for op in graph.ops),
            **{name: getattr(tail, name) for name in TAIL_SUMS},
        }
        assert dict(zip(SUMS, part.sums, strict=True)) == expected
        assert part.head_bytes == max(head_by_op(graph, kernels))
        assert part.preparing_bytes == max(preparing_by_op(graph, kernels))
        assert part.latency_us == pytest.approx(sum(latency_us(graph, op) for op in graph.ops))


def test_equal_operators_are_costed_once() -> None:
    asked: list[str] = []

    def counting(graph: Graph, op: Op) -> float:
        asked.append(op.name)
        return 1.0

    costing = Costing("reference", counting)
    block = Block("s1.b0", 20, 8, 8, 3, 6, 1)
    assert costing.block(block).latency_us == 4.0
    assert asked == ["s1.b0.expand", "s1.b0.depthwise", "s1.b0.project", "s1.b0.add"]
    costing.block(block)
    costing.block(replace(block, prefix="s2.b1"))
    assert len(asked) == 4
    # Another kernel changes the depthwise convolution alone.
    costing.block(replace(block, kernel=5))
    assert asked[4:] == ["s1.b0.depthwise"]
