"""A profile as one HTML page that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from tinynas import __version__
from tinynas.cost.interval import CONFIDENCE
from tinynas.cost.latency import MS_PER_US
from tinynas.cost.latency_choice import Known
from tinynas.report import memory_svg
from tinynas.report.memory_map import KIB, short_shape, span_text
from tinynas.report.plan_text import plan_columns, plan_rows
from tinynas.report.profile import OpProfile, Profile
from tinynas.report.profile_plan import Replanned
from tinynas.report.profile_text import (
    UJ_PER_MJ,
    chip_text,
    common_head_bytes,
    count_text,
    energy_of_operators_uj,
    figure_text,
    fits,
    interval_text,
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

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #f4f6f8;
  --line: #d5dae0; --faint: #5d6670; --bar: #77aadd66; --used: #4477aa; --part: #99bbdd;
  --over: #cc3311; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --paper: #15181c;
  --soft: #1f2429; --line: #3a4149; --faint: #9aa4ae; --bar: #77aadd44; --used: #77aadd;
  --part: #446688; --over: #ee6677; } }
body { margin: 0 auto; padding: 28px 24px 60px; max-width: 1200px; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 38px 0 8px; }
p { margin: 6px 0; max-width: 78ch; overflow-wrap: anywhere; }
.faint { color: var(--faint); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(235px, 1fr)); gap: 12px;
  margin-top: 20px; }
.card { background: var(--soft); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 14px; }
.card .big { font-size: 25px; font-weight: 600; line-height: 1.25; }
.tag { font-size: 11.5px; border: 1px solid var(--line); border-radius: 9px; padding: 1px 7px;
  color: var(--faint); float: right; }
.gauge { display: flex; height: 9px; border-radius: 4px; overflow: hidden; margin: 9px 0 5px;
  background: var(--line); }
.gauge .used { background: var(--used); }
.gauge .part { background: var(--part); }
.gauge.over .used, .gauge.over .part { background: var(--over); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 9px; text-align: right; white-space: nowrap; }
th { border-bottom: 1px solid var(--line); font-weight: 600; vertical-align: bottom;
  white-space: normal; }
td { border-bottom: 1px solid color-mix(in srgb, var(--line) 45%, transparent); }
.left { text-align: left; }
.name { max-width: 30ch; overflow: hidden; text-overflow: ellipsis; }
.pre { white-space: pre; }
.part { max-width: 30ch; white-space: normal; overflow-wrap: anywhere; }
.source { max-width: 84ch; white-space: normal; overflow-wrap: anywhere; }
tr.strong td { font-weight: 700; }
tr.strong { outline: 1.5px solid currentColor; }
tr.sum td { border-top: 1.5px solid var(--line); font-weight: 600; }
ol { padding-left: 24px; max-width: 84ch; overflow-wrap: anywhere; }
li { margin: 5px 0; }
.key { display: inline-block; width: 22px; height: 10px; border: 1px dashed #222;
  background: repeating-linear-gradient(45deg, #555 0 2px, #fff 2px 5px); }
.key.both { border-style: solid;
  background: repeating-linear-gradient(-45deg, #222 0 2px, #77aadd 2px 7px); }
.warning { border: 2px solid var(--over); border-radius: 6px; padding: 8px 12px; }
.dash { display: inline-block; width: 24px; border-top: 2px dashed currentColor;
  vertical-align: middle; }
"""
SHARED_KEY = (
    ' <span class="key both"></span> bytes of two tensors: an operator writes one over the other '
    "while it reads that."
)


