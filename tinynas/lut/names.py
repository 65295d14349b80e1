"""Spellings of MCUs, runtimes and versions in published rows, and the names they have here."""

from __future__ import annotations

import re

from tinynas.cost.latency_table import ANY_VERSION

STM32 = re.compile(r"stm32[a-z]\d[a-z0-9]\d")
# Part numbers, and boards that stand for their chip, by what they start with.
MCUS = (
    ("psoc 62", "psoc62"),
    ("psoc62", "psoc62"),
    ("r7fa6m4", "ra6m4"),
    ("r7fa8d1", "ra8d1"),
    ("r5f565n", "rx65n"),
    ("m467", "m467"),
    ("renesas_rh850", "rh850-f1km-s4"),
    ("esp32s3", "esp32s3"),
    ("esp32-s3", "esp32s3"),
    ("rp2040", "rp2040"),
    ("rp2350", "rp2350"),
    ("nrf52832", "nrf52832"),
    ("nrf52840", "nrf52840"),
    ("nrf5340", "nrf5340"),
    ("rx65n", "rx65n"),
)
# Runtimes by the first pattern that their spelling contains. Two that name no kernels ran
# CMSIS-NN's: TFLM 2.3.1 of MLPerf Tiny v0.5 takes 4.6 to 9.6 cycles for a multiply-accumulate,
# NXP's 3.2 in fully connected layers, where reference kernels take more than 40, and 7. The
# TF-Lite Micro of MCUNet's authors takes 11 to 13: neither.
RUNTIMES = (
    (r"x-?cube-?ai", "x-cube-ai"),
    (r"st ?edge ?ai", "stedgeai"),
    (r"plumerai", "plumerai"),
    (r"\bhale\b", "hale"),
    (r"microtvm", "microtvm"),
    (r"onnc", "onnc"),
    (r"andes", "andes"),
    (r"e-?ai translator|^e-ai", "e-ai"),
    (r"\beon\b|edge impulse", "eon"),
    (r"tiny-?engine", "tinyengine"),
    (r"tinymaix", "tinymaix"),
    (r"luci", "luci-micro"),
    (r"esp-?dl", "esp-dl"),
    (r"(no|without) esp-?nn", "tflm"),
    (r"esp-?nn", "esp-nn"),
    (r"renesas", "renesas"),
    (r"(tensorflow lite|tflm|tf-?lite).*2\.3\.1", "tflm-cmsis-nn"),
    (r"tflm.*mcuxpresso", "tflm-cmsis-nn"),
    (r"^tf-lite micro$|^tflm-unstated", "tflm-unstated"),
    (r"(no|without) cmsis-?nn|reference", "tflm"),
    (r"(tensorflow lite|tflm|tf-?lite).*cmsis-?nn", "tflm-cmsis-nn"),
    (r"tensorflow lite|tflm|tf-?lite", "tflm"),
    (r"cmsis-?nn", "cmsis-nn"),
)
# What sets two builds of one release apart, by the first pattern in runtime and version.
VARIANTS = {
    "hale": ((r"max_performance", "max-performance"), (r"min_ram", "min-ram")),
    "microtvm": ((r"cmsis-?nn", "cmsis-nn"), (r"native", "native")),
    "tflm-cmsis-nn": (
        (r"-ofast\b", "ofast"),
        (r"-os\b", "os"),
        (r"-o3\b", "o3"),
        (r"external", "external-sdram"),
    ),
}
# Submitters of their own runtime.
VENDORS = ("plumerai", "bosch", "renesas", "andes")
MLPERF = re.compile(r"mlperf tiny v?(\d+\.\d+)(?: \(([^)]+)\))?")
# The release of a row of single operators, which have no column for it: the library that
# tk-king/MicroNas carries, whose CMSIS-NN is of 10 March 2022.
OPERATOR_VERSION = "2022"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower().replace("+", "plus")).strip("-")


def mcu_name(mcu: str, core: str = "") -> str:
    """The name of the MCU in a row: stm32h747 of `STM32H747XI (CM7 core)`.

    The core tells cores of one chip apart, and shows one wrong part number: the STM32U575 that
    Plumerai's NUCLEO-H7A3ZI-Q is said to have (MLPerf Tiny v1.1) is a Cortex-M7.
    """
    text = mcu.strip().lower()
    stm32 = STM32.match(text)
    if stm32:
        name = stm32.group()
        return "stm32h7a3" if name == "stm32u575" and core.endswith("M7") else name
    if text.startswith("ae350"):
        words = core.rpartition("AndesCore ")[2].split()
        return f"ae350-{_slug(words[0])}" if words else "ae350"
    return next((name for start, name in MCUS if text.startswith(start)), _slug(mcu))


def runtime_name(runtime: str, version: str = "") -> tuple[str, str]:
    """The runtime and the version of a row: ("x-cube-ai", "8.1.0") of `X-CUBE-AI v8.1.0`."""
    spelled, column = runtime.strip().lower(), version.strip().lower()
    name = next(
        (name for pattern, name in RUNTIMES if re.search(pattern, spelled)), _slug(runtime)
    )
    both = f"{spelled} {column}"
    variant = next((v for pattern, v in VARIANTS.get(name, ()) if re.search(pattern, both)), "")
    release = _release(name, spelled, column)
    if variant and not release.endswith(variant):
        release = f"{release}-{variant}" if release else variant
    return name, release or ANY_VERSION


def _release(name: str, spelled: str, column: str) -> str:
    """Numbered by the runtime's own text, by who published it, or by the version column."""
    own = re.search(r"(?<![a-z0-9-])v?(\d+(?:\.\d+)+)", spelled)
    if own and "not stated" not in spelled:
        return _padded(name, own.group(1))
    published = MLPERF.search(column)
    if published:
        submitter = published.group(2) or ""
        by = [] if submitter in VENDORS else [_slug(submitter)]
        return "-".join(["mlperf", published.group(1), *by])
    zoo = re.search(r"zoo release (\d{4}-\d\d-\d\d)", column)
    return f"zoo-{zoo.group(1)}" if zoo else _padded(name, _first_word(column))


def _first_word(column: str) -> str:
    """A release, commit or month in the version column, without what explains it."""
    text = re.sub(r"\(.*?\)|,.*|-o(fast|s|3)\b\??|cmsis-nn|readme|gcc", "", column)
    words = text.split()
    return _slug(words[0]) if words and re.search(r"\d", words[0]) else _slug(text)


def _padded(name: str, number: str) -> str:
    """ST numbers releases by three figures, and leaves out the last one where it is 0."""
    two = re.fullmatch(r"\d+\.\d+", number)
    return f"{number}.0" if two and name in ("x-cube-ai", "stedgeai") else number


def core_name(core: str) -> str:
    """The core as device files spell it: Cortex-M0+ of `ARM CM0+`.

    A Cortex-M4 is a Cortex-M4F: each in the rows has the floating point unit, and no kernel for
    int8 uses it.
    """
    name = re.sub(r"^(ARM )?(CM|Cortex-M)(?=\d)", "Cortex-M", core.split("(")[0].strip())
    return "Cortex-M4F" if name == "Cortex-M4" else name
