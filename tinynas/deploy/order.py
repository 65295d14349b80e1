"""The order of operators in which the fewest bytes are in memory at once.

Where a graph branches, its operators can run in more than one order. As in uNAS (Liberis, Dudziak
and Lane 2020), what is in memory depends only on the set of operators that are done,
so each set is looked at once. Sets are taken up in the order of the peak on the way to them: the
first complete one has the lowest peak of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from heapq import heappop, heappush
from itertools import count

from tinynas.cost.buffers import Scratch, scratch_buffers
from tinynas.cost.memory import align
from tinynas.graph import Graph

MOST_SETS = 5_000  # sets of finished operators looked at before the given order is kept


@dataclass(frozen=True, slots=True, kw_only=True)
class _Needs:
    """What an order must respect, each set of operators being the bits of a number.

    Operator i may run once `before[i]` are done and brings `added[i]` bytes: what it writes, and
    its scratch buffers. Activation j of `sizes[j]` bytes is kept from `writers[j]`, an input (0)
    from the start, until all of `readers[j]` are done, an output (-1) to the end.
    """

    before: Sequence[int]
    added: Sequence[int]
    sizes: Sequence[int]
    writers: Sequence[int]
    readers: Sequence[int]

    def ready(self, done: int) -> Iterator[int]:
        """Operators that can run next, in the given order."""
        return (
            step
            for step, before in enumerate(self.before)
            if not done >> step & 1 and before & done == before
        )

    def kept_bytes(self, done: int) -> int:
        """Bytes of what operators that are done have left for others."""
        activations = zip(self.sizes, self.writers, self.readers, strict=True)
        return sum(
            size
            for size, writer, readers in activations
            if (writer & done or not writer) and readers & ~done
        )


def _bits(steps: Sequence[int]) -> int:
    return reduce(lambda bits, step: bits | 1 << step, steps, 0)


def _needs(graph: Graph, scratch: Scratch) -> _Needs:
    writer = {t: step for step, op in enumerate(graph.ops) for t in op.outputs}
    readers: dict[int, int] = dict.fromkeys(graph.inputs, 0)
    for step, op in enumerate(graph.ops):
        for t in graph.activations(op):
            readers[t] = readers.get(t, 0) | 1 << step
    readers.update(dict.fromkeys(graph.outputs, -1))
    size = {t: align(graph.tensors[t].size_bytes) for t in graph.lifetimes()}
    added = [sum(size.get(t, 0) for t in op.outputs) for op in graph.ops]
    for buffer in scratch_buffers(graph, scratch):
        added[buffer.first] += buffer.size
    kept = [t for t in readers if t in size]
    return _Needs(
        before=[
            _bits([writer[t] for t in graph.activations(op) if t in writer]) for op in graph.ops
        ],
        added=added,
        sizes=[size[t] for t in kept],
        writers=[1 << writer[t] if t in writer else 0 for t in kept],
        readers=[readers[t] for t in kept],
    )


def _peak(needs: _Needs, order: Sequence[int]) -> int:
    done = peak = 0
    for step in order:
        peak = max(peak, needs.kept_bytes(done) + needs.added[step])
        done |= 1 << step
    return peak


def _lowest(needs: _Needs, below: int) -> tuple[int, ...] | None:
    """The order with the lowest peak under `below` bytes; None if there is none or too many sets.

    Of equals the one that was first to run in the given order.
    """
    serial = count()
    complete = (1 << len(needs.before)) - 1
    waiting: list[tuple[int, int, int, int, tuple[int, ...]]] = [(0, 0, next(serial), 0, ())]
    seen: set[int] = set()
    while waiting and len(seen) < MOST_SETS:
        peak, _, _, done, order = heappop(waiting)
        if done == complete:
            return order
        if done in seen:
            continue
        seen.add(done)
        kept = needs.kept_bytes(done)
        for step in needs.ready(done):
            height, after = max(peak, kept + needs.added[step]), done | 1 << step
            if height < below and after not in seen:
                entry = (height, -len(order), next(serial), after, (*order, step))
                heappush(waiting, entry)
    return None


def _is_hidden(graph: Graph) -> bool:
    """Whether operators may depend on each other in ways that tensors do not show."""
    written = [t for op in graph.ops for t in op.outputs]
    silent = not all(op.outputs for op in graph.ops)
    return silent or len(set(written)) < len(written) or any(t.variable for t in graph.tensors)


def best_order(graph: Graph, scratch: Scratch = ()) -> tuple[int, ...]:
    """The steps of the graph in the order with the lowest peak of live bytes that was found.

    `scratch[i]` are the sizes of the scratch buffers of operator i. The given order stays where no
    other is better, where variables or operators without output may connect what tensors do not,
    and where there are too many orders to look at.
    """
    given = tuple(range(len(graph.ops)))
    if _is_hidden(graph):
        return given
    needs = _needs(graph, scratch)
    return _lowest(needs, _peak(needs, given)) or given


def reordered(graph: Graph, order: Sequence[int]) -> Graph:
    """The graph with its operators in another order, all its tensors the same."""
    return replace(graph, ops=tuple(graph.ops[step] for step in order))
