"""The compiled costs of a space against the costs of whole lowered graphs, subnet by subnet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.cost.blocks import Memo
from tinynas.cost.device import find_device
from tinynas.cost.flash import file_bytes
from tinynas.cost.kernels import Kernels
from tinynas.cost.latency import find_timer
from tinynas.cost.memory import predict_arena
from tinynas.cost.table import CHUNK, Costs, CostTable, compile_costs
from tinynas.graph import Graph, Op, op_macs, total_macs
from tinynas.space.arch import (
    Genes,
    canonical,
    decode,
    encode,
    gene_sizes,
    largest,
    random_genes,
    smallest,
)
from tinynas.space.lower import lower
from tinynas.space.spec import KERNELS, SearchSpace, Stage, Stem, find_space

LIBRARIES: tuple[Kernels, ...] = ("reference", "cmsis-nn-dsp", "cmsis-nn-c")
TIMER = find_timer(find_device("stm32f746"), "tflm-cmsis-nn")


def latency_us(graph: Graph, op: Op) -> float:
    """Of a chip whose costs differ between kinds and leave padding out."""
    return TIMER.op_us(graph, op)


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
    space: SearchSpace,
    width: float,
    resolution: int,
    kernels: Kernels,
    channels: int,
    memo: Memo | None = None,
) -> CostTable:
    return compile_costs(
        space,
        width=width,
        resolution=resolution,
        classes=10,
        channels=channels,
        kernels=kernels,
        latency=latency_us,
        memo=memo,
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


TABLES = {
    name: table_of(find_space(name), 0.5, 48, "cmsis-nn-dsp", 3)
    for name in ("mcunet", "mcunet-small")
}


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


def test_where_maps_are_small_and_channels_many_preparing_decides() -> None:
    space = SearchSpace(
        name="wide",
        stem=Stem(kernel=3, stride=2, channels=16),
        stages=(Stage(channels=320, stride=2, depth=(1, 2), kernel=(3,), expansion=(2, 6)),),
        width_multipliers=(1.0,),
        resolutions=(4,),
    )
    table = table_of(space, 1.0, 4, "reference", 3)
    genes = random_genes(space, 30, np.random.default_rng(0))
    assert_costs_are_those_of_whole_graphs(table, genes, "reference", 3)
    costs = table.evaluate(genes)
    beside_tail = costs.sram_bytes - costs.tail_bytes
    assert (beside_tail > costs.head_bytes).all()
    # The temporary tensors of 1,920 channels' weights take more than those of 640.
    assert len(set(beside_tail.tolist())) > 1


@pytest.mark.parametrize("kernels", LIBRARIES)
@pytest.mark.parametrize("name", ["mcunet", "mcunet-small"])
def test_the_extremes_cost_what_their_whole_graphs_cost(name: str, kernels: Kernels) -> None:
    space = find_space(name)
    width, resolution = space.width_multipliers[-1], space.resolutions[-1]
    table = table_of(space, width, resolution, kernels, 3)
    extremes = [pick(space, width=width, resolution=resolution) for pick in (smallest, largest)]
    genes = np.stack([encode(space, arch) for arch in extremes])
    assert_costs_are_those_of_whole_graphs(table, genes, kernels, 3)


@given(name=st.sampled_from(["mcunet", "mcunet-small"]), seed=st.integers(0, 2**32))
def test_genes_of_absent_blocks_cost_nothing(name: str, seed: int) -> None:
    space, rng = find_space(name), np.random.default_rng(seed)
    filled = rng.integers(gene_sizes(space), size=(20, len(gene_sizes(space))))
    genes = canonical(space, filled)
    assert (genes != filled).any()
    assert_same_costs(TABLES[name].evaluate(filled), TABLES[name].evaluate(genes))


def assert_same_costs(some: Costs, others: Costs) -> None:
    for name in Costs.__slots__:
        assert getattr(some, name).tolist() == getattr(others, name).tolist()


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


@pytest.mark.parametrize("count", [0, CHUNK - 1, CHUNK, 2 * CHUNK + 1])
def test_a_population_of_any_size_costs_what_its_parts_cost(count: int) -> None:
    table = TABLES["mcunet"]
    genes = random_genes(table.space, count, np.random.default_rng(2))
    together = table.evaluate(genes)
    assert len(together.macs) == len(together.latency_ms) == count
    for part in np.array_split(np.arange(count), 5):
        costs = table.evaluate(genes[part])
        for name in Costs.__slots__:
            assert getattr(costs, name).tolist() == getattr(together, name)[part].tolist()


@pytest.mark.parametrize("wrong", [-1, 3])
def test_a_gene_that_is_no_choice_is_refused(wrong: int) -> None:
    genes = random_genes(TABLES["mcunet"].space, 10, np.random.default_rng(0))
    genes[7, -1] = wrong
    with pytest.raises(IndexError, match="genes must be at least 0 and below"):
        TABLES["mcunet"].evaluate(genes)


def test_tables_that_share_a_memo_are_those_compiled_alone() -> None:
    space, memo = find_space("mcunet-small"), Memo()
    for kernels in LIBRARIES:
        for width in space.width_multipliers[2:6]:
            for resolution in space.resolutions[-3:]:
                shared = table_of(space, width, resolution, kernels, 3, memo)
                alone = table_of(space, width, resolution, kernels, 3)
                assert shared.base == alone.base
                for some, others in zip(shared.stages, alone.stages, strict=True):
                    assert some.sums.tolist() == others.sums.tolist()
                    assert some.head_bytes.tolist() == others.head_bytes.tolist()
                    assert some.preparing_bytes.tolist() == others.preparing_bytes.tolist()
                    assert some.latency_us.tolist() == others.latency_us.tolist()
    assert len(memo) == len(LIBRARIES)
