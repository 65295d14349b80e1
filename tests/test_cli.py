"""The command line as a person meets it: every call is a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tinynas.cli import app

FLAGS = {
    "search": "sram flash mcu runtime latency energy confidence data space shrink patch algo "
    "train-time accelerator out seed resume config devices quiet json",
    "shrink": "sram flash mcu runtime latency energy confidence space shrink patch classes csv "
    "seed devices json",
    "spaces": "",
    "mcus": "devices json",
    "verify": "model sram flash mcu runtime devices json",
    "plan": "model o out mcu kernels devices json",
    "profile": "model mcu runtime devices plan html csv json",
    "lut check": "rows out models mcu runtime entries devices json",
    "lut import": "log mcu runtime model clock ticks-per-second out devices json",
    "lut build": "mcu space runtime classes out devices json",
}


def tinynas(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tinynas", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_the_flags_are_these_and_no_others() -> None:
    found = dict(commands(typer.main.get_command(app)))
    assert found == {name: sorted(flags.split()) for name, flags in FLAGS.items()}


def commands(group: Any, before: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every verb with the names of its flags and arguments."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            names = (option for parameter in command.params for option in parameter.opts)
            yield f"{before}{name}", sorted(name.lstrip("-") for name in names)


def test_help_and_version_answer() -> None:
    answer = tinynas("--help")
    assert answer.returncode == 0 and "search" in answer.stdout
    assert tinynas("--version").stdout.startswith("tinynas 0.")


@pytest.mark.parametrize(
    "arguments,sentence",
    [
        (["search", "--sram", "320k"], "without --mcu both --sram and --flash are needed"),
        (["search", "--sram", "12q", "--flash", "1m"], "target.sram: size '12q'"),
        (["search", "--mcu", "stm32f74"], "'stm32f746'"),
        (["search", "--mcu", "nrf52840", "--sram", "1m"], "262,144 bytes (256.0 KiB)"),
        (["search", "--sram", "64k", "--flash", "1m", "--runtime", "magic"], "magic"),
        (["search", "--sram", "64k", "--flash", "1m", "--space", "mcunett"], "did you mean"),
        (["search", "--sram", "64k", "--flash", "1m", "--algo", "luck"], "search.algorithm"),
        (["search", "--sram", "64k", "--flash", "1m", "--latency", "5"], "target.latency"),
        (["search", "--sram", "64k", "--flash", "1m", "--train-time", "10"], "train.time: time"),
        (["search", "--sram", "64k", "--flash", "1m", "--accelerator", "tpu"], "accelerator"),
        (["search", "--resume", "nowhere"], "is not a run directory"),
        (["search", "--resume", "nowhere", "--seed", "1"], "drop --seed"),
        (["search", "--resume", "nowhere", "--algo", "tpe"], "drop --algo or"),
        (["search", "--resume", "nowhere", "--train-time", "1m"], "drop --train-time or"),
        (["shrink", "--sram", "64k", "--flash", "1m", "--shrink", "guess"], "shrink.method"),
        (["search", "--sram", "64k", "--flash", "1m", "--config", "none.yaml"], "none.yaml"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    answer = tinynas(*arguments, cwd=tmp_path)
    assert answer.returncode == 2
    assert sentence in answer.stderr and "Traceback" not in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("data", ["no/such/folder", "cifar10:"])
def test_data_that_cannot_be_used_is_one_sentence_and_leaves_nothing(
    data: str, tmp_path: Path
) -> None:
    answer = tinynas(
        "search", "--sram", "64k", "--flash", "1m", "--data", data, "--quiet", cwd=tmp_path
    )
    assert answer.returncode == 1
    assert len(answer.stderr.strip().splitlines()) == 1 and "Traceback" not in answer.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_impossible_budget_explains_itself_and_loads_no_torch(tmp_path: Path) -> None:
    started = time.monotonic()
    answer = tinynas("search", "--sram", "2k", "--flash", "1m", "--out", "run", cwd=tmp_path)
    seconds = time.monotonic() - started
    assert answer.returncode == 1
    assert "what would make it possible: --sram" in answer.stderr
    assert not (tmp_path / "run").exists()
    assert seconds < 20  # 2 s on an idle machine; a loaded one must not fail the test


def test_shrink_prints_its_choice_as_json_and_writes_the_table(tmp_path: Path) -> None:
    answer = tinynas(
        *("shrink", "--space", "mcunet-small", "--sram", "48k", "--flash", "256k"),
        *("--csv", "table.csv", "--json"),
        cwd=tmp_path,
    )
    assert answer.returncode == 0
    (line,) = answer.stdout.splitlines()
    chosen = json.loads(line)
    rows = (tmp_path / "table.csv").read_text().splitlines()
    assert len(rows) == 1 + 99
    marked = [row.split(",") for row in rows[1:] if row.split(",")[3] == "1"]
    assert [(float(r[0]), int(r[1])) for r in marked] == [(chosen["width"], chosen["resolution"])]


def test_spaces_lists_the_number_of_subnets() -> None:
    answer = tinynas("spaces")
    # (9^2 + 9^3 + 9^4)^5 * 9 and (9^2 + 9^3 + 9^4)^4 * 9
    assert "1.958e+20" in answer.stdout and "2.657e+16" in answer.stdout
    assert "mcunet-small" in answer.stdout


def test_mcus_names_sources_as_json() -> None:
    answer = tinynas("mcus", "--json")
    known = json.loads(answer.stdout)
    assert {"stm32f746", "stm32f412", "stm32f765", "stm32h743"} <= known.keys()
    assert {"stm32l4r5", "nrf52840", "rp2040", "esp32s3"} <= known.keys()
    assert all(device["sram_bytes"]["source"] for device in known.values())
