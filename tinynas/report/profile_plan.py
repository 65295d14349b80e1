"""What planning the memory of a profiled model anew would give; nothing is written or run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tinynas.cost.kernels import scratch_by_op
from tinynas.cost.overlap import safe_kernels
from tinynas.cost.plan_safety import safety_lines
from tinynas.cost.tflite_reader import ModelFile
from tinynas.deploy.plan_model import Comparison, Planned, compare, plan_model
from tinynas.report.graph_map import memory_of
from tinynas.report.memory_map import MemoryMap
from tinynas.report.plan_text import bound_lines
from tinynas.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Replanned:
    """A new plan for the kernels of a chip, what it saves there, and what would lie where."""

    planned: Planned
    comparison: Comparison
    memory: MemoryMap


def replanned(model: ModelFile, target: Target) -> Replanned:
    """The new plan of a model; errors as tinynas.deploy.plan_model.plan_model."""
    kernels = target.kernels
    planned = plan_model(model.graph, safe_kernels(kernels), (kernels,))
    scratch = scratch_by_op(planned.graph, kernels)
    return Replanned(
        planned=planned,
        comparison=compare(model, planned, kernels),
        memory=memory_of(planned.graph, planned.offsets, scratch),
    )


def replanned_lines(new: Replanned) -> list[str]:
    """How good the new plan is and what it is safe with, in sentences."""
    return [*bound_lines(new.planned, (new.comparison,)), *safety_lines(new.planned.safety)]


def replanned_json(new: Replanned) -> dict[str, Any]:
    """The new plan's figures and where it puts what."""
    planned, arena = new.planned, new.comparison.planned
    return {
        "kernels": planned.made_for,
        "safe_for": list(planned.safety.safe_for),
        "overlapping_pairs": len(planned.safety.pairs),
        "order": None if planned.order is None else list(planned.order),
        "sram_bytes": arena.sram_bytes,
        "head_bytes": arena.head_bytes,
        "tail_bytes": arena.tail_bytes,
        "bound_head_bytes": new.comparison.bound_bytes,
        "bound_without_overlap_head_bytes": new.comparison.plain_bound_bytes,
        "buffers": [asdict(box) for box in new.memory.boxes],
    }
