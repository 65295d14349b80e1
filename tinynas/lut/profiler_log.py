"""What TensorFlow Lite Micro's MicroProfiler prints: events in the order of a model's operators.

Each invoked operator is an event whose tag is its kind (micro_interpreter_graph.cc). Over the
years the profiler has printed them (micro_profiler.cc)

    Log                 CONV_2D took 5120 ticks (5 ms).     CONV_2D took 5120 cycles
                        CONV_2D took 5.120 ms (5120 ticks)
    LogCsv              "Event","Tag","Ticks"      0,CONV_2D,5120
                        "Event","Tag","Ticks","ms" 0,CONV_2D,5120,5
                        "Event","Tag","Ms","Ticks" 0,CONV_2D,5,5120
    LogTicksPerTagCsv   "Unique Tag","Total ticks across all events with that tag."
                        CONV_2D, 5120              "total number of ticks", 5120
    LogGrouped          "Tag","Total ms","Total ticks"      CONV_2D, 5, 5120

and builds for some chips microseconds in their place ("microseconds", "uSeconds"). The board's
console may put time stamps before and other lines between them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

TAG = r"([A-Za-z_][\w-]{0,63})"
TOOK = re.compile(rf"\b{TAG} took (-?[\d.]{{1,20}}) ([a-z]+)\b(?: \((-?\d{{1,20}}) ([a-z]+)\))?")
# What follows the tag has no letters, which tells it from what a console puts before the number.
EVENT = re.compile(rf"(?:^|[^\w.])(\d{{1,9}}) ?, ?{TAG} ?,([^A-Za-z]*)$")
TOTAL = re.compile(rf"(?:^|[^\w,.]){TAG} ?,([^A-Za-z]*)$")
EVENT_HEADER = re.compile(r"(?:^|\W)event,tag,(.+)$")
TOTAL_HEADER = re.compile(r"(?:^|\W)(?:unique tag|unique ops in the graph|tag),(total .+)$")
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
INTEGER = re.compile(r"-?\d{1,12}")
# What the words of a column's name say that its figures are.
UNITS = {
    **dict.fromkeys(("ticks", "cycles"), "ticks"),
    **dict.fromkeys(("us", "useconds", "microseconds"), "us"),
    "ms": "ms",
}
# The columns of events that come without a header.
USUAL = ("ticks", "ms")
# What a 32-bit counter adds where a difference is printed as a negative number; and milliseconds
# that the profiler prints where it does not know how many ticks a second has.
WRAP, NO_MS = 2**32, 2**31 - 1
LONGEST_LINE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An operator's kind and ticks, and the milliseconds printed beside them, rounded down.

    `number` is its place in the profiler's list, where that is printed. With `microseconds` those
    are the ticks.
    """

    tag: str
    ticks: int
    ms: float | None = None
    microseconds: bool = False
    number: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilerLog:
    """Events in blocks, which headers begin; `skipped` lines were no events.

    `totals` has events that stand for all operators of a kind, the first printed of each.
    """

    blocks: tuple[tuple[Event, ...], ...]
    totals: tuple[Event, ...]
    skipped: int


def read_profiler_log(text: str) -> ProfilerLog:
    """The events of a log; none of any kind where the text is no such log."""
    reader = _Reader()
    for line in text.splitlines():
        reader.take(ESCAPES.sub("", line).strip("\0 \t\r"))
    return ProfilerLog(
        blocks=tuple(tuple(block) for block in reader.blocks if block),
        totals=tuple(reader.totals.values()),
        skipped=reader.skipped,
    )


class _Reader:
    """Reads line after line; `columns` is what the last header said of those that follow."""

    def __init__(self) -> None:
        self.blocks: list[list[Event]] = [[]]
        self.totals: dict[str, Event] = {}
        self.skipped = 0
        self._columns: tuple[str, ...] = USUAL
        self._of_totals = False

    def take(self, line: str) -> None:
        """One line."""
        if not line or self._header(line):
            return
        event = self._event(line) if len(line) <= LONGEST_LINE else None
        if event is None:
            self.skipped += 1
        elif self._of_totals and event.number is None:
            self.totals.setdefault(event.tag, event)
        else:
            self.blocks[-1].append(event)

    def _header(self, line: str) -> bool:
        """Whether a line is a header, which begins a block."""
        words = re.sub(r"[\"']", "", line[:LONGEST_LINE]).lower().replace(", ", ",")
        if "total number of ticks," in words:
            return True
        of_events, of_totals = EVENT_HEADER.search(words), TOTAL_HEADER.search(words)
        found = of_events or of_totals
        if found is None:
            return False
        self._columns = tuple(map(_unit, found[1].split(",")))
        self._of_totals = of_events is None
        self.blocks.append([])
        return True

    def _event(self, line: str) -> Event | None:
        if match := TOOK.search(line):
            self._of_totals = False
            return _took(*match.groups())
        if self._of_totals and (match := TOTAL.search(line)):
            return _made(match[1], self._named(match[2]))
        if match := EVENT.search(line):
            return _made(match[2], self._named(match[3]), int(match[1]))
        return None

    def _named(self, cells: str) -> dict[str, float]:
        """Figures by their unit; none where there are more or fewer than the columns."""
        texts = [cell.strip() for cell in cells.split(",")]
        columns = self._columns if self._columns != USUAL else USUAL[: len(texts)]
        return _figures(columns, texts)


def _unit(column: str) -> str:
    return next((UNITS[word] for word in re.findall("[a-z]+", column) if word in UNITS), "")


def _figures(units: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for unit, text in zip_longest(units, texts):
        if unit is None or text is None:
            return {}
        if unit and INTEGER.fullmatch(text):
            found.setdefault(unit, int(text))
    return found


def _took(tag: str, first: str, unit: str, second: str | None, other: str | None) -> Event | None:
    """An event as Log prints it."""
    whole, _, thousandths = first.partition(".")
    found: dict[str, float] = {}
    if INTEGER.fullmatch(whole) and unit in UNITS:
        found[UNITS[unit]] = int(whole)
    if INTEGER.fullmatch(thousandths) and "ms" in found:
        # The microseconds after the point are not filled up with zeros.
        found["ms"] += int(thousandths) / 1000
    elif "." in first:
        return None
    if second and INTEGER.fullmatch(second) and other in UNITS:
        found.setdefault(UNITS[other], int(second))
    return _made(tag, found)


def _made(tag: str, found: Mapping[str, float], number: int | None = None) -> Event | None:
    """An event of figures by their unit; None without ticks and microseconds."""
    ticks = found.get("ticks", found.get("us"))
    if ticks is None or ticks <= -WRAP:
        return None
    ms = found.get("ms")
    return Event(
        tag=tag,
        ticks=int(ticks + WRAP if ticks < 0 else ticks),
        ms=ms if ms is not None and 0 <= ms < NO_MS else None,
        microseconds="ticks" not in found,
        number=number,
    )
