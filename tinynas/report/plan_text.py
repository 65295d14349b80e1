"""What `tinynas plan` found, in words and as JSON: arenas are predicted, heads measured too."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from tinynas.budget import format_bytes
from tinynas.cost.kernels import Kernels
from tinynas.cost.memory import Arena
from tinynas.cost.plan_safety import LIBRARY_TEXTS, safety_lines
from tinynas.deploy.check import runtime_name
from tinynas.deploy.plan_file import PlannedFile
from tinynas.deploy.plan_model import Comparison, Planned

ON_CHIPS: dict[Kernels, str] = {
    "reference": "reference kernels",
    "reference-int-enums": "reference kernels",
    "cmsis-nn-dsp": "CMSIS-NN on Cortex-M4, M7, M33",
    "cmsis-nn-c": "CMSIS-NN on Cortex-M0, M3",
    "cmsis-nn-mve": "CMSIS-NN on Cortex-M55, M85",
    "host": "reference kernels on this host",
}
SHOWN_OPERATORS = 20


def plan_title(result: PlannedFile) -> str:
    """Which model was planned, and for what."""
    count = len(result.planned.graph.ops)
    return (
        f"{result.path}, {count} operator{'s' * (count != 1)}, planned for "
        f"{LIBRARY_TEXTS[result.planned.made_for]}"
    )


def plan_columns(*, own: bool) -> list[str]:
    """Headings of the columns of `plan_rows`, without that of its labels."""
    return ["TFLM's plan", *(["file's plan"] if own else []), "new plan", "less"]


def plan_rows(comparison: Comparison, *, own: bool) -> list[list[str]]:
    """Head and whole arena, each with a label; `own` for a column of the plan the file has."""

    def row(label: str, kind: str) -> list[str]:
        arenas = (comparison.greedy, *([comparison.own] if own else []), comparison.planned)
        sizes = ["-" if arena is None else f"{getattr(arena, kind):,}" for arena in arenas]
        before, after = getattr(comparison.greedy, kind), getattr(comparison.planned, kind)
        return [label, *sizes, f"{100 * (before - after) / max(before, 1):.1f} %"]

    return [row("head of the arena", "head_bytes"), row("arena to reserve", "sram_bytes")]


def plan_table(result: PlannedFile) -> Table:
    """Head and whole arena of each kernel library, before and after."""
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    own = any(comparison.own for comparison in result.comparisons)
    table.add_column("predicted, bytes", no_wrap=True)
    for heading in plan_columns(own=own):
        table.add_column(heading, justify="right", no_wrap=True)
    for comparison in result.comparisons:
        table.add_row(ON_CHIPS[comparison.kernels])
        for label, *cells in plan_rows(comparison, own=own):
            table.add_row(f"  {label}", *cells)
    return table


def bound_lines(planned: Planned, comparisons: tuple[Comparison, ...]) -> list[str]:
    """How far the plan is from the best one, in sentences."""
    gaps = {
        ON_CHIPS[c.kernels]: c.planned.head_bytes - c.bound_bytes
        for c in comparisons
        if c.planned.head_bytes > c.bound_bytes
    }
    which = "with the overlaps that these kernels allow" if planned.overlaps else "without overlap"
    if not gaps:
        lines = [f"No plan {which} can do with a smaller head."]
    else:
        lines = [
            f"A better plan {which} could save at most {gap:,} bytes with {where}."
            for where, gap in gaps.items()
        ]
    if not planned.offsets:
        lines.append(
            "No plan was found that needs less with some of these kernels and no more with the "
            "others, so TFLM places all tensors as before."
        )
    elif planned.overlaps and not planned.safety.pairs:
        lines.append("Overlap makes the head no smaller, so this plan has none.")
    elif planned.safety.pairs:
        least = max(c.plain_bound_bytes for c in comparisons)
        lines.append(f"Without overlap no plan could do with a head below {format_bytes(least)}.")
    if planned.order is not None:
        lines.append(f"Operators run in another order: {order_text(planned.order)}.")
    return lines


def order_text(order: tuple[int, ...]) -> str:
    """Old numbers of operators in their new order, from the first that has moved."""
    start = next((place for place, number in enumerate(order) if place != number), 0)
    shown = order[start : start + SHOWN_OPERATORS]
    before = f"after {start} as before: " if start else ""
    more = ", ..." if start + len(shown) < len(order) else ""
    return before + ", ".join(map(str, shown)) + more


def plan_lines(result: PlannedFile, out: Path) -> list[str]:
    """What is known of the plan, and what was written, in sentences."""
    measured = result.measured
    lines = [
        *bound_lines(result.planned, result.comparisons),
        f"Run by {runtime_name()}: all outputs for {measured.inputs} random inputs are those "
        f"under TFLM's own plan, bit by bit. Head measured there: {measured.head_bytes:,} bytes, "
        f"as predicted; {measured.greedy_head_bytes:,} under TFLM's own plan.",
    ]
    if measured.own_agrees is False:
        lines.append(
            "WARNING: under the plan that the old file came with outputs differ: do not use it."
        )
    if result.planned.made_for == "any":
        lines.append(
            "With the kernels of one library tensors may share memory, which often needs much "
            "less: name it with --kernels, or the chip with --mcu."
        )
    grown = len(result.content) - result.old_bytes
    return [
        *lines,
        *safety_lines(result.planned.safety),
        f"{out}: {format_bytes(len(result.content))}, {grown:,} more than before.",
    ]


def plan_json(result: PlannedFile, out: Path) -> dict[str, Any]:
    """All figures, to be read by programs; null for a plan that the file did not carry."""
    planned = result.planned
    return {
        "model": str(result.path),
        "out": str(out),
        "kernels": planned.made_for,
        "safe_for": list(planned.safety.safe_for),
        "overlapping_pairs": len(planned.safety.pairs),
        "order": None if planned.order is None else list(planned.order),
        "file_bytes": {"before": result.old_bytes, "after": len(result.content)},
        "predicted": [
            {
                "kernels": c.kernels,
                "tflm": _arena_json(c.greedy),
                "file": _arena_json(c.own),
                "planned": _arena_json(c.planned),
                "bound_head_bytes": c.bound_bytes,
                "bound_without_overlap_head_bytes": c.plain_bound_bytes,
            }
            for c in result.comparisons
        ],
        "measured": {**asdict(result.measured), "outputs_identical": True},
        "executed_by": runtime_name(),
    }


def _arena_json(arena: Arena | None) -> dict[str, int] | None:
    if arena is None:
        return None
    return {"head_bytes": arena.head_bytes, "sram_bytes": arena.sram_bytes}
