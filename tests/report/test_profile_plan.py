"""Profiles of planned models: safety, warnings, and the maps before and after."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from profile_models import profile_of, target_of
from rich.cells import cell_len
from rich.console import Console

from tinynas.report.plan_text import order_text
from tinynas.report.profile import Profile, to_json
from tinynas.report.profile_page import page
from tinynas.report.profile_terminal import print_profile

# The image of 192 bytes dies at operator 0, whose 3x3 convolution with stride 2 needs a distance
# of 32 bytes; the sum may lie over either of the tensors it adds.
PLANNED = {0: 32, 1: 0, 2: 128, 3: 128, 4: 0, 5: 128}
UNSAFE = {0: 0, 1: 0, 2: 128, 3: 256, 4: 0, 5: 128}


def printed(profile: Profile, width: int = 100) -> str:
    out = Console(file=io.StringIO(), width=width, highlight=False)
    print_profile(profile, out)
    assert isinstance(out.file, io.StringIO)
    text = out.file.getvalue()
    assert max(map(cell_len, text.splitlines())) <= width
    return " ".join(text.split())


def test_a_file_without_a_plan_has_no_safety_to_tell_of() -> None:
    profile = profile_of()
    assert profile.safety is None and to_json(profile)["plan_safety"] is None
    assert "safe" not in printed(profile)


def test_a_plan_with_overlap_is_shown_and_said_to_be_safe_with_whom() -> None:
    profile = profile_of(offsets=PLANNED)
    assert profile.safety is not None
    assert set(profile.safety.pairs) == {(0, 1), (2, 3)}
    assert profile.safety.safe_for == ("reference", "cmsis-nn")
    assert {part.boxes for part in profile.memory.shared} == {(0, 1), (2, 3)}
    for text in (printed(profile), " ".join(page(profile).split())):
        assert "2 pairs of tensors share memory while an operator reads one" in text
        assert "others outputs may be silently wrong" in text
        assert "NOT known to be safe" not in text


def test_a_plan_that_is_not_safe_is_warned_of() -> None:
    profile = profile_of(offsets=UNSAFE)
    assert to_json(profile)["plan_safety"]["safe"] is False
    for text in (printed(profile), page(profile)):
        assert "The memory plan is NOT known to be safe with tflm on this chip" in text
    assert 'class="warning"' in page(profile)
    assert 'class="warning"' not in page(profile_of(offsets=PLANNED))


def test_before_and_after_are_compared_in_figures_and_pictures() -> None:
    profile = profile_of(plan=True)
    new = profile.replanned
    assert new is not None
    # The sum and all it needs, with the sum over one of its operands: 2 * 128 bytes; the image
    # and the first convolution over it: 192 + 32.
    assert new.memory.head_bytes == new.comparison.planned.head_bytes == 256
    assert new.comparison.greedy.head_bytes == profile.memory.head_bytes == 384
    text = printed(profile)
    assert text.index("Memory map before planning") < text.index("Memory map after planning for")
    assert "head of the arena 384 256 33.3 %" in text
    assert "With the new plan SRAM fits stm32l4r5" in text
    assert "tinynas plan models/tiny.tflite -o OUT --kernels reference" in text
    found = to_json(profile)["planned"]
    assert (found["head_bytes"], found["bound_without_overlap_head_bytes"]) == (256, 384)
    assert len(found["buffers"]) == 6
    root = ElementTree.fromstring(page(profile).removeprefix("<!DOCTYPE html>\n"))
    assert len([e for e in root.iter() if e.tag.endswith("}svg")]) == 2
    identifiers = re.findall(r' id="([^"]*)"', page(profile))
    assert len(identifiers) == len(set(identifiers))


def test_both_pictures_have_the_same_scale() -> None:
    pictures = page(profile_of(plan=True)).split("<svg")[1:]
    ticks = [re.findall(r'class="end">([\d.,]+)<', picture) for picture in pictures]
    assert ticks[0] == ticks[1]


def test_without_the_flag_nothing_is_planned() -> None:
    profile = profile_of()
    assert profile.replanned is None and to_json(profile)["planned"] is None
    assert "planning" not in printed(profile)
    assert page(profile).count("<svg") == 1


@pytest.mark.parametrize("width", [60, 80, 120])
def test_all_widths_have_room_for_both_maps(width: int) -> None:
    assert "new plan" in printed(profile_of(plan=True, offsets=PLANNED), width)


def test_the_files_own_plan_has_a_column() -> None:
    text = printed(profile_of(offsets=PLANNED, plan=True))
    assert "TFLM's plan file's plan new plan less" in text
    assert "head of the arena 384 256 256 33.3 %" in text


def test_a_chip_whose_kernels_allow_less_gets_another_plan() -> None:
    target = target_of("stm32f746", "tflm-cmsis-nn")
    plain = replace(target, device=target.device.model_copy(update={"core": "Cortex-M55"}))
    new = profile_of(target=plain, plan=True).replanned
    assert new is not None and new.planned.made_for == "cmsis-nn-mve"
    assert "cmsis-nn-mve" in new.planned.safety.safe_for or not new.planned.safety.pairs


def test_another_order_is_listed_from_where_it_differs() -> None:
    assert order_text((0, 1, 3, 2, 4)) == "after 2 as before: 3, 2, 4"
    assert order_text((1, 0)) == "1, 0"
    assert order_text((1, 0, *range(2, 100))).endswith("19, ...")


def test_a_chain_keeps_its_order() -> None:
    new = profile_of(plan=True).replanned
    assert new is not None and new.planned.order is None
