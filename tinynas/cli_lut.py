"""The verbs of `tinynas lut`: check, import and build latency tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tinynas.cli_options import Devices, Json, Mcu, Runtime, write_text

lut = typer.Typer(
    name="lut",
    help="Latency tables: check them, improve them by measurements of your own, write them out.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Where a table of the user's goes that names no other place.
OWN_DEVICES = Path("devices")
# The channels of the images that a space is written out for.
RGB = 3


@lut.command()
def check(
    rows: Annotated[
        Path, typer.Option(help="CSV of measured operators or models.", metavar="FILE")
    ],
    out: Annotated[
        Path, typer.Option(help="Write every row here with its prediction.", metavar="FILE")
    ] = Path("predictions.csv"),
    models: Annotated[
        Path | None,
        typer.Option(
            help="Layer lists and .tflite files that rows name, by default models/ beside ROWS.",
            metavar="DIR",
        ),
    ] = None,
    mcu: Mcu = None,
    runtime: Runtime = None,
    entries: Annotated[
        bool,
        typer.Option(help="Whether measured operators of the tables answer for themselves."),
    ] = True,
    devices: Devices = None,
    as_json: Json = False,
) -> None:
    """How far off the predictions are on measured rows; --mcu and --runtime choose rows."""
    from rich.console import Console as RichConsole

    from tinynas.lut.check import Question, check_rows, to_csv
    from tinynas.lut.rows import read_rows
    from tinynas.lut.summary import summarise, to_json
    from tinynas.report.check_text import check_lines, groups_table
    from tinynas.report.whole_table import print_whole

    folder = Path(devices) if devices else None
    file = read_rows(rows)
    question = Question(models=models, mcu=mcu, runtime=runtime, devices=folder, entries=entries)
    checked = check_rows(file, question)
    write_text(out, to_csv(file, checked))
    summary = summarise(checked)
    console = RichConsole(stderr=as_json, highlight=False)
    print_whole(console, groups_table(summary))
    for line in check_lines(summary, entries=entries):
        console.print(line, markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps({**to_json(summary), "out": str(out.resolve())}))


@lut.command("import")
def import_log(
    log: Annotated[
        Path,
        typer.Argument(help="CSV of operators, or what MicroProfiler printed.", metavar="LOG"),
    ],
    mcu: Annotated[str, typer.Option(help="The board's name.", metavar="NAME")],
    runtime: Runtime = None,
    model: Annotated[
        Path | None, typer.Option(help="The .tflite file that was profiled.", metavar="FILE")
    ] = None,
    clock: Annotated[
        str | None,
        typer.Option(help="The clock it ran at, by default the device file's.", metavar="64MHz"),
    ] = None,
    ticks_per_second: Annotated[
        str | None,
        typer.Option(help="Ticks of the profiler, by default cycles.", metavar="1MHz"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Your folder of device files, in whose tables/ the table goes; by default "
            "--devices, else devices/.",
            metavar="DIR",
        ),
    ] = None,
    devices: Devices = None,
    as_json: Json = False,
) -> None:
    """Make or refine the table of a board by measurements of your own."""
    from rich.console import Console as RichConsole

    from tinynas.budget import parse_frequency
    from tinynas.lut.board import find_board
    from tinynas.lut.importing import add_to_table, write_table
    from tinynas.lut.measured import read_log
    from tinynas.report.lut_text import import_json, import_lines

    folder = out or (Path(devices) if devices else OWN_DEVICES)
    known = Path(devices) if devices else folder if folder.is_dir() else None
    clock_hz = parse_frequency(clock) if clock else None
    board = find_board(mcu, runtime, clock_hz, known)
    rate = parse_frequency(ticks_per_second) if ticks_per_second else None
    measured = read_log(log, board, model=model, ticks_per_second=rate)
    imported = add_to_table(measured, board, folder, known)
    paths = list(write_table(imported.table, folder))
    console = RichConsole(stderr=as_json, highlight=False, soft_wrap=True)
    for line in import_lines(measured, board, imported, paths):
        console.print(line, markup=False)
    if as_json:
        print(json.dumps(import_json(measured, board, imported, paths)))


@lut.command()
def build(
    mcu: Annotated[str, typer.Option(help="A chip that `tinynas mcus` lists.", metavar="NAME")],
    space: Annotated[
        str,
        typer.Option(help="A space that `tinynas spaces` lists, or a YAML file.", metavar="NAME"),
    ],
    runtime: Runtime = None,
    classes: Annotated[
        int | None, typer.Option(help="Classes to tell apart, by default the space's.", min=1)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The CSV file, by default SPACE-MCU-RUNTIME.csv.", metavar="FILE"),
    ] = None,
    devices: Devices = None,
    as_json: Json = False,
) -> None:
    """Write down the latency of every operator of a space, at all widths and resolutions.

    To look at, or to measure and import: search does not need the file.
    """
    from rich.console import Console as RichConsole

    from tinynas.cost.device import find_device
    from tinynas.cost.latency import find_timer
    from tinynas.lut.expand import expand, operators_of, to_csv
    from tinynas.report.lut_text import build_json, build_line
    from tinynas.space.spec import find_space

    folder, family = Path(devices) if devices else None, find_space(space)
    device = find_device(mcu, folder)
    runtime = runtime or device.default_runtime
    timer = find_timer(device, runtime, devices=folder)
    classes = classes or family.default_classes
    rows = expand(timer, operators_of(family, classes=classes, channels=RGB))
    path = out or Path(f"{family.name}-{device.name}-{runtime}.csv")
    write_text(path, to_csv(rows, timer))
    console = RichConsole(stderr=as_json, highlight=False, soft_wrap=True)
    console.print(f"{path}: {build_line(rows, timer, family, classes)}", markup=False)
    if as_json:
        print(json.dumps({"out": str(path.resolve()), **build_json(rows)}))
