"""The command line: each verb parses, makes one call and prints."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tinynas import __version__
from tinynas.cli_lut import lut
from tinynas.cli_options import Devices, Flash, Json, Mcu, Runtime, Sram, target_flags, write_text
from tinynas.cli_search import search
from tinynas.cli_shrink import shrink
from tinynas.errors import TinynasError

app = typer.Typer(
    name="tinynas",
    help="Find the best neural network that fits your microcontroller.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(search)
app.command()(shrink)
app.add_typer(lut)


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
