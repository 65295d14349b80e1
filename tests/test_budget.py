"""Sizes, latencies and energies as people type them, and what a chip leaves of a budget."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.budget import (
    Budget,
    effective_budget,
    format_bytes,
    parse_energy,
    parse_latency,
    parse_size,
)
from tinynas.cost.device import find_device
from tinynas.errors import UsageError

SIZES = st.integers(1, 2**32)
STM32F746 = find_device("stm32f746")


@pytest.mark.parametrize("text", ["320k", "320K", "320kb", "320kB", "320KiB", "320 k", " 327680 "])
def test_all_spellings_of_320_kib_mean_the_same(text: str) -> None:
    assert parse_size(text) == 327_680


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1m", 1_048_576),
        ("1MiB", 1_048_576),
        ("1.5m", 1_572_864),
        ("0.5k", 512),
        ("1048576", 1_048_576),
        ("7B", 7),
        ("4096m", 2**32),
    ],
)
def test_sizes_are_read_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@given(SIZES)
def test_bytes_written_out_are_read_back(size: int) -> None:
    assert parse_size(str(size)) == size


@given(st.integers(1, 2**22), st.sampled_from(["k", "K", "kb", "kB", "KB", "KiB"]))
def test_kib_are_read_back_under_every_name(kib: int, unit: str) -> None:
    assert parse_size(f"{kib}{unit}") == kib * 1024


@given(SIZES)
def test_a_printed_size_holds_its_bytes_and_its_kib(size: int) -> None:
    number, _, rest = format_bytes(size).partition(" bytes (")
    assert parse_size(number.replace(",", "")) == size
    kib = float(rest.removesuffix(" KiB)").replace(",", ""))
    assert abs(kib - size / 1024) <= 0.05 + 1e-9


def test_sizes_are_printed_in_bytes_and_kib() -> None:
    assert format_bytes(327_680) == "327,680 bytes (320.0 KiB)"
    assert format_bytes(1_048_576) == "1,048,576 bytes (1,024.0 KiB)"


@pytest.mark.parametrize(
    "text",
    ["", "k", "nan", "inf", "-1", "-320k", "320q", "320kbit", "1e6", "1,024", "0x10", "1.k"],
)
def test_sizes_that_cannot_be_read_are_answered_with_the_rule(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_size(text)
    assert str(error.value) == (
        f"size {text!r} is not understood; write bytes or use k (1,024) or m (1,048,576), "
        "as in 320k, 320KiB, 1m or 327680"
    )


@pytest.mark.parametrize("text", ["0", "0k", "0.0m", "4097m", "99999999999999999999"])
def test_sizes_out_of_an_mcus_reach_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_size(text)
    assert str(error.value) == (
        f"size {text!r} must be from 1 byte to 4 GiB, what an MCU can address"
    )


def test_digits_without_end_are_refused() -> None:
    with pytest.raises(UsageError, match="is not understood"):
        parse_size("9" * 10_000)


def test_parts_of_a_byte_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        parse_size("0.3k")
    assert str(error.value) == "size '0.3k' is not a whole number of bytes; write the bytes out"


@given(st.text(max_size=8))
def test_any_text_is_a_size_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert 1 <= parse_size(text) <= 2**32


@pytest.mark.parametrize(
    ("text", "latency_ms"), [("100ms", 100.0), ("250us", 0.25), ("1.5s", 1500.0), ("2 ms", 2.0)]
)
def test_latencies_are_read_in_ms(text: str, latency_ms: float) -> None:
    assert parse_latency(text) == latency_ms


@pytest.mark.parametrize(("text", "energy_mj"), [("5mJ", 5.0), ("300uJ", 0.3), ("0.5J", 500.0)])
def test_energies_are_read_in_mj(text: str, energy_mj: float) -> None:
    assert parse_energy(text) == energy_mj


@given(st.integers(1, 10**9))
def test_microunits_are_a_thousandth(number: int) -> None:
    assert parse_latency(f"{number}us") == parse_energy(f"{number}uJ") == number / 1000


@pytest.mark.parametrize("text", ["100", "ms", "-1ms", "nanms", "100MS", "5mJ"])
def test_latencies_that_cannot_be_read_are_answered_with_the_rule(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_latency(text)
    assert str(error.value) == (
        f"latency {text!r} is not understood; write a number and a unit (us, ms, s), as in 100ms"
    )


def test_a_megajoule_is_no_millijoule() -> None:
    with pytest.raises(UsageError) as error:
        parse_energy("5MJ")
    assert str(error.value) == (
        "energy '5MJ' is not understood; write a number and a unit (uJ, mJ, J), as in 5mJ"
    )


def test_nothing_takes_no_time_and_no_energy() -> None:
    with pytest.raises(UsageError, match=r"^latency '0ms' must be above 0$"):
        parse_latency("0ms")
    with pytest.raises(UsageError, match=r"^energy '0.0mJ' must be above 0$"):
        parse_energy("0.0mJ")


def test_without_a_device_budgets_stand_as_given() -> None:
    budget = effective_budget(2**40, 2**41, 100.0, 5.0, None, None)
    assert budget == Budget(sram_bytes=2**40, flash_bytes=2**41, latency_ms=100.0, energy_mj=5.0)


@pytest.mark.parametrize(("sram", "flash"), [(None, 1024), (1024, None), (None, None)])
def test_without_a_device_both_memories_are_needed(sram: int | None, flash: int | None) -> None:
    with pytest.raises(UsageError) as error:
        effective_budget(sram, flash, None, None, None, None)
    assert str(error.value) == (
        "without --mcu both --sram and --flash are needed, as in --sram 320k --flash 1m"
    )


def test_a_device_alone_sets_both_memories() -> None:
    # 512 KiB of AXI SRAM less 10 KiB; 2 MiB less the code of TFLM with CMSIS-NN.
    budget = effective_budget(None, None, None, None, find_device("stm32h743"), None)
    assert budget == Budget(sram_bytes=502 * 1024, flash_bytes=2 * 1024**2 - 139_824)


def test_the_runtime_decides_what_flash_is_left() -> None:
    budget = effective_budget(None, None, None, None, find_device("stm32h743"), "tflm")
    assert budget.flash_bytes == 2 * 1024**2 - 121_392


def test_a_device_cuts_what_is_asked_to_what_it_leaves() -> None:
    # Exactly the chip is no mistake: the stack and the runtime's code are taken off it.
    budget = effective_budget(327_680, 2**20, None, None, STM32F746, None)
    assert budget == Budget(sram_bytes=310 * 1024, flash_bytes=2**20 - 139_824)


@given(sram=st.integers(1, 310 * 1024), flash=st.integers(1, 2**20 - 139_824))
def test_a_budget_that_the_device_can_give_stands(sram: int, flash: int) -> None:
    budget = effective_budget(sram, flash, 1.5, 2.5, STM32F746, "tflm-cmsis-nn")
    assert budget == Budget(sram_bytes=sram, flash_bytes=flash, latency_ms=1.5, energy_mj=2.5)


def test_sram_above_the_chip_is_refused_with_the_chips_figure() -> None:
    with pytest.raises(UsageError) as error:
        effective_budget(parse_size("321k"), None, None, None, STM32F746, None)
    assert str(error.value) == (
        "--sram asks for 328,704 bytes (321.0 KiB), but stm32f746 has 327,680 bytes (320.0 KiB) "
        "of SRAM; ask for at most that"
    )


def test_flash_above_the_chip_is_refused_with_the_chips_figure() -> None:
    with pytest.raises(UsageError) as error:
        effective_budget(None, parse_size("2m"), None, None, STM32F746, None)
    assert str(error.value) == (
        "--flash asks for 2,097,152 bytes (2,048.0 KiB), but stm32f746 has 1,048,576 bytes "
        "(1,024.0 KiB) of flash; ask for at most that"
    )


def test_a_runtime_unknown_on_the_device_is_refused() -> None:
    with pytest.raises(UsageError, match="runtime 'tinyengine' is not known on stm32f746"):
        effective_budget(1, 1, None, None, STM32F746, "tinyengine")
