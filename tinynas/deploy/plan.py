"""Where each activation lies in the tensor arena, for TFLM's offline memory plan.

TFLM places our offsets first and then its own scratch buffers into what is left
(greedy_memory_planner.cc), so a plan also has to leave room for scratch in one piece. The search
fixes the arena at its lower bound and places buffers in the order of their creation, each at an
end of a gap, going back when one does not fit. In a chain of inverted residual blocks the first
choice always fits, because it keeps all free memory in one gap: beside a buffer that outlives
this operator, else at an end of the arena, beside a buffer that dies now only if nothing else is
left.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinynas.cost.memory import align
from tinynas.graph import Graph

Scratch = Sequence[Sequence[int]]  # per operator, the sizes of its scratch buffers in bytes

SEARCH_STEPS = 5_000  # placements tried before giving the lower bound up
EXCHANGES = 300  # changes of order tried after that


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Arena offset of each activation by tensor number, and the head of the arena they need.

    `head_bytes` is what TFLM will use, scratch buffers included; `bound_bytes` is what no
    placement without overlap can go below.
    """

    offsets: Mapping[int, int]
    head_bytes: int
    bound_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """Aligned bytes in use from operator `first` to operator `last`, both inclusive."""

    size: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Whether both are in use at some operator."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A buffer at an arena offset: that of a tensor, or, with none, an operator's scratch."""

    tensor: int | None
    offset: int
    buffer: Buffer


def activation_buffers(graph: Graph) -> dict[int, Buffer]:
    """A buffer per activation, by tensor number, in ascending order."""
    lifetimes = sorted(graph.lifetimes().items())
    return {
        t: Buffer(size=align(graph.tensors[t].size_bytes), first=first, last=last)
        for t, (first, last) in lifetimes
    }


def scratch_buffers(graph: Graph, scratch: Scratch) -> list[Buffer]:
    """A buffer for each scratch size; `scratch` is empty or has a tuple per operator.

    Raises ValueError for any other length.
    """
    if len(scratch) not in (0, len(graph.ops)):
        raise ValueError(
            f"scratch must hold the sizes for each of the {len(graph.ops)} operators, "
            f"got {len(scratch)}"
        )
    return [
        Buffer(size=align(size), first=step, last=step)
        for step, sizes in enumerate(scratch)
        for size in sizes
    ]


def lower_bound(graph: Graph, scratch: Scratch = ()) -> int:
    """Largest sum of activations and scratch in memory at one time, in bytes of the arena."""
    buffers = [*activation_buffers(graph).values(), *scratch_buffers(graph, scratch)]
    times = {buffer.first for buffer in buffers}
    return max(sum(b.size for b in buffers if b.first <= t <= b.last) for t in times)


def _first_fit(
    buffers: Sequence[Buffer], order: Sequence[int], given: Mapping[int, int]
) -> dict[int, int]:
    """Offsets by index: those given, then each of `order` at the lowest place that is free."""
    offsets = dict(given)
    placed = sorted((offset, index) for index, offset in given.items())
    for index in order:
        buffer, place = buffers[index], 0
        for offset, other in placed:
            if buffers[other].meets(buffer):
                if offset - place >= buffer.size:
                    break
                place = max(place, offset + buffers[other].size)
        offsets[index] = place
        insort(placed, (place, index))
    return offsets


def _tflm_order(buffers: Sequence[Buffer], online: Sequence[int]) -> list[int]:
    """Largest first; of equal sizes the one added last, as in CalculateOffsetsIfNeeded."""
    return sorted(reversed(online), key=lambda index: -buffers[index].size)


def _top(buffers: Sequence[Buffer], offsets: Mapping[int, int]) -> int:
    return max(offset + buffers[index].size for index, offset in offsets.items())


