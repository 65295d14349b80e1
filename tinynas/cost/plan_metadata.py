"""What the metadata of a .tflite file say of its memory plan: TFLM's entry and our note beside it.

A plan in which tensors overlap gives right results with the kernels it was made for and silently
wrong ones with others, so our note says for which kernels a plan is safe.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import cast, get_args

from tinynas import __version__
from tinynas.cost.overlap import SafeKernels

PLAN_NAME = "OfflineMemoryAllocation"
NOTE_NAME = "tinynas.plan"
NOT_PLANNED = -1
PLAN_VERSION, SUBGRAPH = 1, 0
LONGEST_NOTE = 1_000  # bytes


def plan_content(offsets: Mapping[int, int], tensors: int) -> bytes:
    """Arena offsets by tensor number in TFLM's format; it places those of `tensors` without one.

    tensorflow/lite/micro/docs/memory_management.md: version, subgraph, number of tensors, then
    each tensor's offset in the arena, or -1 to let TFLM choose it (constants have none).
    """
    numbers = [offsets.get(tensor, NOT_PLANNED) for tensor in range(tensors)]
    return struct.pack(f"<{3 + tensors}i", PLAN_VERSION, SUBGRAPH, tensors, *numbers)


def offsets_of(content: bytes, tensors: int) -> dict[int, int]:
    """Arena offsets by tensor number of those that a plan in TFLM's format places.

    Raises ValueError, with what is wrong, for a plan of something else than `tensors` tensors.
    """
    form = f"<{3 + tensors}i"
    fits = len(content) == struct.calcsize(form)
    _, subgraph, count, *offsets = struct.unpack(form, content) if fits else (0, 0, -1)
    if (subgraph, count) != (SUBGRAPH, tensors):
        raise ValueError(f"must have one offset for each of {tensors} tensors")
    if min(offsets, default=0) < NOT_PLANNED:
        raise ValueError(f"has the impossible offset {min(offsets)}")
    return {t: offset for t, offset in enumerate(offsets) if offset != NOT_PLANNED}


def note_text(safe_for: SafeKernels, head_bytes: int) -> str:
    """Our note on a plan: the kernels it is safe for and the head it needs with them, as JSON."""
    planner = f"tinynas {__version__}"
    facts = {"safe_for": safe_for, "head_bytes": head_bytes, "planner": planner}
    return json.dumps(facts)


def safe_for(note: bytes) -> SafeKernels | None:
    """The kernels that a note says a plan is safe for; None for anything that is not such a note.

    Whoever may have written the file: nothing else in the note is looked at, and a plan without a
    note that can be read is one of which nothing is said.
    """
    try:
        facts = json.loads(note.decode()) if len(note) <= LONGEST_NOTE else None
    except (ValueError, RecursionError):
        return None
    named = facts.get("safe_for") if isinstance(facts, dict) else None
    known = isinstance(named, str) and named in get_args(SafeKernels)
    return cast(SafeKernels, named) if known else None
