"""From subnets to graphs: shapes, names, skips and multiply-accumulates against hand counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.errors import UsageError
from tinynas.graph import Graph, op_macs, same_padding, total_macs
from tinynas.space.arch import Arch, decode, random_genes, smallest
from tinynas.space.lower import GraphBuilder, has_skip, lower
from tinynas.space.spec import SearchSpace, Stage, Stem, find_space

SPACE = SearchSpace(
    name="small",
    stem=Stem(kernel=3, stride=2, channels=8),
    stages=(
        Stage(channels=8, stride=1, depth=(1,), kernel=(3,), expansion=(1,)),
        Stage(channels=16, stride=2, depth=(1, 2), kernel=(3, 5), expansion=(2, 3)),
    ),
    width_multipliers=(1.0,),
    resolutions=(15,),
)
ARCH = Arch(
    space="small", width=1.0, resolution=15, kernels=((3,), (5, 3)), expansions=((1,), (3, 2))
)


def shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """Output shape of each operator."""
    return {op.name: graph.tensors[op.outputs[0]].shape for op in graph.ops}


def test_a_small_subnet_has_these_operators_and_shapes() -> None:
    assert list(shapes(lower(SPACE, ARCH, classes=10)).items()) == [
        ("stem", (1, 8, 8, 8)),
        ("s0.b0.depthwise", (1, 8, 8, 8)),
        ("s0.b0.project", (1, 8, 8, 8)),
        ("s0.b0.add", (1, 8, 8, 8)),
        ("s1.b0.expand", (1, 8, 8, 24)),
        ("s1.b0.depthwise", (1, 4, 4, 24)),
        ("s1.b0.project", (1, 4, 4, 16)),
        ("s1.b1.expand", (1, 4, 4, 32)),
        ("s1.b1.depthwise", (1, 4, 4, 32)),
        ("s1.b1.project", (1, 4, 4, 16)),
        ("s1.b1.add", (1, 4, 4, 16)),
        ("pool", (1, 1, 1, 16)),
        ("logits", (1, 10)),
    ]


def test_a_small_subnet_computes_what_counting_by_hand_gives() -> None:
    graph = lower(SPACE, ARCH, classes=10)
    wanted = {
        "stem": 8 * 8 * 8 * 3 * 3 * 3,
        "s0.b0.depthwise": 8 * 8 * 8 * 3 * 3,
        "s0.b0.project": 8 * 8 * 8 * 8,
        "s0.b0.add": 0,
        "s1.b0.expand": 8 * 8 * 8 * 24,
        "s1.b0.depthwise": 4 * 4 * 24 * 5 * 5,
        "s1.b0.project": 4 * 4 * 24 * 16,
        "s1.b1.expand": 4 * 4 * 16 * 32,
        "s1.b1.depthwise": 4 * 4 * 32 * 3 * 3,
        "s1.b1.project": 4 * 4 * 32 * 16,
        "s1.b1.add": 0,
        "pool": 0,
        "logits": 16 * 10,
    }
    assert {op.name: op_macs(graph, op) for op in graph.ops} == wanted
    assert total_macs(graph) == sum(wanted.values()) == 71_712


def test_weights_are_laid_out_as_tflite_stores_them() -> None:
    graph = lower(SPACE, ARCH, classes=10, channels=1)
    by_name = {op.name: op for op in graph.ops}

    def constants(name: str) -> list[tuple[int, ...]]:
        return [graph.tensors[t].shape for t in by_name[name].inputs[1:]]

    assert constants("stem") == [(8, 3, 3, 1), (8,)]
    assert constants("s1.b0.depthwise") == [(1, 5, 5, 24), (24,)]
    assert constants("s1.b0.project") == [(16, 1, 1, 24), (16,)]
    assert constants("logits") == [(10, 16), (10,)]
    assert graph.tensors[by_name["stem"].inputs[2]].dtype == "int32"


def mobilenet_v2() -> Graph:
    """MobileNetV2 1.0 at 224 pixels (Sandler et al. 2018, table 2)."""
    builder = GraphBuilder()
    image = builder.tensor("image", (1, 224, 224, 3))
    x = builder.conv("stem", image, 32, 3, 2, "RELU6")
    table = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    for stage, (expansion, cout, depth, first_stride) in enumerate(table):
        for position in range(depth):
            stride = first_stride if position == 0 else 1
            name = f"{stage}.{position}"
            x = builder.block(name, x, cout=cout, kernel=3, expansion=expansion, stride=stride)
    x = builder.global_pool("pool", builder.conv("last", x, 1280, 1, 1, "RELU6"))
    logits = builder.fully_connected("logits", x, 1000)
    return builder.build("mobilenet-v2", (image,), (logits,))


def test_mobilenet_v2_computes_what_is_published() -> None:
    # The paper's table 4 says 300 M multiply-adds and 3.4 M parameters; the reference
    # implementation's table (tensorflow/models, slim/nets/mobilenet) says 300 and 3.47.
    graph = mobilenet_v2()
    assert total_macs(graph) == 300_774_272
    weights = sum(
        int(np.prod(graph.tensors[op.inputs[1]].shape)) for op in graph.ops if len(op.inputs) == 3
    )
    assert round(weights / 1e6, 2) == 3.47
    assert sum(op.kind == "ADD" for op in graph.ops) == 10


@pytest.mark.parametrize(
    ("cin", "cout", "stride", "wanted"),
    [(16, 16, 1, True), (16, 24, 1, False), (16, 16, 2, False)],
)
def test_a_block_skips_where_stride_is_1_and_channels_agree(
    cin: int, cout: int, stride: int, wanted: bool
) -> None:
    assert has_skip(cin, cout, stride) is wanted
    builder = GraphBuilder()
    x = builder.tensor("x", (1, 8, 8, cin))
    out = builder.block("b", x, cout=cout, kernel=3, expansion=2, stride=stride)
    assert (builder.ops[-1].kind == "ADD") is wanted
    if wanted:
        assert builder.ops[-1].inputs == (x, builder.ops[-2].outputs[0])
        assert builder.ops[-1].outputs == (out,)


def test_expansion_1_has_no_expanding_convolution() -> None:
    names = [op.name for op in lower(SPACE, ARCH, classes=10).ops]
    assert "s0.b0.expand" not in names
    assert "s1.b0.expand" in names


def test_activations_are_relu6_but_on_linear_outputs() -> None:
    for op in lower(SPACE, ARCH, classes=10).ops:
        linear = op.name.endswith(("project", "add", "pool", "logits"))
        assert op.activation == (None if linear else "RELU6")


def test_only_convolutions_of_1x1_need_no_padding() -> None:
    for op in lower(SPACE, ARCH, classes=10).ops:
        same = op.name == "stem" or op.name.endswith("depthwise")
        assert op.padding == ("SAME" if same else "VALID")


def test_the_pool_covers_the_whole_map() -> None:
    (pool,) = (op for op in lower(SPACE, ARCH, classes=10).ops if op.name == "pool")
    assert pool.kernel == pool.stride == (4, 4)


def test_pooled_maps_of_one_pixel_stay_one_pixel() -> None:
    space = find_space("mcunet-small")
    graph = lower(space, smallest(space, width=0.2, resolution=8), classes=2)
    (pool,) = (op for op in graph.ops if op.name == "pool")
    assert pool.kernel == (1, 1)
    assert shapes(graph)["pool"][:3] == (1, 1, 1)


@given(seed=st.integers(0, 10_000), data=st.data())
def test_every_operator_has_the_size_that_same_padding_gives(
    seed: int, data: st.DataObject
) -> None:
    space = find_space(data.draw(st.sampled_from(["mcunet", "mcunet-small"])))
    arch = decode(
        space,
        random_genes(space, 1, np.random.default_rng(seed))[0],
        width=data.draw(st.sampled_from(space.width_multipliers)),
        resolution=data.draw(st.sampled_from(space.resolutions)),
    )
    graph = lower(space, arch, classes=5)
    for op in graph.ops:
        if op.padding == "SAME":
            source, out = (graph.tensors[t].shape for t in (op.inputs[0], op.outputs[0]))
            for size, got, kernel, stride in zip(
                source[1:3], out[1:3], op.kernel, op.stride, strict=True
            ):
                before, after = same_padding(size, kernel, stride)
                assert got == (size + before + after - kernel) // stride + 1
                assert got == -(-size // stride)
    names = [op.name for op in graph.ops]
    assert len(set(names)) == len(names)
    assert names[0] == "stem"
    assert names[-2:] == ["pool", "logits"]


def test_a_subnet_of_another_space_is_refused() -> None:
    with pytest.raises(UsageError, match="the subnet is of space 'small', not of 'mcunet'"):
        lower(find_space("mcunet"), ARCH, classes=10)
