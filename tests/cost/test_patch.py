from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.cost.memory import CONVOLUTIONS, live_bytes
from tinynas.cost.op_rules import check_graph
from tinynas.cost.patch import LARGEST_JOIN, candidates, patch, source_name, splits
from tinynas.graph import Graph, Op, total_macs
from tinynas.space.arch import decode, random_genes
from tinynas.space.lower import GraphBuilder, lower
from tinynas.space.spec import find_space


def convolution(size: int, kernel: int, stride: int) -> Graph:
    """A convolution and a pool over what it makes."""
    builder = GraphBuilder()
    x = builder.tensor("image", (1, size, size, 3))
    y = builder.conv("c", x, 8, kernel, stride, "RELU6")
    return builder.build("one", (x,), (builder.global_pool("pool", y),))


def two_blocks() -> Graph:
    """A stem, a block that halves the map, a block with a skip connection, and a pool."""
    builder = GraphBuilder()
    image = builder.tensor("image", (1, 32, 32, 3))
    x = builder.conv("stem", image, 8, 3, 2, "RELU6")
    x = builder.block("a", x, cout=8, kernel=3, expansion=3, stride=2)
    x = builder.block("b", x, cout=8, kernel=5, expansion=3, stride=1)
    return builder.build("two", (image,), (builder.global_pool("pool", x),))


def subnet(seed: int, *, resolution: int = 64) -> Graph:
    space = find_space("mcunet")
    genes = random_genes(space, 1, np.random.default_rng(seed))[0]
    return lower(space, decode(space, genes, width=0.5, resolution=resolution), classes=10)


def kinds(graph: Graph) -> Counter[str]:
    return Counter(op.kind for op in graph.ops)


def named(graph: Graph, name: str) -> Op:
    return next(op for op in graph.ops if op.name == name)


def test_one_patch_is_the_graph_itself() -> None:
    graph = two_blocks()
    assert patch(graph, 4, 1, 1) == graph


def test_a_prefix_ends_where_one_activation_is_left() -> None:
    # stem; expand, depthwise, project; then a sum keeps the input of the second block.
    assert splits(two_blocks()) == (1, 2, 3, 4, 8)
    assert splits(convolution(8, 3, 1)) == ()  # as many pixels as the image
    assert splits(convolution(8, 3, 2)) == (1,)


def test_a_prefix_ends_before_what_needs_the_whole_map() -> None:
    graph = two_blocks()
    assert graph.ops[8].kind == "AVERAGE_POOL_2D"
    builder = GraphBuilder()
    x = builder.tensor("image", (1, 8, 8, 3))
    pooled = builder.fully_connected("fc", builder.global_pool("pool", x), 4)
    assert splits(builder.build("pool", (x,), (pooled,))) == ()


def test_broadcast_sums_and_other_shapes_do_not_run_in_patches() -> None:
    graph = two_blocks()
    tensors = list(graph.tensors)
    small = graph.ops[7].inputs[0]
    tensors[small] = replace(tensors[small], shape=(1, 1, 1, 8))
    assert splits(replace(graph, tensors=tuple(tensors))) == (1, 2, 3, 4)
    assert splits(replace(graph, inputs=(0, 1))) == ()


def test_corner_patches_are_padded_on_two_sides_by_hand() -> None:
    graph = patch(convolution(8, 3, 1), 1, 2, 2)
    assert [op.name for op in graph.ops[:3]] == ["image@0.0", "image@0.0.2", "c@0.0"]
    cut, pad, conv = graph.ops[:3]
    # Outputs (0, 4) read pixels (-1, 5): 5 of them in the image, one before it.
    assert (cut.kind, cut.begin) == ("STRIDED_SLICE", (0, 0, 0, 0))
    assert graph.tensors[cut.outputs[0]].shape == (1, 5, 5, 3)
    assert (pad.kind, pad.pads) == ("PAD", ((0, 0), (1, 0), (1, 0), (0, 0)))
    assert graph.tensors[pad.outputs[0]].shape == (1, 6, 6, 3)
    assert (conv.kind, conv.padding) == ("CONV_2D", "VALID")
    assert graph.tensors[conv.outputs[0]].shape == (1, 4, 4, 8)
    assert named(graph, "image@1.1").begin == (0, 3, 3, 0)
    assert named(graph, "image@1.1.2").pads == ((0, 0), (0, 1), (0, 1), (0, 0))


