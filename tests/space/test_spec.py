"""Search spaces: what is refused and in which words, and the sizes of the shipped ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.errors import UsageError
from tinynas.space.spec import (
    SearchSpace,
    default_space,
    find_space,
    read_space,
    scale_channels,
    shipped_spaces,
)

GOOD = """\
name: little
stem: {kernel: 3, stride: 2, channels: 8}
stages:
  - {channels: 16, stride: 1, depth: [1], kernel: [3], expansion: [1]}
  - {channels: 24, stride: 2, depth: [1, 2], kernel: [3, 5], expansion: [3, 6]}
width_multipliers: [0.5, 1.0]
resolutions: [32, 48]
"""


def complaint(folder: Path, text: str | bytes) -> str:
    """What is said of a YAML file of this content, the file's path cut off."""
    path = folder / "little.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as error:
        read_space(path)
    message = str(error.value)
    assert message.startswith(str(path))
    return message.removeprefix(str(path)).lstrip(": ")


def test_a_space_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "little.yaml"
    path.write_text(GOOD)
    space = read_space(path)
    assert (space.name, space.stem.channels, space.default_classes) == ("little", 8, 1000)
    assert space.stages[1].kernel == (3, 5)
    # One stage of a single subnet, one of 2 * 2 blocks at depth 1 and (2 * 2)^2 at depth 2.
    assert space.subnets() == 1 * (4 + 16)


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (
            "name: little",
            "nane: little\nname: little",
            "nane: there is no such key; did you mean 'name'?",
        ),
        (
            "[3, 5], expansion",
            "[5, 3], expansion",
            "stages.1.kernel: must be positive and strictly ascending, got [5, 3]",
        ),
        (
            "[1, 2]",
            "[0, 2]",
            "stages.1.depth: must be positive and strictly ascending, got [0, 2]",
        ),
        (
            "[3, 5], expansion",
            "[3, 4], expansion",
            "stages.1.kernel: kernel sizes must be among [1, 3, 5, 7, 9, 11], got [3, 4]",
        ),
        ("[1, 2]", "[1, 11]", "stages.1.depth: a stage has at most 10 blocks, got 11"),
        ("stem: {kernel: 3, stride: 2, channels: 8}\n", "", "stem: is missing"),
        (
            "stride: 2, depth",
            "stride: two, depth",
            "stages.1.stride: Input should be a valid integer, "
            "unable to parse string as an integer, got 'two'",
        ),
        (
            "stride: 2, depth",
            "stride: 3, depth",
            "stages.1.stride: Input should be less than or equal to 2, got 3",
        ),
        ("depth: [1, 2]", "depth: 2", "stages.1.depth: must be a list, `[a, b]`, got 2"),
        (
            "[0.5, 1.0]",
            "[0.5, 0.5]",
            "width_multipliers: must be strictly ascending, above 0 and at most 4, got [0.5, 0.5]",
        ),
        (
            "[0.5, 1.0]",
            "[1.0, 0.5]",
            "width_multipliers: must be strictly ascending, above 0 and at most 4, got [1.0, 0.5]",
        ),
        (
            "[0.5, 1.0]",
            "[0.5, .nan, 1.0]",
            "width_multipliers.1: Input should be a finite number, got nan",
        ),
        (
            "[32, 48]",
            "[48, 32]",
            "resolutions: must be strictly ascending, from 4 to 1024 pixels, got [48, 32]",
        ),
        (
            "[32, 48]",
            "[2, 48]",
            "resolutions: must be strictly ascending, from 4 to 1024 pixels, got [2, 48]",
        ),
        (
            "name: little",
            "name: Little One",
            "name: String should match pattern '^[a-z0-9][a-z0-9._-]*$', got 'Little One'",
        ),
    ],
)
def test_a_broken_rule_is_named_with_file_key_and_value(
    tmp_path: Path, old: str, new: str, wanted: str
) -> None:
    assert GOOD.count(old) == 1
    assert complaint(tmp_path, GOOD.replace(old, new)) == wanted


def test_further_mistakes_are_counted(tmp_path: Path) -> None:
    text = GOOD.replace("stem:", "stemm:")
    assert (
        complaint(tmp_path, text)
        == "stemm: there is no such key; did you mean 'stem'? (and 1 more)"
    )


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "", "just words"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    wanted = "must hold a mapping with name, stem, stages, ..."
    assert complaint(tmp_path, text).strip() == wanted


