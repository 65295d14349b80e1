"""What is searched for: subnets inside hard limits, and what a Pareto front of them trades off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from tinynas.budget import Budget, format_bytes
from tinynas.cost.fitting import FittingSampler, fits
from tinynas.cost.table import Costs, CostTable
from tinynas.errors import InfeasibleError, UsageError
from tinynas.search.front import Floats, Ints
from tinynas.search.settings import DEFAULT_OBJECTIVES, ObjectiveName, SearchSettings
from tinynas.space.arch import Arch, Genes, decode

UJ_PER_MJ = 1000  # and so mW times ms, which is microjoules, over this is millijoules


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """N subnets with what they cost, to be scored: genes (N, genes)."""

    genes: Genes
    costs: Costs
    table: CostTable

    def __len__(self) -> int:
        return len(self.genes)

    def archs(self) -> list[Arch]:
        """The subnets as plain data."""
        table = self.table
        return [
            decode(table.space, row, width=table.width, resolution=table.resolution)
            for row in self.genes
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """N subnets with their accuracies, each of shape (N,), in the order they were scored.

    An accuracy is that on `count` images, or whatever an objective of the user's gave, the higher
    the better; `count` is 0 then.
    """

    genes: Genes
    accuracy: Floats
    count: Ints
    generation: Ints
    costs: Costs

    def __len__(self) -> int:
        return len(self.genes)

    def part(self, which: npt.NDArray[np.bool_] | Ints | slice) -> Scored:
        """Some of the subnets."""
        return Scored(
            genes=self.genes[which],
            accuracy=self.accuracy[which],
            count=self.count[which],
            generation=self.generation[which],
            costs=Costs(**{f.name: getattr(self.costs, f.name)[which] for f in fields(Costs)}),
        )


def joined(parts: Sequence[Scored]) -> Scored:
    """Several lots of scored subnets as one; there must be one at least."""

    def column(name: str) -> Ints | Floats:
        return np.concatenate([getattr(part.costs, name) for part in parts])

    columns: dict[str, Any] = {field.name: column(field.name) for field in fields(Costs)}
    return Scored(
        genes=np.concatenate([part.genes for part in parts]),
        accuracy=np.concatenate([part.accuracy for part in parts]),
        count=np.concatenate([part.count for part in parts]),
        generation=np.concatenate([part.generation for part in parts]),
        costs=Costs(**columns),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The fitting subnets and the objectives; energy is `active_power_mw` times latency."""

    sampler: FittingSampler
    objectives: tuple[ObjectiveName, ...] = DEFAULT_OBJECTIVES
    active_power_mw: float | None = None

    @property
    def table(self) -> CostTable:
        """The costs of all subnets."""
        return self.sampler.table

    def batch(self, genes: Genes) -> Batch:
        """Subnets with what they cost."""
        return Batch(genes=genes, costs=self.table.evaluate(genes), table=self.table)

    def energy_mj(self, costs: Costs) -> Floats:
        """Energy per inference of N subnets, shape (N,); 0 where the power is not known."""
        return costs.latency_ms * (self.active_power_mw or 0.0) / UJ_PER_MJ

    def points(self, scored: Scored) -> Floats:
        """The objectives of N subnets, the lower the better each, shape (N, objectives)."""
        return self.points_of(scored.accuracy, scored.costs)

    def points_of(self, accuracy: Floats, costs: Costs) -> Floats:
        """The objectives of N subnets with such accuracies and costs, shape (N, objectives)."""
        columns = {
            "accuracy": -accuracy,
            "latency": costs.latency_ms,
            "energy": self.energy_mj(costs),
            "sram": costs.sram_bytes,
            "flash": costs.flash_bytes,
        }
        return np.stack([columns[name] for name in self.objectives], axis=1).astype(np.float64)


def make_problem(
    table: CostTable,
    budget: Budget,
    settings: SearchSettings,
    active_power_mw: float | None = None,
) -> Problem:
    """The search for subnets of a table inside a budget.

    Raises UsageError for energy where the chip's active power is not known and for an exhaustive
    search of too many subnets, InfeasibleError, with the least of each cost, where nothing fits.
    """
    needs_power = "energy" in settings.objectives or budget.energy_mj is not None
    if needs_power and active_power_mw is None:
        raise UsageError(
            "energy needs a chip whose active power is known; name one with --mcu, or limit the "
            "latency instead"
        )
    if budget.energy_mj is not None and budget.power_mw is None:
        budget = replace(budget, power_mw=active_power_mw)
    sampler = FittingSampler(table, budget)
    if not sampler.count:
        raise InfeasibleError(explain(sampler))
    if settings.algorithm == "exhaustive" and sampler.listed is None:
        raise UsageError(
            f"about {sampler.count:.2g} subnets fit, too many for an exhaustive search (at most "
            f"{sampler.LISTED:,}); tighten the budget or choose another algorithm"
        )
    return Problem(
        sampler=sampler, objectives=settings.objectives, active_power_mw=active_power_mw
    )


def explain(sampler: FittingSampler) -> str:
    """Why no subnet of a width and resolution fits, and by which single change one would."""
    table, budget, least = sampler.table, sampler.budget, sampler.minimal
    limits: dict[str, tuple[Ints | Floats, float | None, dict[str, Any]]] = {
        "SRAM": (least.sram_bytes, budget.sram_bytes, {"sram_bytes": 2**61}),
        "flash": (least.flash_bytes, budget.flash_bytes, {"flash_bytes": 2**61}),
        "latency": (
            least.latency_ms,
            budget.predicted_ms,
            {"latency_ms": None, "energy_mj": None},
        ),
        "MACs": (least.macs, budget.macs, {"macs": None}),
    }
    asked, helps = [], []
    for name, (values, limit, without) in limits.items():
        if limit is None:
            continue
        lowest = _shown(name, float(np.min(values)))
        asked.append(f"{name} {_shown(name, limit)} (the least of any subnet is {lowest})")
        enough = values[fits(least, replace(budget, **without))]
        if len(enough):
            helps.append(f"{name} {_shown(name, float(np.min(enough)))}")
    change = " or ".join(helps) or "no single change; loosen several limits"
    return (
        f"no subnet of {table.space.name} at width {table.width:g} and {table.resolution} pixels "
        f"fits {', '.join(asked)}; what would make it possible: {change}"
    )


def _shown(name: str, value: float) -> str:
    if name in ("SRAM", "flash"):
        return format_bytes(int(value))
    # Rounded up, so that what is shown is enough.
    return f"{ceil(value * 100) / 100:.2f} ms" if name == "latency" else f"{int(value):,}"
