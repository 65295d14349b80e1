from __future__ import annotations

import pytest

from tinynas.lut.evidence import model_rows
from tinynas.lut.names import core_name, mcu_name, runtime_name


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("STM32H747XI (CM7 core)", "stm32h747"),
        ("STM32L4R5ZIT6U", "stm32l4r5"),
        ("STM32F746NGH6U", "stm32f746"),
        ("STM32U585AI", "stm32u585"),
        ("nRF52832", "nrf52832"),
        ("ESP32-S3", "esp32s3"),
        ("PSoC 62 MCU", "psoc62"),
        ("R7FA6M4AF3CFB", "ra6m4"),
        ("Some Chip X1", "some-chip-x1"),
    ],
)
def test_part_numbers_are_one_mcu(spelled: str, name: str) -> None:
    assert mcu_name(spelled) == name


def test_a_core_shows_a_wrong_part_number() -> None:
    assert mcu_name("STM32U575ZIT6QU", "Cortex-M33") == "stm32u575"
    assert mcu_name("STM32U575ZIT6QU", "Cortex-M7") == "stm32h7a3"


@pytest.mark.parametrize(
    ("runtime", "version", "names"),
    [
        ("X-CUBE-AI v8.1.0", "MLPerf Tiny v1.1 (STMicroelectronics)", ("x-cube-ai", "8.1.0")),
        ("X-CUBE-AI 7.3?", "MLPerf Tiny v1.0 (STMicroelectronics)", ("x-cube-ai", "7.3.0")),
        ("X-CUBE-AI", "7.3.0 (balanced)", ("x-cube-ai", "7.3.0")),
        (
            "X-CUBE-AI",
            "not stated (zoo release 2023-06-30)",
            ("x-cube-ai", "zoo-2023-06-30"),
        ),
        ("STEdgeAI Core", "4.0.0", ("stedgeai", "4.0.0")),
        ("TFLM+CMSIS-NN", "-O3? (default study)", ("tflm-cmsis-nn", "o3")),
        ("TFLM+CMSIS-NN", "-Ofast", ("tflm-cmsis-nn", "ofast")),
        ("TFLM 2.5 + CMSIS-NN", "2021-10", ("tflm-cmsis-nn", "2.5")),
        ("TFLM+CMSIS-NN", "CMSIS-NN 011bf32", ("tflm-cmsis-nn", "011bf32")),
        ("TFLM (reference kernels)", "713b6ed", ("tflm", "713b6ed")),
        ("TFLM (no CMSIS-NN)", "2024-09", ("tflm", "2024-09")),
        ("TFLM (no ESP-NN)", "README 2021-12 (S3)", ("tflm", "2021-12")),
        ("TFLM+ESP-NN", "README 2021-12 (S3)", ("esp-nn", "2021-12")),
        (
            "Bosch HALE max_performance",
            "MLPerf Tiny v1.2 (bosch)",
            ("hale", "mlperf-1.2-max-performance"),
        ),
        (
            "microTVM + CMSIS-NN",
            "MLPerf Tiny v1.1 (Krai)",
            ("microtvm", "mlperf-1.1-krai-cmsis-nn"),
        ),
        (
            "microTVM native schedules",
            "MLPerf Tiny v1.0 (OctoML)",
            ("microtvm", "mlperf-1.0-octoml-native"),
        ),
        (
            "Plumerai Inference Engine 2023.05",
            "MLPerf Tiny v1.1 (plumerai)",
            ("plumerai", "2023.05"),
        ),
        ("Renesas e-AI Translator", "2024-09 GCC", ("e-ai", "2024-09")),
        ("Edge Impulse EON", "2024-09", ("eon", "2024-09")),
        ("not stated (Renesas v0.7)", "MLPerf Tiny v0.7 (renesas)", ("renesas", "mlperf-0.7")),
        ("TFLM+CMSIS-NN", "", ("tflm-cmsis-nn", "any")),
        ("TF-Lite Micro", "2020, kernels not stated", ("tflm-unstated", "2020")),
        ("TFLM (MCUXpresso SDK 2.13, CPU)", "", ("tflm-cmsis-nn", "2.13")),
        ("My Own Engine", "3", ("my-own-engine", "3")),
    ],
)
def test_spellings_are_one_runtime_and_version(
    runtime: str, version: str, names: tuple[str, str]
) -> None:
    assert runtime_name(runtime, version) == names


def test_our_own_names_stay_as_they_are() -> None:
    for row in model_rows():
        assert runtime_name(row.runtime, row.version) == (row.runtime, row.version)
        assert mcu_name(row.mcu, row.core) == row.mcu
        assert core_name(row.core) == row.core


def test_cores_are_spelled_as_in_device_files() -> None:
    assert core_name("ARM CM0+") == "Cortex-M0+"
    assert core_name("ARM CM4F") == core_name("Cortex-M4") == "Cortex-M4F"
    assert core_name("Xtensa LX7") == "Xtensa LX7"
