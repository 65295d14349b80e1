"""Subnets that begin on patches: their tables against whole patched graphs."""

import numpy as np
import pytest

from tinynas.cost.flash import file_bytes
from tinynas.cost.kernels import Kernels, scratch_by_op
from tinynas.cost.memory import predict_arena
from tinynas.cost.overlap import overlaps, safe_kernels
from tinynas.cost.patch import patch
from tinynas.cost.prefix import patched_prefix, prefix_graph, split_of, split_stage
from tinynas.cost.table import compile_costs
from tinynas.deploy.plan import plan_memory
from tinynas.graph import total_macs
from tinynas.space.arch import decode, random_genes
from tinynas.space.lower import lower
from tinynas.space.spec import SearchSpace, Stage, Stem, find_space

FREE = SearchSpace(  # choices from the first block on
    name="free",
    stem=Stem(kernel=3, stride=2, channels=8),
    stages=(
        Stage(channels=8, stride=2, depth=(1, 2), kernel=(3, 5), expansion=(2, 3)),
        Stage(channels=16, stride=2, depth=(1,), kernel=(3,), expansion=(3,)),
    ),
    width_multipliers=(1.0,),
    resolutions=(64,),
)


def one_us(graph: object, op: object) -> float:
    return 1.0


def test_patches_end_after_the_first_block_with_choices() -> None:
    assert split_stage(find_space("mcunet")) == 1
    assert split_stage(FREE) == 0
    space = find_space("mcunet")
    genes = random_genes(space, 1, np.random.default_rng(0))[0]
    graph = lower(space, decode(space, genes, width=0.5, resolution=96), classes=2)
    # Stem; depthwise, project; expand, depthwise, project.
    assert split_of(space, graph) == 6


def test_a_prefix_alone_is_that_of_a_subnet() -> None:
    space = find_space("mcunet")
    alone = prefix_graph(space, width=0.5, resolution=96, channels=3, kernel=5, expansion=4)
    assert [op.kernel[0] for op in alone.ops] == [3, 3, 1, 1, 5, 1]
    assert alone.tensors[alone.outputs[0]].shape == (1, 24, 24, 16)
    patched = patched_prefix(alone, 2)
    assert patched.tensors[patched.outputs[0]].shape == (1, 24, 24, 16)
    assert patched.ops[-1].kind == "CONCATENATION"


@pytest.mark.parametrize("kernels", ["reference", "cmsis-nn-dsp"])
@pytest.mark.parametrize(
    ("space", "width", "resolution", "patches"),
    [
        (find_space("mcunet"), 0.3, 96, 2),
        (find_space("mcunet"), 0.7, 128, 3),
        (find_space("mcunet-small"), 0.5, 64, 2),
        (FREE, 1.0, 64, 4),
    ],
)
def test_costs_are_those_of_whole_patched_graphs(
    space: SearchSpace, width: float, resolution: int, patches: int, kernels: Kernels
) -> None:
    table = compile_costs(
        space,
        width=width,
        resolution=resolution,
        classes=10,
        channels=3,
        kernels=kernels,
        latency=one_us,
        plan="overlap",
        patches=patches,
    )
    genes = random_genes(space, 3, np.random.default_rng(1))
    costs = table.evaluate(genes)
    for number, row in enumerate(genes):
        plain = lower(space, decode(space, row, width=width, resolution=resolution), classes=10)
        graph = patch(plain, split_of(space, plain), patches, patches)
        allowed = overlaps(graph, safe_kernels(kernels))
        plan = plan_memory(graph, scratch_by_op(graph, kernels), allowed)
        arena = predict_arena(graph, kernels, plan.head_bytes)
        assert costs.macs[number] == total_macs(plain) <= total_macs(graph)
        assert costs.flash_bytes[number] == file_bytes(graph)
        assert costs.tail_bytes[number] == arena.tail_bytes
        # The bound of the patches, which plans reach but for some bytes, or what lies after them.
        assert plan.head_bytes <= 1.02 * costs.head_bytes[number]
        if kernels == "cmsis-nn-dsp" and space is not FREE:
            assert costs.head_bytes[number] == plan.head_bytes
            assert costs.sram_bytes[number] == arena.sram_bytes
        assert round(costs.latency_ms[number] * 1000) == len(graph.ops)
