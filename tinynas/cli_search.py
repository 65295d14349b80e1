"""The verb `tinynas search`: the main job, begun anew or gone on with."""

from __future__ import annotations

import json
import shlex
from datetime import datetime
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
    Quiet,
    Runtime,
    Seed,
    Shrink,
    Space,
    Sram,
    target_flags,
)
from tinynas.errors import TinynasError, UsageError

if TYPE_CHECKING:
    from tinynas.config import Config
    from tinynas.pipeline import Outcome
    from tinynas.run import RunDir

Data = Annotated[
    str | None,
    typer.Option(
        help="digits (default), cifar10:FOLDER, or a folder with train/CLASS/*.jpg.",
        metavar="DATA",
    ),
]
Algo = Annotated[
    str | None,
    typer.Option(help="evolution (default), nsga2, tpe, random or exhaustive.", metavar="NAME"),
]
TrainTime = Annotated[
    str | None,
    typer.Option(help="Time to train the supernet in, as in 10m.", metavar="TIME"),
]
Accelerator = Annotated[
    str | None, typer.Option(help="auto (default), cpu or cuda.", metavar="NAME")
]
Out = Annotated[
    Path | None,
    typer.Option(help="Run directory, by default runs/DATE-MCU.", metavar="DIR"),
]
Resume = Annotated[
    Path | None,
    typer.Option(help="Go on with a run; its settings hold.", metavar="DIR"),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(help="YAML file of settings; flags come on top.", metavar="FILE"),
]
# Settings whose flags have another name.
FLAGS = {"source": "data", "method": "shrink", "algorithm": "algo", "time": "train-time"}
# What the JSON line says of the costs predicted.
COSTS = ("sram_bytes", "sram_head_bytes", "flash_bytes", "macs")
TIMES = tuple(
    f"{what}_{end}{unit}"
    for what, unit in (("latency", "ms"), ("energy", "mj"))
    for end in ("", "low_", "high_")
)


def search(
    sram: Sram = None,
    flash: Flash = None,
    mcu: Mcu = None,
    runtime: Runtime = None,
    latency: Latency = None,
    energy: Energy = None,
    confidence: Confidence = None,
    data: Data = None,
    space: Space = None,
    shrink: Shrink = None,
    patch: Patch = None,
    algo: Algo = None,
    train_time: TrainTime = None,
    accelerator: Accelerator = None,
    out: Out = None,
    seed: Seed = None,
    resume: Resume = None,
    config: ConfigFile = None,
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
) -> Outcome:
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
        path = shlex.quote(str(run.path))
        ui.warn(f"Stopped. Go on with: python -m tinynas search --resume {path}")
        raise SystemExit(1) from None


def _refuse_beside_resume(flags: dict[str, Any], **others: Path | None) -> None:
    given = [name for name, value in others.items() if value is not None]
    for value in flags.values():
        if isinstance(value, dict):
            given += [key for key, inner in value.items() if inner is not None]
    given += [key for key in ("space", "seed", "accelerator") if flags[key] is not None]
    if given:
        raise UsageError(
            "--resume takes all settings from the run's config.yaml; drop "
            f"--{FLAGS.get(given[0], given[0])} or start a new run"
        )


def _new_run(settings: Config, out: Path | None) -> RunDir:
    """A fresh run directory that holds the configuration, made once the settings make sense."""
    from tinynas.run import CONFIG, RunDir
    from tinynas.target import resolve_target

    target = resolve_target(settings)
    date = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    run = RunDir(out or Path("runs") / f"{date}-{target.device.name}")
    run.create()
    run.write(CONFIG, settings.to_yaml())
    return run


def _json_line(outcome: Outcome) -> dict[str, Any]:
    report = outcome.report
    predicted = report["predicted"]
    return {
        "run_dir": str(outcome.run_dir),
        "model": str(outcome.run_dir / report["model"]),
        "arch": report["arch"],
        "predicted": {key: predicted[key] for key in (*COSTS, *TIMES)},
        "latency_provenance": report["latency_provenance"],
        "latency_shares": report["latency_shares"],
        "measured": report["measured"],
        "executed_by": report["executed_by"],
        "seconds": outcome.seconds,
    }
