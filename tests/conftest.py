"""What several test folders share: repeatable Hypothesis, small spaces and all of their subnets."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import product

import numpy as np
import pytest
from hypothesis import settings

from tinynas.cost.flash import file_bytes
from tinynas.cost.memory import Kernels, predict_arena
from tinynas.cost.table import Costs, OpLatency
from tinynas.graph import total_macs
from tinynas.space.arch import Arch
from tinynas.space.lower import lower
from tinynas.space.spec import SearchSpace, Stage

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

CLASSES = 10


def _stages(stage: Stage) -> list[tuple[tuple[tuple[int, int], ...], ...]]:
    blocks = list(product(stage.kernel, stage.expansion))
    return [chosen for depth in stage.depth for chosen in product(blocks, repeat=depth)]


def _subnets(space: SearchSpace, width: float, resolution: int) -> list[Arch]:
    return [
        Arch(
            space=space.name,
            width=width,
            resolution=resolution,
            kernels=tuple(tuple(kernel for kernel, _ in stage) for stage in stages),
            expansions=tuple(tuple(expansion for _, expansion in stage) for stage in stages),
        )
        for stages in product(*(_stages(stage) for stage in space.stages))
    ]


@lru_cache(maxsize=8)
def _whole_graph_costs(
    space: SearchSpace, width: float, resolution: int, kernels: Kernels, latency: OpLatency
) -> Costs:
    rows = []
    for arch in _subnets(space, width, resolution):
        graph = lower(space, arch, classes=CLASSES)
        arena = predict_arena(graph, kernels)
        latency_ms = sum(latency(graph, op) for op in graph.ops) / 1000
        sizes = (file_bytes(graph), arena.sram_bytes, arena.head_bytes, arena.tail_bytes)
        rows.append((total_macs(graph), *sizes, latency_ms))
    *whole, latencies = zip(*rows, strict=True)
    macs, flash, sram, head, tail = (np.array(column, np.int64) for column in whole)
    return Costs(
        macs=macs,
        flash_bytes=flash,
        sram_bytes=sram,
        head_bytes=head,
        tail_bytes=tail,
        latency_ms=np.array(latencies, float),
    )


@pytest.fixture(scope="session")
def subnets() -> Callable[[SearchSpace, float, int], list[Arch]]:
    """All subnets of a space at a width and resolution, listed without genes."""
    return _subnets


@pytest.fixture(scope="session")
def whole_graph_costs() -> Callable[[SearchSpace, float, int, Kernels, OpLatency], Costs]:
    """Costs of all subnets in the order of `subnets`, each from its whole lowered graph."""
    return _whole_graph_costs
