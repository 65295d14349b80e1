from itertools import combinations
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas.cost.patch_regions import (
    COLUMNS,
    ROWS,
    Interval,
    clip,
    cuts,
    hull,
    reach,
    read_region,
    regions,
)
from tinynas.graph import Graph, same_padding
from tinynas.space.lower import GraphBuilder


def chain(size: int, windows: list[tuple[int, int]], *, columns: int | None = None) -> Graph:
    """Depthwise convolutions (kernel, stride) one after another, of one channel."""
    builder = GraphBuilder()
    x = image = builder.tensor("image", (1, size, columns or size, 1))
    for number, (kernel, stride) in enumerate(windows):
        x = builder.depthwise(f"d{number}", x, kernel, stride)
    return builder.build("chain", (image,), (x,))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "out", "wanted"),
    [
        (16, 3, 1, (4, 8), (3, 9)),  # one pixel of halo on either side
        (16, 5, 1, (4, 8), (2, 10)),
        (16, 7, 1, (4, 8), (1, 11)),
        (16, 3, 2, (2, 4), (4, 9)),  # even: SAME pads (0, 1), so the window begins at 2 * 2
        (16, 5, 2, (2, 4), (3, 10)),  # (1, 2)
        (16, 7, 2, (2, 4), (2, 11)),  # (2, 3)
        (15, 3, 2, (2, 4), (3, 8)),  # odd: (1, 1)
        (16, 3, 1, (0, 16), (-1, 17)),  # the padding of the whole map
        (16, 7, 2, (0, 8), (-2, 19)),
    ],
)
def test_pixels_that_outputs_read_by_hand(
    size: int, kernel: int, stride: int, out: Interval, wanted: Interval
) -> None:
    before = same_padding(size, kernel, stride)[0]
    assert reach(out, kernel=kernel, stride=stride, before=before) == wanted
    graph = chain(size, [(kernel, stride)])
    everything = (0, -(-size // stride))
    rows, columns = read_region(graph, graph.ops[0], 0, (out, everything))
    assert rows == wanted
    assert clip(columns, size) == (0, size)


def test_intervals_are_clipped_and_joined() -> None:
    assert clip((-2, 5), 8) == (0, 5)
    assert clip((3, 11), 8) == (3, 8)
    assert hull((2, 5), (4, 9)) == (2, 9)


def test_halos_add_up_from_the_last_map_to_the_first() -> None:
    # 32 -> 16 -> 16 -> 8 pixels. Outputs [2, 4) of the last read [4, 9) of the second (3x3,
    # stride 2), those [2, 11) of the first (5x5), those [4, 23) of the image (3x3, stride 2).
    graph = chain(32, [(3, 2), (5, 1), (3, 2)])
    needed = regions(graph, 3, ((2, 4), (0, 8)))
    image, *maps = (needed[t] for t in (0, *(op.outputs[0] for op in graph.ops)))
    assert [rows for rows, _ in maps] == [(2, 11), (4, 9), (2, 4)]
    assert image == ((4, 23), (0, 32))


def test_a_sum_needs_its_inputs_where_its_output_is_and_a_block_the_halo_too() -> None:
    builder = GraphBuilder()
    x = builder.tensor("image", (1, 12, 12, 4))
    y = builder.block("b", x, cout=4, kernel=5, expansion=2, stride=1)
    graph = builder.build("block", (x,), (y,))
    needed = regions(graph, 4, ((6, 9), (0, 3)))
    project, add = (needed[op.outputs[0]] for op in graph.ops[2:])
    assert project == add == ((6, 9), (0, 3))
    assert needed[x] == ((4, 11), (0, 5))


windows = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 5, 7]), st.integers(1, 3)), min_size=1, max_size=4
)


def pixels_read(size: int, windows: list[tuple[int, int]], out: Interval) -> set[int]:
    """Pixels of the image that outputs depend on, window by window."""
    sizes = [size]
    for _, stride in windows:
        sizes.append(-(-sizes[-1] // stride))
    pixels = set(range(*out))
    for n, (kernel, stride) in zip(reversed(sizes[:-1]), reversed(windows), strict=True):
        before = same_padding(n, kernel, stride)[0]
        taps = {p * stride - before + tap for p in pixels for tap in range(kernel)}
        pixels = {tap for tap in taps if 0 <= tap < n}
    return pixels


@given(st.integers(3, 40), windows, st.data())
def test_regions_hold_just_what_is_read(
    size: int, windows: list[tuple[int, int]], data: st.DataObject
) -> None:
    graph = chain(size, windows)
    length = graph.tensors[graph.outputs[0]].shape[ROWS]
    first = data.draw(st.integers(0, length - 1))
    out = (first, data.draw(st.integers(first + 1, length)))
    rows, columns = regions(graph, len(windows), (out, (0, length)))[0]
    read = pixels_read(size, windows, out)
    assert rows == (min(read), max(read) + 1)
    assert columns[0] >= 0 and columns[1] <= size


@given(st.integers(3, 40), windows, st.integers(1, 4))
def test_patches_cover_the_output_and_stay_inside_every_map(
    size: int, windows: list[tuple[int, int]], parts: int
) -> None:
    graph = chain(size, windows)
    length = graph.tensors[graph.outputs[0]].shape[ROWS]
    intervals = cuts(graph, len(windows), ROWS, min(parts, length))
    assert len(intervals) == min(parts, length)
    assert [pixel for interval in intervals for pixel in range(*interval)] == [*range(length)]
    for interval in intervals:
        for t, region in regions(graph, len(windows), (interval, (0, length))).items():
            for (first, last), pixels in zip(region, graph.tensors[t].shape[1:3], strict=True):
                assert 0 <= first < last <= pixels


def largest_piece(graph: Graph, split: int, intervals: tuple[Interval, ...]) -> int:
    """Bytes of the largest piece of a map but the image, rows cut and columns whole."""
    columns = graph.tensors[graph.outputs[0]].shape[COLUMNS]
    return max(
        prod(last - first for first, last in region) * graph.tensors[t].shape[3]
        for interval in intervals
        for t, region in regions(graph, split, (interval, (0, columns))).items()
        if t not in graph.inputs
    )


@settings(max_examples=50)
@given(st.integers(3, 24), windows, st.integers(1, 3))
def test_no_other_cut_has_smaller_pieces(
    size: int, windows: list[tuple[int, int]], parts: int
) -> None:
    graph = chain(size, windows, columns=9)
    length = graph.tensors[graph.outputs[0]].shape[ROWS]
    parts = min(parts, length)
    found = largest_piece(graph, len(windows), cuts(graph, len(windows), ROWS, parts))
    for inner in combinations(range(1, length), parts - 1):
        ends = (0, *inner, length)
        other = tuple(zip(ends, ends[1:], strict=False))
        assert found <= largest_piece(graph, len(windows), other)


def test_patches_in_the_middle_are_shorter() -> None:
    # 7x7, 7x7: 6 pixels of halo on either side. 24 in 4: the ends have 1 side, so 9 + 6 pixels
    # are as many as 3 + 12.
    graph = chain(24, [(7, 1), (7, 1), (7, 1)])
    assert cuts(graph, 3, ROWS, 4) == ((0, 9), (9, 12), (12, 15), (15, 24))
    assert cuts(graph, 3, COLUMNS, 1) == ((0, 24),)
