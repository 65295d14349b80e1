"""The costs of all subnets of one (space, width multiplier, resolution), compiled to arrays.

With width and resolution fixed, MACs, latency, file bytes and the parts of the arena's tail are
sums over blocks, and the head is a maximum over operators. Each block's share depends on its
stage, on whether it is the first of the stage, and on its kernel and expansion alone, so it is
lowered and costed once, by the same functions that cost a whole graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from tinynas.cost.blocks import (
    SUMS,
    TAIL_SUMS,
    Block,
    Costing,
    Floats,
    Ints,
    Memo,
    OpLatency,
    Part,
)
from tinynas.cost.kernels import Kernels
from tinynas.cost.lookup import Lookup, StageTable, build_lookup
from tinynas.cost.memory import REQUEST_BYTES, TailPart, align, planning_bytes, tail_bytes
from tinynas.cost.planned import Plan
from tinynas.cost.prefix import patched_prefix, prefix_graph, split_stage
from tinynas.graph import Graph
from tinynas.space.arch import Arch, Genes, smallest
from tinynas.space.lower import block_prefix, lower
from tinynas.space.spec import SearchSpace, Stage

# Subnets costed together: enough to forget the calls, few enough for their genes to stay cached.
CHUNK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Predicted costs of N subnets, each of shape (N,)."""

    macs: Ints
    flash_bytes: Ints
    sram_bytes: Ints
    head_bytes: Ints
    tail_bytes: Ints
    latency_ms: Floats


@dataclass(frozen=True, kw_only=True)
class CostTable:
    """Costs of every subnet of a space at one width multiplier and resolution."""

    space: SearchSpace
    width: float
    resolution: int
    patches: int
    base: Part
    stages: tuple[StageTable, ...]

    @cached_property
    def _lookup(self) -> Lookup:
        """Made when first needed: counting never does. (A cache, hence a class without slots.)"""
        return build_lookup(self.base, self.stages)

    def evaluate(self, genes: Genes) -> Costs:
        """Costs of subnets given as genes of shape (N, genes): the per-graph results, exactly.

        Genes of absent blocks count for nothing. Raises IndexError for one out of range.
        """
        genes = np.atleast_2d(genes)
        starts = range(0, max(len(genes), 1), CHUNK)
        chunks = [costs_of(*self._lookup.totals(genes[s : s + CHUNK])) for s in starts]
        names = [field.name for field in fields(Costs)]
        return Costs(
            **{name: np.concatenate([getattr(c, name) for c in chunks]) for name in names}
        )


def costs_of(
    sums: Sequence[Ints] | Ints, head_bytes: Ints, preparing_bytes: Ints, latency_us: Floats
) -> Costs:
    """Costs of N subnets from their columns of SUMS, maxima and latencies, each of shape (N,)."""
    by_name = dict(zip(SUMS, sums, strict=True))
    total: TailPart[Ints] = TailPart(**{name: by_name[name] for name in TAIL_SUMS})
    tail = tail_bytes(total)
    preparing = preparing_bytes + REQUEST_BYTES * total.scratch_buffers
    planning = np.maximum(planning_bytes(total), preparing)
    return Costs(
        macs=by_name["macs"],
        flash_bytes=by_name["flash_bytes"],
        sram_bytes=align(tail + np.maximum(head_bytes, planning)),
        head_bytes=head_bytes,
        tail_bytes=tail,
        latency_ms=latency_us / 1000,
    )


