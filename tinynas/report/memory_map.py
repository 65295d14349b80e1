"""What lies where in the head of the arena at which operator, as lines of text.

Operators run from left to right, arena offsets from the bottom up, one box per buffer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, groupby, pairwise

from rich.cells import cell_len, set_cell_size
from rich.text import Text

KIB = 1024
# Paul Tol's "light" scheme: to be told apart by colour-blind people, with black text on them
# (Colour schemes, technical note SRON/EPS/TN/09-002).
PALETTE = ("#77AADD", "#EE8866", "#EEDD88", "#44BB99", "#FFAABB", "#BBCC33", "#99DDFF")

ROWS = 16  # lines of the picture
LETTERS = "ABCDEFGHIJ"  # boxes that its legend names
LEFT, RIGHT = 10, 6  # columns for the labels on either side
WIDEST_OPERATOR = 8  # columns, so that five operators do not fill a wide terminal
FADED, ALSO_FADED, SCRATCH_MARK, SHARED_MARK = "░", "▒", "╱", "╳"
ASCII = str.maketrans("░▒╱╳│└─…", ".:/#|+-~")


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A buffer in the head of the arena from operator `first` to operator `last`, inclusive.

    What TFLM keeps before the first operator has negative ones (Graph.lifetimes). `size_bytes` is
    aligned; `shape` is that of the tensor, None for a kernel's scratch buffer.
    """

    name: str
    shape: tuple[int, ...] | None
    size_bytes: int
    offset: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Bytes that two boxes, given by number, both have from step `first` to step `last`."""

    boxes: tuple[int, int]
    size_bytes: int
    offset: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class MemoryMap:
    """All boxes of a model of so many operators.

    Without slots, because it keeps what it has computed.
    """

    boxes: tuple[Box, ...]
    operators: int

    @cached_property
    def steps(self) -> range:
        """The operators, and before them what TFLM has in memory then."""
        return range(min((0, *(box.first for box in self.boxes))), self.operators)

    @cached_property
    def live_bytes(self) -> dict[int, int]:
        """Bytes of the boxes in memory at each step."""
        live = dict.fromkeys(self.steps, 0)
        for box in self.boxes:
            for step in range(box.first, box.last + 1):
                live[step] += box.size_bytes
        return live

    @cached_property
    def peak(self) -> int:
        """The first step at which the boxes have the most bytes."""
        return max(self.steps, key=lambda step: self.live_bytes[step])

    @property
    def bound_bytes(self) -> int:
        """The bytes at the peak: no plan without overlap can do with less."""
        return self.live_bytes[self.peak]

    @property
    def head_bytes(self) -> int:
        """The head of the arena: where the highest box ends."""
        return max((box.offset + box.size_bytes for box in self.boxes), default=0)

    @cached_property
    def shared(self) -> tuple[Shared, ...]:
        """Where boxes overlap: a plan may let an operator write over what it reads."""
        found, recent = [], list[int]()
        for index in sorted(range(len(self.boxes)), key=lambda i: self.boxes[i].first):
            box = self.boxes[index]
            recent = [i for i in recent if self.boxes[i].last >= box.first]
            for other in recent:
                before = self.boxes[other]
                low = max(box.offset, before.offset)
                high = min(box.offset + box.size_bytes, before.offset + before.size_bytes)
                if low < high:
                    found.append(
                        Shared(
                            boxes=(other, index),
                            size_bytes=high - low,
                            offset=low,
                            first=box.first,
                            last=min(box.last, before.last),
                        )
                    )
            recent.append(index)
        return tuple(found)

    def at(self, step: int) -> tuple[Box, ...]:
        """The boxes in memory at a step, the largest first."""
        live = [box for box in self.boxes if box.first <= step <= box.last]
        return tuple(sorted(live, key=lambda box: -box.size_bytes))


def step_text(step: int) -> str:
    """A step's number; those before the operators have none."""
    return str(step) if step >= 0 else "start"


def span_text(box: Box | Shared) -> str:
    """From which operator until which a box, or what two share, is in memory."""
    ends = step_text(box.first), step_text(box.last)
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def peak_words(memory: MemoryMap) -> str:
    """Where the peak is, in two or three words."""
    return f"peak: operator {memory.peak}" if memory.peak >= 0 else "peak: start"


def short_shape(shape: Sequence[int] | None) -> str:
    """`48x48x32` of (1, 48, 48, 32): a batch of 1 goes without saying; `-` where there is none."""
    if shape is None:
        return "-"
    sizes = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
    return "x".join(map(str, sizes)) or "1"


def box_colours(memory: MemoryMap) -> tuple[str, ...]:
    """A colour for each box, where possible none of those of boxes that touch it in time."""
    order = sorted(range(len(memory.boxes)), key=lambda index: memory.boxes[index].first)
    colours: dict[int, str] = {}
    recent: list[int] = []
    for turn, index in enumerate(order):
        recent = [i for i in recent if memory.boxes[i].last >= memory.boxes[index].first - 1]
        wheel = [PALETTE[(turn + k) % len(PALETTE)] for k in range(len(PALETTE))]
        taken = {colours[i] for i in recent}
        colours[index] = next((colour for colour in wheel if colour not in taken), wheel[0])
        recent.append(index)
    return tuple(colours[index] for index in range(len(memory.boxes)))


