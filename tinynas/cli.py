"""The command line: each verb parses, makes one call and prints."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tinynas import __version__
from tinynas.cli_lut import lut
from tinynas.cli_options import (
    Confidence,
    Devices,
    Energy,
    Flash,
    Json,
    Latency,
    Mcu,
    Patch,
    Quiet,
    Runtime,
    Seed,
    Shrink,
    Space,
    Sram,
    target_flags,
    write_text,
)
from tinynas.errors import TinynasError, UsageError

app = typer.Typer(
    name="tinynas",
    help="Find the best neural network that fits your microcontroller.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(lut)

TIMES = tuple(
    f"{what}_{end}{unit}"
    for what, unit in (("latency", "ms"), ("energy", "mj"))
    for end in ("", "low_", "high_")
)


def main() -> None:
    """Run the command line: exit code 0 done, 1 could not be done, 2 wrong usage."""
    try:
        app()
    except TinynasError as error:
        print(f"tinynas: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        print("tinynas: stopped", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:
        raise SystemExit(1) from None
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        print(f"tinynas: {what}{error.strerror or error}", file=sys.stderr)
        raise SystemExit(1) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tinynas {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_print_version),
    ] = False,
) -> None:
    """Find the best neural network that fits your microcontroller."""


@app.command()
def search(
    sram: Sram = None,
    flash: Flash = None,
    mcu: Mcu = None,
    runtime: Runtime = None,
    latency: Latency = None,
    energy: Energy = None,
    confidence: Confidence = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="digits (default), cifar10:FOLDER, or a folder with train/CLASS/*.jpg.",
            metavar="DATA",
        ),
    ] = None,
    space: Space = None,
    shrink: Shrink = None,
    patch: Patch = None,
    algo: Annotated[
        str | None,
        typer.Option(
            help="evolution (default), nsga2, tpe, random or exhaustive.", metavar="NAME"
        ),
    ] = None,
    train_time: Annotated[
        str | None,
        typer.Option(help="Time to train the supernet in, as in 10m.", metavar="TIME"),
    ] = None,
    accelerator: Annotated[
        str | None, typer.Option(help="auto (default), cpu or cuda.", metavar="NAME")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run directory, by default runs/DATE-MCU.", metavar="DIR"),
    ] = None,
    seed: Seed = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with a run; its settings hold.", metavar="DIR"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file of settings; flags come on top.", metavar="FILE"),
    ] = None,
    devices: Devices = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The main job: from two budgets to an int8 model that the runtime has executed."""
    flags = {
        **target_flags(sram, flash, mcu, runtime, devices, latency, energy, confidence),
        "data": {"source": data},
        "space": space,
        "shrink": {"method": shrink, "patch": patch},
        "search": {"algorithm": algo},
        "train": {"time": train_time},
        "accelerator": accelerator,
        "seed": seed,
    }
    outcome = _run_job(flags, out=out, resume=resume, config=config, quiet=quiet, as_json=as_json)
    if as_json:
        print(json.dumps(_json_line(outcome)))


def _run_job(
    flags: dict[str, Any],
    *,
    out: Path | None,
    resume: Path | None,
    config: Path | None,
    quiet: bool,
    as_json: bool,
) -> Any:
    from tinynas.config import config_from, read_config
    from tinynas.console import Console
    from tinynas.pipeline import search_and_deploy
    from tinynas.run import CONFIG, RunDir

    ui = Console(quiet=quiet, stderr=as_json)
    if resume:
        _refuse_beside_resume(flags, out=out, config=config)
        run = RunDir(resume)
        run.open()
        settings = read_config(run.file(CONFIG))
    else:
        settings = config_from(config, flags).resolved()
        run = _new_run(settings, out)
    try:
        return search_and_deploy(settings, run, ui)
    except TinynasError:
        if not resume and not run.file("3_supernet.pt").exists():
            run.discard()
        raise
    except KeyboardInterrupt:
        ui.warn(f"Stopped. Go on with: python -m tinynas search --resume {run.path}")
        raise SystemExit(1) from None