def test_a_file_that_is_no_yaml_is_refused_in_one_line(tmp_path: Path) -> None:
    said = complaint(tmp_path, "name: [1")
    assert said.strip().startswith("cannot be read as YAML: while parsing a flow sequence")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"\xff\xfe", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"name: 2020-13-45", "month must be in 1..12"),
        (b"[" * 5000, "maximum recursion depth exceeded"),
    ],
)
def test_what_the_yaml_reader_chokes_on_is_refused(
    tmp_path: Path, text: bytes, reason: str
) -> None:
    assert complaint(tmp_path, text).strip().startswith(f"cannot be read as YAML: {reason}")


def test_too_many_pairs_are_refused(tmp_path: Path) -> None:
    many = ", ".join(str(size) for size in range(4, 1004))
    widths = ", ".join(f"{n / 100}" for n in range(1, 12))
    text = GOOD.replace("32, 48", many).replace("0.5, 1.0", widths)
    wanted = "top level: at most 10,000 (width multiplier, resolution) pairs are allowed"
    assert complaint(tmp_path, text).startswith(wanted)


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(UsageError) as error:
        find_space("mcunet-smal")
    assert str(error.value).startswith("unknown search space 'mcunet-smal'; known: ")
    assert str(error.value).endswith("; did you mean 'mcunet-small'?")


def test_a_name_like_no_other_is_pointed_to_a_file() -> None:
    with pytest.raises(UsageError, match=r"known: .*; or give the path of a YAML file$"):
        find_space("resnet")


def test_a_path_is_read_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "little.yaml"
    path.write_text(GOOD)
    assert find_space(str(path)) == read_space(path)
    missing = tmp_path / "none.yml"
    with pytest.raises(UsageError) as error:
        find_space(str(missing))
    assert str(error.value).startswith(f"{missing} cannot be read as YAML: ")
    assert "No such file" in str(error.value)


def test_both_spaces_are_shipped_under_their_own_names() -> None:
    spaces = shipped_spaces()
    assert set(spaces) >= {"mcunet", "mcunet-small"}
    assert all(name == space.name for name, space in spaces.items())


def test_mcunet_has_108_pairs_and_these_subnets() -> None:
    space = find_space("mcunet")
    assert len(space.width_multipliers) * len(space.resolutions) == 108
    # Kernel and expansion: 9 choices per block. Five stages of 2, 3 or 4 blocks, one of 1 block,
    # and a first stage without choice.
    assert space.subnets() == (9**2 + 9**3 + 9**4) ** 5 * 9 == 195_827_899_433_152_372_659


def test_mcunet_small_has_99_pairs_and_these_subnets() -> None:
    space = find_space("mcunet-small")
    assert (len(space.resolutions), len(space.width_multipliers)) == (11, 9)
    assert space.subnets() == (9**2 + 9**3 + 9**4) ** 4 * 9 == 26_567_344_923_775_929


@pytest.mark.parametrize(("size", "name"), [(8, "mcunet-small"), (64, "mcunet-small")])
def test_small_images_get_the_small_space(size: int, name: str) -> None:
    assert default_space(size).name == name


@pytest.mark.parametrize("size", [65, 224, 4000])
def test_larger_images_get_mcunet(size: int) -> None:
    assert default_space(size).name == "mcunet"


def test_images_of_no_size_have_no_space() -> None:
    with pytest.raises(UsageError) as error:
        default_space(0)
    assert str(error.value) == "no search space is made for images of 0 pixels; use --space"


@pytest.mark.parametrize(
    ("channels", "width", "wanted"),
    [
        (32, 1.0, 32),
        (16, 0.2, 8),  # 3.2: never below 8
        (24, 0.5, 16),  # 12 lies halfway and goes up
        (40, 0.3, 16),  # 12
        (80, 0.2, 16),  # 16
        (24, 0.8, 24),  # 19.2: 16 would be below 90 %
        (40, 0.7, 32),  # 28: 32 is nearer than 24
        (96, 0.4, 40),  # 38.4
        (192, 0.1, 24),  # 19.2
        (320, 0.9, 288),
        (320, 0.35, 112),
        (1, 4.0, 8),
    ],
)
def test_channels_at_a_width_by_hand(channels: int, width: float, wanted: int) -> None:
    assert scale_channels(channels, width) == wanted


@given(channels=st.integers(1, 4096), width=st.floats(0.01, 4))
def test_scaled_channels_keep_mobilenetv2s_rule(channels: int, width: float) -> None:
    scaled, wanted = scale_channels(channels, width), channels * width
    assert scaled % 8 == 0
    assert scaled >= max(8, 0.9 * wanted)
    assert scaled <= max(8, wanted + 8)


def test_channels_are_those_of_stem_and_stages() -> None:
    space: SearchSpace = find_space("mcunet")
    assert space.channels(1.0) == (32, 16, 24, 40, 80, 96, 192, 320)
    assert space.channels(0.5) == (16, 8, 16, 24, 40, 48, 96, 160)
