"""What lies in the head of the arena: activations and scratch buffers, with when they are in use.

Buffers are numbered by their place in a list. An operator may write over a buffer that it reads
for the last time if it begins far enough below (tinynas.cost.overlap): `Pairs` give that distance
in bytes by (written, read).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tinynas.cost.memory import align
from tinynas.graph import Graph

Scratch = Sequence[Sequence[int]]  # per operator, the sizes of its scratch buffers in bytes
Overlaps = Mapping[tuple[int, int], int]  # of tensors: see tinynas.cost.overlap.overlaps
Pairs = Mapping[tuple[int, int], int]  # of buffers

NO_PAIRS: Pairs = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """Aligned bytes in use from operator `first` to operator `last`, both inclusive."""

    size: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Whether both are in use at some operator."""
        return self.first <= other.last and other.first <= self.last


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


def useful_pairs(
    buffers: Sequence[Buffer], numbers: Sequence[int], overlaps: Overlaps
) -> dict[tuple[int, int], int]:
    """The overlaps of tensors as pairs of buffers, where numbers[i] is the tensor of buffer i.

    Kept are those whose buffers meet at the writing operator alone and can share a byte.
    """
    index = {t: i for i, t in enumerate(numbers)}
    return {
        (index[out], index[read]): align(distance)
        for (out, read), distance in overlaps.items()
        if out in index
        and read in index
        and buffers[index[out]].first == buffers[index[read]].last
        and align(distance) < buffers[index[out]].size
    }
