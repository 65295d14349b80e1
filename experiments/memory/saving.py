"""What overlap and patches save on random subnets, and whether the runtime agrees.

`python saving.py` draws subnets of `mcunet` at several resolutions, plans each for CMSIS-NN on a
Cortex-M4 (greedily as TensorFlow Lite Micro does, with overlap, with patches and overlap), and has
the planned files allocated by the runtime on this host. Writes saving.csv and saving.png beside
itself, prints a table and ends with one line of JSON. Needs matplotlib.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "deploy"))

from random_models import random_constants

from tinynas.cost.kernels import Kernels, scratch_by_op
from tinynas.cost.memory import predict_arena
from tinynas.cost.overlap import overlaps, safe_kernels
from tinynas.cost.patch import candidates, patch
from tinynas.deploy.build import best_plan
from tinynas.deploy.chain_plan import chain_bounds
from tinynas.deploy.plan import MemoryPlan, greedy_plan, head_with_scratch, plan_memory
from tinynas.deploy.quantize import patched_model
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.deploy.verify import measure_arenas
from tinynas.graph import Graph, total_macs
from tinynas.space.arch import decode, random_genes
from tinynas.space.lower import lower
from tinynas.space.spec import find_space

HERE = Path(__file__).parent
KERNELS: Kernels = "cmsis-nn-dsp"
RESOLUTIONS = (96, 128, 160, 192, 224)
SUBNETS = 300
COLOURS = ("#0072b2", "#d55e00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Arenas of one subnet in bytes, and the patches that make it smallest."""

    width: float
    resolution: int
    macs: int
    greedy: int
    overlap: int
    patched: int
    split: int
    patches: int
    patched_macs: int
    upper_bound: int
    heads_agree: bool


def arena(graph: Graph, plan: MemoryPlan) -> int:
    return predict_arena(graph, KERNELS, plan.head_bytes).sram_bytes


def smallest_patched(graph: Graph) -> tuple[int, int, Graph, MemoryPlan] | None:
    """Split, p, graph and plan of the patches with the smallest arena."""
    found = []
    for split, p in candidates(graph):
        patched = patch(graph, split, p, p)
        allowed = overlaps(patched, safe_kernels(KERNELS))
        plan = plan_memory(patched, scratch_by_op(patched, KERNELS), allowed)
        found.append((split, p, patched, plan))
    return min(found, key=lambda f: arena(f[2], f[3]), default=None)


def examine(graph: Graph, width: float, resolution: int, rng: np.random.Generator) -> Row:
    scratch = scratch_by_op(graph, KERNELS)
    plan, patched = best_plan(graph, KERNELS), smallest_patched(graph)
    model = random_constants(graph, rng)
    files = [write_tflite(model, plan=plan.offsets)]
    heads = [head_with_scratch(graph, plan.offsets)]
    overlap = arena(graph, plan)
    split, p, small, macs = 0, 1, overlap, total_macs(graph)
    if patched:
        split, p, other, its_plan = patched
        files.append(write_tflite(patched_model(model, other), plan=its_plan.offsets))
        heads.append(head_with_scratch(other, its_plan.offsets))
        if arena(other, its_plan) < overlap:
            small, macs = arena(other, its_plan), total_macs(other)
        else:
            split, p = 0, 1
    measured = [use.head_bytes for use in measure_arenas(files, executed=False)]
    return Row(
        width=width,
        resolution=resolution,
        macs=total_macs(graph),
        greedy=arena(graph, greedy_plan(graph, scratch)),
        overlap=overlap,
        patched=small,
        split=split,
        patches=p * p,
        patched_macs=macs,
        upper_bound=round(100 * (chain_bounds(graph, KERNELS).upper_bytes / plan.head_bytes - 1)),
        heads_agree=measured == heads,
    )


def draw(rows: list[Row]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.5, 4.2), layout="constrained")
    for number, (name, colour) in enumerate(zip(("overlap", "patched"), COLOURS, strict=True)):
        for place, resolution in enumerate(RESOLUTIONS):
            saved = [
                100 * (1 - getattr(row, name) / row.greedy)
                for row in rows
                if row.resolution == resolution
            ]
            spread = np.random.default_rng(place).uniform(-0.12, 0.12, len(saved))
            at = place + (number - 0.5) * 0.36
            label = ("overlap", "overlap, with patches where they help")[number]
            axes.plot(
                at + spread,
                saved,
                ".",
                color=colour,
                ms=4,
                alpha=0.6,
                label=None if place else label,
            )
            axes.hlines(np.mean(saved), at - 0.15, at + 0.15, color=colour, lw=2.5)
    axes.set_xticks(range(len(RESOLUTIONS)), [f"{r} px" for r in RESOLUTIONS])
    axes.set_ylabel("arena saved against the greedy plan, %")
    axes.set_title("Random subnets of mcunet, CMSIS-NN on a Cortex-M4; bars: means")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(HERE / "saving.png", dpi=110)


def report(rows: list[Row]) -> None:
    print("| pixels | subnets | overlap: mean, max | with patches: mean, max | patched |")
    print("|---|---|---|---|---|")
    for resolution in (*RESOLUTIONS, None):
        chosen = [row for row in rows if resolution in (row.resolution, None)]
        saved = [
            [100 * (1 - getattr(row, name) / row.greedy) for row in chosen]
            for name in ("overlap", "patched")
        ]
        cells = " | ".join(f"{np.mean(s):.1f} %, {max(s):.1f} %" for s in saved)
        share = sum(row.patches > 1 for row in chosen)
        print(f"| {resolution or 'all'} | {len(chosen)} | {cells} | {share} |")


def main() -> None:
    space, rng = find_space("mcunet"), np.random.default_rng(0)
    rows = []
    for genes in random_genes(space, SUBNETS, rng):
        width, resolution = (
            float(rng.choice(space.width_multipliers)),
            int(rng.choice(RESOLUTIONS)),
        )
        arch = decode(space, genes, width=width, resolution=resolution)
        rows.append(examine(lower(space, arch, classes=1000), width, resolution, rng))
    with (HERE / "saving.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, rows))
    report(rows)
    draw(rows)
    print(
        json.dumps(
            {
                "subnets": len(rows),
                "heads_agree": sum(row.heads_agree for row in rows),
                "median_upper_bound_above_plan_percent": float(
                    np.median([row.upper_bound for row in rows])
                ),
                "largest_upper_bound_above_plan_percent": max(row.upper_bound for row in rows),
            }
        )
    )


if __name__ == "__main__":
    main()