def page(profile: Profile) -> str:
    """The whole page; every name in it is escaped, for models come from anywhere."""
    name = escape(profile.name)
    parts = [
        f"<h1>{name}</h1>",
        f"<p>{escape(chip_text(profile))}</p>",
        '<p class="faint">Counted figures are read off the file; predicted and estimated ones '
        "follow from rules and models named below. Nothing was run.</p>",
        _cards(profile),
        *_map(profile),
        *_peak(profile),
        *_operators(profile),
        *_totals(profile),
        f'<p class="faint">tinynas {__version__}</p>',
    ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{name}: profile</title>\n<style>{STYLE}{memory_svg.STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _kib(size_bytes: int) -> str:
    return f"{size_bytes / KIB:,.1f} KiB"


def _gauge(parts: Sequence[tuple[int, str]], limit: int) -> str:
    """Parts of a memory as a bar, the whole of which is the limit."""
    total = sum(size for size, _ in parts)
    whole = max(limit, total, 1)
    bars = "".join(
        f'<span class="{"part" if number else "used"}" title="{escape(what)}: {size:,} bytes" '
        f'style="width:{100 * size / whole:.2f}%"></span>'
        for number, (size, what) in enumerate(parts)
    )
    return f'<div class="gauge{" over" if total > limit else ""}">{bars}</div>'


def _card(title: str, tag: str, big: str, *more: str) -> str:
    return (
        f'<div class="card"><span class="tag">{escape(tag)}</span>{escape(title)}'
        f'<div class="big">{escape(big)}</div>{"".join(more)}</div>'
    )


def _small(words: str) -> str:
    return f'<div class="faint">{escape(words)}</div>'


def _cards(profile: Profile) -> str:
    """The figures that a firmware project asks for first."""
    cards = [_sram_card(profile), _flash_card(profile), _latency_card(profile)]
    work = f"{profile.parameters:,} parameters, {len(profile.operators):,} operators"
    cards.append(_card("MACs", "counted", f"{profile.macs:,}", _small(work)))
    return f'<div class="cards">{"".join(cards)}</div>'


def _sram_card(profile: Profile) -> str:
    arena, limit = profile.arena, profile.sram_limit_bytes
    if arena is None:
        return _card("SRAM arena", "predicted", "not known", _small(fits(profile)[0]))
    tail = arena.sram_bytes - arena.head_bytes
    return _card(
        "SRAM arena",
        "predicted",
        _kib(arena.sram_bytes),
        _gauge([(arena.head_bytes, "head"), (tail, "tail")], limit),
        _small(f"head {_kib(arena.head_bytes)} + tail {_kib(tail)}"),
        _small(_of(arena.sram_bytes, limit)),
        *([_small(_planned_anew(profile.replanned))] if profile.replanned else []),
    )


def _planned_anew(new: Replanned) -> str:
    return f"{_kib(new.comparison.planned.sram_bytes)} when planned anew"


def _flash_card(profile: Profile) -> str:
    limit = profile.target.device.flash_bytes.value
    model = profile.flash_bytes - profile.code.bytes
    what = "model" if profile.file_bytes is not None else "constants"
    return _card(
        "flash",
        "counted + predicted",
        _kib(profile.flash_bytes),
        _gauge([(model, what), (profile.code.bytes, "code")], limit),
        _small(f"{what} {_kib(model)} + code {_kib(profile.code.bytes)}"),
        _small(_of(profile.flash_bytes, limit)),
    )


def _of(used: int, limit: int) -> str:
    if used > limit:
        return f"{_kib(used - limit)} more than the {_kib(limit)} there are"
    return f"{_kib(limit - used)} of {_kib(limit)} left"


def _latency_card(profile: Profile) -> str:
    known, latency, energy = profile.target.timer.known, profile.latency, profile.energy
    more = []
    if latency:
        ends = interval_text(latency.low_ms, latency.high_ms)
        more.append(_small(f"{ends} ms at {CONFIDENCE:.0%}"))
    checked = known.checked
    more.append(
        _small(
            f"off by {checked.mean_percent:.1f} % on {checked.count} measured"
            if checked
            else "checked against no measurement"
        )
    )
    if profile.untimed:
        more.append(_small(f"without {', '.join(profile.untimed)}"))
    if energy:
        more.append(_small(f"energy {figure_text(energy.mj * UJ_PER_MJ)} \N{MICRO SIGN}J"))
    big = f"{figure_text(latency.ms)} ms" if latency else "not known"
    return _card("latency", latency.provenance if latency else known.provenance, big, *more)


def _map(profile: Profile) -> Iterator[str]:
    """The memory map, and beside it the one under a new plan, at the same scale."""
    new, head = profile.replanned, common_head_bytes(profile)
    shared = profile.memory.shared or (new and new.memory.shared)
    yield f"<h2>{escape(map_heading(profile))}</h2>"
    yield (
        '<p class="faint">The head of the arena: each box is a tensor, hover it for its name. '
        '<span class="key"></span> scratch of a kernel. <span class="dash"></span> live bytes at '
        "the peak, the lower bound of every plan without overlap. "
        f"Thick frames: what is in memory at the peak.{SHARED_KEY if shared else ''}</p>"
    )
    yield f'<div class="scroll">{memory_svg.svg_map(profile.memory, head)}</div>'
    if new:
        yield f"<h2>{escape(replanned_heading(new))}</h2>"
        yield f'<div class="scroll">{memory_svg.svg_map(new.memory, head, "-after")}</div>'
        yield from _after(profile, new)


def _after(profile: Profile, new: Replanned) -> Iterator[str]:
    """The arena before and after planning, and what is known of the new plan."""
    own = new.comparison.own is not None
    rows = (
        f"<tr>{_cell(label, 'left')}{''.join(_cell(words) for words in cells)}</tr>"
        for label, *cells in plan_rows(new.comparison, own=own)
    )
    yield _table(("predicted, bytes", *plan_columns(own=own)), ("predicted, bytes",), rows)
    yield from (f"<p>{escape(words)}</p>" for words in replanned_text(profile, new))


def _cell(text: str, kind: str = "", share: float | None = None) -> str:
    """A cell; `share` draws a bar of that part of its width behind the text."""
    bar = ""
    if share:
        percent = f"{100 * share:.1f}%"
        bar = f' style="background:linear-gradient(90deg,var(--bar) {percent},transparent 0)"'
    return f'<td class="{kind}"{bar}>{escape(text)}</td>'


def _table(headings: Sequence[str], left: Sequence[str], rows: Iterable[str]) -> str:
    """A table of rows made of cells; the headings of columns of names stand to the left."""
    head = "".join(
        f'<th class="{"left" if words in left else ""}">{escape(words)}</th>' for words in headings
    )
    body = "\n".join(rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _peak(profile: Profile) -> Iterator[str]:
    yield "<h2>The peak and what holds it</h2>"
    sentences = peak_text(profile)
    yield f"<p>{escape(sentences[0])}</p>"
    memory = profile.memory
    rows = (
        f"<tr>{_cell(box.name, 'left name')}{_cell(short_shape(box.shape))}"
        f"{_cell(count_text(box.size_bytes), '', box.size_bytes / max(memory.bound_bytes, 1))}"
        f"{_cell(span_text(box))}{_cell(count_text(box.offset))}</tr>"
        for box in memory.at(memory.peak)
    )
    headings = ("tensor", "shape", "bytes", "operators", "offset")
    yield _table(headings, ("tensor",), rows)
    more = [*sentences[1:], *safety_text(profile)]
    yield from (f"<p>{escape(words)}</p>" for words in more)
    warning = warning_text(profile)
    if warning:
        yield f'<p class="warning">{escape(warning)}</p>'


def _operators(profile: Profile) -> Iterator[str]:
    yield "<h2>Operators</h2>"
    yield (
        '<p class="faint">Live: activations and scratch in memory while it runs. Flash: '
        "constants that it is the first to read. Bars: share of the largest.</p>"
    )
    left = ("operator", "writes")
    headings = ["", *left, "window", "input", "output", "MACs", "live bytes", "flash bytes"]
    headings += ["predicted ms", "%"]
    powered = profile.energy is not None
    if powered:
        headings.append("predicted \N{MICRO SIGN}J")
    most, peak = _Most(profile.operators), profile.memory.peak
    rows = [_row(op, most, peak=op.number == peak, powered=powered) for op in profile.operators]
    yield _table(headings, left, [*rows, _sums(profile)])


class _Most:
    """The largest figures of all operators, 1 where there are none: what bars are drawn to."""

    def __init__(self, operators: Sequence[OpProfile]) -> None:
        self.macs = max(op.macs for op in operators) or 1
        self.live_bytes = max(op.live_bytes or 0 for op in operators) or 1
        self.flash_bytes = max(op.flash_bytes for op in operators) or 1
        self.latency_us = max(op.latency_us or 0 for op in operators) or 1


def _row(op: OpProfile, most: _Most, *, peak: bool, powered: bool) -> str:
    ms = None if op.latency_us is None else op.latency_us * MS_PER_US
    cells = [
        _cell(f"peak {op.number}" if peak else str(op.number)),
        _cell(op.kind, "left"),
        _cell(op.writes, "left name"),
        _cell(op.window),
        _cell(shapes_text(op.inputs)),
        _cell(shapes_text(op.outputs)),
        _cell(count_text(op.macs), "", op.macs / most.macs),
        _cell(count_text(op.live_bytes), "", (op.live_bytes or 0) / most.live_bytes),
        _cell(count_text(op.flash_bytes), "", op.flash_bytes / most.flash_bytes),
        _cell(figure_text(ms), "", (op.latency_us or 0) / most.latency_us),
        _cell(percent_text(op.share)),
    ]
    if powered:
        cells.append(_cell(figure_text(op.energy_uj)))
    return f'<tr class="{"strong" if peak else ""}">{"".join(cells)}</tr>'


def _sums(profile: Profile) -> str:
    words = ["", "sum", *[""] * 4, f"{profile.macs:,}", "", f"{profile.constants_bytes:,}"]
    words += [figure_text(profile.operators_ms), percent_text(share_of_operators(profile))]
    if profile.energy is not None:
        words.append(figure_text(energy_of_operators_uj(profile)))
    cells = (_cell(text, "left" if text == "sum" else "") for text in words)
    return f'<tr class="sum">{"".join(cells)}</tr>'


def _totals(profile: Profile) -> Iterator[str]:
    yield "<h2>Totals and where they come from</h2>"
    rows = (
        f"<tr>{_cell(total.label, 'left pre')}{_cell(total.predicted)}{_cell(total.counted)}"
        f"{_cell(total.limit)}{_cell(total.mark)}</tr>"
        for total in totals(profile)
    )
    yield _table(("total", "predicted", "counted", "limit", "source"), ("total",), rows)
    notes = "".join(f"<li>{escape(words)}</li>" for words in sources(profile))
    yield f"<ol>{notes}</ol>"
    yield _table(("figure", "value", "source"), ("figure", "source"), _figures(profile))


def _checked(known: Known) -> str:
    """How the model was checked and how far off it was."""
    method = f" ({known.checked.method})" if known.checked else ""
    return f"Checked{method}: {known.error_text()}."


def _figures(profile: Profile) -> Iterator[str]:
    """What the chip's file says, with its sources."""
    device = profile.target.device
    power = device.active_power_mw
    known = profile.target.timer.known
    figures = [
        ("clock, Hz", f"{device.clock_hz.value:,}", device.clock_hz.source),
        ("SRAM, bytes", f"{device.sram_bytes.value:,}", device.sram_bytes.source),
        (
            "largest region, bytes",
            f"{device.sram_contiguous_bytes.value:,}",
            device.sram_contiguous_bytes.source,
        ),
        (
            "reserve, bytes",
            f"{device.reserve_sram_bytes.value:,}",
            device.reserve_sram_bytes.source,
        ),
        ("flash, bytes", f"{device.flash_bytes.value:,}", device.flash_bytes.source),
        ("code, bytes", f"{profile.code.bytes:,}", profile.code.source),
        *((f"of it {p.what}", f"{p.bytes:,}", "") for p in profile.code.parts),
        ("latency", known.provenance, f"{known.words()}: {known.model.source} {_checked(known)}"),
    ]
    if power is not None:
        figures.append(("active power, mW", f"{power.value:g}", power.source))
    for what, value, source in figures:
        yield (f"<tr>{_cell(what, 'left part')}{_cell(value)}{_cell(source, 'left source')}</tr>")