def test_a_patch_in_the_middle_is_not_padded() -> None:
    graph = patch(convolution(9, 3, 1), 1, 3, 3)
    assert kinds(graph) == {
        "STRIDED_SLICE": 9,
        "PAD": 8,
        "CONV_2D": 9,
        "CONCATENATION": 4,
        "AVERAGE_POOL_2D": 1,
    }
    assert all(not op.name.endswith("@1.1") for op in graph.ops if op.kind == "PAD")
    assert named(graph, "image@1.1").begin == (0, 2, 2, 0)


def test_same_padding_stays_where_it_means_the_same() -> None:
    # 3x3, stride 2 over 8 pixels pads (0, 1): the last patch reads (4, 9), 4 pixels and one of
    # padding, which is what SAME gives 4 pixels. The first reads (0, 5), all of them there.
    graph = patch(convolution(8, 3, 2), 1, 2, 2)
    padding = {op.name: op.padding for op in graph.ops if op.kind == "CONV_2D"}
    assert padding["c@0.0"] == "VALID"
    assert padding["c@1.1"] == "SAME"
    # The others would be padded on one axis but not on the other.
    assert named(graph, "image@0.1.2").pads == ((0, 0), (0, 0), (0, 1), (0, 0))
    assert padding["c@0.1"] == "VALID"


def test_patches_are_joined_along_rows_then_columns() -> None:
    graph = patch(convolution(9, 3, 1), 1, 3, 3)
    joins = [op for op in graph.ops if op.kind == "CONCATENATION"]
    assert [op.axis for op in joins] == [2, 2, 2, 1]
    assert [op.name for op in joins] == ["c@0", "c@1", "c@2", "c@all"]
    assert [graph.tensors[t].shape for t in joins[-1].inputs] == [(1, 3, 9, 8)] * 3
    whole = graph.tensors[joins[-1].outputs[0]]
    assert (whole.name, whole.shape) == ("c", (1, 9, 9, 8))


@pytest.mark.parametrize(("rows", "columns", "axis"), [(3, 1, 1), (1, 3, 2)])
def test_bands_are_joined_once(rows: int, columns: int, axis: int) -> None:
    graph = patch(convolution(9, 3, 1), 1, rows, columns)
    (join,) = (op for op in graph.ops if op.kind == "CONCATENATION")
    assert join.axis == axis
    assert len(join.inputs) == 3


def test_a_skip_connection_is_cropped_where_the_sum_is() -> None:
    graph = patch(two_blocks(), 8, 2, 2)
    add = named(graph, "b.add@0.0")
    crop = next(op for op in graph.ops if op.outputs[0] == add.inputs[0])
    # The 5x5 kernel needs 2 pixels more of the block's input than the sum of 4.
    assert (crop.kind, crop.begin) == ("STRIDED_SLICE", (0, 0, 0, 0))
    assert graph.tensors[crop.inputs[0]].shape == (1, 6, 6, 8)
    assert graph.tensors[crop.outputs[0]].shape == (1, 4, 4, 8)
    last = named(graph, "b.add@1.1")
    assert next(op for op in graph.ops if op.outputs[0] == last.inputs[0]).begin == (0, 2, 2, 0)


def test_all_patches_read_the_same_constants() -> None:
    graph = two_blocks()
    patched = patch(graph, 8, 3, 3)
    for op in graph.ops:
        if op.kind in CONVOLUTIONS:
            read = {o.inputs[1:] for o in patched.ops if source_name(o.name) == op.name}
            weights = {ts for ts in read if ts and patched.tensors[ts[0]].dtype == "int8"}
            assert len(weights) == 1
    sizes = [
        sum(t.size_bytes for t in g.tensors if t.constant and t.dtype == "int8")
        for g in (graph, patched)
    ]
    assert sizes[0] == sizes[1]
    indices = [t for t in patched.tensors if t.constant and t.shape in ((4,), (4, 2))]
    assert all(t.dtype == "int32" and not t.quantized for t in indices)


