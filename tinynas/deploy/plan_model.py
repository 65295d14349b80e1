"""The best memory plan for a model and a kernel library or several, beside the plans it had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tinynas.cost.bound import lower_bound
from tinynas.cost.buffers import Overlaps
from tinynas.cost.kernels import Kernels, scratch_by_op
from tinynas.cost.memory import Arena, predict_arena, unknown_memory
from tinynas.cost.overlap import SafeKernels, overlaps
from tinynas.cost.plan_safety import PlanSafety, plan_safety
from tinynas.cost.tflite_reader import ModelFile
from tinynas.deploy.order import best_order, reordered
from tinynas.deploy.plan import greedy_plan, head_with_scratch, plan_memory
from tinynas.errors import ModelFileError
from tinynas.graph import Graph

# The libraries that a plan is made for, by the kernels it must be safe with.
LIBRARIES: dict[SafeKernels, tuple[Kernels, ...]] = {
    "reference": ("reference",),
    "cmsis-nn": ("cmsis-nn-dsp", "cmsis-nn-c"),
    "cmsis-nn-mve": ("cmsis-nn-mve",),
    "any": ("reference", "cmsis-nn-dsp", "cmsis-nn-mve"),
}
Sizes = tuple[tuple[int, ...], ...]  # of scratch buffers, per operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan and the graph it is for, in which operators may run in another order.

    `order[i]` is the old number of the operator at place i, None where all stay. `overlaps` are
    those that the kernels allow, `safety` which of them the plan has; it is worked out anew from
    the plan.
    """

    graph: Graph
    order: tuple[int, ...] | None
    offsets: Mapping[int, int]
    made_for: SafeKernels
    overlaps: Overlaps
    safety: PlanSafety

    def head_bytes(self, kernels: Kernels) -> int:
        """The head of the arena with a library's scratch buffers."""
        return _head(self.graph, self.offsets, kernels)

    @property
    def drawbacks(self) -> tuple[int, ...]:
        """What speaks against it where another plan needs no more memory, the worst first."""
        return int(bool(self.safety.pairs)), int(self.order is not None)

    @property
    def safe_for(self) -> SafeKernels:
        """What a note in a file says of it."""
        return self.safety.to_note(self.made_for)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The arena on a chip with a kernel library: TFLM's own plan, the file's plan, the new one.

    `own` is None for a file without a plan. `bound_bytes` is what no plan with the same overlaps
    and operators in the same order can go below, `plain_bound_bytes` what none without overlap.
    """

    kernels: Kernels
    greedy: Arena
    own: Arena | None
    planned: Arena
    bound_bytes: int
    plain_bound_bytes: int


def plan_model(graph: Graph, made_for: SafeKernels, libraries: Sequence[Kernels] = ()) -> Planned:
    """The best plan found that is safe with kernels of a name, for all of these `libraries`.

    By default those of LIBRARIES. It is one that needs no more than TFLM's own plan in any of
    them, and of those the one whose largest head is smallest; without offsets, so that TFLM
    places all tensors as before, where there is no better. Raises ModelFileError where the memory
    of something is not known.
    """
    unknown = unknown_memory(graph)
    if unknown:
        raise ModelFileError(f"its memory cannot be planned: no rule covers {', '.join(unknown)}")
    libraries = libraries or LIBRARIES[made_for]
    limits = [greedy_plan(graph, scratch_by_op(graph, k)).head_bytes for k in libraries]
    best: tuple[tuple[int, ...], Planned] | None = None
    for planned in _candidates(graph, made_for, libraries):
        heads = [planned.head_bytes(k) for k in libraries]
        rank = (max(heads), sum(heads), *planned.drawbacks)
        no_worse = all(head <= limit for head, limit in zip(heads, limits, strict=True))
        safe = {made_for, "any"} & {*planned.safety.safe_for}
        if no_worse and safe and (best is None or rank < best[0]):
            best = rank, planned
    return best[1] if best else _planned(graph, None, {}, made_for)


def _planned(
    graph: Graph,
    order: tuple[int, ...] | None,
    offsets: Mapping[int, int],
    made_for: SafeKernels,
) -> Planned:
    return Planned(
        graph=graph,
        order=order,
        offsets=offsets,
        made_for=made_for,
        overlaps=overlaps(graph, made_for),
        safety=plan_safety(graph, offsets),
    )


def _candidates(
    graph: Graph, made_for: SafeKernels, libraries: Sequence[Kernels]
) -> Iterator[Planned]:
    """Plans for several orders and scratch buffers, with overlap where it is safe and without.

    Last come TFLM's own plans for each library.
    """
    given = tuple(range(len(graph.ops)))
    for order in dict.fromkeys((given, best_order(graph, _largest_scratch(graph, libraries)))):
        ordered = reordered(graph, order)
        for scratch, pairs in _asked(ordered, libraries, overlaps(ordered, made_for)):
            offsets = plan_memory(ordered, scratch, pairs).offsets
            yield _planned(ordered, None if order == given else order, offsets, made_for)
    for kernels in libraries:
        offsets = greedy_plan(graph, scratch_by_op(graph, kernels)).offsets
        yield _planned(graph, None, offsets, made_for)


def _largest_scratch(graph: Graph, libraries: Sequence[Kernels]) -> Sizes:
    """Per operator, the scratch buffers of the library that asks for most."""
    asked = [scratch_by_op(graph, kernels) for kernels in libraries]
    return tuple(max(sizes, key=sum) for sizes in zip(*asked, strict=True))


def _asked(
    graph: Graph, libraries: Sequence[Kernels], allowed: Overlaps
) -> Iterator[tuple[Sizes, Overlaps]]:
    """Scratch buffers and overlaps to plan with: each library's own, and the largest of all."""
    largest = _largest_scratch(graph, libraries)
    own = (tuple(scratch_by_op(graph, kernels)) for kernels in libraries)
    yield from ((scratch, allowed) for scratch in dict.fromkeys((largest, *own)))
    if allowed:
        yield largest, {}


def _head(graph: Graph, offsets: Mapping[int, int], kernels: Kernels) -> int:
    return head_with_scratch(graph, offsets, scratch_by_op(graph, kernels))


def compare(model: ModelFile, planned: Planned, kernels: Kernels) -> Comparison:
    """The arena of a model under TFLM's own plan, the file's and a new one."""
    graph, scratch = model.graph, scratch_by_op(model.graph, kernels)
    greedy = greedy_plan(graph, scratch).head_bytes
    own = predict_arena(graph, kernels, _head(graph, model.offsets, kernels))
    asked = scratch_by_op(planned.graph, kernels)
    return Comparison(
        kernels=kernels,
        greedy=predict_arena(graph, kernels, greedy),
        own=own if model.offsets else None,
        planned=predict_arena(planned.graph, kernels, planned.head_bytes(kernels)),
        bound_bytes=lower_bound(planned.graph, asked, planned.overlaps),
        plain_bound_bytes=lower_bound(planned.graph, asked),
    )
