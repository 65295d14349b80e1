"""Device files: all figures sourced, errors that name file, key and rule."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tinynas.cost.device import DEFAULT_DEVICE, Device, find_device, read_device, shipped_devices
from tinynas.cost.latency import find_timer
from tinynas.errors import UsageError
from tinynas.paths import data_dir

FOLDER = data_dir("latency_models")
FILES = sorted(FOLDER.glob("*.yaml"))
NAMES = [
    "esp32s3",
    "nrf52832",
    "nrf52840",
    "psoc62",
    "rp2040",
    "rx65n",
    "stm32f412",
    "stm32f446",
    "stm32f746",
    "stm32f765",
    "stm32f769",
    "stm32h743",
    "stm32h747",
    "stm32h7a3",
    "stm32l4r5",
    "stm32l4r9",
    "stm32l552",
    "stm32u575",
    "stm32u585",
]


def content(name: str = "stm32f746") -> dict[str, Any]:
    loaded = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def write(folder: Path, name: str, data: object) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def unsourced(node: object, path: str = "", sourced: bool = False) -> Iterator[str]:
    """Paths of numbers that have no source beside or above them."""
    if isinstance(node, dict):
        here = sourced or any(str(node.get(key, "")).strip() for key in ("source", "checked_on"))
        for key, value in node.items():
            yield from unsourced(value, f"{path}.{key}", here)
    elif isinstance(node, int | float) and not sourced:
        yield path


def test_the_eight_mcus_are_shipped_and_valid() -> None:
    assert list(shipped_devices()) == NAMES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_number_of_a_shipped_file_has_a_source(path: Path) -> None:
    assert list(unsourced(yaml.safe_load(path.read_text(encoding="utf-8")))) == []


def test_a_number_without_source_would_be_noticed() -> None:
    data = content()
    data["clock_hz"].pop("source")
    assert list(unsourced(data)) == [".clock_hz.value"]


def test_latency_models_hold_no_code() -> None:
    assert not list(FOLDER.rglob("*.py"))


@pytest.mark.parametrize("device", shipped_devices().values(), ids=lambda device: device.name)
def test_every_runtime_of_a_shipped_device_has_a_latency(device: Device) -> None:
    assert "tflm" in device.runtimes
    for runtime in device.runtimes:
        assert find_timer(device, runtime).known.model.cycles


@pytest.mark.parametrize(
    ("name", "sram", "contiguous", "flash", "clock"),
    [
        # STM32F746: 64 + 240 + 16 KiB without a gap; STM32H743: AXI SRAM alone.
        ("stm32f746", 320, 320, 1024, 216),
        ("stm32f412", 256, 256, 1024, 100),
        ("stm32f765", 512, 512, 2048, 216),
        ("stm32h743", 1024, 512, 2048, 480),
        ("stm32l4r5", 640, 640, 2048, 120),
        ("nrf52840", 256, 256, 1024, 64),
        ("rp2040", 264, 264, 2048, 125),
    ],
)
def test_memories_and_clocks_are_the_data_sheets(
    name: str, sram: int, contiguous: int, flash: int, clock: int
) -> None:
    device = find_device(name)
    assert device.sram_bytes.value == sram * 1024
    assert device.sram_contiguous_bytes.value == contiguous * 1024
    assert device.flash_bytes.value == flash * 1024
    assert device.clock_hz.value == clock * 10**6


def test_runtime_code_is_the_measured_program_less_its_model() -> None:
    # tinyengine's README prints 736 and 718 kB; the model's file has 613,840 bytes.
    runtimes = find_device("stm32h743").runtimes
    assert runtimes["tflm-cmsis-nn"].runtime_code_bytes.value == 736 * 1024 - 613_840
    assert runtimes["tflm"].runtime_code_bytes.value == 718 * 1024 - 613_840


def test_the_default_device_is_shipped() -> None:
    assert find_device(DEFAULT_DEVICE).name == "stm32f746"


def test_names_may_be_written_in_capitals() -> None:
    assert find_device("STM32F746").name == "stm32f746"


def test_the_default_runtime_is_cmsis_nn_then_tflm_then_the_first() -> None:
    assert find_device("stm32f746").default_runtime == "tflm-cmsis-nn"
    assert find_device("esp32s3").default_runtime == "tflm"
    data = content()
    data["runtimes"] = {"mine": data["runtimes"]["tflm"], "other": data["runtimes"]["tflm"]}
    assert Device.model_validate(data).default_runtime == "mine"


def test_a_runtime_is_found_by_name_and_the_default_without_one() -> None:
    device = find_device("stm32f746")
    assert device.runtime("tflm") is device.runtimes["tflm"]
    assert device.runtime() is device.runtimes["tflm-cmsis-nn"]


def test_an_unknown_runtime_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as error:
        find_device("stm32f746").runtime("tvm")
    assert str(error.value) == (
        "runtime 'tvm' is not known on stm32f746; known: tflm-cmsis-nn, tflm"
    )


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(UsageError) as error:
        find_device("nrf52833")
    assert str(error.value) == (
        f"unknown MCU 'nrf52833'; known: {', '.join(NAMES)}; did you mean 'nrf52832'?"
    )


def test_a_name_like_no_other_points_to_device_folders() -> None:
    with pytest.raises(UsageError) as error:
        find_device("zzz")
    assert str(error.value) == (
        f"unknown MCU 'zzz'; known: {', '.join(NAMES)}; or describe it in a folder of --devices"
    )


def test_a_users_file_wins_over_the_shipped_one(tmp_path: Path) -> None:
    data = content()
    data["clock_hz"] = {"value": 108_000_000, "source": "my board"}
    write(tmp_path, "stm32f746", data)
    write(tmp_path, "mychip", {**data, "name": "mychip"})
    assert find_device("stm32f746", tmp_path).clock_hz.value == 108_000_000
    assert set(shipped_devices(tmp_path)) == {*NAMES, "mychip"}
    assert find_device("stm32f746").clock_hz.value == 216_000_000


def test_a_devices_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere is not a folder of device files \(\*\.yaml\)"):
        shipped_devices(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("clock", 1, "clock: there is no such key; did you mean 'clock_hz'?"),
        ("core", "", "core: String should have at least 1 character, got ''"),
        ("runtimes", {}, "runtimes: Dictionary should have at least 1 item after validation"),
        ("clock_hz.source", "", "clock_hz.source: String should have at least 1 character"),
        ("clock_hz.value", "216", "clock_hz.value: Input should be a valid integer, got '216'"),
        ("sram_bytes.value", 0, "sram_bytes.value: Input should be greater than 0, got 0"),
        ("sram_bytes.value", True, "sram_bytes.value: Input should be a valid integer, got True"),
        (
            "sram_contiguous_bytes.value",
            327_681,
            "top level: sram_contiguous_bytes must be at most sram_bytes (327680), got 327681",
        ),
        (
            "reserve_sram_bytes.value",
            327_680,
            "top level: reserve_sram_bytes must be below sram_contiguous_bytes (327680), "
            "got 327680",
        ),
        (
            "runtimes.tflm.runtime_code_bytes.value",
            2**20,
            "top level: runtimes.tflm.runtime_code_bytes must be below flash_bytes (1048576), "
            "got 1048576",
        ),
        (
            "active_power_mw",
            {"value": 40.0, "low": 41.0, "source": "a meter"},
            "active_power_mw: value must lie from low (41) to high (40), got 40",
        ),
        (
            "active_power_mw",
            {"value": float("nan"), "source": "a meter"},
            "active_power_mw.value: Input should be",
        ),
        (
            "runtimes.tflm.latency",
            {"provenance": "estimated"},
            "runtimes.tflm.latency: there is no such key",
        ),
        ("name", "stm32f7", "name: must be the file's, 'stm32f746', got 'stm32f7'"),
    ],
)
def test_a_broken_file_is_named_with_key_and_rule(
    tmp_path: Path, key: str, value: object, complaint: str
) -> None:
    data = copy.deepcopy(content())
    *parents, last = key.split(".")
    node = data
    for parent in parents:
        node = node[parent]
    node[last] = value
    path = write(tmp_path, "stm32f746", data)
    with pytest.raises(UsageError) as error:
        read_device(path)
    assert str(error.value).startswith(f"{path}: {complaint}")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    data = content()
    data.pop("clock_hz")
    path = write(tmp_path, "stm32f746", data)
    with pytest.raises(UsageError) as error:
        read_device(path)
    assert str(error.value) == f"{path}: clock_hz: is missing"


def test_a_file_that_is_no_yaml_or_no_mapping_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [", encoding="utf-8")
    with pytest.raises(UsageError, match=r"broken\.yaml cannot be read as YAML: "):
        read_device(broken)
    broken.write_text("- 1", encoding="utf-8")
    with pytest.raises(UsageError, match=r"broken\.yaml must hold a mapping with name, core"):
        read_device(broken)
    with pytest.raises(UsageError, match=r"absent\.yaml cannot be read as YAML: "):
        read_device(tmp_path / "absent.yaml")


def test_importing_devices_and_budgets_loads_no_heavy_package() -> None:
    code = (
        "import sys, tinynas.budget, tinynas.cost.latency; "
        "print(sorted({'numpy', 'pandas', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_chip_of_the_readme_is_one() -> None:
    text = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(name: my_board\n.*?)```", text, flags=re.DOTALL)
    device = Device.model_validate(yaml.safe_load(block))
    assert find_timer(device, device.default_runtime).known.borrowed
