"""How many subnets fit a budget, and how much they compute, by dynamic programming over blocks.

Flash, latency and the parts of the arena's tail are sums over blocks, so the number of subnets at
each sum follows from one pass over the blocks. In small spaces the sums are kept as they are
and the counts are exact. Else sums are kept in bins, rounded to the nearest; how far off
a sum can be is known, so each count comes as an estimate inside a bracket.

The head of the arena is a maximum, and head + tail share one limit. Head values that fit with
every tail form one group and those that fit with none are left out; only the values between couple
head and tail, and they are kept apart as further groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinynas.budget import Budget
from tinynas.cost.bins import Count, count_in_bins
from tinynas.cost.blocks import SUMS, Floats
from tinynas.cost.fitting import MACS, Choices, choices_by_position, fits, minimal_costs
from tinynas.cost.table import Costs, CostTable, costs_of

LATENCY = len(SUMS)  # its column in the keys of states, after the sums
EXACT_SUBNETS = 20_000
NOTHING = Count(
    lower=0,
    estimate=0,
    upper=0,
    mean_macs=0,
    mean_macs_sure=0,
    mean_macs_possible=0,
    max_macs=0,
    max_macs_possible=0,
    exact=True,
)


def count_fitting(
    table: CostTable,
    budget: Budget,
    *,
    minimal: Costs | None = None,
    exact_subnets: int = EXACT_SUBNETS,
) -> Count:
    """Number of subnets inside the budget's limits.

    `minimal` are the table's minimal costs, where they are known already. Sums are kept as they
    are in spaces of up to `exact_subnets` subnets, else in bins.
    """
    minimal = minimal_costs(table) if minimal is None else minimal
    fitting = fits(minimal, budget)
    if not fitting.any():
        return NOTHING
    if table.space.subnets() <= exact_subnets:
        return _count_exactly(table, budget)
    found = count_in_bins(table, budget, minimal)
    if budget.macs is not None:
        most = min(found.max_macs_possible, float(budget.macs))
        found = replace(found, max_macs_possible=most)
    least = float(minimal.macs[fitting].min())
    return found if found.lower >= 1 else _at_least_one(found, least)


def _at_least_one(count: Count, macs: float) -> Count:
    """The count with the one subnet that is known to fit put in."""
    return replace(
        count,
        lower=1.0,
        estimate=max(count.estimate, 1.0),
        upper=max(count.upper, 1.0),
        mean_macs=count.mean_macs or macs,
        mean_macs_sure=macs,
        mean_macs_possible=count.mean_macs_possible or macs,
        max_macs=max(count.max_macs, macs),
        max_macs_possible=max(count.max_macs_possible, macs),
    )


@dataclass(frozen=True, slots=True)
class _States:
    """Distinct partial costs, and the subnets at each.

    `keys` has a row of sums, latency, head and preparing bytes for each; the latency and the MACs
    in it are 0 where nothing limits them.
    """

    keys: Floats
    count: Floats
    macs: Floats
    max_macs: Floats


def _merge(states: Sequence[_States]) -> _States:
    keys = np.concatenate([s.keys for s in states])
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    max_macs = np.full(len(unique), -np.inf)
    np.maximum.at(max_macs, inverse, np.concatenate([s.max_macs for s in states]))
    return _States(
        unique,
        np.bincount(inverse, np.concatenate([s.count for s in states])).astype(float),
        np.bincount(inverse, np.concatenate([s.macs for s in states])).astype(float),
        max_macs,
    )


def _extend(states: _States, choices: Choices) -> _States:
    """Every state with every choice of one more block."""
    macs = choices.sums[:, MACS].astype(float)
    added = np.column_stack([choices.sums, choices.latency_us])
    most = np.column_stack([choices.head_bytes, choices.preparing_bytes])
    sums = states.keys[:, None, :-2] + added
    keys = np.concatenate([sums, np.maximum(states.keys[:, None, -2:], most)], axis=2)
    return _States(
        keys.reshape(-1, states.keys.shape[1]),
        np.repeat(states.count, len(macs)),
        (states.macs[:, None] + states.count[:, None] * macs).reshape(-1),
        (states.max_macs[:, None] + macs).reshape(-1),
    )


def _count_exactly(table: CostTable, budget: Budget) -> Count:
    free = [LATENCY] * (not budget.timed) + [MACS] * (budget.macs is None)
    base = table.base
    key = [*base.sums, base.latency_us, base.head_bytes, base.preparing_bytes]
    macs = np.array([float(base.sums[MACS])])
    states = _States(np.array([key], float), np.ones(1), macs, macs)
    for stage, positions in zip(table.stages, choices_by_position(table), strict=True):
        finished = []
        for depth, choices in enumerate(positions, start=1):
            states = _extend(states, choices)
            states.keys[:, free] = 0.0
            states = _merge([states])
            if depth in stage.depths:
                finished.append(states)
        states = _merge(finished)
    return _exact_result(states, budget)


def _exact_result(states: _States, budget: Budget) -> Count:
    *sums, head, preparing = np.delete(states.keys, LATENCY, axis=1).astype(np.int64).T
    costs = costs_of(sums, head, preparing, states.keys[:, LATENCY])
    inside = fits(costs, budget)
    count = float(states.count[inside].sum())
    if not count:
        return NOTHING
    mean = float(states.macs[inside].sum()) / count
    return Count(
        lower=count,
        estimate=count,
        upper=count,
        mean_macs=mean,
        mean_macs_sure=mean,
        mean_macs_possible=mean,
        max_macs=float(states.max_macs[inside].max()),
        max_macs_possible=float(states.max_macs[inside].max()),
        exact=True,
    )
