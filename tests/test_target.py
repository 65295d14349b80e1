from pathlib import Path

import pytest
import yaml

from tinynas.config import Config, build_config
from tinynas.errors import UsageError
from tinynas.paths import data_dir
from tinynas.target import (
    make_task,
    offered_space,
    plan_target,
    profiled_target,
    resolve_chip,
    resolve_target,
)


def config(**target: object) -> Config:
    return build_config({"target": target}, {}, "test")


def test_without_a_chip_budgets_stand_as_given_and_latency_is_the_default_chips() -> None:
    target = resolve_target(config(sram="2m", flash="8m"))
    assert (target.budget.sram_bytes, target.budget.flash_bytes) == (2 * 2**20, 8 * 2**20)
    assert target.device.name == "stm32f746" and not target.named
    assert target.kernels == "cmsis-nn-dsp"


def test_a_chip_alone_sets_both_budgets() -> None:
    target = resolve_target(config(mcu="nrf52840"))
    device = target.device
    assert target.named and target.runtime == "tflm-cmsis-nn"
    code = device.runtime(target.runtime).runtime_code_bytes.value
    assert target.budget.flash_bytes == device.flash_bytes.value - code
    reserve = device.reserve_sram_bytes.value
    assert target.budget.sram_bytes == device.sram_contiguous_bytes.value - reserve


def test_the_kernel_library_follows_from_runtime_and_core() -> None:
    assert resolve_target(config(mcu="rp2040")).kernels == "cmsis-nn-c"
    assert resolve_target(config(mcu="stm32l4r5", runtime="tflm")).kernels == "reference"


def test_a_runtime_whose_memory_is_unknown_is_refused() -> None:
    with pytest.raises(UsageError, match="the memory that runtime 'esp-nn' needs"):
        resolve_target(config(mcu="esp32s3", runtime="esp-nn"))


def test_a_latency_limit_holds_for_the_prediction_or_for_its_upper_end() -> None:
    plain = resolve_target(config(mcu="stm32l4r5", latency="100ms"))
    assert plain.budget.predicted_ms == plain.budget.latency_ms == 100
    surely = resolve_target(config(mcu="stm32l4r5", latency="100ms", confidence=0.9))
    assert surely.budget.predicted_ms == pytest.approx(100 / surely.timer.factor(0.9))
    assert surely.budget.at_most_ms(surely.budget.predicted_ms or 0) == pytest.approx(100)
    more = resolve_target(config(mcu="stm32l4r5", latency="100ms", confidence=0.99))
    assert (more.budget.predicted_ms or 0) < (surely.budget.predicted_ms or 0) < 100


def test_an_energy_limit_is_one_on_latency_at_the_chips_power() -> None:
    target = resolve_target(config(mcu="stm32l4r5", energy="5mJ"))
    power = target.device.active_power_mw
    assert power is not None and target.budget.energy_mj == 5
    assert target.budget.predicted_ms == pytest.approx(5 / power.value * 1000)
    both = resolve_target(config(mcu="stm32l4r5", energy="5mJ", latency="10ms"))
    assert both.budget.predicted_ms == 10
    surely = resolve_target(config(mcu="stm32l4r5", energy="5mJ", confidence=0.9))
    wanted = 5 / power.highest * 1000 / surely.timer.factor(0.9)
    assert surely.budget.predicted_ms == pytest.approx(wanted)


def test_energy_of_a_chip_whose_power_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match="the active power of stm32f746 is not known; it is of"):
        resolve_target(config(mcu="stm32f746", energy="5mJ"))


def test_a_confidence_without_a_limit_is_refused() -> None:
    with pytest.raises(UsageError, match="--confidence says how surely a limit"):
        resolve_target(config(mcu="stm32f746", confidence=0.9))


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 90])
def test_a_confidence_lies_between_none_and_certainty(confidence: float) -> None:
    with pytest.raises(UsageError, match="target.confidence: Input should be"):
        config(latency="5ms", confidence=confidence)


def test_a_new_chip_is_one_file_and_works_through_its_core(tmp_path: Path) -> None:
    figures = {
        "clock_hz": 96_000_000,
        "sram_bytes": 131_072,
        "sram_contiguous_bytes": 131_072,
        "flash_bytes": 524_288,
        "reserve_sram_bytes": 10_240,
    }
    code = {"value": 100_000, "source": "a map file"}
    chip = {
        "name": "my_board",
        "description": "a board of mine",
        "core": "Cortex-M4F",
        **{key: {"value": value, "source": "its data sheet"} for key, value in figures.items()},
        "runtimes": {"tflm-cmsis-nn": {"description": "TFLM", "runtime_code_bytes": code}},
    }
    (tmp_path / "my_board.yaml").write_text(yaml.safe_dump(chip))
    target = resolve_target(config(mcu="my_board", devices=str(tmp_path)))
    assert target.timer.known.borrowed and target.timer.known.provenance == "estimated"
    assert target.timer.clock_hz == 96e6
    assert make_task(target, 10, 3, patch=True).patch


def test_a_chip_of_a_core_without_models_can_be_asked_for_its_memory_alone(tmp_path: Path) -> None:
    shipped = data_dir("latency_models") / "esp32s3.yaml"
    text = shipped.read_text(encoding="utf-8").replace("name: esp32s3", "name: strange")
    (tmp_path / "strange.yaml").write_text(text.replace("Xtensa LX7", "Xtensa LX106"))
    asked = config(mcu="strange", runtime="tflm", devices=str(tmp_path))
    assert resolve_chip(asked).budget.sram_bytes > 0
    assert profiled_target(asked).timer.known.model.cycles == {}
    with pytest.raises(UsageError, match="no latency is known for tflm on strange"):
        resolve_target(asked)


@pytest.mark.parametrize(
    "native,name,largest",
    [(8, "mcunet-small", 32), (16, "mcunet-small", 64), (64, "mcunet-small", 64)]
    + [(65, "mcunet", 224), (500, "mcunet", 224)],
)
def test_the_space_follows_from_the_images_size(native: int, name: str, largest: int) -> None:
    space = offered_space(None, native)
    assert (space.name, space.resolutions[-1]) == (name, largest)


def test_images_far_below_a_spaces_resolutions_are_refused() -> None:
    with pytest.raises(UsageError, match="begins at 48 pixels, more than 4 times the 8 pixels"):
        offered_space("mcunet", 8)


@pytest.mark.parametrize(
    ("mcu", "kernels", "wanted"),
    [
        (None, None, ("any", ())),
        (None, "any", ("any", ())),
        (None, "cmsis-nn-mve", ("cmsis-nn-mve", ())),
        ("nrf52840", None, ("cmsis-nn", ("cmsis-nn-dsp",))),
        ("rp2040", None, ("cmsis-nn", ("cmsis-nn-c",))),
        ("esp32s3", None, ("reference", ("reference-int-enums",))),
    ],
)
def test_a_plan_is_for_the_kernels_of_a_chip_or_of_a_name(
    mcu: str | None, kernels: str | None, wanted: tuple[str, tuple[str, ...]]
) -> None:
    assert plan_target(mcu, kernels, None) == wanted
