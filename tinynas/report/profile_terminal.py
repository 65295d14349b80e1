"""A profile printed to a terminal, of any width from 60 columns on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from tinynas.cost.latency import MS_PER_US
from tinynas.report.memory_map import (
    Box,
    MemoryMap,
    cropped,
    short_shape,
    span_text,
    text_map,
)
from tinynas.report.plan_text import plan_columns, plan_rows
from tinynas.report.profile import OpProfile, Profile
from tinynas.report.profile_plan import Replanned
from tinynas.report.profile_text import (
    chip_text,
    common_head_bytes,
    count_text,
    energy_of_operators_uj,
    figure_text,
    fits,
    map_heading,
    peak_text,
    percent_text,
    replanned_heading,
    replanned_text,
    safety_text,
    shapes_text,
    share_of_operators,
    sources,
    totals,
    warning_text,
)

LIVE, FLASH, TIME, SHARE, ENERGY = (
    *("live\nbytes", "flash\nbytes", "time\nms", "time\n%"),
    "energy\nuJ",
)
# Columns by their headings, the richest choice first: the first that fits is taken. In the last
# one names are as long as there is room for.
LAYOUTS = (
    ("", "operator", "window", "input", "output", "MACs", LIVE, FLASH, TIME, SHARE, ENERGY),
    ("", "operator", "window", "output", "MACs", LIVE, FLASH, TIME, SHARE, ENERGY),
    ("", "kernel", "output", "MACs", LIVE, FLASH, TIME, SHARE, ENERGY),
    ("", "kernel", "output", "M\nMACs", LIVE, FLASH, TIME, SHARE, ENERGY),
    ("", "kernel", "M\nMACs", LIVE, FLASH, TIME, SHARE),
)
NAMES = ("operator", "kernel", "window", "tensor", "total")
SHORTEST_NAME = 8

Row = dict[str, str]


def print_profile(profile: Profile, out: Console) -> None:
    """Operators, memory map, peak, totals and where they come from.

    Characters that a terminal cannot show become question marks.
    """
    if isinstance(out.file, TextIOWrapper):
        out.file.reconfigure(errors="replace")
    out.print(Text(f"{profile.name} on {chip_text(profile)}"))
    what = ": what lies where in the head of the arena"
    sections: list[tuple[str, Iterable[RenderableType]]] = [
        ("Operators", _operators(profile, out.width)),
        (map_heading(profile) + what, _map(profile, profile.memory, out)),
        ("Peak", _peak(profile, out.width)),
        ("Totals", _totals(profile, out.width)),
    ]
    if profile.replanned:
        after = replanned_heading(profile.replanned), _after(profile, profile.replanned, out)
        sections.insert(2, after)
    for heading, parts in sections:
        out.print(Text(f"\n{heading}", style="bold"))
        for part in parts:
            out.print(part)


def _operators(profile: Profile, width: int) -> Iterator[RenderableType]:
    rows = [*(_cells(profile, op) for op in profile.operators), _sums(profile)]
    power = profile.energy is not None
    layouts = [[c for c in columns if power or c != ENERGY] for columns in LAYOUTS]
    fitting = (columns for columns in layouts if _needed(columns, rows) <= width)
    columns = next(fitting, layouts[-1])
    yield _table(columns, rows, width, strong=profile.memory.peak, last_apart=True)
    yield Text("> peak; live: activations and scratch in memory; flash: constants", style="dim")


def _cells(profile: Profile, op: OpProfile) -> Row:
    """All that a layout may show of an operator."""
    mark = ">" if op.number == profile.memory.peak else ""
    short = op.kind.replace("DEPTHWISE_CONV", "DEPTHWISE").removesuffix("_2D")
    return {
        "": f"{mark}{op.number}",
        "operator": op.kind,
        "kernel": f"{short} {op.window}".rstrip(),
        "window": op.window,
        "input": shapes_text(op.inputs),
        "output": shapes_text(op.outputs),
        "MACs": count_text(op.macs),
        "M\nMACs": figure_text(op.macs / 1e6),
        LIVE: count_text(op.live_bytes),
        FLASH: count_text(op.flash_bytes),
        TIME: figure_text(None if op.latency_us is None else op.latency_us * MS_PER_US),
        SHARE: percent_text(op.share),
        ENERGY: figure_text(op.energy_uj),
    }


def _sums(profile: Profile) -> Row:
    blank = dict.fromkeys(("", "window", "input", "output", LIVE), "")
    return blank | {
        "operator": "sum",
        "kernel": "sum",
        "MACs": count_text(profile.macs),
        "M\nMACs": figure_text(profile.macs / 1e6),
        FLASH: count_text(profile.constants_bytes),
        TIME: figure_text(profile.operators_ms),
        SHARE: percent_text(share_of_operators(profile)),
        ENERGY: figure_text(energy_of_operators_uj(profile)),
    }


def _widths(columns: Sequence[str], rows: Sequence[Row]) -> dict[str, int]:
    """What each column needs for its heading and cells."""
    return {
        column: max(cell_len(line) for line in (*column.split("\n"), *(r[column] for r in rows)))
        for column in columns
    }


def _needed(columns: Sequence[str], rows: Sequence[Row]) -> int:
    return sum(_widths(columns, rows).values()) + len(columns) - 1


def _table(
    columns: Sequence[str],
    rows: Sequence[Row],
    width: int,
    *,
    strong: int | None = None,
    last_apart: bool = False,
) -> Table:
    """A table in which only the first column of names is cut where there is no room.

    Numbers are never wrapped; one row may be `strong` and the last one set apart.
    """
    name = next(column for column in columns if column in NAMES)
    widths = _widths(columns, rows)
    room = widths[name] - max(_needed(columns, rows) - width, 0)
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for column in columns:
        side: JustifyMethod = "left" if column in NAMES else "right"
        table.add_column(column, justify=side, no_wrap=True)
    for number, row in enumerate(rows):
        if last_apart and number == len(rows) - 1:
            table.add_section()
        cells = row | {name: cropped(row[name], max(room, SHORTEST_NAME))}
        style = "bold" if number == strong else ""
        table.add_row(*(Text(cells[column]) for column in columns), style=style)
    return table


def _map(profile: Profile, memory: MemoryMap, out: Console) -> Iterable[RenderableType]:
    return text_map(
        memory,
        out.width,
        in_colour=out.color_system is not None,
        ascii_only=out.options.ascii_only,
        head_bytes=common_head_bytes(profile),
    )


def _after(profile: Profile, new: Replanned, out: Console) -> Iterator[RenderableType]:
    """The map under a new plan, the arena before and after, and what is known of the plan."""
    yield from _map(profile, new.memory, out)
    own = new.comparison.own is not None
    columns = ("total", *plan_columns(own=own))
    rows = [dict(zip(columns, row, strict=True)) for row in plan_rows(new.comparison, own=own)]
    yield _table(columns, rows, out.width)
    yield from map(Text, replanned_text(profile, new))


def _peak(profile: Profile, width: int) -> Iterator[RenderableType]:
    sentences = peak_text(profile)
    yield Text(sentences[0])
    rows = [_held(box) for box in profile.memory.at(profile.memory.peak)]
    yield _table(tuple(rows[0]), rows, width)
    yield from map(Text, [*sentences[1:], *safety_text(profile)])
    warning = warning_text(profile)
    if warning:
        yield Text(warning, style="bold red")


def _held(box: Box) -> Row:
    return {
        "tensor": box.name,
        "shape": short_shape(box.shape),
        "bytes": count_text(box.size_bytes),
        "operators": span_text(box),
    }


def _totals(profile: Profile, width: int) -> Iterator[RenderableType]:
    rows = [
        {
            "total": total.label,
            "predicted": total.predicted,
            "counted": total.counted,
            "limit": total.limit,
            "": total.mark,
        }
        for total in totals(profile)
    ]
    yield _table(tuple(rows[0]), rows, width)
    notes = Table.grid(padding=(0, 1, 0, 0))
    for number, words in enumerate(sources(profile), start=1):
        notes.add_row(f"({number})", Text(words))
    yield notes
    yield from map(Text, fits(profile))
