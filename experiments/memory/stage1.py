"""What overlap and patches buy in stage 1: the space chosen for each SRAM budget.

`python stage1.py` counts the fitting subnets of the 108 spaces of `mcunet` for an STM32F746 with
CMSIS-NN and prints a table in Markdown. Without overlap is with our own plan, which is never worse
than the one that TensorFlow Lite Micro makes by itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinynas.budget import Budget, parse_size
from tinynas.config import config_from
from tinynas.cost.planned import Plan
from tinynas.errors import InfeasibleError
from tinynas.shrink import shrink
from tinynas.space.spec import find_space
from tinynas.target import make_task, resolve_target

FLASH = parse_size("1m")
SRAM = ("64k", "128k", "256k", "320k", "512k")
PLANS: dict[str, tuple[Plan, bool]] = {
    "no overlap": ("plain", False),
    "overlap": ("overlap", False),
    "overlap and patches": ("overlap", True),
}


def row(sram: str, title: str, plan: Plan, patch: bool) -> str:
    space, budget = find_space("mcunet"), Budget(sram_bytes=parse_size(sram), flash_bytes=FLASH)
    target = resolve_target(config_from(None, {"target": {"sram": sram, "flash": "1m"}}))
    task = replace(make_task(target, space.default_classes, 3, patch=patch), plan=plan)
    try:
        chosen = shrink(space, budget, task, rng=np.random.default_rng(0)).chosen
    except InfeasibleError:
        return f"| {sram} | {title} | none fits | | |"
    mean = chosen.count.mean_macs / 1e6
    patches = f", {chosen.patches}x{chosen.patches}" if chosen.patches > 1 else ""
    place = f"{chosen.width:g}, {chosen.resolution}{patches}"
    return f"| {sram} | {title} | {place} | {mean:.1f} | {chosen.share:.2g} |"


if __name__ == "__main__":
    print("| SRAM | plan | width, pixels, patches | mean M MACs | share that fits |")
    print("|---|---|---|---|---|")
    for sram in SRAM:
        for title, (plan, patch) in PLANS.items():
            print(row(sram, title, plan, patch), flush=True)
