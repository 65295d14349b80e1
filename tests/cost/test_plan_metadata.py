"""The plan in TFLM's format and our note on it, read back from whatever a file may hold."""

import json
import struct
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas import __version__
from tinynas.cost.overlap import SafeKernels
from tinynas.cost.plan_metadata import (
    LONGEST_NOTE,
    note_text,
    offsets_of,
    plan_content,
    safe_for,
)


def test_a_plan_is_a_header_and_an_offset_for_each_tensor() -> None:
    assert plan_content({0: 16, 2: 0}, 4) == struct.pack("<7i", 1, 0, 4, 16, -1, 0, -1)


@given(st.integers(0, 50), st.data())
def test_plans_are_read_back(tensors: int, data: st.DataObject) -> None:
    numbers = st.integers(0, tensors - 1) if tensors else st.nothing()
    plan = data.draw(st.dictionaries(numbers, st.integers(0, 2**31 - 1)))
    assert offsets_of(plan_content(plan, tensors), tensors) == plan


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ([1, 0, 3, 0, 0, 0], "one offset for each of 2 tensors"),
        ([1, 0, 2, 0], "one offset for each of 2 tensors"),
        ([1, 1, 2, 0, 0], "one offset for each of 2 tensors"),
        ([1, 0], "one offset for each of 2 tensors"),
        ([1, 0, 2, 0, -2], "impossible offset -2"),
    ],
)
def test_plans_of_something_else_are_refused(numbers: list[int], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        offsets_of(struct.pack(f"<{len(numbers)}i", *numbers), 2)


@pytest.mark.parametrize("safe", get_args(SafeKernels))
def test_a_note_says_for_which_kernels_a_plan_is_safe(safe: SafeKernels) -> None:
    note = note_text(safe, 33_888)
    assert safe_for(note.encode()) == safe
    planner = f"tinynas {__version__}"
    assert json.loads(note) == {"safe_for": safe, "head_bytes": 33_888, "planner": planner}


@pytest.mark.parametrize(
    "note",
    [
        *(b"", b"{", b"\xff\xfe", b"null", b"[]", b'"any"', b"{}", b"[" * 900),
        *(b'{"safe_for": null}', b'{"safe_for": ["any"]}', b'{"safe_for": "esp-nn"}'),
        b'{"safe_for": "any", "more": "' + b"x" * LONGEST_NOTE + b'"}',
    ],
)
def test_what_is_no_note_says_nothing(note: bytes) -> None:
    assert safe_for(note) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_note_or_none(note: bytes) -> None:
    assert safe_for(note) is None
