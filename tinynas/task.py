"""What every subnet of a run has in common, and the cost tables that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from tinynas.cost.blocks import Memo, OpLatency
from tinynas.cost.kernels import Kernels
from tinynas.cost.planned import Plan
from tinynas.cost.table import CostTable, compile_costs
from tinynas.space.spec import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What every subnet of a run has in common: the data's shape and what executes the model.

    `latency` gives the microseconds of an operator, to the sum of which an inference adds
    `inference_us`. `patch` allows spaces whose subnets begin on patches, where that lets better
    ones fit.
    """

    classes: int
    channels: int
    kernels: Kernels
    latency: OpLatency
    inference_us: float = 0.0
    plan: Plan = "overlap"
    patch: bool = False


def compile_task(
    space: SearchSpace,
    task: Task,
    width: float,
    resolution: int,
    memo: Memo | None = None,
    patches: int = 1,
) -> CostTable:
    """The cost table of one (width, resolution) for a task, begun on that many patches squared.

    Tables that share a `memo`, a dict that starts empty, are compiled faster.
    """
    return compile_costs(
        space,
        width=width,
        resolution=resolution,
        classes=task.classes,
        channels=task.channels,
        kernels=task.kernels,
        latency=task.latency,
        inference_us=task.inference_us,
        plan=task.plan,
        patches=patches,
        memo=memo,
    )
