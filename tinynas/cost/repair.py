"""Near fitting subnets, and what each gene may be: for children that a search has bred."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import numpy.typing as npt

from tinynas.budget import Budget
from tinynas.cost.blocks import Floats
from tinynas.cost.fitting import FittingSampler, fits
from tinynas.cost.table import Costs
from tinynas.space.arch import Genes, canonical, gene_keys, gene_sizes
from tinynas.space.spec import SearchSpace

FAR = 1e6  # beyond any excess
# Subnets costed at once: their variants' genes take 10 MB.
ROWS = 256


def variants(space: SearchSpace, genes: Genes) -> Genes:
    """All subnets that differ from each of N in one gene alone, shape (N, variants, genes).

    A stage that grows deeper gets blocks with the first of all choices.
    """
    sizes = np.array(gene_sizes(space))
    changed = np.repeat(np.arange(len(sizes)), sizes - 1)
    step = np.concatenate([np.arange(1, size) for size in sizes])
    result = np.repeat(genes[:, None], len(changed), axis=1)
    each = np.arange(len(changed))
    result[:, each, changed] = (genes[:, changed] + step) % sizes[changed]
    variants: Genes = canonical(space, result.reshape(-1, len(sizes))).reshape(result.shape)
    return variants


def fitting_choices(sampler: FittingSampler, genes: Genes) -> list[npt.NDArray[np.bool_]]:
    """Per gene of a subnet (genes,), which values fit while all other genes stay as they are.

    A stage that grows deeper gets blocks with the first of all choices.
    """
    found = []
    for gene, size in enumerate(gene_sizes(sampler.table.space)):
        rows = np.repeat(genes[None], size, axis=0)
        rows[:, gene] = np.arange(size)
        costs = sampler.table.evaluate(canonical(sampler.table.space, rows))
        found.append(fits(costs, sampler.budget))
    return found


def excess(costs: Costs, budget: Budget) -> Floats:
    """How far beyond the limits N subnets are, in parts of each limit added up, shape (N,)."""
    limits = [
        (costs.sram_bytes, budget.sram_bytes),
        (costs.flash_bytes, budget.flash_bytes),
        (costs.latency_ms, budget.predicted_ms),
        (costs.macs, budget.macs),
    ]
    total = np.zeros(len(costs.macs))
    for values, limit in limits:
        if limit is not None:
            total += np.maximum(values / limit - 1, 0)
    return total


def near_fitting(sampler: FittingSampler, genes: Genes, rng: np.random.Generator) -> Genes:
    """A fitting subnet near each of N, shape (N, genes): the same one if it fits already.

    Gene by gene the change that leaves the least excess, until a change makes it fit: then, among
    those that do, the one that computes most nearly as much. Where single changes lead nowhere,
    which happens only if larger choices may cost less, that of many random fitting subnets which
    has the most genes in common. Raises ValueError where none fits.
    """
    result = canonical(sampler.table.space, genes)
    left = np.flatnonzero(~fits(sampler.table.evaluate(result), sampler.budget))
    for rows in np.split(left, range(ROWS, len(left), ROWS)):
        result[rows] = _by_single_changes(sampler, result[rows])
    for row in left[~fits(sampler.table.evaluate(result[left]), sampler.budget)]:
        some = next((b for b in sampler.batches(rng, sampler.LARGEST_BATCH) if len(b)), None)
        if some is None:
            raise ValueError("no subnet fits the budget, so none is near")
        result[row] = some[np.argmax((some == result[row]).sum(axis=1))]
    return result


def _by_single_changes(sampler: FittingSampler, genes: Genes) -> Genes:
    """Fitting subnets that single changes of N others lead to, or as far as these go."""
    table, budget = sampler.table, sampler.budget
    result: Genes = genes.copy()
    wanted = table.evaluate(genes).macs
    left = np.arange(len(genes))
    over = excess(table.evaluate(genes), budget)
    while len(left):
        options = variants(table.space, result[left])
        costs = table.evaluate(options.reshape(-1, genes.shape[1]))
        fitting, beyond, macs = (
            values.reshape(options.shape[:2])
            for values in (fits(costs, budget), excess(costs, budget), costs.macs)
        )
        change = np.abs(macs / wanted[left, None] - 1)
        best = np.argmin(np.where(fitting, change, FAR + beyond), axis=1)
        at = np.arange(len(left)), best
        better = fitting[at] | (beyond[at] < over[left])
        result[left[better]] = options[at][better]
        over[left] = beyond[at]
        left = left[better & ~fitting[at]]
    return result


def near_unseen(
    sampler: FittingSampler, genes: Genes, seen: Container[bytes], rng: np.random.Generator
) -> Genes:
    """A fitting subnet near one of shape (genes,) that is not in `seen`, shape (0 or 1, genes).

    One that differs from the nearest in one gene, if that is seen; else any. There is none where
    all are seen.
    """
    near = near_fitting(sampler, genes[None], rng)
    around = variants(sampler.table.space, near)[0]
    around = around[fits(sampler.table.evaluate(around), sampler.budget)]
    options = np.concatenate([near, rng.permutation(around)])
    unseen = [number for number, key in enumerate(gene_keys(options)) if key not in seen]
    return options[unseen[:1]] if unseen else sampler.sample(1, rng, seen=seen)
