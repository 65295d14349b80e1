"""The compiled costs of a space against the costs of whole lowered graphs, subnet by subnet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.cost.device import find_device
from tinynas.cost.flash import file_bytes
from tinynas.cost.latency import op_latency_us
from tinynas.cost.memory import Kernels, predict_arena
from tinynas.cost.table import Costs, CostTable, compile_costs
from tinynas.graph import Graph, Op, op_macs, total_macs
from tinynas.space.arch import Genes, decode, encode, largest, random_genes, smallest
from tinynas.space.lower import lower
from tinynas.space.spec import KERNELS, SearchSpace, Stage, Stem, find_space

LIBRARIES: tuple[Kernels, ...] = ("reference", "cmsis-nn-dsp", "cmsis-nn-c")
CHIP = find_device("stm32f746")


def latency_us(graph: Graph, op: Op) -> float:
    """Of a chip whose rates differ between kinds and leave padding out."""
    return op_latency_us(graph, op, CHIP, "tflm-cmsis-nn")


def choices(values: list[int]) -> st.SearchStrategy[tuple[int, ...]]:
    """One to three of the values, ascending."""
    some = st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)
    return some.map(lambda chosen: tuple(sorted(chosen)))


# Few channel counts, so that skips in first blocks and equal neighbours are common.
CHANNELS = st.sampled_from([3, 8, 16, 20, 40])
STAGES = st.builds(
    Stage,
    channels=CHANNELS,
    stride=st.sampled_from([1, 2]),
    depth=choices([1, 2, 3]),
    kernel=choices(list(KERNELS)),
    expansion=choices([1, 2, 3, 6]),
)
SPACES = st.builds(
    SearchSpace,
    name=st.just("odd"),
    stem=st.builds(
        Stem, kernel=st.integers(3, 11), stride=st.sampled_from([1, 2]), channels=CHANNELS
    ),
    stages=st.lists(STAGES, min_size=1, max_size=4).map(tuple),
    width_multipliers=st.just((1.0,)),
    resolutions=st.just((32,)),
)


def table_of(
    space: SearchSpace, width: float, resolution: int, kernels: Kernels, channels: int
) -> CostTable:
    return compile_costs(
        space,
        width=width,
        resolution=resolution,
        classes=10,
        channels=channels,
        kernels=kernels,
        latency=latency_us,
    )


def assert_costs_are_those_of_whole_graphs(
    table: CostTable, genes: Genes, kernels: Kernels, channels: int
) -> None:
    costs = table.evaluate(genes)
    for row, numbers in enumerate(genes):
        arch = decode(table.space, numbers, width=table.width, resolution=table.resolution)
        graph = lower(table.space, arch, classes=10, channels=channels)
        arena = predict_arena(graph, kernels)
        assert costs.macs[row] == total_macs(graph)
        assert costs.sram_bytes[row] == arena.sram_bytes
        assert costs.head_bytes[row] == arena.head_bytes
        assert costs.tail_bytes[row] == arena.tail_bytes
        assert costs.flash_bytes[row] == file_bytes(graph)
        latency_ms = sum(latency_us(graph, op) for op in graph.ops) / 1000
        assert costs.latency_ms[row] == pytest.approx(latency_ms, rel=1e-9)


@settings(max_examples=40)
@given(
    data=st.data(),
    name=st.sampled_from(["mcunet", "mcunet-small"]),
    kernels=st.sampled_from(LIBRARIES),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32),
)
def test_tables_of_the_shipped_spaces_give_what_whole_graphs_cost(
    data: st.DataObject, name: str, kernels: Kernels, channels: int, seed: int
) -> None:
    space = find_space(name)
    width = data.draw(st.sampled_from(space.width_multipliers))
    resolution = data.draw(st.sampled_from(space.resolutions))
    table = table_of(space, width, resolution, kernels, channels)
    genes = random_genes(space, 3, np.random.default_rng(seed))
    assert_costs_are_those_of_whole_graphs(table, genes, kernels, channels)


@settings(max_examples=150)
@given(
    space=SPACES,
    width=st.sampled_from([0.3, 0.5, 1.0]),
    resolution=st.integers(4, 33),
    kernels=st.sampled_from(LIBRARIES),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32),
)
def test_tables_of_odd_spaces_give_what_whole_graphs_cost(
    space: SearchSpace, width: float, resolution: int, kernels: Kernels, channels: int, seed: int
) -> None:
    table = table_of(space, width, resolution, kernels, channels)
    genes = random_genes(space, 4, np.random.default_rng(seed))
    assert_costs_are_those_of_whole_graphs(table, genes, kernels, channels)


@pytest.mark.parametrize("kernels", LIBRARIES)
@pytest.mark.parametrize("name", ["mcunet", "mcunet-small"])
def test_the_extremes_cost_what_their_whole_graphs_cost(name: str, kernels: Kernels) -> None:
    space = find_space(name)
    width, resolution = space.width_multipliers[-1], space.resolutions[-1]
    table = table_of(space, width, resolution, kernels, 3)
    extremes = [pick(space, width=width, resolution=resolution) for pick in (smallest, largest)]
    genes = np.stack([encode(space, arch) for arch in extremes])
    assert_costs_are_those_of_whole_graphs(table, genes, kernels, 3)


def test_genes_of_absent_blocks_cost_nothing() -> None:
    space = find_space("mcunet-small")
    table = table_of(space, 0.5, 32, "cmsis-nn-dsp", 3)
    genes = encode(space, smallest(space, width=0.5, resolution=32))
    filled = genes.copy()
    # The second stage holds genes 3 to 11: its depth, then four blocks of which two exist.
    assert genes[3] == 0
    filled[8:12] = 2
    for one, other in zip(costs_of_row(table, genes), costs_of_row(table, filled), strict=True):
        assert one == other


def costs_of_row(table: CostTable, genes: Genes) -> list[float]:
    costs = table.evaluate(genes)
    return [float(getattr(costs, name)[0]) for name in Costs.__slots__]


def test_latency_is_what_the_given_function_says() -> None:
    space = find_space("mcunet-small")
    table = compile_costs(
        space,
        width=0.5,
        resolution=32,
        classes=10,
        channels=3,
        kernels="reference",
        latency=lambda graph, op: op_macs(graph, op) / 4,
    )
    costs = table.evaluate(random_genes(space, 100, np.random.default_rng(0)))
    assert costs.latency_ms == pytest.approx(costs.macs / 4 / 1000)


def test_many_subnets_are_costed_at_once() -> None:
    space = find_space("mcunet")
    table = table_of(space, 0.5, 96, "cmsis-nn-dsp", 3)
    genes = random_genes(space, 200, np.random.default_rng(1))
    together = table.evaluate(genes)
    for name in Costs.__slots__:
        one_by_one = [getattr(table.evaluate(row), name)[0] for row in genes]
        assert getattr(together, name).tolist() == one_by_one
