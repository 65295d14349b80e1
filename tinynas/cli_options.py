"""The flags that several verbs share, and what they are turned into."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tinynas.errors import UsageError

Sram = Annotated[
    str | None,
    typer.Option(help="SRAM for the tensor arena, as in 320k or 327680.", metavar="SIZE"),
]
Flash = Annotated[
    str | None, typer.Option(help="Flash for the model file, as in 1m.", metavar="SIZE")
]
Mcu = Annotated[str | None, typer.Option(help="A chip that `tinynas mcus` lists.", metavar="NAME")]
Runtime = Annotated[
    str | None, typer.Option(help="What executes the model, as in tflm-cmsis-nn.", metavar="NAME")
]
Latency = Annotated[
    str | None,
    typer.Option(help="Limit on the predicted latency, as in 100ms.", metavar="TIME"),
]
Energy = Annotated[
    str | None,
    typer.Option(help="Limit on the predicted energy of an inference, as in 5mJ.", metavar="J"),
]
Confidence = Annotated[
    float | None,
    typer.Option(
        help="How surely both must hold, as in 0.9: for the upper end of that interval.",
        metavar="P",
    ),
]
Devices = Annotated[
    str | None, typer.Option(help="Folder of your own device files and tables.", metavar="DIR")
]
Space = Annotated[
    str | None,
    typer.Option(help="A space that `tinynas spaces` lists, or a YAML file.", metavar="NAME"),
]
Shrink = Annotated[
    str | None, typer.Option(help="How stage 1 counts: exact or sampled.", metavar="METHOD")
]
Patch = Annotated[
    str | None,
    typer.Option(help="Whether networks may begin on patches: auto or off.", metavar="auto|off"),
]
Seed = Annotated[int | None, typer.Option(help="Same seed, same bytes (default 0).")]
Json = Annotated[bool, typer.Option("--json", help="One line of JSON, the last of stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print warnings and the result only.")]


def target_flags(
    sram: str | None,
    flash: str | None,
    mcu: str | None,
    runtime: str | None,
    devices: str | None,
    latency: str | None = None,
    energy: str | None = None,
    confidence: float | None = None,
) -> dict[str, Any]:
    """The part of a configuration that flags give."""
    limits = {"sram": sram, "flash": flash, "latency": latency, "energy": energy}
    chip = {"mcu": mcu, "runtime": runtime, "devices": devices}
    return {"target": {**limits, **chip, "confidence": confidence}}


def write_text(path: Path, text: str) -> None:
    """Write a file that the user asked for; UsageError where that is not possible."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
