"""The events of a profiler's log told apart by the operators of the model that was profiled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from statistics import median

from tinynas.cost.op_shape import op_shape
from tinynas.graph import Graph, Op
from tinynas.lut.profiler_log import Event, ProfilerLog

# Milliseconds are printed rounded down, so rates of ticks that follow from them have an error.
RATE_TOLERANCE = 1.05
# Inferences of one model take alike: caches and interrupts make no more of a difference.
LARGEST_RATIO = 2.0
US_PER_S = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """Operators with their ticks, the median of all inferences; the events that give them.

    `note` is a sentence on the log.
    """

    ticks: tuple[tuple[Op, float], ...]
    events: tuple[Event, ...]
    note: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """Events of one inference from its operator number `first` on; one that is cut off has few."""

    first: int
    events: tuple[Event, ...]


def match(log: ProfilerLog, graph: Graph) -> Profiled:
    """The operators that a log has ticks of; ValueError says why it is none of this model."""
    kinds = [op.kind.removeprefix("CUSTOM:") for op in graph.ops]
    if not kinds:
        raise ValueError("the model has no operators")
    names = operator_names() | set(kinds)
    blocks = list(_by_print(log, names))
    others = log.skipped + sum(e.tag not in names for block in log.blocks for e in block)
    skipped = f"; {_counted(others, 'other line')} skipped" if others else ""
    if log.totals and not blocks:
        return _sums(log, graph, kinds, skipped)
    pieces = [piece for block in blocks for piece in _pieces(block, kinds)]
    whole = [piece.events for piece in pieces if len(piece.events) == len(kinds)]
    if not whole:
        raise ValueError(f"the log is of another model: {_difference(blocks, kinds)}")
    medians = [median(event.ticks for event in events) for events in zip(*whole, strict=True)]
    _refuse_unlike(pieces, whole)
    left = sum(map(len, blocks)) - len(whole) * len(kinds)
    unused = f"; {_counted(left, 'event')} of no whole inference left out" if left else ""
    return Profiled(
        ticks=tuple(zip(graph.ops, medians, strict=True)),
        events=tuple(event for events in whole for event in events),
        note=f"{_counted(len(whole), 'inference')} of {len(kinds)} operators{unused}{skipped}",
    )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@cache
def operator_names() -> frozenset[str]:
    """TFLite's names of the kinds of operators."""
    import tflite

    return frozenset(name for name in vars(tflite.BuiltinOperator) if name.isupper())


def _by_print(log: ProfilerLog, names: Collection[str]) -> Iterator[list[Event]]:
    """The events that were printed together, less those that are not named after operators.

    A program may measure more. Numbers that begin anew begin another print.
    """
    for block in log.blocks:
        found: list[Event] = []
        for event in (event for event in block if event.tag in names):
            before = found[-1].number if found else None
            if before is not None and event.number is not None and event.number <= before:
                yield found
                found = []
            found.append(event)
        if found:
            yield found


def _pieces(events: Sequence[Event], kinds: Sequence[str]) -> list[_Piece]:
    """The inferences in events that repeat a model's operators; none where anything else ran.

    The first and the last may be cut off, where it is clear which operators are left.
    """
    length = len(kinds)
    heads = (h for h in range(length) if _repeats(events, kinds, h))
    fitting = list(islice(heads, 2))
    if not fitting:
        return []
    head = fitting[0]
    is_cut = head > 0 or len(events) % length > 0
    if is_cut and len(fitting) > 1:
        return []
    starts = [*([0] if head else []), *range(head, len(events), length)]
    ends = [*starts[1:], len(events)]
    return [
        _Piece((start - head) % length, tuple(events[start:end]))
        for start, end in zip(starts, ends, strict=True)
    ]


def _repeats(events: Sequence[Event], kinds: Sequence[str], head: int) -> bool:
    """Whether events repeat these kinds, from the first one on after so many at the start."""
    return all(event.tag == kinds[(i - head) % len(kinds)] for i, event in enumerate(events))


def _refuse_unlike(pieces: Sequence[_Piece], whole: Sequence[Sequence[Event]]) -> None:
    """ValueError where inferences take so differently that they are parts of a larger model."""
    totals = [sum(event.ticks for event in events) for events in whole]
    fastest = whole[totals.index(min(totals))]
    for piece in pieces:
        count = len(piece.events)
        least = sum(event.ticks for event in fastest[piece.first : piece.first + count])
        ticks = sum(event.ticks for event in piece.events)
        # Each event may be a tick off.
        if not least / LARGEST_RATIO - count <= ticks <= least * LARGEST_RATIO + count:
            raise ValueError(
                "the log is of another model: it has the model's kinds of operators more than "
                f"once, and they take {least:,} ticks in one place and {ticks:,} in another"
            )


def _difference(blocks: Sequence[Sequence[Event]], kinds: Sequence[str]) -> str:
    """Where the events of the longest block leave the operators of a model."""
    tags = [event.tag for event in max(blocks, key=len, default=())]
    for number, tag in enumerate(tags):
        wanted = kinds[number % len(kinds)]
        if tag != wanted:
            return (
                f"its event {number} is {tag}, but the model's operator {number % len(kinds)} is "
                f"{wanted}"
            )
    return f"it has {len(tags)} events of operators, the model {len(kinds)} operators"


def _sums(log: ProfilerLog, graph: Graph, kinds: Sequence[str], skipped: str) -> Profiled:
    """The operators of kinds that the model has in one configuration only."""
    names = operator_names() | set(kinds)
    sums = {event.tag: event for event in log.totals if event.tag in names}
    odd = sorted(sums.keys() ^ set(kinds))
    if odd:
        only = "log" if odd[0] in sums else "model"
        raise ValueError(f"the log is of another model: only the {only} has {odd[0]}")
    found: defaultdict[str, list[Op]] = defaultdict(list)
    for op, kind in zip(graph.ops, kinds, strict=True):
        found[kind].append(op)
    alike = {k: ops for k, ops in found.items() if len({op_shape(graph, o) for o in ops}) == 1}
    if not alike:
        raise ValueError(
            "the log has sums over all operators of a kind, which differ in the model: they "
            "cannot be told apart; print the events with LogCsv() or Log()"
        )
    lost = sorted(found.keys() - alike.keys())
    apart = f"; those of {', '.join(lost)} cannot be told apart" if lost else ""
    return Profiled(
        ticks=tuple((op, sums[k].ticks / len(ops)) for k, ops in alike.items() for op in ops),
        events=tuple(sums[kind] for kind in alike),
        note=f"sums by kind, taken to be of one inference{apart}{skipped}",
    )


def cycles_per_tick(
    events: Sequence[Event], clock_hz: float, ticks_per_second: float | None
) -> float:
    """Cycles of a tick, 1 where neither log nor user says another; ValueError for a conflict."""
    printed = {event.microseconds for event in events}
    if len(printed) > 1:
        raise ValueError("the log has ticks in some lines and microseconds in others")
    rate = ticks_per_second or (US_PER_S if True in printed else clock_hz)
    timed = [event for event in events if event.ms is not None]
    ticks, ms = sum(e.ticks for e in timed), sum(e.ms or 0 for e in timed)
    if ms > 0:
        low, high = 1000 * ticks / (ms + len(timed)), 1000 * ticks / ms
        if not low / RATE_TOLERANCE <= rate <= high * RATE_TOLERANCE:
            raise ValueError(
                f"the log's milliseconds make {low:.4g} to {high:.4g} ticks a second, not "
                f"{rate:.4g}; give --ticks-per-second, or --clock where ticks are cycles"
            )
    return clock_hz / rate