def _stage_table(
    costing: Costing, number: int, stage: Stage, size: int, cin: int, cout: int
) -> StageTable:
    """The parts of a stage that reads maps of `size` x `size` pixels and `cin` channels."""
    shape = (stage.depth[-1], len(stage.kernel), len(stage.expansion))
    sums = np.zeros((*shape, len(SUMS)), np.int64)
    head, preparing = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    latency_us = np.zeros(shape)
    first = (size, cin, stage.stride)
    later = (-(-size // stage.stride), cout, 1)
    for position, (pixels, channels, stride) in enumerate((first, later)[: shape[0]]):
        # All blocks after the first are alike.
        here = slice(0, 1) if position == 0 else slice(1, None)
        for k, kernel in enumerate(stage.kernel):
            for e, expansion in enumerate(stage.expansion):
                prefix = block_prefix(number, position)
                part = costing.block(
                    Block(prefix, pixels, channels, cout, kernel, expansion, stride)
                )
                sums[here, k, e] = part.sums
                head[here, k, e] = part.head_bytes
                preparing[here, k, e] = part.preparing_bytes
                latency_us[here, k, e] = part.latency_us
    return StageTable(
        depths=stage.depth,
        sums=sums,
        head_bytes=head,
        preparing_bytes=preparing,
        latency_us=latency_us,
    )


def compile_costs(
    space: SearchSpace,
    *,
    width: float,
    resolution: int,
    classes: int,
    channels: int,
    kernels: Kernels,
    latency: OpLatency,
    inference_us: float = 0.0,
    plan: Plan = "plain",
    patches: int = 1,
    memo: Memo | None = None,
) -> CostTable:
    """The cost table of a space at a width multiplier and resolution, under a memory plan.

    With `patches` p above 1 the network begins on p x p patches; see tinynas.cost.prefix.

    `latency` gives the microseconds of one operator; it must depend on nothing but its shapes. To
    their sum `inference_us` are added. Tables that share a `memo`, a dict that starts empty, share
    what their blocks have in common.
    """
    memo = {} if memo is None else memo
    costing = memo.setdefault((kernels, latency, plan), Costing(kernels, latency, plan))
    arch = smallest(space, width=width, resolution=resolution)
    whole = lower(space, arch, classes=classes, channels=channels)
    size = -(-resolution // space.stem.stride)
    cin, *stage_channels = space.channels(width)
    stages = []
    for number, (stage, cout) in enumerate(zip(space.stages, stage_channels, strict=True)):
        stages.append(_stage_table(costing, number, stage, size, cin, cout))
        size, cin = -(-size // stage.stride), cout
    if patches > 1:
        base, stages = _on_patches(costing, space, whole, stages, arch, patches)
    else:
        base = costing.rest(whole)
    return CostTable(
        space=space,
        width=width,
        resolution=resolution,
        patches=patches,
        base=replace(base, latency_us=base.latency_us + inference_us),
        stages=tuple(stages),
    )


def _on_patches(
    costing: Costing,
    space: SearchSpace,
    whole: Graph,
    stages: list[StageTable],
    arch: Arch,
    patches: int,
) -> tuple[Part, list[StageTable]]:
    """The parts of a network on patches up to the first block with choices.

    That block's parts hold all that runs on patches, those of the stages before it nothing.
    """
    at = split_stage(space)
    table, stage = stages[at], space.stages[at]
    sums, head = table.sums.copy(), table.head_bytes.copy()
    preparing, latency_us = table.preparing_bytes.copy(), table.latency_us.copy()
    first: Graph | None = None
    for k, kernel in enumerate(stage.kernel):
        for e, expansion in enumerate(stage.expansion):
            graph = prefix_graph(
                space,
                width=arch.width,
                resolution=arch.resolution,
                channels=whole.tensors[whole.inputs[0]].shape[-1],
                kernel=kernel,
                expansion=expansion,
            )
            first = first or patched_prefix(graph, patches)
            part = costing.prefix(graph, patches)
            sums[0, k, e] = part.sums
            head[0, k, e], preparing[0, k, e] = part.head_bytes, part.preparing_bytes
            latency_us[0, k, e] = part.latency_us
    found = replace(
        table, sums=sums, head_bytes=head, preparing_bytes=preparing, latency_us=latency_us
    )
    return costing.rest(whole, first), [
        *(_nothing(before) for before in stages[:at]),
        found,
        *stages[at + 1 :],
    ]


def _nothing(stage: StageTable) -> StageTable:
    """A stage that adds nothing."""
    return StageTable(
        depths=stage.depths,
        sums=np.zeros_like(stage.sums),
        head_bytes=np.zeros_like(stage.head_bytes),
        preparing_bytes=np.zeros_like(stage.preparing_bytes),
        latency_us=np.zeros_like(stage.latency_us),
    )
