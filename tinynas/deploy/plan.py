"""Where each activation lies in the tensor arena, for TFLM's offline memory plan.

TFLM places our offsets first, whether or not they overlap, and then its own scratch buffers into
what is left (greedy_memory_planner.cc). So scratch buffers take part in the search for a plan, and
the head of the arena is what TFLM then makes of our offsets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tinynas.cost.bound import bound_bytes, lower_bound
from tinynas.cost.buffers import (
    NO_PAIRS,
    Buffer,
    Overlaps,
    Pairs,
    Scratch,
    activation_buffers,
    scratch_buffers,
    useful_pairs,
)
from tinynas.deploy.gap_search import fit
from tinynas.deploy.local_search import search
from tinynas.deploy.placement import conflicts_of, decreasing, first_fit
from tinynas.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Arena offset of each activation by tensor number, and the head of the arena they need.

    `head_bytes` is what TFLM will use, scratch buffers included; `bound_bytes` is what no
    placement with the same overlaps can go below.
    """

    offsets: Mapping[int, int]
    head_bytes: int
    bound_bytes: int

    @property
    def gap_bytes(self) -> int:
        """What a better plan could save at most; 0 for one that is known to be the best."""
        return self.head_bytes - self.bound_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A buffer at an arena offset: that of a tensor, or, with none, an operator's scratch."""

    tensor: int | None
    offset: int
    buffer: Buffer


def placements(
    graph: Graph, offsets: Mapping[int, int], scratch: Scratch = ()
) -> tuple[Placed, ...]:
    """Everything in the head of the arena when the activations lie at `offsets` in TFLM.

    Scratch buffers, and activations that `offsets` leaves out, are placed by TFLM. Activations
    come in ascending order, then scratch buffers.
    """
    tensors = activation_buffers(graph)
    buffers = [*tensors.values(), *scratch_buffers(graph, scratch)]
    given = {index: offsets[t] for index, t in enumerate(tensors) if t in offsets}
    online = decreasing(buffers, [index for index in range(len(buffers)) if index not in given])
    placed = first_fit(buffers, conflicts_of(buffers), online, given)
    numbers: list[int | None] = [*tensors, *[None] * (len(buffers) - len(tensors))]
    return tuple(
        Placed(tensor=number, offset=offset, buffer=buffer)
        for number, offset, buffer in zip(numbers, placed, buffers, strict=True)
    )


def head_with_scratch(graph: Graph, offsets: Mapping[int, int], scratch: Scratch = ()) -> int:
    """Head of the arena in TFLM when the activations lie at `offsets`; see `placements`."""
    return max(p.offset + p.buffer.size for p in placements(graph, offsets, scratch))


def greedy_plan(graph: Graph, scratch: Scratch = ()) -> MemoryPlan:
    """The plan that TFLM makes by itself."""
    placed = placements(graph, {}, scratch)
    return MemoryPlan(
        offsets={p.tensor: p.offset for p in placed if p.tensor is not None},
        head_bytes=max(p.offset + p.buffer.size for p in placed),
        bound_bytes=lower_bound(graph, scratch),
    )


def plan_memory(graph: Graph, scratch: Scratch = (), overlaps: Overlaps = NO_PAIRS) -> MemoryPlan:
    """The best plan found; its `gap_bytes` tell how much better one could be.

    `scratch[i]` are the sizes that the runtime's kernel of operator i asks for while it runs;
    `overlaps` the distances by (output, input) at which an operator may write over what it reads,
    safe for the kernels that will run. Never worse than TFLM's own plan or than that without
    overlaps, and the same for the same graph.
    """
    tensors = activation_buffers(graph)
    buffers = [*tensors.values(), *scratch_buffers(graph, scratch)]
    pairs = useful_pairs(buffers, [*tensors], overlaps)
    bound, plain_bound = bound_bytes(buffers, pairs), bound_bytes(buffers)
    plans: list[MemoryPlan] = []
    for offsets in _attempts(graph, scratch, pairs, bound, plain_bound):
        head = head_with_scratch(graph, offsets, scratch)
        plans.append(MemoryPlan(offsets=offsets, head_bytes=head, bound_bytes=bound))
        if head <= plain_bound:  # all that follow do without overlap
            break
    return min(plans, key=lambda plan: plan.head_bytes)


def _attempts(
    graph: Graph, scratch: Scratch, pairs: Pairs, bound: int, plain_bound: int
) -> Iterator[dict[int, int]]:
    """Offsets by tensor: with overlap, then without it in three ways, the last being TFLM's."""
    tensors, asked = activation_buffers(graph), scratch_buffers(graph, scratch)
    buffers = [*tensors.values(), *asked]
    yield dict(zip(tensors, search(buffers, pairs, bound), strict=False))
    room: Counter[int] = Counter()
    for buffer in asked:
        room[buffer.first] += buffer.size
    numbers = sorted(tensors, key=lambda t: (tensors[t].first, t))
    found = fit([tensors[t] for t in numbers], room, plain_bound)
    if found is not None:
        yield dict(zip(numbers, found, strict=True))
    if pairs:
        yield dict(zip(tensors, search(buffers, NO_PAIRS, plain_bound), strict=False))
    yield dict(greedy_plan(graph, scratch).offsets)
