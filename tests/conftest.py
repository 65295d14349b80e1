"""What several test folders share: repeatable Hypothesis, small spaces and all their subnets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

from tinynas.budget import Budget
from tinynas.cost.device import find_device
from tinynas.cost.flash import file_bytes
from tinynas.cost.kernels import Kernels
from tinynas.cost.latency import find_timer
from tinynas.cost.memory import predict_arena
from tinynas.cost.table import Costs, CostTable, OpLatency, compile_costs
from tinynas.graph import Graph, Op, op_macs, total_macs
from tinynas.space.arch import Arch
from tinynas.space.lower import lower
from tinynas.space.spec import SearchSpace, Stage, Stem

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

CLASSES = 10
TIMER = find_timer(find_device("stm32f746"), "tflm-cmsis-nn")


def _stages(stage: Stage) -> list[tuple[tuple[int, int], ...]]:
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


@pytest.fixture(scope="session")
def subnets() -> Callable[[SearchSpace, float, int], list[Arch]]:
    """All subnets of a space at a width and resolution, listed without genes."""
    return _subnets


def chip_latency_us(graph: Graph, op: Op) -> float:
    """Of the default chip."""
    return TIMER.op_us(graph, op)


def latency_where_5x5_is_slowest_us(graph: Graph, op: Op) -> float:
    """Whole microseconds in which a 5x5 kernel takes four times its multiply-accumulates."""
    slow = op.kind == "DEPTHWISE_CONV_2D" and op.kernel == (5, 5)
    return float(op_macs(graph, op) * (4 if slow else 1) + 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enumerated:
    """A small space at one width and resolution, and what each subnet costs as a whole graph."""

    table: CostTable
    archs: list[Arch]
    costs: Costs

    def fitting(self, budget: Budget) -> npt.NDArray[np.bool_]:
        """Which subnets fit, shape (N,)."""
        latency_ms = np.inf if budget.latency_ms is None else budget.latency_ms
        macs = np.inf if budget.macs is None else budget.macs
        inside: npt.NDArray[np.bool_] = (
            (self.costs.sram_bytes <= budget.sram_bytes)
            & (self.costs.flash_bytes <= budget.flash_bytes)
            & (self.costs.latency_ms <= latency_ms)
            & (self.costs.macs <= macs)
        )
        return inside

    def limits(self, sram: float, flash: float, latency: float | None = None) -> Budget:
        """Limits below which such shares of all subnets lie, of latency between two values."""
        latencies = np.unique(np.round(self.costs.latency_ms, 9))
        place = 0 if latency is None else int(latency * (len(latencies) - 2))
        return Budget(
            sram_bytes=int(np.quantile(self.costs.sram_bytes, sram)),
            flash_bytes=int(np.quantile(self.costs.flash_bytes, flash)),
            latency_ms=None if latency is None else float(latencies[place : place + 2].mean()),
        )

    def just(self, index: int, *, timed: bool) -> Budget:
        """The tightest limits that a subnet keeps."""
        latency_ms = float(self.costs.latency_ms[index]) * (1 + 1e-9)
        return Budget(
            sram_bytes=int(self.costs.sram_bytes[index]),
            flash_bytes=int(self.costs.flash_bytes[index]),
            latency_ms=latency_ms if timed else None,
        )

    def just_one(self, *, timed: bool) -> Budget:
        """Limits that exactly one subnet keeps."""
        cheap = np.argsort(self.costs.flash_bytes + self.costs.sram_bytes, kind="stable")
        tight = (self.just(int(index), timed=timed) for index in cheap)
        return next(budget for budget in tight if self.fitting(budget).sum() == 1)

    def budgets(self) -> list[Budget]:
        """Limits that no subnet, one, some and all keep, with and without latency and MACs."""
        shares = (0.05, 0.3, 0.6, 0.95, 1.0)
        sizes = [self.limits(sram, flash) for sram, flash in product(shares, shares)]
        timed = [self.limits(*s) for s in product((0.2, 0.7, 1.0), (0.4, 1.0), (0.1, 0.5, 0.9))]
        ones = [self.just_one(timed=timed) for timed in (False, True)]
        low = self.costs.sram_bytes.min(), self.costs.flash_bytes.min()
        none = [
            Budget(sram_bytes=int(low[0]) - 1, flash_bytes=2**30),
            Budget(sram_bytes=2**30, flash_bytes=int(low[1]) - 1),
            Budget(sram_bytes=1, flash_bytes=1, latency_ms=1e-9),
            Budget(
                sram_bytes=2**30,
                flash_bytes=2**30,
                latency_ms=float(self.costs.latency_ms.min()) * (1 - 1e-6),
            ),
        ]
        every = Budget(sram_bytes=2**30, flash_bytes=2**30)
        computed = [
            replace(budget, macs=int(np.quantile(self.costs.macs, share)))
            for budget, share in product((every, sizes[18], timed[8]), (0.0, 0.3, 0.7))
        ]
        none.append(replace(every, macs=int(self.costs.macs.min()) - 1))
        return [*sizes, *timed, *ones, *none, *computed, every]


def _space(name: str, *stages: Stage) -> SearchSpace:
    return SearchSpace(
        name=name,
        stem=Stem(kernel=3, stride=2, channels=8),
        stages=stages,
        width_multipliers=(1.0,),
        resolutions=(20,),
    )


def _stage(
    channels: int, stride: int, depth: tuple[int, ...], kernel: tuple[int, ...], *expansion: int
) -> Stage:
    return Stage(channels=channels, stride=stride, depth=depth, kernel=kernel, expansion=expansion)


SMALL_SPACES: dict[str, tuple[SearchSpace, Kernels, OpLatency]] = {
    "like mcunet": (  # 1,764 subnets
        _space(
            "like-mcunet",
            _stage(16, 1, (1,), (3,), 1),
            _stage(24, 2, (1, 2), (3, 5, 7), 3, 6),
            _stage(40, 2, (1, 2), (3, 5), 3, 4, 6),
        ),
        "cmsis-nn-dsp",
        chip_latency_us,
    ),
    "1x1 needs more scratch than 3x3": (  # 1,360; the first blocks have no skip, the others do
        _space(
            "scratch", _stage(16, 1, (1, 2), (1, 3), 2, 3), _stage(24, 2, (1, 3), (1, 3), 2, 4)
        ),
        "cmsis-nn-dsp",
        chip_latency_us,
    ),
    "5x5 is slower than 7x7": (  # 1,512
        _space(
            "slow-5x5",
            _stage(16, 2, (1, 2), (3, 5, 7), 2, 3),
            _stage(16, 1, (1, 2), (5, 7), 3),
            _stage(24, 1, (1, 2), (3,), 2, 4),
        ),
        "cmsis-nn-c",
        latency_where_5x5_is_slowest_us,
    ),
    "wide head, long tail": (  # 6,800
        _space(
            "coupled",
            _stage(16, 1, (1, 2), (3, 5), 2, 6),
            _stage(24, 2, (1, 2), (3, 7), 2, 3),
            _stage(96, 2, (2,), (3, 5), 3, 6),
            _stage(8, 1, (1,), (3,), 2),
        ),
        "reference",
        chip_latency_us,
    ),
}


@pytest.fixture(scope="session", params=SMALL_SPACES)
def enumerated(request: pytest.FixtureRequest) -> Enumerated:
    """A small space's table, and its subnets with the costs of their whole lowered graphs."""
    space, kernels, latency = SMALL_SPACES[request.param]
    archs = _subnets(space, 1.0, 20)
    rows = []
    for arch in archs:
        graph = lower(space, arch, classes=CLASSES)
        arena = predict_arena(graph, kernels)
        sizes = (arena.sram_bytes, arena.head_bytes, arena.tail_bytes)
        rows.append((total_macs(graph), file_bytes(graph), *sizes))
    macs, flash, sram, head, tail = np.array(rows, np.int64).T
    graphs = (lower(space, arch, classes=CLASSES) for arch in archs)
    latency_us = [sum(latency(graph, op) for op in graph.ops) for graph in graphs]
    table = compile_costs(
        space,
        width=1.0,
        resolution=20,
        classes=CLASSES,
        channels=3,
        kernels=kernels,
        latency=latency,
    )
    costs = Costs(
        macs=macs,
        flash_bytes=flash,
        sram_bytes=sram,
        head_bytes=head,
        tail_bytes=tail,
        latency_ms=np.array(latency_us) / 1000,
    )
    return Enumerated(table=table, archs=archs, costs=costs)
