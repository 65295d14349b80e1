"""The memory map as text, against pictures drawn by hand."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tinynas.report.memory_map import (
    PALETTE,
    ROWS,
    Box,
    MemoryMap,
    Shared,
    box_colours,
    columns_of,
    cropped,
    grid,
    round_step,
    shared_cells,
    short_shape,
    text_map,
)


def box(size: int, offset: int, first: int, last: int, *, scratch: bool = False) -> Box:
    return Box(
        name=f"{'scratch' if scratch else 'tensor'} {size} at {offset}",
        shape=None if scratch else (1, size),
        size_bytes=size,
        offset=offset,
        first=first,
        last=last,
    )


def memory(*boxes: Box, operators: int) -> MemoryMap:
    return MemoryMap(boxes=boxes, operators=operators)


#     64 |bbb          a is in memory at operator 0, b at 0 and 1, c at 1 and 2
#     32 |acc
THREE = memory(box(32, 0, 0, 0), box(32, 32, 0, 1), box(32, 0, 1, 2), operators=3)


@st.composite
def maps(draw: Callable[..., int]) -> MemoryMap:
    """Boxes anywhere, overlapping ones too."""
    operators = draw(st.integers(1, 300))
    boxes = []
    for _ in range(draw(st.integers(1, 30))):
        first = draw(st.integers(-2, operators - 1))
        last = draw(st.integers(first, operators - 1))
        size, offset = draw(st.integers(0, 200_000)), draw(st.integers(0, 200_000))
        scratch = draw(st.integers(0, 3)) == 0
        boxes.append(box(size, offset, first, first if scratch else last, scratch=scratch))
    return memory(*boxes, operators=operators)


def test_the_head_ends_with_the_highest_box() -> None:
    assert THREE.head_bytes == 64
    assert memory(operators=1).head_bytes == 0


def test_what_is_in_memory_at_an_operator_comes_largest_first() -> None:
    both = memory(box(16, 0, 0, 1), box(48, 16, 1, 1), box(32, 0, 2, 2), operators=3)
    assert [b.size_bytes for b in both.at(1)] == [48, 16]


def test_the_peak_is_where_the_boxes_have_most_bytes() -> None:
    assert THREE.live_bytes == {0: 64, 1: 64, 2: 32}
    assert (THREE.peak, THREE.bound_bytes) == (0, 64)


def test_what_lies_in_memory_before_the_operators_has_columns_of_its_own() -> None:
    early = memory(box(64, 0, -2, 0), box(96, 64, -1, -1), box(32, 64, 0, 0), operators=1)
    assert list(early.steps) == [-2, -1, 0]
    assert (early.peak, early.bound_bytes) == (-1, 160)
    lines = [line.plain for line in text_map(early, 80)]
    assert lines[ROWS + 2].split() == ["0"] and lines[ROWS + 2].index("0") == 10 + 16
    assert lines[ROWS + 3].split() == ["peak:", "start", "^"]
    assert any("start to 0" in line for line in lines)


def test_every_cell_has_the_box_that_lies_there() -> None:
    assert grid(THREE, 2, [(0, 1), (1, 2), (2, 3)]) == [[1, 1, None], [0, 2, 2]]


def test_a_cell_of_several_operators_and_boxes_has_the_one_with_most_of_it() -> None:
    # The only cell: b has 64 of 192 byte-operators, a 32, c 64, together more than half.
    (line,) = grid(THREE, 1, [(0, 3)])
    assert line == [1]


def test_a_cell_of_which_half_is_free_stays_free() -> None:
    assert grid(memory(box(32, 32, 0, 0), operators=1), 2, [(0, 1)]) == [[0], [None]]
    assert grid(memory(box(32, 32, 0, 0), operators=1), 1, [(0, 1)]) == [[None]]


@given(start=st.integers(-2, 0), operators=st.integers(1, 1000), width=st.integers(1, 200))
def test_columns_stand_for_all_operators_in_order(start: int, operators: int, width: int) -> None:
    columns = columns_of(range(start, operators), width)
    assert len(columns) <= width
    covered = {step for first, end in columns for step in range(first, end)}
    assert covered == set(range(start, operators))
    assert columns == sorted(columns) and all(first < end for first, end in columns)


def test_the_picture_is_the_one_drawn_by_hand() -> None:
    kib = [
        Box(
            name=b.name,
            shape=b.shape,
            size_bytes=b.size_bytes * 128,
            offset=b.offset * 128,
            first=b.first,
            last=b.last,
        )
        for b in THREE.boxes
    ]
    lines = [line.plain for line in text_map(memory(*kib, operators=3), 80)]
    upper, lower = "│" + "B" * 16, "│" + "A" * 8 + "C" * 16
    assert [line[9:].rstrip() for line in lines[1 : ROWS + 1]] == [upper] * 8 + [lower] * 8
    assert [line[:8].strip() for line in lines[1 : ROWS + 2] if line[:8].strip()] == [
        *("8.0", "6.0", "4.0", "2.0", "0"),
    ]
    assert lines[ROWS + 2].split() == ["0", "1", "2"]
    assert lines[ROWS + 3].index("^") in range(10, 10 + 8)


def test_the_legend_names_the_largest_tensors_and_counts_the_rest() -> None:
    boxes = [box(16 * (k + 1), 0, k, k) for k in range(12)]
    boxes += [box(640, 1024, 3, 3, scratch=True), box(64, 1024, 4, 4, scratch=True)]
    lines = [line.plain for line in text_map(memory(*boxes, operators=12), 80)]
    named = [line.split()[0] for line in lines if " at 0 " in line]
    assert named == list("ABCDEFGHIJ")
    assert "2 smaller tensors" in lines[-2]
    assert lines[-1].endswith("scratch buffers: 2, the largest of 640 bytes")


@settings(max_examples=60)
@given(drawn=maps(), width=st.integers(60, 200), ascii_only=st.booleans())
def test_no_line_is_wider_than_asked(drawn: MemoryMap, width: int, ascii_only: bool) -> None:
    lines = text_map(drawn, width, ascii_only=ascii_only)
    assert max(cell_len(line.plain) for line in lines) <= width
    if ascii_only:
        assert all(line.plain.isascii() for line in lines)


#     96 |aa..         at operator 1 b is written over the upper half of a
#     64 |aXbb
#     32 |.bbb
OVER = memory(box(64, 32, 0, 1), box(64, 0, 1, 3), operators=4)


def test_bytes_of_two_boxes_at_the_same_time_are_shared() -> None:
    (part,) = OVER.shared
    assert part == Shared(boxes=(0, 1), size_bytes=32, offset=32, first=1, last=1)
    assert OVER.head_bytes == 96 and OVER.bound_bytes == 128
    assert THREE.shared == ()


@given(maps())
def test_shared_bytes_are_those_that_both_boxes_have(drawn: MemoryMap) -> None:
    for part in drawn.shared:
        boxes = [drawn.boxes[index] for index in part.boxes]
        assert part.offset == max(b.offset for b in boxes)
        assert part.offset + part.size_bytes == min(b.offset + b.size_bytes for b in boxes)
        assert (part.first, part.last) == (max(b.first for b in boxes), min(b.last for b in boxes))
    pairs = {frozenset(part.boxes) for part in drawn.shared}
    for a, one in enumerate(drawn.boxes):
        for b, other in enumerate(drawn.boxes[:a]):
            in_time = one.first <= other.last and other.first <= one.last
            low, high = (
                max(one.offset, other.offset),
                min(one.offset + one.size_bytes, other.offset + other.size_bytes),
            )
            assert (frozenset((a, b)) in pairs) == (in_time and low < high)


def test_cells_of_two_boxes_have_the_one_that_is_written() -> None:
    columns = [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert shared_cells(OVER, 3, columns) == {(1, 1): 1}
    assert shared_cells(OVER, 3, [(0, 4)]) == {(1, 0): 1}
    assert shared_cells(OVER, 3, [(0, 5)]) == {}


def test_shared_bytes_are_drawn_in_small_letters_and_explained() -> None:
    lines = [line.plain for line in text_map(OVER, 80)]
    assert lines[1 + ROWS // 2][10:].rstrip() == "A" * 8 + "b" * 8 + "B" * 16
    assert lines[-1] == "  a ╳  bytes of two tensors: 1 pair, at most 32"
    assert "small" not in "".join(line.plain for line in text_map(THREE, 80))


def test_a_map_can_be_drawn_at_the_scale_of_a_higher_one() -> None:
    lines = [line.plain for line in text_map(THREE, 80, head_bytes=128)]
    picture = [line[10:].rstrip() for line in lines[1 : ROWS + 1]]
    assert picture[: ROWS // 2] == [""] * (ROWS // 2)
    assert picture[ROWS // 2].split() == ["B" * 16, "bound"]
    assert picture[ROWS // 2 + 1 :] == ["B" * 16] * 3 + ["A" * 8 + "C" * 16] * 4
    assert lines[1].split()[0] == "128"
    assert grid(THREE, 4, [(0, 1)], 128) == [[None], [None], [1], [0]]


def test_without_colour_nothing_but_letters_and_marks_is_needed() -> None:
    plain = text_map(THREE, 80)
    coloured = text_map(THREE, 80, in_colour=True)
    assert not any(" on " in str(span.style) for line in plain for span in line.spans)
    assert any(" on " in str(span.style) for line in coloured for span in line.spans)
    assert len(plain) == len(coloured)


def test_boxes_that_touch_in_time_differ_in_colour() -> None:
    chain = [box(16 * (k % 3 + 1), 16 * (k % 2), k, k + 2) for k in range(40)]
    colours = box_colours(memory(*chain, operators=42))
    assert set(colours) <= set(PALETTE)
    for index, one in enumerate(chain):
        for other in range(index):
            if chain[other].last >= one.first - 1:
                assert colours[index] != colours[other]


def test_the_bound_is_marked_where_the_plan_is_above_it() -> None:
    above = memory(box(4096, 4096, 0, 0), operators=1)
    marked = [k for k, line in enumerate(text_map(above, 60)) if line.plain.endswith(" bound")]
    assert marked == [1 + ROWS // 2]
    reached = memory(box(8192, 0, 0, 0), operators=1)
    assert not any(line.plain.endswith(" bound") for line in text_map(reached, 60))


def test_a_step_between_numbers_is_a_round_one() -> None:
    assert [round_step(operators, 10) for operators in (5, 11, 21, 51, 101, 900)] == [
        *(1, 2, 5, 10, 20, 100),
    ]


@pytest.mark.parametrize(
    "shape,text",
    [((1, 48, 40, 3), "48x40x3"), ((2, 4), "2x4"), ((1, 10), "10"), ((7,), "7"), ((), "1")],
)
def test_a_batch_of_one_goes_without_saying(shape: tuple[int, ...], text: str) -> None:
    assert short_shape(shape) == text


def test_long_names_are_cut_and_short_ones_filled_up() -> None:
    assert cropped("convolution", 5) == "conv…"
    assert cropped("add", 5) == "add  "
    assert cell_len(cropped("卷积卷积", 5)) == 5
