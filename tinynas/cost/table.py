"""The costs of all subnets of one (space, width multiplier, resolution), compiled to arrays.

With width and resolution fixed, MACs, latency, file bytes and the parts of the arena's tail are
sums over blocks, and the head is a maximum over operators. Each block's share depends on its
stage, on whether it is the first of the stage, and on its kernel and expansion alone, so it is
lowered and costed once, by the same functions that cost a whole graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinynas.cost.flash import fixed_file_bytes, op_file_bytes
from tinynas.cost.memory import (
    INPUT_PART,
    Kernels,
    TailPart,
    align,
    head_by_op,
    planning_bytes,
    sum_tail,
    tail_bytes,
    tail_part,
)
from tinynas.graph import Graph, Op, op_macs
from tinynas.space.arch import Genes, smallest
from tinynas.space.lower import CLASSIFIER, POOL, GraphBuilder, block_prefix, lower
from tinynas.space.spec import SearchSpace

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
OpLatency = Callable[[Graph, Op], float]

SUMS = ("macs", "flash", "struct", "kernel", "scratch", "tensors", "buffers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one piece of a network adds: `sums` in the order of SUMS, head bytes, microseconds."""

    sums: tuple[int, ...]
    head_bytes: int
    latency_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTable:
    """A stage's parts by [position, kernel index, expansion index].

    `sums` has shape (positions, kernels, expansions, len(SUMS)); `head_bytes` and `latency_us`
    lack the last axis.
    """

    depths: tuple[int, ...]
    sums: Ints
    head_bytes: Ints
    latency_us: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Predicted costs of N subnets, each of shape (N,)."""

    macs: Ints
    flash_bytes: Ints
    sram_bytes: Ints
    head_bytes: Ints
    tail_bytes: Ints
    latency_ms: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class CostTable:
    """Costs of every subnet of a space at one width multiplier and resolution."""

    space: SearchSpace
    width: float
    resolution: int
    base: Part
    stages: tuple[StageTable, ...]

    def evaluate(self, genes: Genes) -> Costs:
        """Costs of subnets given as genes of shape (N, genes): the per-graph results, exactly."""
        genes = np.atleast_2d(genes)
        count = len(genes)
        sums = np.tile(np.array(self.base.sums, np.int64), (count, 1))
        head = np.full(count, self.base.head_bytes, np.int64)
        latency_us = np.full(count, self.base.latency_us)
        start = 0
        for stage in self.stages:
            depth = np.array(stage.depths)[genes[:, start]]
            for position in range(stage.depths[-1]):
                exists = position < depth
                kernel, expansion = genes[:, start + 1 + 2 * position : start + 3 + 2 * position].T
                sums += stage.sums[position, kernel, expansion] * exists[:, None]
                part = stage.head_bytes[position, kernel, expansion]
                head = np.maximum(head, np.where(exists, part, 0))
                latency_us += stage.latency_us[position, kernel, expansion] * exists
            start += 1 + 2 * stage.depths[-1]
        return costs_of(sums, head, latency_us)


def costs_of(sums: Ints, head_bytes: Ints, latency_us: Floats) -> Costs:
    """Costs from sums of shape (N, len(SUMS)), and heads and latencies of shape (N,)."""
    by_name = dict(zip(SUMS, sums.T, strict=True))
    total: TailPart[Ints] = TailPart(
        struct_bytes=by_name["struct"],
        kernel_bytes=by_name["kernel"],
        scratch_buffers=by_name["scratch"],
        tensors=by_name["tensors"],
        buffers=by_name["buffers"],
    )
    tail = tail_bytes(total)
    return Costs(
        macs=by_name["macs"],
        flash_bytes=by_name["flash"],
        sram_bytes=align(tail + np.maximum(head_bytes, planning_bytes(total))),
        head_bytes=head_bytes,
        tail_bytes=tail,
        latency_ms=latency_us / 1000,
    )


def _part(graph: Graph, kernels: Kernels, latency: OpLatency) -> Part:
    tail = sum_tail([tail_part(graph, op, kernels) for op in graph.ops])
    return Part(
        sums=(
            sum(op_macs(graph, op) for op in graph.ops),
            sum(op_file_bytes(graph, op) for op in graph.ops),
            tail.struct_bytes,
            tail.kernel_bytes,
            tail.scratch_buffers,
            tail.tensors,
            tail.buffers,
        ),
        head_bytes=max(head_by_op(graph, kernels)),
        latency_us=sum(latency(graph, op) for op in graph.ops),
    )


def _base_part(whole: Graph, kernels: Kernels, latency: OpLatency) -> Part:
    """Stem, pool and classifier, with what belongs to the model as a whole."""
    heads = head_by_op(whole, kernels)
    ops = [op for op in whole.ops if op.name in ("stem", POOL, CLASSIFIER)]
    tail = sum_tail([INPUT_PART, *(tail_part(whole, op, kernels) for op in ops)])
    return Part(
        sums=(
            sum(op_macs(whole, op) for op in ops),
            fixed_file_bytes(whole) + sum(op_file_bytes(whole, op) for op in ops),
            tail.struct_bytes,
            tail.kernel_bytes,
            tail.scratch_buffers,
            tail.tensors,
            tail.buffers,
        ),
        head_bytes=max(heads[whole.ops.index(op)] for op in ops),
        latency_us=sum(latency(whole, op) for op in ops),
    )


def _block_graph(
    prefix: str, size: int, cin: int, cout: int, kernel: int, expansion: int, stride: int
) -> Graph:
    builder = GraphBuilder()
    x = builder.tensor("x", (1, size, size, cin))
    y = builder.block(prefix, x, cout=cout, kernel=kernel, expansion=expansion, stride=stride)
    return builder.build(prefix, (x,), (y,))


def compile_costs(
    space: SearchSpace,
    *,
    width: float,
    resolution: int,
    classes: int,
    channels: int,
    kernels: Kernels,
    latency: OpLatency,
) -> CostTable:
    """The cost table of a space at a width multiplier and resolution.

    `latency` gives the microseconds of one operator; it must depend on nothing but its shapes.
    """
    arch = smallest(space, width=width, resolution=resolution)
    base = _base_part(lower(space, arch, classes=classes, channels=channels), kernels, latency)
    size = -(-resolution // space.stem.stride)
    cin, *stage_channels = space.channels(width)
    stages = []
    for number, (stage, cout) in enumerate(zip(space.stages, stage_channels, strict=True)):
        shape = (stage.depth[-1], len(stage.kernel), len(stage.expansion))
        sums = np.zeros((*shape, len(SUMS)), np.int64)
        head = np.zeros(shape, np.int64)
        latency_us = np.zeros(shape)
        after = -(-size // stage.stride)
        for k, kernel in enumerate(stage.kernel):
            for e, expansion in enumerate(stage.expansion):
                for position in range(min(2, stage.depth[-1])):
                    geometry = (
                        (size, cin, cout, kernel, expansion, stage.stride)
                        if position == 0
                        else (after, cout, cout, kernel, expansion, 1)
                    )
                    graph = _block_graph(block_prefix(number, position), *geometry)
                    part = _part(graph, kernels, latency)
                    here = slice(0, 1) if position == 0 else slice(1, None)
                    sums[here, k, e] = part.sums
                    head[here, k, e] = part.head_bytes
                    latency_us[here, k, e] = part.latency_us
        stages.append(
            StageTable(depths=stage.depth, sums=sums, head_bytes=head, latency_us=latency_us)
        )
        size, cin = after, cout
    return CostTable(
        space=space, width=width, resolution=resolution, base=base, stages=tuple(stages)
    )
