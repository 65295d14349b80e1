"""Whether a memory plan is safe: which tensors share bytes in it, and with which kernels they may.

A file's note is a claim and its plan may be anyone's, so what is safe is worked out from the graph
by the rules of tinynas.cost.overlap, whoever made the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tinynas.cost.kernels import Kernels
from tinynas.cost.overlap import SafeKernels, overlaps, safe_kernels
from tinynas.graph import Graph

LIBRARIES: tuple[SafeKernels, ...] = ("reference", "cmsis-nn", "cmsis-nn-mve")
LIBRARY_TEXTS: dict[SafeKernels, str] = {
    "reference": "TFLM's reference kernels",
    "cmsis-nn": "CMSIS-NN without Helium (Cortex-M0 to M33)",
    "cmsis-nn-mve": "CMSIS-NN with Helium (Cortex-M55, M85)",
    "any": "any kernels",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSafety:
    """What a plan lays over each other, and the kernels with which that changes no result.

    `pairs` are tensors that are in memory at the same time and share bytes. `safe_for` holds "any"
    where there are none, else each library whose kernels allow all of them. `noted` is what the
    file itself says.
    """

    pairs: tuple[tuple[int, int], ...]
    safe_for: tuple[SafeKernels, ...]
    noted: SafeKernels | None = None

    def holds_on(self, kernels: Kernels) -> bool:
        """Whether the plan is known to be safe with this kernel library."""
        return not self.pairs or safe_kernels(kernels) in self.safe_for

    def to_json(self, kernels: Kernels) -> dict[str, Any]:
        """What programs are told of it, for a runtime with these kernels."""
        return {
            "overlapping_pairs": len(self.pairs),
            "safe_for": list(self.safe_for),
            "noted": self.noted,
            "safe": self.holds_on(kernels),
            "words": safety_lines(self),
        }

    def to_note(self, made_for: SafeKernels) -> SafeKernels:
        """What a note says of a plan made for these kernels: "any" for one without overlap."""
        return made_for if self.pairs else "any"

    @property
    def is_contradicted(self) -> bool:
        """Whether the file says more than can be shown."""
        return self.noted is not None and bool(self.pairs) and self.noted not in self.safe_for


def plan_safety(
    graph: Graph, offsets: Mapping[int, int], noted: SafeKernels | None = None
) -> PlanSafety:
    """The safety of a plan that puts activations at these arena offsets, by tensor number.

    Tensors without an offset share no bytes: TFLM finds places for them that are free.
    """
    pairs = tuple(_sharing(graph, offsets))
    libraries = LIBRARIES if pairs else ("any",)
    safe_for = tuple(safe for safe in libraries if _all_allowed(graph, offsets, pairs, safe))
    return PlanSafety(pairs=pairs, safe_for=safe_for, noted=noted)


def _sharing(graph: Graph, offsets: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """Pairs of tensors that share bytes while both are in memory."""
    lives = [(span, t) for t, span in graph.lifetimes().items() if t in offsets]
    recent: list[tuple[int, int, int, int]] = []  # last use, start, end, tensor
    for (first, last), tensor in sorted(lives):
        start = offsets[tensor]
        end = start + graph.tensors[tensor].size_bytes
        recent = [other for other in recent if other[0] >= first]
        for _, low, high, other in recent:
            if low < end and start < high:
                yield other, tensor
        recent.append((last, start, end, tensor))


def _all_allowed(
    graph: Graph,
    offsets: Mapping[int, int],
    pairs: tuple[tuple[int, int], ...],
    safe: SafeKernels,
) -> bool:
    """Whether each pair is an operator's output far enough below an input that dies with it."""
    allowed = overlaps(graph, safe) if pairs else {}

    def is_allowed(output: int, read: int) -> bool:
        distance = allowed.get((output, read))
        return distance is not None and offsets[read] - offsets[output] >= distance

    return all(is_allowed(a, b) or is_allowed(b, a) for a, b in pairs)


def safety_lines(safety: PlanSafety) -> list[str]:
    """What is known of a plan's safety, in sentences."""
    count = len(safety.pairs)
    if not count:
        return [
            "No tensors share memory while both are needed: the plan is safe with any kernels."
        ]
    pairs = "one pair of tensors shares" if count == 1 else f"{count} pairs of tensors share"
    if safety.safe_for:
        names = " and ".join(LIBRARY_TEXTS[safe] for safe in safety.safe_for)
        lines = [
            f"In this plan {pairs} memory while an operator reads one and writes the other: safe "
            f"with {names}; with others outputs may be silently wrong."
        ]
    else:
        lines = [
            f"In this plan {pairs} memory while both are needed, which is not known to be safe "
            "with any kernels: outputs may be silently wrong."
        ]
    if safety.is_contradicted and safety.noted:
        lines.append(
            f"The file says that its plan is safe with {LIBRARY_TEXTS[safety.noted]}, which the "
            "rules here do not bear out."
        )
    return lines


def safety_warning(safety: PlanSafety, kernels: Kernels, runtime: str) -> str | None:
    """A sentence where a plan is not known to be safe on a runtime, which has these kernels."""
    if safety.holds_on(kernels):
        return None
    return (
        f"The memory plan is NOT known to be safe with {runtime} on this chip, that is with "
        f"{LIBRARY_TEXTS[safe_kernels(kernels)]}: outputs may be silently wrong. Plan the file "
        "again with tinynas plan."
    )