Areas = dict[tuple[int, int], dict[int, int]]  # by line from below and column, then by number


def _areas(
    parts: Sequence[Box | Shared], rows: int, columns: Sequence[tuple[int, int]], head: int
) -> Areas:
    """Of each cell, how much each part has of it, in steps times bytes times rows.

    A cell is its column's steps [first, end) times head / rows bytes.
    """
    areas: Areas = defaultdict(dict)
    for index, part in enumerate(parts):
        low, high = part.offset * rows, (part.offset + part.size_bytes) * rows
        for row in range(low // head, -(-high // head)):
            height = min(high, (row + 1) * head) - max(low, row * head)
            for column, (first, end) in enumerate(columns):
                steps = min(part.last + 1, end) - max(part.first, first)
                if steps > 0:
                    areas[row, column][index] = steps * height
    return areas


def grid(
    memory: MemoryMap, rows: int, columns: Sequence[tuple[int, int]], head_bytes: int = 0
) -> list[list[int | None]]:
    """Number of the box that has most of each cell, None where half of it or more is free.

    Lines from the top down, together `head_bytes` or, where that is more, the arena's head.
    """
    head = max(memory.head_bytes, head_bytes, 1)
    lines: list[list[int | None]] = [[None] * len(columns) for _ in range(rows)]
    for (row, column), areas in _areas(memory.boxes, rows, columns, head).items():
        first, end = columns[column]
        if 2 * sum(areas.values()) > (end - first) * head:
            lines[rows - 1 - row][column] = max(areas, key=lambda index: areas[index])
    return lines


def shared_cells(
    memory: MemoryMap, rows: int, columns: Sequence[tuple[int, int]], head_bytes: int = 0
) -> dict[tuple[int, int], int]:
    """Lines and columns of the cells of `grid` of which a quarter or more lies in two boxes.

    With each cell the number of the box that is written over the other.
    """
    head = max(memory.head_bytes, head_bytes, 1)
    found = {}
    for (row, column), areas in _areas(memory.shared, rows, columns, head).items():
        most = max(areas, key=lambda index: areas[index])
        first, end = columns[column]
        if 4 * areas[most] >= (end - first) * head:
            found[rows - 1 - row, column] = memory.shared[most].boxes[1]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """How each box is drawn, by its number: letters for the largest, a background in colour."""

    letters: dict[int, str]
    colours: tuple[str, ...]
    in_colour: bool

    def style(self, index: int) -> str:
        return f"#111111 on {self.colours[index]}" if self.in_colour else ""


def _look(memory: MemoryMap, in_colour: bool) -> _Look:
    """Letters go to the largest tensors, in order of time."""
    tensors = [index for index, box in enumerate(memory.boxes) if box.shape is not None]
    largest = sorted(tensors, key=lambda i: -memory.boxes[i].size_bytes)[: len(LETTERS)]
    in_time = sorted(largest, key=lambda i: (memory.boxes[i].first, memory.boxes[i].offset))
    letters = dict(zip(in_time, LETTERS, strict=False))
    return _Look(letters=letters, colours=box_colours(memory), in_colour=in_colour)


def columns_of(steps: range, width: int) -> list[tuple[int, int]]:
    """For each of at most `width` columns the steps [first, end) that it stands for."""
    count = len(steps)
    if count <= width:
        each = min(width // count, WIDEST_OPERATOR)
        return [(step, step + 1) for step in steps for _ in range(each)]
    edges = [steps.start + c * count // width for c in range(width + 1)]
    return list(pairwise(edges))


def _cells(
    line: Sequence[int | None],
    shared: Mapping[int, int],
    memory: MemoryMap,
    look: _Look,
    seen: set[int],
) -> Text:
    """One line of the picture; in colour a letter stands only where its box is met first.

    `shared` has a box for each column that lies in two: its letter is a small one there.
    """
    text = Text()
    marked = [(shared.get(column, index), column in shared) for column, index in enumerate(line)]
    for (index, is_shared), run in groupby(marked):
        count = len(list(run))
        if index is None:
            text.append(" " * count)
        elif is_shared and index in look.letters:
            text.append(look.letters[index].lower() * count, style=look.style(index))
        elif is_shared:
            text.append(SHARED_MARK * count)
        elif memory.boxes[index].shape is None:
            text.append(SCRATCH_MARK * count)
        elif index not in look.letters:
            text.append((FADED, ALSO_FADED)[index % 2] * count, style="dim")
        else:
            letter = look.letters[index]
            again = " " if look.in_colour else letter
            first = again if index in seen else letter
            text.append(first + again * (count - 1), style=look.style(index))
            seen.add(index)
    return text


def round_step(operators: int, room: float) -> int:
    """Every how many operators a number can stand where `room` have place: 1, 2, 5, 10, ..."""
    step, digits = 1, cycle((2, 2.5, 2))
    while operators > step * room:
        step = int(step * next(digits))
    return step


def _axis(columns: Sequence[tuple[int, int]]) -> str:
    """Numbers of operators below their columns, as many as there is room for."""
    end, text = columns[-1][1], ""
    step = round_step(end, len(columns) / (len(str(end)) + 2))
    for mark in range(0, end, step):
        at = next(c for c, (_, e) in enumerate(columns) if e > mark)
        text = text.ljust(at) + str(mark)
    return text


def _peak_line(memory: MemoryMap, columns: Sequence[tuple[int, int]]) -> str:
    under = [c for c, (first, end) in enumerate(columns) if first <= memory.peak < end]
    middle, words = under[len(under) // 2], peak_words(memory)
    if middle <= len(words):
        return " " * middle + "^ " + words
    return " " * (middle - len(words) - 1) + words + " ^"


def _labels(head_bytes: int) -> tuple[str, list[str]]:
    """The unit, and for every fourth line the offset at its upper edge."""
    unit, size = ("KiB", KIB) if head_bytes >= 4 * KIB else ("bytes", 1)
    edges = [head_bytes * (ROWS - row) / ROWS / size for row in range(ROWS)]
    digits = 1 if size == KIB else 0
    return unit, [f"{e:,.{digits}f}" if row % 4 == 0 else "" for row, e in enumerate(edges)]


def _picture(memory: MemoryMap, width: int, look: _Look, head_bytes: int) -> Iterator[Text]:
    columns = columns_of(memory.steps, max(width - LEFT - RIGHT, 8))
    head = max(memory.head_bytes, head_bytes, 1)
    bound_row = ROWS - -(-memory.bound_bytes * ROWS // head)
    unit, labels = _labels(head)
    shared = shared_cells(memory, ROWS, columns, head)
    seen: set[int] = set()
    yield Text(f"{unit:>{LEFT - 2}}", style="dim")
    for row, line in enumerate(grid(memory, ROWS, columns, head)):
        text = Text(f"{labels[row]:>{LEFT - 2}} │")
        marked = {column: box for (at, column), box in shared.items() if at == row}
        text.append_text(_cells(line, marked, memory, look, seen))
        if row == bound_row and memory.bound_bytes < head:
            text.append(" bound")
        yield text
    yield Text(f"{'0':>{LEFT - 2}} └" + "─" * len(columns))
    yield Text(" " * LEFT + _axis(columns), style="dim")
    yield Text(" " * LEFT + _peak_line(memory, columns), style="bold")


def _legend(memory: MemoryMap, width: int, look: _Look) -> Iterator[Text]:
    """What the letters stand for."""
    cells = [("tensor", "shape", "bytes", "operators", "offset")]
    for box in (memory.boxes[index] for index in look.letters):
        size, offset = f"{box.size_bytes:,}", f"{box.offset:,}"
        cells.append((box.name, short_shape(box.shape), size, span_text(box), offset))
    widths = [max(cell_len(row[k]) for row in cells) for k in range(5)]
    widths[0] = min(widths[0], max(width - 5 - sum(widths[1:]) - 2 * 4, 8))
    for row, index in zip(cells, (None, *look.letters), strict=True):
        text = Text("  ")
        text.append(" " if index is None else look.letters[index])
        if index is not None:
            text.stylize(look.style(index), 2, 3)
        text.append("  " + cropped(row[0], widths[0]))
        for k in range(1, 5):
            text.append(f"  {row[k]:>{widths[k]}}")
        yield text


def cropped(name: str, width: int) -> str:
    """The name in exactly `width` columns, with an ellipsis where it is cut."""
    if cell_len(name) <= width:
        return set_cell_size(name, width)
    return set_cell_size(name, width - 1) + "…"


def _marks(memory: MemoryMap, look: _Look) -> Iterator[Text]:
    """What the shades stand for."""
    scratch = [box.size_bytes for box in memory.boxes if box.shape is None]
    others = len(memory.boxes) - len(scratch) - len(look.letters)
    if others:
        yield Text(f"  {FADED}  {others} smaller tensors, also as {ALSO_FADED}")
    if scratch:
        sizes = f"scratch buffers: {len(scratch)}, the largest of {max(scratch):,} bytes"
        yield Text(f"  {SCRATCH_MARK}  {sizes}")
    if memory.shared:
        most = max(part.size_bytes for part in memory.shared)
        pairs = f"{len(memory.shared)} pair{'s' * (len(memory.shared) > 1)}"
        yield Text(f"  a {SHARED_MARK}  bytes of two tensors: {pairs}, at most {most:,}")


def text_map(
    memory: MemoryMap,
    width: int,
    *,
    in_colour: bool = False,
    ascii_only: bool = False,
    head_bytes: int = 0,
) -> list[Text]:
    """The picture and its legend in lines of at most `width` columns, 60 or more.

    Its height stands for `head_bytes` where that is more than the arena's head.
    """
    look = _look(memory, in_colour)
    picture, legend = _picture(memory, width, look, head_bytes), _legend(memory, width, look)
    lines = [*picture, *legend, *_marks(memory, look)]
    if ascii_only:
        for line in lines:
            line.plain = line.plain.translate(ASCII)
    return lines
