"""The memory map as SVG, to stand inside a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from tinynas.report.memory_map import (
    KIB,
    Box,
    MemoryMap,
    Shared,
    box_colours,
    peak_words,
    round_step,
    short_shape,
    span_text,
)

# In units of a page's pixels.
WIDTH, HEIGHT = 1000, 460
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 34, 46
NARROWEST_OPERATOR = 3
LETTER_WIDTH, LINE_HEIGHT = 6.6, 12.5
MOST_TICKS = 8
AXIS_TITLE = 60  # how far the vertical axis' title reaches into the plot

STYLE = """
.map { width: 100%; height: auto; display: block; }
.map text { font: 12px system-ui, sans-serif; fill: currentColor; }
.map .grid { stroke: currentColor; stroke-opacity: .14; }
.map .axis { stroke: currentColor; stroke-opacity: .6; }
.map .box rect { stroke: #222; stroke-width: .8; }
.map .box:hover rect { stroke: currentColor; stroke-width: 3; }
.map .box text { font-size: 10.5px; fill: #111; text-anchor: middle; pointer-events: none; }
.map .scratch rect { stroke-dasharray: 3 2; }
.map .shared rect { stroke: #222; stroke-width: 1.2; }
.map .shared text { font-size: 10.5px; fill: #111; text-anchor: middle; pointer-events: none; }
.map .on { paint-order: stroke; stroke: #fff; stroke-width: 3.5px; stroke-linejoin: round; }
.map .shared:hover rect { stroke: currentColor; stroke-width: 3; }
.map .column { fill: currentColor; fill-opacity: .1; }
.map .held rect { stroke: currentColor; stroke-width: 2.4; }
.map .edge { stroke: currentColor; stroke-opacity: .5; stroke-width: .8; pointer-events: none; }
.map .bound { stroke: currentColor; stroke-width: 1.4; stroke-dasharray: 7 4;
  pointer-events: none; }
.map .strong { font-weight: 600; }
.map .over { paint-order: stroke; stroke: Canvas; stroke-width: 4px; stroke-linejoin: round; }
.map .end { text-anchor: end; }
.map .middle { text-anchor: middle; }
"""


def _patterns(name: str) -> str:
    """Hatching of scratch buffers and of shared bytes, by names that a page has once."""
    common = 'patternUnits="userSpaceOnUse" patternTransform="rotate'
    return (
        f'<defs><pattern id="hatch{name}" width="5" height="5" {common}(45)">'
        '<rect width="5" height="5" fill="#fff"/><rect width="2" height="5" fill="#555"/>'
        f'</pattern><pattern id="shared{name}" width="7" height="7" {common}(-45)">'
        '<rect width="2.2" height="7" fill="#222" fill-opacity=".75"/></pattern></defs>'
    )


class _Scale:
    """From operators and bytes to units of the picture."""

    def __init__(self, memory: MemoryMap, head_bytes: int, name: str) -> None:
        self.name = name
        self.steps = memory.steps
        self.plot_width = max(WIDTH - LEFT - RIGHT, NARROWEST_OPERATOR * len(self.steps))
        self.head = max(memory.head_bytes, memory.bound_bytes, head_bytes, 1)

    def x(self, step: float) -> float:
        return LEFT + (step - self.steps.start) / len(self.steps) * self.plot_width

    def y(self, offset: float) -> float:
        return TOP + (1 - offset / self.head) * (HEIGHT - TOP - BOTTOM)


def _text(x: float, y: float, words: str, kind: str = "", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{more}>{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _tick_bytes(head_bytes: int) -> int:
    """The power of two that divides the axis into at most MOST_TICKS."""
    least = -(-head_bytes // MOST_TICKS)
    return int(2 ** (least - 1).bit_length())


def _axes(memory: MemoryMap, scale: _Scale) -> Iterator[str]:
    right, bottom = scale.x(memory.operators), scale.y(0)
    tick = _tick_bytes(scale.head)
    for offset in range(0, scale.head + 1, tick):
        y = scale.y(offset)
        yield _line(LEFT, y, right, y, "axis" if offset == 0 else "grid")
        yield _text(LEFT - 7, y + 4, f"{offset / KIB:,.10g}", "end")
    if scale.head % tick * (bottom - TOP) > LINE_HEIGHT * scale.head:
        yield _text(LEFT - 7, TOP + 4, f"{scale.head / KIB:,.4g}", "end strong")
    yield _line(LEFT, TOP, LEFT, bottom, "axis")
    yield _text(6, TOP - 16, "arena offset, KiB")
    for step in range(0, memory.operators, round_step(memory.operators, scale.plot_width / 34)):
        yield _text(scale.x(step + 0.5), bottom + 16, str(step), "middle")
    yield _text((LEFT + right) / 2, HEIGHT - 8, "operator", "middle")


def _words(box: Box) -> str:
    """What a box is, in full."""
    what = box.name if box.shape is None else f"{box.name}, {short_shape(box.shape)}"
    many = "s" if box.last > box.first else ""
    size = f"{box.size_bytes:,} bytes at offset {box.offset:,}"
    return f"{what}: {size}, operator{many} {span_text(box)}"


class _Place:
    """A rectangle of the picture from its steps [first, end) and bytes [low, high)."""

    def __init__(self, scale: _Scale, first: int, end: int, low: int, high: int) -> None:
        self.x, self.y = scale.x(first), scale.y(high)
        self.width, self.height = scale.x(end) - self.x, scale.y(low) - self.y

    def rect(self, fill: str) -> str:
        """An SVG element."""
        return (
            f'<rect x="{self.x:.2f}" y="{self.y:.2f}" width="{self.width:.2f}" '
            f'height="{self.height:.2f}" fill="{fill}"/>'
        )


def _label(box: Box, place: _Place, kind: str = "") -> str:
    """Shape and KiB inside a rectangle, upright or turned, as far as there is room."""
    width, height = place.width, place.height
    if box.shape is None:
        return ""
    shape, size = short_shape(box.shape), f"{box.size_bytes / KIB:,.1f} KiB"
    if box.size_bytes < KIB:
        size = f"{box.size_bytes} bytes"
    turned = height > width
    along, across = (height, width) if turned else (width, height)
    needed = LETTER_WIDTH * max(len(shape), len(size))
    lines = [shape, size] if across > 2 * LINE_HEIGHT + 3 else [shape]
    if across < LINE_HEIGHT or along < LETTER_WIDTH * len(shape) + 4 or along < 30:
        return ""
    if along < needed + 4:
        lines = [shape]
    middle_x, middle_y = place.x + width / 2, place.y + height / 2
    turn = f' transform="rotate(-90 {middle_x:.1f} {middle_y:.1f})"' if turned else ""
    first = middle_y + 3.7 - (len(lines) - 1) * LINE_HEIGHT / 2
    return "".join(
        _text(middle_x, first + k * LINE_HEIGHT, words, kind, turn)
        for k, words in enumerate(lines)
    )


def _own_place(box: Box, parts: Sequence[Shared], scale: _Scale) -> _Place:
    """The largest rectangle of a box in which it lies alone, for its label."""
    first, end = box.first, box.last + 1
    low, high = box.offset, box.offset + box.size_bytes
    if not parts:
        return _Place(scale, first, end, low, high)
    places = [
        _Place(scale, first, min(part.first for part in parts), low, high),
        _Place(scale, 1 + max(part.last for part in parts), end, low, high),
        _Place(scale, first, end, low, min(part.offset for part in parts)),
        _Place(scale, first, end, max(part.offset + part.size_bytes for part in parts), high),
    ]
    return max(places, key=lambda place: max(place.width, 0) * max(place.height, 0))


def _box(box: Box, colour: str, scale: _Scale, label: str, *, held: bool) -> str:
    place = _Place(scale, box.first, box.last + 1, box.offset, box.offset + box.size_bytes)
    kind, fill = "box", colour
    if box.shape is None:
        kind, fill = "box scratch", f"url(#hatch{scale.name})"
    return (
        f'<g class="{kind}{" held" if held else ""}"><title>{escape(_words(box))}</title>'
        + place.rect(fill)
        + f"{label}</g>"
    )


def _boxes(memory: MemoryMap, scale: _Scale) -> Iterator[str]:
    """All boxes, those in memory at the peak last, as their frames lie over the others.

    Over them is hatched what two boxes share, with the label of a box that has no room elsewhere.
    """
    colours = box_colours(memory)
    parts: dict[int, list[Shared]] = {index: [] for index in range(len(memory.boxes))}
    for part in memory.shared:
        for index in part.boxes:
            parts[index].append(part)
    labels = [
        _label(box, _own_place(box, parts[index], scale)) for index, box in enumerate(memory.boxes)
    ]
    held = [box.first <= memory.peak <= box.last for box in memory.boxes]
    for index in sorted(range(len(held)), key=lambda index: held[index]):
        yield _box(memory.boxes[index], colours[index], scale, labels[index], held=held[index])
    for part in memory.shared:
        yield _shared(memory, part, scale, labelled=bool(labels[part.boxes[1]]))


def _shared(memory: MemoryMap, part: Shared, scale: _Scale, *, labelled: bool) -> str:
    """The bytes that two boxes have in common, hatched."""
    names = " and ".join(memory.boxes[index].name for index in part.boxes)
    words = f"{names} share {part.size_bytes:,} bytes at operator {span_text(part)}"
    end, high = part.last + 1, part.offset + part.size_bytes
    place = _Place(scale, part.first, end, part.offset, high)
    label = "" if labelled else _label(memory.boxes[part.boxes[1]], place, "on")
    rect = place.rect(f"url(#shared{scale.name})")
    return f'<g class="shared"><title>{escape(words)}</title>{rect}{label}</g>'


def _column(memory: MemoryMap, scale: _Scale) -> str:
    """The peak's column, behind everything."""
    x, width = scale.x(memory.peak), scale.plot_width / len(memory.steps)
    height = scale.y(0) - TOP
    return (
        f'<rect x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{height:.1f}" class="column"/>'
    )


def _marks(memory: MemoryMap, scale: _Scale) -> Iterator[str]:
    """The peak's edges and name, and the line that no plan without overlap goes below."""
    right, bottom = scale.x(memory.operators), scale.y(0)
    for step in (memory.peak, memory.peak + 1):
        yield _line(scale.x(step), TOP, scale.x(step), bottom, "edge")
    words = peak_words(memory)
    half = len(words) * LETTER_WIDTH / 2
    at = min(max(scale.x(memory.peak + 0.5), LEFT + AXIS_TITLE + half), right - half)
    yield _text(at, TOP - 6, words, "middle strong")
    y, size = scale.y(memory.bound_bytes), f"{memory.bound_bytes / KIB:,.1f} KiB"
    yield _line(LEFT, y, right, y, "bound")
    which = "lower bound without overlap" if memory.shared else "lower bound"
    yield _text(right - 4, y + 15, f"{which} {size}", "end over")


def svg_map(memory: MemoryMap, head_bytes: int = 0, name: str = "") -> str:
    """An <svg> element that needs STYLE in its page; hovering a box names it.

    Its height stands for `head_bytes` where that is more than what the map itself needs. Several
    maps in one page need names.
    """
    scale = _Scale(memory, head_bytes, name)
    width = LEFT + scale.plot_width + RIGHT
    parts = [
        _patterns(name),
        _column(memory, scale),
        *_axes(memory, scale),
        *_boxes(memory, scale),
    ]
    parts += [*_marks(memory, scale)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="map" viewBox="0 0 {width:g} {HEIGHT}" '
        f'role="img" aria-label="Memory map of {memory.operators} operators">'
        + "\n".join(parts)
        + "</svg>"
    )