def _refuse_beside_resume(flags: dict[str, Any], **others: Path | None) -> None:
    given = [name for name, value in others.items() if value is not None]
    for value in flags.values():
        if isinstance(value, dict):
            given += [key for key, inner in value.items() if inner is not None]
    given += [key for key in ("space", "seed", "accelerator") if flags[key] is not None]
    if given:
        raise UsageError(
            f"--resume takes all settings from the run's config.yaml; drop --{given[0]} "
            "or start a new run"
        )


def _new_run(settings: Any, out: Path | None) -> Any:
    """A fresh run directory that holds the configuration, made once the settings make sense."""
    from tinynas.run import CONFIG, RunDir
    from tinynas.target import resolve_target

    target = resolve_target(settings)
    date = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    run = RunDir(out or Path("runs") / f"{date}-{target.device.name}")
    run.create()
    run.write(CONFIG, settings.to_yaml())
    return run


def _json_line(outcome: Any) -> dict[str, Any]:
    report = outcome.report
    predicted = report["predicted"]
    keys = ("sram_bytes", "sram_head_bytes", "flash_bytes", "macs", *TIMES)
    return {
        "run_dir": str(outcome.run_dir),
        "model": str(outcome.run_dir / report["model"]),
        "arch": report["arch"],
        "predicted": {key: predicted[key] for key in keys},
        "latency_provenance": report["latency_provenance"],
        "latency_shares": report["latency_shares"],
        "measured": report["measured"],
        "executed_by": report["executed_by"],
        "seconds": outcome.seconds,
    }


