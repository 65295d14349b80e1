"""The page of a profile, read back as XML."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

from profile_models import TENSORS, TINY, profile_of, target_of

from tinynas.report.profile_page import page

EVIL = "</title></style><script>alert('x')</script><img src=x onerror=y> & \"quotes\""


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>\n"))


def text_of(element: ElementTree.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def tables(text: str) -> dict[str, list[list[str]]]:
    """Rows of the page's tables by their second heading."""
    found = {}
    for table in parsed(text).iter("table"):
        rows = [[text_of(cell) for cell in row] for row in table.iter("tr")]
        found[rows[0][1]] = rows[1:]
    return found


def test_the_page_is_well_formed_and_complete() -> None:
    root = parsed(page(profile_of()))
    assert [text_of(e) for e in root.iter("h1")] == ["tiny.tflite"]
    assert [text_of(e) for e in root.iter("h2")] == [
        "Memory map",
        "The peak and what holds it",
        "Operators",
        "Totals and where they come from",
    ]
    assert len([e for e in root.iter() if e.tag.endswith("}svg")]) == 1


def test_the_page_needs_nothing_from_elsewhere() -> None:
    text = page(profile_of())
    root = parsed(text)
    assert not {"script", "link", "img", "iframe", "object"} & {e.tag for e in root.iter()}
    names = {name for e in root.iter() for name in e.attrib}
    assert not {name for name in names if name in ("src", "href") or name.startswith("on")}
    assert set(re.findall(r"https?://[^\s\"<]+", text)) == {"http://www.w3.org/2000/svg"}
    assert set(re.findall(r"url\(([^)]*)\)", text)) <= {"#hatch", "#shared"}
    assert "@import" not in text


def test_names_from_a_model_are_text_and_nothing_else() -> None:
    tensors = tuple(replace(t, name=EVIL) if t.name == "stem" else t for t in TENSORS)
    ops = (replace(TINY.ops[0], name=EVIL), *TINY.ops[1:])
    text = page(profile_of(replace(TINY, tensors=tensors, ops=ops)))
    root = parsed(text)
    assert not {"script", "img"} & {e.tag.rsplit("}")[-1] for e in root.iter()}
    assert "<script" not in text and "<img" not in text
    assert EVIL in "".join(root.itertext())


def test_operators_are_listed_with_their_costs_and_the_peak_is_marked() -> None:
    rows = tables(page(profile_of()))["operator"]
    assert rows[0][:9] == [
        *("0", "CONV_2D", "stem", "3x3 s2", "8x8x3", "4x4x8", "3,456", "320", "248"),
    ]
    assert [row[0] for row in rows] == ["0", "1", "peak 2", "3", "4", ""]
    assert rows[-1][1] == "sum" and rows[-1][6] == "6,656" and rows[-1][8] == "448"


def test_predicted_and_counted_figures_never_share_a_column() -> None:
    profile = profile_of()
    rows = {row[0]: row[1:] for row in tables(page(profile))["predicted"]}
    for label, (predicted, counted, *_) in rows.items():
        assert "-" in (predicted, counted), label
    assert profile.arena is not None
    assert rows["SRAM: arena to reserve, bytes"][0] == f"{profile.arena.sram_bytes:,}"
    assert rows["model file"][1] == "2,000"
    assert rows["constants"][1] == "448"
    assert rows["the rest: its tables"][1] == "1,552"
    assert profile.latency is not None
    assert f"{profile.latency.provenance} latency, ms" in rows
    assert "its interval at 90%" in rows


def test_every_figure_of_the_chip_has_its_source() -> None:
    target = target_of()
    text = text_of(parsed(page(profile_of(target=target))))
    device = target.device
    figures = (
        *(device.clock_hz, device.sram_bytes, device.sram_contiguous_bytes),
        *(device.flash_bytes, device.reserve_sram_bytes, device.active_power_mw),
    )
    for figure in figures:
        assert figure is not None and " ".join(figure.source.split()) in text
    assert " ".join(target.timer.known.model.source.split()) in text
    assert " ".join(profile_of(target=target).code.source.split()) in text


def test_a_memory_that_does_not_suffice_is_shown_as_such() -> None:
    text = page(profile_of(file_bytes=2**22))
    gauges = [e for e in parsed(text).iter("div") if "gauge" in (e.get("class") or "").split()]
    assert [e.get("class") for e in gauges] == ["gauge", "gauge over"]
    for gauge in gauges:
        widths = [float(re.findall(r"width:([\d.]+)%", e.get("style", ""))[0]) for e in gauge]
        assert sum(widths) <= 100.02


def test_a_page_is_made_where_the_arena_is_not_known() -> None:
    floats = tuple(replace(t, dtype="float32") if t.name == "once" else t for t in TENSORS)
    text = text_of(parsed(page(profile_of(replace(TINY, tensors=floats)))))
    assert "SRAM is not known" in text and "float32" in text