def _placed_by_tflm(buffers: Sequence[Buffer], given: Mapping[int, int]) -> dict[int, int]:
    """Offsets by index: those given, and TFLM's choice for all the others."""
    online = [index for index in range(len(buffers)) if index not in given]
    return _first_fit(buffers, _tflm_order(buffers, online), given)


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
    placed = _placed_by_tflm(buffers, given)
    numbers: list[int | None] = [*tensors, *[None] * (len(buffers) - len(tensors))]
    return tuple(
        Placed(tensor=numbers[index], offset=placed[index], buffer=buffer)
        for index, buffer in enumerate(buffers)
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


@dataclass(frozen=True, slots=True)
class _Gap:
    """Free bytes [start, end), and the last use of the buffer on either side, if any."""

    start: int
    end: int
    below: int | None
    above: int | None


def _gaps(live: Sequence[tuple[int, Buffer]], arena: int) -> Iterator[_Gap]:
    start, below = 0, None
    for offset, buffer in sorted(live, key=lambda item: item[0]):
        if offset > start:
            yield _Gap(start, offset, below, buffer.last)
        start, below = offset + buffer.size, buffer.last
    if arena > start:
        yield _Gap(start, arena, below, None)


def _places(gaps: Sequence[_Gap], buffer: Buffer) -> list[int]:
    """Both ends of every gap that is large enough, the most promising first."""

    def rank(neighbour: int | None) -> int:
        if neighbour is None:
            return 1
        return 0 if neighbour > buffer.first else 2

    ranked: list[tuple[int, int]] = []
    for gap in gaps:
        if gap.end - gap.start >= buffer.size:
            ranked.append((rank(gap.below), gap.start))
            ranked.append((rank(gap.above), gap.end - buffer.size))
    return list(dict.fromkeys(place for _, place in sorted(ranked, key=lambda item: item[0])))


def _free(buffers: Sequence[Buffer], offsets: Sequence[int], step: int, arena: int) -> list[_Gap]:
    """Gaps of the arena at an operator, the first len(offsets) buffers being placed."""
    placed = zip(offsets, buffers, strict=False)
    return list(_gaps([(o, b) for o, b in placed if b.first <= step <= b.last], arena))


def _has_room(
    buffers: Sequence[Buffer], offsets: Sequence[int], scratch: Mapping[int, int], arena: int
) -> bool:
    """Whether scratch fits at each operator since the newest buffer and before the next."""
    complete = len(offsets) == len(buffers)
    following = 1 + max(b.last for b in buffers) if complete else buffers[len(offsets)].first
    return all(
        any(gap.end - gap.start >= scratch[step] for gap in _free(buffers, offsets, step, arena))
        for step in range(buffers[len(offsets) - 1].first, following)
        if step in scratch
    )


def _search(buffers: Sequence[Buffer], scratch: Mapping[int, int], arena: int) -> list[int] | None:
    """Offsets within `arena` bytes that leave a gap for each operator's scratch, or None.

    `buffers` come in order of their creation. Depth first; gives up after SEARCH_STEPS.
    """
    offsets: list[int] = []
    untried: list[list[int]] = []  # one list for each placed buffer and for the next
    for _ in range(SEARCH_STEPS):
        if len(untried) == len(offsets):
            buffer = buffers[len(offsets)]
            places = _places(_free(buffers, offsets, buffer.first, arena), buffer)
            untried.append(places[::-1])  # taken from the end
        if not untried[-1]:
            untried.pop()
            if not offsets:
                return None
            offsets.pop()
            continue
        offsets.append(untried[-1].pop())
        if not _has_room(buffers, offsets, scratch, arena):
            offsets.pop()
        elif len(offsets) == len(buffers):
            return offsets
    return None


def _orders(buffers: Sequence[Buffer]) -> list[list[int]]:
    """Orders of placing that often do well: by size, by duration, by both."""
    indices = range(len(buffers))
    life = [buffer.last - buffer.first + 1 for buffer in buffers]
    size = [buffer.size for buffer in buffers]
    return [
        _tflm_order(buffers, indices),
        sorted(indices, key=lambda i: (-life[i], -size[i])),
        sorted(indices, key=lambda i: -life[i] * size[i]),
    ]


def _local_search(buffers: Sequence[Buffer], bound: int) -> dict[int, int]:
    """Offsets from first fit in the best order found by moving top buffers forward."""
    rng = np.random.default_rng(0)
    orders = _orders(buffers)
    results = [_first_fit(buffers, order, {}) for order in orders]
    best = min(range(len(orders)), key=lambda i: _top(buffers, results[i]))
    order, offsets = orders[best], results[best]
    for _ in range(EXCHANGES):
        top = _top(buffers, offsets)
        if top == bound:
            break
        highest = [i for i, o in offsets.items() if o + buffers[i].size == top]
        moved = highest[int(rng.integers(len(highest)))]
        trial = [i for i in order if i != moved]
        trial.insert(int(rng.integers(len(trial) // 2 + 1)), moved)
        placed = _first_fit(buffers, trial, {})
        if _top(buffers, placed) <= top:
            order, offsets = trial, placed
    return offsets


def plan_memory(graph: Graph, scratch: Scratch = ()) -> MemoryPlan:
    """A plan without overlap whose head is the lower bound, or the best one found.

    `scratch[i]` are the sizes that the runtime's kernel of operator i asks for while it runs.
    Never worse than TFLM's own plan, and the same for the same graph.
    """
    tensors, bound = activation_buffers(graph), lower_bound(graph, scratch)
    asked = scratch_buffers(graph, scratch)
    room = {
        step: sum(b.size for b in asked if b.first == step) for step in {b.first for b in asked}
    }
    numbers = sorted(tensors, key=lambda t: (tensors[t].first, t))
    found = _search([tensors[t] for t in numbers], room, bound)
    if found is not None:
        offsets = dict(zip(numbers, found, strict=True))
    else:
        placed = _local_search([*tensors.values(), *asked], bound)
        offsets = {t: placed[index] for index, t in enumerate(tensors)}
    head = head_with_scratch(graph, offsets, scratch)
    plan = MemoryPlan(offsets=offsets, head_bytes=head, bound_bytes=bound)
    if head == bound:
        return plan
    return min(plan, greedy_plan(graph, scratch), key=lambda p: p.head_bytes)