@app.command()
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
    classes: Annotated[
        int | None, typer.Option(help="Classes, by default what the space is made for.", min=1)
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write the table of all spaces here.", metavar="FILE")
    ] = None,
    seed: Seed = None,
    devices: Devices = None,
    as_json: Json = False,
) -> None:
    """Stage 1 alone: which width multiplier and resolution hold the best fitting subnets."""
    import numpy as np

    from tinynas import shrink as stage
    from tinynas.config import config_from
    from tinynas.console import Console, certainty, in_time_text, spaces_table
    from tinynas.report.result_text import timing_lines
    from tinynas.space.spec import find_space
    from tinynas.target import make_task, resolve_target

    flags = {
        **target_flags(sram, flash, mcu, runtime, devices, latency, energy, confidence),
        "space": space,
        "shrink": {"method": shrink, "patch": patch},
        "seed": seed,
    }
    settings = config_from(None, flags)
    target = resolve_target(settings)
    family = find_space(settings.space or "mcunet")
    task = make_task(
        target, classes or family.default_classes, 3, patch=settings.shrink.patch == "auto"
    )
    ui = Console(stderr=as_json)
    for words in timing_lines(target):
        ui.say(words)
    with ui.progress("counting subnets") as advance:
        shrunk = stage.shrink(
            family,
            target.budget,
            task,
            method=settings.shrink.method,
            rng=np.random.default_rng(settings.seed),
            on_space=advance,
        )
    if csv:
        write_text(csv, stage.to_csv(shrunk))
    ui.say(f"{family.name}, {task.classes} classes, {family.subnets():,} subnets per space")
    ui.out.print(spaces_table(shrunk, shown=len(shrunk.rows)))
    ui.say(certainty(shrunk))
    if shrunk.in_time is not None:
        ui.say(in_time_text(shrunk.in_time))
    if as_json:
        chosen, count = shrunk.chosen, shrunk.chosen.count
        line = {
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
        print(json.dumps(line))


@app.command()
def spaces() -> None:
    """The search spaces that come with tinynas."""
    from rich.console import Console as RichConsole
    from rich.table import Table

    from tinynas.space.spec import shipped_spaces

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("name", "widths", "pixels", "subnets at each width and resolution", "for"):
        table.add_column(name, overflow="fold", no_wrap=name in ("name", "widths", "pixels"))
    for space in shipped_spaces().values():
        table.add_row(
            space.name,
            f"{space.width_multipliers[0]:g} to {space.width_multipliers[-1]:g}",
            f"{space.resolutions[0]} to {space.resolutions[-1]}",
            f"{space.subnets():.4g}",
            space.description,
        )
    RichConsole(highlight=False).print(table)


@app.command()
def mcus(devices: Devices = None, as_json: Json = False) -> None:
    """The chips that are known, what is known of each, and how far off its latencies were."""
    from rich.console import Console as RichConsole

    from tinynas.report.mcus_text import known_mcus, mcus_json, mcus_lines, mcus_table
    from tinynas.report.whole_table import print_whole

    known = known_mcus(Path(devices) if devices else None)
    if as_json:
        print(json.dumps(mcus_json(known)))
        return
    console = RichConsole(highlight=False)
    print_whole(console, mcus_table(known))
    for line in mcus_lines(known):
        console.print(line, markup=False)


@app.command()
def verify(
    model: Annotated[Path, typer.Argument(help="A .tflite file.", metavar="MODEL")],
    sram: Sram = None,
    flash: Flash = None,
    mcu: Mcu = None,
    runtime: Runtime = None,
    devices: Devices = None,
    as_json: Json = False,
) -> None:
    """Run a model in TFLM against a budget: exit code 1 where the budget does not hold."""
    from rich.console import Console as RichConsole

    from tinynas.config import config_from
    from tinynas.deploy.check import check_file
    from tinynas.report.result_text import check_lines
    from tinynas.target import resolve_chip

    flags = target_flags(sram, flash, mcu, runtime, devices)
    target = resolve_chip(config_from(None, flags))
    result = check_file(model, target.budget, target.kernels, target.runtime)
    out = RichConsole(stderr=as_json, highlight=False, soft_wrap=True)
    for line in check_lines(result):
        out.print(line, markup=False)
    if as_json:
        print(json.dumps(result))
    if not result["holds"]:
        raise SystemExit(1)


@app.command()
def plan(
    model: Annotated[Path, typer.Argument(help="A .tflite file.", metavar="MODEL")],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Write the model with its plan here.", metavar="OUT"),
    ],
    mcu: Mcu = None,
    kernels: Annotated[
        str | None,
        typer.Option(
            help="What the plan must be safe with: reference, cmsis-nn, cmsis-nn-mve, or any "
            "(default), which is without overlap.",
            metavar="NAME",
        ),
    ] = None,
    devices: Devices = None,
    as_json: Json = False,
) -> None:
    """Less SRAM for any model: a better memory plan, run in TFLM before it is written."""
    from rich.console import Console as RichConsole

    from tinynas.deploy.plan_file import check_place, plan_file, write_file
    from tinynas.report.plan_text import plan_json, plan_lines, plan_table, plan_title
    from tinynas.target import plan_target

    made_for, libraries = plan_target(mcu, kernels, devices)
    check_place(out, model)
    result = plan_file(model, made_for, libraries)
    write_file(out, result.content)
    console = RichConsole(stderr=as_json, highlight=False, soft_wrap=True)
    console.print(plan_title(result), markup=False)
    console.print(plan_table(result))
    for line in plan_lines(result, out):
        console.print(line, markup=False)
    if as_json:
        print(json.dumps(plan_json(result, out)))


@app.command()
def profile(
    model: Annotated[
        Path, typer.Argument(help="A .tflite file, or a layer list in JSON.", metavar="MODEL")
    ],
    mcu: Mcu = None,
    runtime: Runtime = None,
    devices: Devices = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Plan the memory too, and compare before and after.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with everything here.", metavar="FILE")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write the table of operators here.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """What a model costs, operator by operator, and what lies where in its memory."""
    from rich.console import Console as RichConsole

    from tinynas.config import config_from
    from tinynas.cost.device import DEFAULT_DEVICE
    from tinynas.report.profile import profile_file, to_csv, to_json
    from tinynas.report.profile_page import page
    from tinynas.report.profile_terminal import print_profile
    from tinynas.target import profiled_target

    flags = target_flags(None, None, mcu or DEFAULT_DEVICE, runtime, devices)
    target = replace(profiled_target(config_from(None, flags)), named=mcu is not None)
    result = profile_file(model, target, plan=plan)
    if html:
        write_text(html, page(result))
    if csv:
        write_text(csv, to_csv(result))
    print_profile(result, RichConsole(stderr=as_json, highlight=False))
    if as_json:
        print(json.dumps(to_json(result)))
