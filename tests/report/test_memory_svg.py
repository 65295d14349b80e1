"""The memory map as SVG, read back as XML."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from tinynas.report.memory_map import Box, MemoryMap
from tinynas.report.memory_svg import svg_map

SVG = "{http://www.w3.org/2000/svg}"


def box(name: str, size: int, offset: int, first: int, last: int, scratch: bool = False) -> Box:
    return Box(
        name=name,
        shape=None if scratch else (1, size),
        size_bytes=size,
        offset=offset,
        first=first,
        last=last,
    )


BOXES = (
    box("image", 3072, 0, 0, 0),
    box("stem", 4096, 4096, 0, 2),
    box("scratch of depthwise", 512, 3072, 1, 1, scratch=True),
    box("a<b & 'c'", 2048, 0, 2, 3),
)
MAP = MemoryMap(boxes=BOXES, operators=4)


def groups(memory: MemoryMap) -> dict[str, ElementTree.Element]:
    """The groups of boxes by the first part of their titles."""
    root = ElementTree.fromstring(svg_map(memory))
    boxes = [g for g in root.iter(f"{SVG}g") if "box" in g.get("class", "").split()]
    return {title_of(g).rsplit(": ", 1)[0].split(", ")[0]: g for g in boxes}


def title_of(group: ElementTree.Element) -> str:
    return group.findtext(f"{SVG}title", "")


def place(group: ElementTree.Element) -> tuple[float, ...]:
    rect = group.find(f"{SVG}rect")
    assert rect is not None
    return tuple(float(rect.get(key, "nan")) for key in ("x", "y", "width", "height"))


def test_every_box_lies_where_its_buffer_does() -> None:
    found = groups(MAP)
    assert list(sorted(found)) == sorted(b.name for b in BOXES)
    x0, y, operator, height = place(found["image"])  # at offset 0 and operator 0
    floor, per_byte = y + height, height / 3072
    for buffer in BOXES:
        x, y, width, height = place(found[buffer.name])
        assert x == pytest.approx(x0 + operator * buffer.first, abs=0.05)
        assert width == pytest.approx(operator * (buffer.last + 1 - buffer.first), abs=0.05)
        assert height == pytest.approx(per_byte * buffer.size_bytes, abs=0.05)
        assert floor - y - height == pytest.approx(per_byte * buffer.offset, abs=0.05)


def test_hovering_a_box_tells_its_name_shape_bytes_and_lifetime() -> None:
    found = groups(MAP)
    assert title_of(found["stem"]) == ("stem, 4096: 4,096 bytes at offset 4,096, operators 0 to 2")
    assert title_of(found["scratch of depthwise"]) == (
        "scratch of depthwise: 512 bytes at offset 3,072, operator 1"
    )


def test_scratch_and_what_the_peak_holds_are_told_apart() -> None:
    found = groups(MAP)
    assert found["scratch of depthwise"].get("class") == "box scratch"
    assert found["image"].get("class") == "box held"
    assert found["stem"].get("class") == "box held"
    assert found["a<b & 'c'"].get("class") == "box"


OVER = MemoryMap(
    boxes=(
        box("read", 4096, 1024, 0, 1),
        box("written", 4096, 0, 1, 1),
        box("after", 64, 4096, 2, 2),
    ),
    operators=3,
)


def test_what_two_boxes_share_is_hatched_and_named() -> None:
    root = ElementTree.fromstring(svg_map(OVER, name="-after"))
    (group,) = (g for g in root.iter(f"{SVG}g") if g.get("class") == "shared")
    assert title_of(group) == "read and written share 3,072 bytes at operator 1"
    rect = group.find(f"{SVG}rect")
    assert rect is not None and rect.get("fill") == "url(#shared-after)"
    assert {e.get("id") for e in root.iter(f"{SVG}pattern")} == {"hatch-after", "shared-after"}
    boxes = groups(OVER)
    x, y, width, height = place(group)
    assert (x, width) == pytest.approx((place(boxes["written"])[0], place(boxes["written"])[2]))
    assert y == pytest.approx(place(boxes["written"])[1], abs=0.05)
    assert y + height == pytest.approx(sum(place(boxes["read"])[1::2]), abs=0.05)


def test_labels_stand_where_a_box_lies_alone_else_over_the_hatching() -> None:
    boxes, root = groups(OVER), ElementTree.fromstring(svg_map(OVER))
    (group,) = (g for g in root.iter(f"{SVG}g") if g.get("class") == "shared")
    x, _, width, _ = place(boxes["read"])
    (first, *_) = boxes["read"].iter(f"{SVG}text")
    assert float(first.get("x", "nan")) == pytest.approx(x + width / 4, abs=0.1)
    assert list(boxes["written"].iter(f"{SVG}text")) or list(group.iter(f"{SVG}text"))
    covered = MemoryMap(boxes=(box("a", 4096, 0, 0, 0), box("b", 4096, 0, 0, 0)), operators=1)
    root = ElementTree.fromstring(svg_map(covered))
    (group,) = (g for g in root.iter(f"{SVG}g") if g.get("class") == "shared")
    assert [text.text for text in group.iter(f"{SVG}text")] == ["4096", "4.0 KiB"]


def test_nothing_is_hatched_where_nothing_is_shared() -> None:
    assert 'class="shared"' not in svg_map(MAP)
    assert "lower bound without overlap" in svg_map(OVER)
    assert "lower bound without" not in svg_map(MAP)


def test_two_maps_can_have_the_same_scale() -> None:
    low = MemoryMap(boxes=(box("low", 1024, 0, 0, 0),), operators=1)
    root = ElementTree.fromstring(svg_map(low, head_bytes=4096))
    (group,) = (g for g in root.iter(f"{SVG}g") if "box" in g.get("class", "").split())
    (alone,) = groups(low).values()
    assert place(group)[3] == pytest.approx(place(alone)[3] / 4, abs=0.05)


def test_the_bound_is_a_line_at_its_height() -> None:
    root = ElementTree.fromstring(svg_map(MAP))
    (line,) = (e for e in root.iter(f"{SVG}line") if e.get("class") == "bound")
    _, y, _, height = place(groups(MAP)["image"])
    assert line.get("y1") == line.get("y2")
    assert float(line.get("y1", "nan")) == pytest.approx(
        y + height - height * 7168 / 3072, abs=0.1
    )


def test_the_vertical_axis_is_labelled_in_kib() -> None:
    root = ElementTree.fromstring(svg_map(MAP))
    labels = [e.text for e in root.iter(f"{SVG}text") if e.get("class") == "end"]
    assert labels == ["0", "1", "2", "3", "4", "5", "6", "7", "8"]


def test_names_cannot_break_out_of_the_picture() -> None:
    evil = box("</title><script>alert(1)</script>", 64, 0, 0, 0)
    picture = svg_map(MemoryMap(boxes=(evil,), operators=1))
    root = ElementTree.fromstring(picture)
    assert not [e for e in root.iter() if e.tag.endswith("script")]
    assert "<script" not in picture


@pytest.mark.parametrize("operators", [1, 5, 31, 75, 200, 1000])
def test_numbers_of_operators_do_not_run_into_each_other(operators: int) -> None:
    boxes = tuple(box(f"t{k}", 1024, 1024 * (k % 2), k, k) for k in range(operators))
    memory = MemoryMap(boxes=boxes, operators=operators)
    root = ElementTree.fromstring(svg_map(memory))
    numbers = [
        float(e.get("x", "nan"))
        for e in root.iter(f"{SVG}text")
        if e.get("class") == "middle" and re.fullmatch(r"\d+", e.text or "")
    ]
    assert len(numbers) >= min(operators, 5)
    assert all(right - left >= 30 for left, right in pairwise(numbers))


def test_what_lies_in_memory_before_the_operators_is_drawn_left_of_them() -> None:
    early = (box("early", 64, 0, -2, -1), box("late", 32, 0, 0, 0))
    found = groups(MemoryMap(boxes=early, operators=1))
    x, _, width, _ = place(found["early"])
    assert place(found["late"])[0] == pytest.approx(x + width, abs=0.05)
    assert place(found["late"])[2] == pytest.approx(width / 2, abs=0.05)


def test_an_arena_of_nothing_can_be_drawn() -> None:
    drawn = ElementTree.fromstring(svg_map(MemoryMap(boxes=(), operators=1)))
    assert drawn.tag.endswith("svg")
