"""A memory plan for a chain of inverted residual blocks whose head is known beforehand.

tinynas.cost.planned has the sizes that each block needs. Where depthwise convolutions may write
over what they read, every block's input and output begin the arena, but for the input of a block
without expansion right after the stem. Elsewhere a block without skip takes its output to the
other end. A sum lies where the block's input was.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tinynas.cost.kernels import Kernels
from tinynas.cost.memory import align, head_by_op
from tinynas.cost.planned import (
    BlockSizes,
    HeadBounds,
    base_bytes,
    beside_bytes,
    block_bounds,
    block_sizes,
    overlapped_bytes,
)
from tinynas.graph import Graph, Op


def blocks_of(graph: Graph) -> list[tuple[Op, ...]] | None:
    """The operators of each block of a graph from `space.lower`, in order; None for any other."""
    named = [op for op in graph.ops if "." in op.name]
    found = [tuple(ops) for _, ops in groupby(named, lambda op: op.name.rpartition(".")[0])]
    kinds = [tuple(op.kind for op in ops) for ops in found]
    middle = ("DEPTHWISE_CONV_2D", "CONV_2D")
    wanted = {(*first, *middle, *last) for first in ((), ("CONV_2D",)) for last in ((), ("ADD",))}
    return found if len(graph.ops) == len(named) + 3 and set(kinds) <= wanted else None


def chain_bounds(graph: Graph, kernels: Kernels) -> HeadBounds:
    """Bounds of the head of a graph from `space.lower`; its chain plan reaches the upper one."""
    sizes = [block_sizes(graph, ops, kernels) for ops in blocks_of(graph) or ()]
    return _bounds(graph, sizes, kernels)


def _bounds(graph: Graph, sizes: Sequence[BlockSizes], kernels: Kernels) -> HeadBounds:
    """The largest bounds of the blocks and of the operators around them."""
    heads = head_by_op(graph, kernels)
    rest = [h for h, op in zip(heads, graph.ops, strict=True) if "." not in op.name]
    found = [block_bounds(block, after_stem=n == 0) for n, block in enumerate(sizes)]
    return HeadBounds(
        lower_bytes=max([*rest, *(bound.lower_bytes for bound in found)]),
        upper_bytes=max([*rest, *(bound.upper_bytes for bound in found)]),
    )


def chain_plan(graph: Graph, kernels: Kernels) -> dict[int, int] | None:
    """Arena offsets by tensor number; None for a graph that is no chain of blocks.

    The head, scratch buffers included, is at most the largest upper bound of its blocks. None also
    where the kernels allow no sum in place.
    """
    blocks = blocks_of(graph)
    sizes = [block_sizes(graph, ops, kernels) for ops in blocks or ()]
    if blocks is None or any(block.skip and not block.in_place for block in sizes):
        return None
    arena = _bounds(graph, sizes, kernels).upper_bytes
    place = _stem(graph, sizes[0], arena)
    for number, (ops, block) in enumerate(zip(blocks, sizes, strict=True)):
        place.update(_place_block(ops, block, place, arena, after_stem=number == 0))
    pool, classifier = graph.ops[-2:]
    _opposite(graph, pool, place, arena)
    _opposite(graph, classifier, place, arena)
    return place


def _stem(graph: Graph, first: BlockSizes, arena: int) -> dict[int, int]:
    """Offsets of the image and of the stem's output."""
    image, output = graph.inputs[0], graph.ops[0].outputs[0]
    if _overlaps(first, after_stem=True) and not first.expanded:
        return {image: 0, output: arena - first.x}
    return {image: arena - align(graph.tensors[image].size_bytes), output: 0}


def _overlaps(block: BlockSizes, *, after_stem: bool) -> bool:
    """Whether the depthwise convolution is to write over what it reads."""
    over = overlapped_bytes(block, after_stem=after_stem)
    return over is not None and over < beside_bytes(block)


def _opposite(graph: Graph, op: Op, place: dict[int, int], arena: int) -> None:
    """Put an operator's output at the end of the arena at which its input is not."""
    size = align(graph.tensors[op.outputs[0]].size_bytes)
    place[op.outputs[0]] = 0 if place[op.inputs[0]] else arena - size


def _place_block(
    ops: Sequence[Op],
    block: BlockSizes,
    place: dict[int, int],
    arena: int,
    *,
    after_stem: bool,
) -> dict[int, int]:
    """Offsets of what a block writes."""
    source = place[ops[0].inputs[0]]
    if _overlaps(block, after_stem=after_stem):
        offsets = _overlapped(block, arena)
    elif block.distance is None:
        offsets = _plain(block, source == 0, arena)
    else:
        offsets = _beside(block, arena)
    placed = {op.outputs[0]: offset for op, offset in zip(ops, offsets, strict=False)}
    if block.skip:
        placed[ops[-1].outputs[0]] = source
    return placed


def _overlapped(block: BlockSizes, arena: int) -> tuple[int, ...]:
    """Offsets of [e,] f and y where f lies over what the depthwise convolution reads."""
    x, f, d = block.x, block.f, block.distance or 0
    if not block.expanded:
        return arena - x - d, 0
    if block.skip:
        return x + d, x, x + f
    base = base_bytes(block)
    return base, base - d, 0


def _beside(block: BlockSizes, arena: int) -> tuple[int, ...]:
    """Offsets of [e,] f and y where f lies beside it, and x and y begin the arena."""
    x, e, f, y = block.x, block.expanded, block.f, block.y
    if not e:
        return (x, x + f) if block.skip else (arena - f, 0)
    return (arena - e, x, x + f) if block.skip else (arena - e, y, 0)


def _plain(block: BlockSizes, at_start: bool, arena: int) -> tuple[int, ...]:
    """Offsets of [e,] f and y in a chain without such overlaps, x at either end."""
    x, e, f, y = block.x, block.expanded, block.f, block.y
    if not e:
        if block.skip:
            return (x, x + f) if at_start else (0, f)
        return (arena - f, 0) if at_start else (0, arena - y)
    if at_start:
        return (arena - e, x, x + f) if block.skip else (arena - e, 0, arena - y)
    kept = x if block.skip else 0
    return 0, arena - kept - f, arena - kept - f - y if block.skip else 0
