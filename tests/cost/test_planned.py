"""Bounds of the planned head: sizes by hand, and whole subnets against their tables."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.cost.kernels import Kernels
from tinynas.cost.memory import head_by_op
from tinynas.cost.planned import (
    BlockSizes,
    HeadBounds,
    block_bounds,
    block_sizes,
    plain_bytes,
)
from tinynas.cost.table import compile_costs
from tinynas.deploy.chain_plan import blocks_of
from tinynas.graph import Graph
from tinynas.space.arch import decode, random_genes
from tinynas.space.lower import GraphBuilder, lower
from tinynas.space.spec import find_space

BLOCK = BlockSizes(
    x=320, expanded=960, f=960, y=320, scratch=0, distance=112, skip=True, in_place=True
)


def bounds(lower_bytes: int, upper_bytes: int) -> HeadBounds:
    return HeadBounds(lower_bytes=lower_bytes, upper_bytes=upper_bytes)


def one_block(size: int, cin: int, cout: int, kernel: int, expansion: int, stride: int) -> Graph:
    builder = GraphBuilder()
    x = builder.tensor("x", (1, size, size, cin))
    y = builder.block("s1.b0", x, cout=cout, kernel=kernel, expansion=expansion, stride=stride)
    return builder.build("block", (x,), (y,))


def test_sizes_are_those_of_the_graph() -> None:
    graph = one_block(8, 4, 4, 3, 3, 1)
    sizes = block_sizes(graph, graph.ops, "cmsis-nn-dsp")
    # 3x3 at stride 1 begins a row and a pixel early: 8 * 12 + 12 = 108 bytes, in 16s.
    assert sizes == BlockSizes(
        x=256, expanded=768, f=768, y=256, scratch=0, distance=112, skip=True, in_place=True
    )
    down = block_sizes(one := one_block(8, 4, 8, 5, 3, 2), one.ops, "cmsis-nn-dsp")
    assert (down.f, down.y, down.skip) == (4 * 4 * 12, 4 * 4 * 8, False)
    assert down.scratch == 608  # 2 x 25 x 12, in 16s
    helium = block_sizes(graph, graph.ops, "cmsis-nn-mve")
    assert helium.distance is None and helium.in_place


def test_a_block_with_a_skip_keeps_its_input_beside_one_expanded_tensor() -> None:
    # 320 + 960 + 112 while convolving, 320 + 960 + 320 while projecting.
    assert block_bounds(BLOCK) == bounds(1600, 1600)
    assert block_bounds(replace(BLOCK, distance=512)) == bounds(1792, 1792)
    assert plain_bytes(BLOCK) == 320 + 960 + 960
    assert block_bounds(replace(BLOCK, distance=None)) == bounds(2240, 2240)
    assert block_bounds(replace(BLOCK, scratch=512)) == bounds(1904, 1904)


def test_a_block_without_a_skip_drops_its_input() -> None:
    down = replace(BLOCK, f=240, y=160, skip=False, distance=0)
    # Expanding: 320 + 960; then the expanded tensor alone, the output within its room.
    assert block_bounds(down) == bounds(1280, 1280)
    # Scratch fits below the output, where the input was.
    assert block_bounds(replace(down, scratch=320)) == bounds(1280, 1280)
    # An output larger than the input has to lie below the expanded tensor.
    assert block_bounds(replace(down, y=400)) == bounds(1280, 1360)


def test_the_block_after_the_stem_overlaps_at_the_end_of_the_arena() -> None:
    first = BlockSizes(
        x=1600, expanded=0, f=1600, y=800, scratch=0, distance=176, skip=False, in_place=True
    )
    assert block_bounds(first, after_stem=True) == bounds(2400, 2576)
    assert block_bounds(first) == bounds(2400, 3200)


@given(
    st.tuples(*[st.integers(1, 60)] * 4),
    st.integers(0, 40),
    st.none() | st.integers(0, 40),
    st.booleans(),
    st.booleans(),
)
def test_bounds_are_in_order_and_overlap_never_costs_anything(
    sizes: tuple[int, int, int, int],
    scratch: int,
    distance: int | None,
    skip: bool,
    after_stem: bool,
) -> None:
    x, e, f, y = (16 * size for size in sizes)
    block = BlockSizes(
        x=x,
        expanded=0 if after_stem else e,
        f=x if after_stem else f,
        y=x if skip else y,
        scratch=16 * scratch,
        distance=None if distance is None else 16 * distance,
        skip=skip,
        in_place=True,
    )
    found = block_bounds(block, after_stem=after_stem)
    assert found.lower_bytes <= found.upper_bytes
    assert found.lower_bytes <= plain_bytes(block)


@pytest.mark.parametrize("kernels", ["reference", "cmsis-nn-dsp", "cmsis-nn-mve"])
@pytest.mark.parametrize("name", ["mcunet", "mcunet-small"])
def test_tables_hold_the_bounds_of_whole_subnets(name: str, kernels: Kernels) -> None:
    space, rng = find_space(name), np.random.default_rng(0)
    width, resolution = space.width_multipliers[3], space.resolutions[2]
    genes = random_genes(space, 20, rng)
    tables = [
        compile_costs(
            space,
            width=width,
            resolution=resolution,
            classes=10,
            channels=3,
            kernels=kernels,
            latency=lambda graph, op: 1.0,
            plan=plan,
        ).evaluate(genes)
        for plan in ("overlap-lower", "overlap", "plain")
    ]
    for number, row in enumerate(genes):
        arch = decode(space, row, width=width, resolution=resolution)
        graph = lower(space, arch, classes=10)
        heads = zip(head_by_op(graph, kernels), graph.ops, strict=True)
        rest = max(head for head, op in heads if "." not in op.name)
        found = [
            block_bounds(block_sizes(graph, ops, kernels), after_stem=place == 0)
            for place, ops in enumerate(blocks_of(graph) or [])
        ]
        wanted = [
            max(rest, *(bound.lower_bytes for bound in found)),
            max(rest, *(bound.upper_bytes for bound in found)),
            max(head_by_op(graph, kernels)),
        ]
        assert [int(table.head_bytes[number]) for table in tables] == wanted
