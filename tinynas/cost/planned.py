"""The head of the arena under our memory plan, block by block, without making the plan.

A depthwise convolution writes over the tensor it reads, and a sum over one of its operands, as
far as the kernels allow (tinynas.cost.overlap). `block_bounds` gives, for an inverted residual
block, what no plan can do with less and what `tinynas.deploy.chain_plan` surely does with: that
plan lets every block begin and end at the start of the arena, so that each condition below
concerns one block alone. Both are maxima over blocks, so cost tables can hold them.

Sizes are aligned to 16 bytes: x the block's input, e the expanded tensor, f the depthwise
convolution's output, y the block's output before the sum; d the distance by which f must begin
below e, and s the scratch buffer of the depthwise convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tinynas.cost.kernels import Kernels, scratch_sizes
from tinynas.cost.memory import align
from tinynas.cost.overlap import distance, safe_kernels
from tinynas.graph import Graph, Op

# What a table's head is: that of the best plan without overlap, or with it that of the plan of a
# chain of blocks, or the least of any plan.
Plan = Literal["plain", "overlap", "overlap-lower"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSizes:
    """The sizes of a block in bytes; `expanded` is 0 and e is x where nothing expands.

    `distance` is None where the depthwise convolution must not write over what it reads, and
    `in_place` tells whether a sum may.
    """

    x: int
    expanded: int
    f: int
    y: int
    scratch: int
    distance: int | None
    skip: bool
    in_place: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadBounds:
    """Bytes of the head that every plan needs, and that the plan of a chain of blocks reaches."""

    lower_bytes: int
    upper_bytes: int


def block_sizes(graph: Graph, ops: Sequence[Op], kernels: Kernels) -> BlockSizes:
    """The sizes of the block that `ops` of a graph are: [expand,] depthwise, project[, add]."""
    depthwise = next(op for op in ops if op.kind == "DEPTHWISE_CONV_2D")
    step = ops.index(depthwise)
    safe = safe_kernels(kernels)

    def size(tensor: int) -> int:
        return align(graph.tensors[tensor].size_bytes)

    source = depthwise.inputs[0]
    far = distance(graph, depthwise, source, safe)
    skip = ops[-1].kind == "ADD"
    operands = ops[-1].inputs if skip else ()
    return BlockSizes(
        x=size(ops[0].inputs[0]),
        expanded=size(source) if step else 0,
        f=size(depthwise.outputs[0]),
        y=size(ops[step + 1].outputs[0]),
        scratch=sum(align(n) for n in scratch_sizes(graph, depthwise, kernels)),
        distance=None if far is None else align(far),
        skip=skip,
        in_place=all(distance(graph, ops[-1], t, safe) == 0 for t in operands),
    )


def plain_bytes(block: BlockSizes) -> int:
    """What a block needs where its depthwise convolution writes beside what it reads.

    In a chain of such blocks, each input at either end of the arena.
    """
    x, e, f, y = block.x, block.expanded, block.f, block.y
    kept = x if block.skip else 0
    summed = (x + y if block.in_place else 2 * x + y) if block.skip else 0
    return max(x + (e or f + block.scratch), kept + e + f + block.scratch, kept + f + y, summed)


def base_bytes(block: BlockSizes) -> int:
    """Where e begins in a block without skip whose input begins the arena: f lies d below.

    Beyond x, with room below f for y, which is to begin the arena again, and for scratch if that
    takes less than putting it above e.
    """
    d = block.distance or 0
    least = max(block.x, block.y + d)
    return min(max(least, block.scratch + d), least + block.scratch)


def overlapped_bytes(block: BlockSizes, *, after_stem: bool = False) -> int | None:
    """What a block needs where its depthwise convolution writes over what it reads.

    None where it cannot: its input and its output begin the arena, but for a block without
    expansion `after_stem`, whose input ends it.
    """
    x, e, f, y, s, d = block.x, block.expanded, block.f, block.y, block.scratch, block.distance
    if d is None:
        return None
    if not e:
        # f begins d below x, and y begins the arena.
        return max(x + d + max(s, y), f + y) if after_stem and not block.skip else None
    if block.skip:
        # f beside x, e above f by d; y then fits above f.
        return max(x + e + d + s, x + f + y, x + y)
    return max(base_bytes(block) + e, f + y)


def beside_bytes(block: BlockSizes) -> int:
    """As `plain_bytes`, where the input and the output must begin the arena.

    That costs something in blocks with expansion and no skip alone: y lies below f.
    """
    apart = block.expanded and not block.skip
    return max(plain_bytes(block), block.expanded + block.f + block.y if apart else 0)


def block_bounds(block: BlockSizes, *, after_stem: bool = False) -> HeadBounds:
    """Bounds of the head while a block runs, `after_stem` or elsewhere."""
    x, e, f, y, s, d = block.x, block.expanded, block.f, block.y, block.scratch, block.distance
    over = overlapped_bytes(block, after_stem=after_stem)
    if d is None:
        return HeadBounds(lower_bytes=plain_bytes(block), upper_bytes=plain_bytes(block))
    upper = beside_bytes(block) if over is None else min(over, beside_bytes(block))
    if block.skip and not e:
        return HeadBounds(lower_bytes=plain_bytes(block), upper_bytes=upper)
    kept, read = x if block.skip else 0, e or x
    convolved = kept + min(read + f, max(read + d, f)) + s
    lower = max(x + e, convolved, kept + f + y, x + y if block.skip else 0)
    return HeadBounds(lower_bytes=lower, upper_bytes=max(lower, upper))