def test_names_lead_back_to_the_graph_that_was_patched() -> None:
    graph = two_blocks()
    patched = patch(graph, 8, 2, 3)
    names = {op.name for op in graph.ops}
    assert len({op.name for op in patched.ops}) == len(patched.ops)
    for op in patched.ops:
        if op.kind in {o.kind for o in graph.ops}:
            source = named(graph, source_name(op.name))
            assert (op.kind, op.stride, op.activation) == (
                source.kind,
                source.stride,
                source.activation,
            )
    activations = [t.name for t in patched.tensors if not t.constant]
    assert len(set(activations)) == len(activations)
    assert {source_name(name) for name in activations} == {"image", *names}


def test_operators_after_the_patches_stay_as_they_are() -> None:
    graph = two_blocks()
    patched = patch(graph, 4, 2, 2)
    for op, copy in zip(graph.ops[4:], patched.ops[-5:], strict=True):
        assert replace(op, inputs=copy.inputs, outputs=copy.outputs) == copy
        for t, number in zip(
            (*op.inputs, *op.outputs), (*copy.inputs, *copy.outputs), strict=True
        ):
            assert patched.tensors[number] == graph.tensors[t]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([15, 33, 48, 97]), st.data())
def test_patched_subnets_agree_with_themselves(
    seed: int, resolution: int, data: st.DataObject
) -> None:
    graph = subnet(seed, resolution=resolution)
    split = data.draw(st.sampled_from(splits(graph)))
    _, height, width, _ = graph.tensors[graph.ops[split - 1].outputs[0]].shape
    rows = data.draw(st.integers(1, min(4, height)))
    columns = data.draw(st.integers(1, min(4, width)))
    patched = patch(graph, split, rows, columns)
    check_graph(patched)
    assert total_macs(patched) >= total_macs(graph)
    lifetimes = patched.lifetimes()
    assert lifetimes.keys() == {t for t, x in enumerate(patched.tensors) if not x.constant}
    read = {t for op in patched.ops for t in op.inputs} | {*patched.outputs}
    assert read == set(range(len(patched.tensors)))


def test_a_split_within_a_skip_connection_is_refused() -> None:
    with pytest.raises(ValueError, match=r"end after one of \[1, 2, 3, 4, 8\] operators, got 6"):
        patch(two_blocks(), 6, 2, 2)


def test_more_patches_than_pixels_or_than_can_be_joined_are_refused() -> None:
    with pytest.raises(ValueError, match="a map of 4 rows has 1 to 4 patches, got 5"):
        patch(convolution(8, 3, 2), 1, 5, 2)
    most = LARGEST_JOIN
    with pytest.raises(ValueError, match=f"a map of 16 columns has 1 to {most} patches, got 11"):
        patch(convolution(32, 3, 2), 1, 2, 11)


def test_candidates_have_less_alive_than_the_graph() -> None:
    graph = subnet(0, resolution=160)
    found = list(candidates(graph))
    assert {p for _, p in found} == {2, 3, 4}
    for split, p in found:
        assert split in splits(graph)
        assert max(live_bytes(patch(graph, split, p, p))) < max(live_bytes(graph))
    assert {p for _, p in candidates(graph, largest=2)} == {2}


def test_a_graph_whose_peak_comes_late_has_no_candidates() -> None:
    builder = GraphBuilder()
    x = image = builder.tensor("image", (1, 16, 16, 3))
    for number, channels in enumerate((4, 64, 64)):
        x = builder.conv(f"c{number}", x, channels, 3, 2 - min(number, 1), "RELU6")
    graph = builder.build("late", (image,), (builder.global_pool("pool", x),))
    assert splits(graph) == (1, 2, 3)
    assert list(candidates(graph)) == []
