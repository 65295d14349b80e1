"""What `tinynas profile` prints."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from profile_models import OPS, TENSORS, TINY, profile_of, target_of, target_without
from rich.cells import cell_len
from rich.console import Console

from tinynas.graph import Graph, Op
from tinynas.report.profile import Profile
from tinynas.report.profile_terminal import print_profile

LONG = "MobilenetV2/expanded_conv_13/depthwise/Relu6;MobilenetV2/expanded_conv_13/depthwise"
UNTIMED = "TANH"  # of the group elementwise


def printed(profile: Profile, width: int) -> list[str]:
    out = Console(file=io.StringIO(), width=width, highlight=False)
    print_profile(profile, out)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


def large_graph() -> Graph:
    """The tiny model with the shapes and names of a large one."""
    shapes = {0: (1, 112, 112, 96), 5: (1, 112, 112, 8)}
    tensors = [
        replace(t, name=LONG, shape=shapes.get(n, (1, 112, 112, 8))) if not t.constant else t
        for n, t in enumerate(TENSORS)
    ]
    tensors[6] = replace(TENSORS[6], shape=(8, 3, 3, 96))
    first = replace(OPS[0], stride=(1, 1))
    return replace(TINY, tensors=tuple(tensors), ops=(first, *OPS[1:]))


@pytest.mark.parametrize("width", [60, 72, 80, 100, 120, 200])
@pytest.mark.parametrize("graph", [TINY, large_graph()], ids=["tiny", "large"])
def test_no_line_is_wider_than_the_terminal(graph: Graph, width: int) -> None:
    assert max(cell_len(line) for line in printed(profile_of(graph), width)) <= width


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_number_is_cut_or_wrapped(width: int) -> None:
    profile = profile_of(large_graph())
    lines = printed(profile, width)
    start = lines.index("Operators")
    for op in profile.operators:
        mark = ">" if op.number == profile.memory.peak else ""
        (line,) = (
            line for line in lines[start:] if line.split()[:1] == [f"{mark}{op.number}"]
            and f"{op.live_bytes:,}" in line.split()
        )  # fmt: skip
        assert f"{op.flash_bytes:,}" in line.split()
    assert f"{profile.arena.sram_bytes:,}" in "\n".join(lines) if profile.arena else False


def test_a_wide_terminal_gets_shapes_and_windows() -> None:
    lines = printed(profile_of(), 120)
    (stem,) = (line for line in lines if line.split()[:2] == ["0", "CONV_2D"])
    assert stem.split()[2:8] == ["3x3", "s2", "8x8x3", "4x4x8", "3,456", "320"]
    (added,) = (line for line in lines if line.split()[:2] == [">2", "ADD"])
    assert added.split()[2:5] == ["4x4x8", "+1", "4x4x8"]


def test_energy_has_a_column_only_where_it_is_known() -> None:
    assert any("energy" in line.split() for line in printed(profile_of(), 120)[:6])
    without = printed(profile_of(target=target_of("stm32f746")), 120)
    assert not any("energy" in line.split() for line in without[:6])
    assert "the active power of stm32f746 is not known" in "\n".join(without)


def test_an_unknown_latency_is_a_dash_and_said() -> None:
    end = replace(TENSORS[5], name="end")
    op = Op(name="last", kind=UNTIMED, inputs=(5,), outputs=(12,))
    graph = replace(TINY, tensors=(*TENSORS, end), ops=(*OPS, op), outputs=(12,))
    lines = printed(profile_of(graph, target=target_without("elementwise", "stm32f746")), 120)
    (row,) = (line for line in lines if line.split()[:2] == ["5", UNTIMED])
    assert row.split()[-2:] == ["-", "-"]
    text = " ".join(" ".join(lines).split())
    assert "latency of 5 of 6 operators" in text
    assert f"leaves out 1 of 6 operators, whose latency is not known: {UNTIMED}" in text


def test_the_peak_and_what_holds_it_are_named() -> None:
    lines = printed(profile_of(), 120)
    start = lines.index("Peak")
    assert lines[start + 1].startswith("Operator 2, ADD (4x4x8 +1 to 4x4x8) has 384 bytes")
    held = [line.split() for line in lines[start + 4 : start + 7]]
    assert sorted(held) == [
        ["added", "4x4x8", "128", "2", "to", "3"],
        ["middle", "4x4x8", "128", "1", "to", "2"],
        ["stem", "4x4x8", "128", "0", "to", "2"],
    ]


def test_a_plan_above_the_bound_is_told_apart_from_one_that_reaches_it() -> None:
    reached = " ".join(printed(profile_of(offsets={0: 0, 1: 256, 2: 128, 3: 0, 4: 128, 5: 0}), 80))
    assert "The file's own plan takes no more" in reached
    above = " ".join(" ".join(printed(profile_of(offsets={1: 1024}), 80)).split())
    assert "takes 1,152 bytes, 768 above this lower bound: fragmentation" in above
    assert "Its highest byte belongs to stem, operators 0 to 2" in above
    shared = {0: 0, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0}
    below = " ".join(" ".join(printed(profile_of(offsets=shared), 80)).split())
    assert "takes 192 bytes, 192 less: tensors share memory" in below


def test_whether_it_fits_is_said_for_each_memory() -> None:
    profile = profile_of()
    lines = printed(profile, 80)
    assert profile.arena is not None
    left = profile.sram_limit_bytes - profile.arena.sram_bytes
    assert lines[-2].startswith(f"SRAM fits stm32l4r5: {left:,} bytes")
    assert lines[-1].startswith("flash fits stm32l4r5: ")
    huge = printed(profile_of(file_bytes=2**22), 80)
    assert huge[-1].startswith("flash does NOT fit stm32l4r5: ")


def test_a_layer_list_says_that_it_has_no_length() -> None:
    text = " ".join(printed(profile_of(file_bytes=None), 80))
    assert "flash: constants and code" in text
    assert "a layer list has no length as a model" in text


def test_a_terminal_without_unicode_gets_question_marks() -> None:
    names = tuple(replace(t, name="größe") if t.name == "stem" else t for t in TENSORS)
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    print_profile(profile_of(replace(TINY, tensors=names)), Console(file=file, width=80))
    file.flush()
    assert b"gr??e" in raw.getvalue()
