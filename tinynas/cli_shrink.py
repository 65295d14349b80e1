"""The verb `tinynas shrink`: stage 1 alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinynas.cli_options import (
    Confidence,
    Devices,
    Energy,
    Flash,
    Json,
    Latency,
    Mcu,
    Patch,
    Runtime,
    Seed,
    Shrink,
    Space,
    Sram,
    target_flags,
    write_text,
)

if TYPE_CHECKING:
    from tinynas.config import Config
    from tinynas.console import Console
    from tinynas.shrink import Shrunk
    from tinynas.space.spec import SearchSpace
    from tinynas.target import Target
    from tinynas.task import Task

# The channels of the images that stage 1 alone counts for.
RGB = 3

Classes = Annotated[
    int | None, typer.Option(help="Classes, by default what the space is made for.", min=1)
]
Csv = Annotated[
    Path | None, typer.Option(help="Write the table of all spaces here.", metavar="FILE")
]


def shrink(
    sram: Sram = None,
    flash: Flash = None,
    mcu: Mcu = None,
    runtime: Runtime = None,
    latency: Latency = None,
    energy: Energy = None,
    confidence: Confidence = None,
    space: Space = "mcunet",
    shrink: Shrink = None,
    patch: Patch = "off",
    classes: Classes = None,
    csv: Csv = None,
    seed: Seed = None,
    devices: Devices = None,
    as_json: Json = False,
) -> None:
    """Stage 1 alone: which width multiplier and resolution hold the best fitting subnets."""
    flags = {
        **target_flags(sram, flash, mcu, runtime, devices, latency, energy, confidence),
        "space": space,
        "shrink": {"method": shrink, "patch": patch},
        "seed": seed,
    }
    _run_stage(flags, classes=classes, csv=csv, as_json=as_json)


def _run_stage(
    flags: dict[str, Any], *, classes: int | None, csv: Path | None, as_json: bool
) -> None:
    from tinynas.config import config_from
    from tinynas.console import Console
    from tinynas.report.result_text import timing_lines
    from tinynas.shrink import to_csv
    from tinynas.space.spec import find_space
    from tinynas.target import make_task, resolve_target

    settings = config_from(None, flags)
    target = resolve_target(settings)
    family = find_space(settings.space or "mcunet")
    on_patches = settings.shrink.patch == "auto"
    task = make_task(target, classes or family.default_classes, RGB, patch=on_patches)
    ui = Console(stderr=as_json)
    for words in timing_lines(target):
        ui.say(words)
    shrunk = _counted(family, target, task, settings, ui)
    if csv:
        write_text(csv, to_csv(shrunk))
    ui.say(f"{family.name}, {task.classes} classes, {family.subnets():,} subnets per space")
    _show(shrunk, ui)
    if as_json:
        print(json.dumps(_json_line(shrunk, target)))


def _counted(
    family: SearchSpace, target: Target, task: Task, settings: Config, ui: Console
) -> Shrunk:
    """What stage 1 chose, under a progress bar."""
    import numpy as np

    from tinynas import shrink as stage

    with ui.progress("counting subnets") as advance:
        return stage.shrink(
            family,
            target.budget,
            task,
            method=settings.shrink.method,
            rng=np.random.default_rng(settings.seed),
            on_space=advance,
        )


def _show(shrunk: Shrunk, ui: Console) -> None:
    from tinynas.console import certainty, in_time_text, spaces_table

    ui.out.print(spaces_table(shrunk, shown=len(shrunk.rows)))
    ui.say(certainty(shrunk))
    if shrunk.in_time is not None:
        ui.say(in_time_text(shrunk.in_time))


def _json_line(shrunk: Shrunk, target: Target) -> dict[str, Any]:
    chosen, count = shrunk.chosen, shrunk.chosen.count
    return {
        "width": chosen.width,
        "resolution": chosen.resolution,
        "patches": chosen.patches,
        "share": chosen.share,
        "mean_macs": count.mean_macs,
        "max_macs": count.max_macs,
        "in_time": shrunk.in_time,
        "mcu": target.device.name,
        "runtime": target.runtime,
        "latency_provenance": target.timer.known.provenance,
    }
