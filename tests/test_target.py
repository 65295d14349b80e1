import pytest

from tinynas.config import Config, build_config
from tinynas.errors import UsageError
from tinynas.target import offered_space, plan_target, resolve_target


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
    with pytest.raises(UsageError, match="the memory that runtime 'tflm-esp-nn' needs"):
        resolve_target(config(mcu="esp32s3", runtime="tflm-esp-nn"))


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
