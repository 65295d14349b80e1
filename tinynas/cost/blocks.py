"""What one block adds to the costs of a network, for as many widths and resolutions as wanted.

Blocks are lowered and costed by the same functions that cost a whole graph. Many of them return:
the operators of a stage's blocks differ in few ways, neighbouring widths round to the same
channels, and files know nothing of image sizes. A `Costing` remembers what it has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import compress
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from tinynas.cost.flash import fixed_file_bytes, op_file_bytes
from tinynas.cost.kernels import Kernels
from tinynas.cost.memory import (
    TailPart,
    head_by_op,
    model_part,
    preparing_by_op,
    tail_part,
)
from tinynas.cost.planned import Plan, block_bounds, block_sizes
from tinynas.cost.prefix import operator_bytes, patched_prefix, prefix_head, prefix_tail
from tinynas.graph import Graph, Op, Tensor, op_macs, total_macs
from tinynas.space.lower import CLASSIFIER, POOL, GraphBuilder, block_prefix

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
OpLatency = Callable[[Graph, Op], float]

# Columns of everything that is summed over blocks; the arena's tail has several.
TAIL_SUMS = tuple(field.name for field in fields(TailPart))
SUMS = ("macs", "flash_bytes", *TAIL_SUMS)

_tail_sums: Callable[[TailPart[int]], tuple[int, ...]] = attrgetter(*TAIL_SUMS)
# All that tells one operator from another but its name and the numbers of its tensors.
_op_traits = attrgetter(
    *(f.name for f in fields(Op) if f.name not in ("name", "inputs", "outputs"))
)
_tensor_traits = attrgetter(*(f.name for f in fields(Tensor) if f.name != "name"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one piece of a network adds: `sums` in the order of SUMS, and microseconds.

    Of `head_bytes` and `preparing_bytes`, see `memory.preparing_by_op`, a network has the most
    that one of its pieces has.
    """

    sums: tuple[int, ...]
    head_bytes: int
    preparing_bytes: int
    latency_us: float


@dataclass(frozen=True, slots=True)
class Block:
    """An inverted residual block on maps of `size` x `size` pixels; `prefix` names it."""

    prefix: str
    size: int
    cin: int
    cout: int
    kernel: int
    expansion: int
    stride: int

    def graph(self) -> Graph:
        """The block alone."""
        builder = GraphBuilder()
        x = builder.tensor("x", (1, self.size, self.size, self.cin))
        y = builder.block(
            self.prefix,
            x,
            cout=self.cout,
            kernel=self.kernel,
            expansion=self.expansion,
            stride=self.stride,
        )
        return builder.build(self.prefix, (x,), (y,))


class Costing:
    """Costs of blocks for one kernel library, memory plan and latency, each found once.

    `latency` gives the microseconds of one operator; it must depend on nothing but its shapes.
    """

    def __init__(self, kernels: Kernels, latency: OpLatency, plan: Plan = "plain") -> None:
        self.kernels = kernels
        self.latency = latency
        self.plan = plan
        self._ops: dict[tuple[object, ...], tuple[float, ...]] = {}
        self._flash: dict[tuple[int, ...], int] = {}
        self._blocks: dict[tuple[int, ...], Part] = {}

    def block(self, block: Block) -> Part:
        """What a block adds."""
        weights = (
            len(block.prefix),  # names lie in the file
            block.cin,
            block.cout,
            block.kernel,
            block.expansion,
            block.stride,
        )
        after_stem = block.prefix == block_prefix(0, 0)
        key = (block.size, after_stem, *weights)
        if key not in self._blocks:
            graph = block.graph()
            if weights not in self._flash:
                self._flash[weights] = sum(op_file_bytes(graph, op) for op in graph.ops)
            part = self._part(graph, graph.ops, self._flash[weights])
            if self.plan != "plain":
                bounds = block_bounds(
                    block_sizes(graph, graph.ops, self.kernels), after_stem=after_stem
                )
                head = bounds.upper_bytes if self.plan == "overlap" else bounds.lower_bytes
                part = replace(part, head_bytes=head)
            self._blocks[key] = part
        return self._blocks[key]

    def rest(self, whole: Graph, patched: Graph | None = None) -> Part:
        """Stem, pool and classifier of a graph, with what belongs to the model as a whole.

        Without the stem where a prefix of it is `patched`.
        """
        names = (POOL, CLASSIFIER) if patched else ("stem", POOL, CLASSIFIER)
        ops = [op for op in whole.ops if op.name in names]
        flash_bytes = fixed_file_bytes(whole) + sum(op_file_bytes(whole, op) for op in ops)
        part = self._part(whole, ops, flash_bytes)
        begun = replace(whole, ops=(patched or whole).ops[:1])
        tail = map(
            sum, zip(part.sums[2:], _tail_sums(model_part(begun, self.kernels)), strict=True)
        )
        return replace(part, sums=(*part.sums[:2], *tail))

    def prefix(self, graph: Graph, patches: int) -> Part:
        """What a prefix on patches adds; its multiply-accumulates are those without patches."""
        patched = patched_prefix(graph, patches)
        tail = _tail_sums(prefix_tail(patched, self.kernels))
        return Part(
            sums=(total_macs(graph), operator_bytes(patched), *tail),
            head_bytes=prefix_head(patched, self.kernels),
            preparing_bytes=max(preparing_by_op(patched, self.kernels)),
            latency_us=sum(self._op(patched, op)[-1] for op in patched.ops),
        )

    def _part(self, graph: Graph, ops: Sequence[Op], flash_bytes: int) -> Part:
        of_part = [op in ops for op in graph.ops]
        *sums, latency_us = map(sum, zip(*(self._op(graph, op) for op in ops), strict=True))
        macs, *tail = map(int, sums)
        return Part(
            sums=(macs, flash_bytes, *tail),
            head_bytes=max(compress(head_by_op(graph, self.kernels), of_part)),
            preparing_bytes=max(compress(preparing_by_op(graph, self.kernels), of_part)),
            latency_us=latency_us,
        )

    def _op(self, graph: Graph, op: Op) -> tuple[float, ...]:
        """Multiply-accumulates, shares of the tail and microseconds of one operator."""
        tensors = [_tensor_traits(graph.tensors[t]) for t in (*op.inputs, *op.outputs)]
        key = (_op_traits(op), *tensors)
        if key not in self._ops:
            tail = _tail_sums(tail_part(graph, op, self.kernels))
            self._ops[key] = (op_macs(graph, op), *tail, self.latency(graph, op))
        return self._ops[key]


# By kernel library, latency and plan: what tables that are compiled one after another can share.
Memo = dict[tuple[Kernels, OpLatency, Plan], Costing]
