"""Why no subnet fits a budget, and what would make one fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from tinynas.budget import Budget, format_bytes, time_text
from tinynas.cost.blocks import Memo
from tinynas.cost.fitting import fits, minimal_costs
from tinynas.cost.memory import head_by_op
from tinynas.cost.table import Costs, CostTable
from tinynas.space.arch import smallest
from tinynas.space.lower import lower
from tinynas.space.spec import SearchSpace
from tinynas.task import Task, compile_task

NO_LIMIT_BYTES = 2**62


def explain(
    space: SearchSpace,
    budget: Budget,
    task: Task,
    tables: Sequence[CostTable],
    minimal: Sequence[Costs],
) -> str:
    """Why nothing fits: what the smallest subnet needs, where its peak is, what would help.

    `minimal` has the minimal costs of each table. The smallest is that without patches.
    """
    whole = [number for number, table in enumerate(tables) if table.patches == 1]
    at = min(whole, key=lambda number: int(minimal[number].sram_bytes.min()))
    table, costs = tables[at], minimal[at]
    least = int(np.argmin(costs.sram_bytes))
    arch = smallest(space, width=table.width, resolution=table.resolution)
    graph = lower(space, arch, classes=task.classes, channels=task.channels)
    heads = head_by_op(graph, task.kernels)
    needs = (
        f"{format_bytes(int(costs.sram_bytes[least]))} of SRAM "
        f"({int(costs.tail_bytes[least]):,} of them the runtime's own records; the activations "
        f"peak at operator {graph.ops[heads.index(max(heads))].name}) and "
        f"{format_bytes(int(costs.flash_bytes[least]))} of flash"
    )
    if budget.macs is not None:
        needs += f", and computes {int(costs.macs[least]):,} MACs"
    if budget.timed:
        needs += f", and takes {time_text(budget, float(costs.latency_ms[least]))}; "
        needs += _fastest(budget, tables, minimal)
    changes = _changes(space, budget, task, minimal)
    help_ = " or ".join(changes) or f"no single change, but {_together(budget, costs, least)}"
    on = ", without patches" if len(whole) < len(tables) else ""
    return (
        f"no subnet of {space.name} fits {_limits(budget)}: the smallest (width {table.width:g}, "
        f"resolution {table.resolution}{on}) needs {needs}; what would make it possible: {help_}"
    )


def _limits(budget: Budget) -> str:
    words = [f"SRAM {format_bytes(budget.sram_bytes)}, flash {format_bytes(budget.flash_bytes)}"]
    if budget.latency_ms is not None:
        words.append(f"latency {budget.latency_ms:g} ms")
    if budget.energy_mj is not None:
        words.append(f"energy {budget.energy_mj:g} mJ")
    if budget.confidence is not None:
        words.append(f"confidence {budget.confidence:g}")
    if budget.macs is not None:
        words.append(f"MACs {budget.macs:,}")
    return ", ".join(words)


def _fastest(budget: Budget, tables: Sequence[CostTable], minimal: Sequence[Costs]) -> str:
    """The fastest subnet inside SRAM and flash, the fastest of all where there is none."""
    untimed = replace(budget, latency_ms=None, energy_mj=None, macs=None)
    inside = [fits(costs, untimed) for costs in minimal]
    some = any(found.any() for found in inside)
    times = [
        float(costs.latency_ms[found if some else slice(None)].min(initial=np.inf))
        for costs, found in zip(minimal, inside, strict=True)
    ]
    at = int(np.argmin(times))
    which = "that fits SRAM and flash" if some else "of all, which does not fit SRAM and flash,"
    table = tables[at]
    on = f", {table.patches}x{table.patches} patches" if table.patches > 1 else ""
    return (
        f"the fastest {which} (width {table.width:g}, resolution {table.resolution}{on}) "
        f"takes {time_text(budget, times[at])}"
    )


def _least(costs: Sequence[Costs], budget: Budget, column: str) -> float | None:
    """The least of one cost among the subnets that keep all limits; None if none does."""
    values = np.concatenate([getattr(c, column)[fits(c, budget)] for c in costs])
    return float(values.min()) if len(values) else None


def _changes(
    space: SearchSpace, budget: Budget, task: Task, minimal: Sequence[Costs]
) -> list[str]:
    """Every single change that makes the budget possible, as a person would type it."""
    changes = []
    sram = _least(minimal, replace(budget, sram_bytes=NO_LIMIT_BYTES), "sram_bytes")
    if sram is not None:
        changes.append(f"--sram {int(sram)}")
    flash = _least(minimal, replace(budget, flash_bytes=NO_LIMIT_BYTES), "flash_bytes")
    if flash is not None:
        changes.append(f"--flash {int(flash)}")
    if budget.latency_ms is not None:
        latency = _least(minimal, replace(budget, latency_ms=None), "latency_ms")
        if latency is not None:
            changes.append(f"--latency {_milliseconds(budget.at_most_ms(latency))}")
    if budget.energy_mj is not None:
        latency = _least(minimal, replace(budget, energy_mj=None), "latency_ms")
        if latency is not None:
            changes.append(f"--energy {_millijoules(budget.at_most_mj(latency))}")
    if budget.macs is not None:
        macs = _least(minimal, replace(budget, macs=None), "macs")
        if macs is not None:
            changes.append(f"max_macs: {int(macs)}")
    resolution = _smaller_resolution(space, budget, task)
    if resolution is not None:
        changes.append(
            f"a space with a resolution of {resolution} pixels "
            f"(the smallest of {space.name} is {space.resolutions[0]})"
        )
    return changes


def _together(budget: Budget, costs: Costs, least: int) -> str:
    """All limits that a subnet needs, as a person would type them."""
    words = [f"--sram {int(costs.sram_bytes[least])} --flash {int(costs.flash_bytes[least])}"]
    latency_ms = float(costs.latency_ms[least])
    if budget.latency_ms is not None:
        words.append(f"--latency {_milliseconds(budget.at_most_ms(latency_ms))}")
    if budget.energy_mj is not None:
        words.append(f"--energy {_millijoules(budget.at_most_mj(latency_ms))}")
    if budget.macs is not None:
        words.append(f"with max_macs: {int(costs.macs[least])}")
    return f"{' '.join(words)} together"


def _milliseconds(latency_ms: float) -> str:
    """A latency as people type it, never below the value."""
    return f"{ceil(latency_ms * 100) / 100:.2f}ms"


def _millijoules(energy_mj: float | None) -> str:
    """An energy as people type it, never below the value."""
    assert energy_mj is not None, "a limit on energy needs a power"
    if energy_mj < 1:
        return f"{ceil(energy_mj * 1e5) / 100:.2f}uJ"
    return f"{ceil(energy_mj * 100) / 100:.2f}mJ"


def _smaller_resolution(space: SearchSpace, budget: Budget, task: Task) -> int | None:
    """The largest resolution below the space's smallest at which something fits."""
    memo: Memo = {}
    for resolution in range(space.resolutions[0] - 4, 7, -4):
        for width in space.width_multipliers:
            table = compile_task(space, task, width, resolution, memo)
            if fits(minimal_costs(table), budget).any():
                return resolution
    return None
