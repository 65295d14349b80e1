"""Search spaces as people write them: YAML files, checked, with errors that name file and rule."""

from __future__ import annotations

import difflib
from math import prod
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from tinynas.errors import UsageError
from tinynas.paths import data_dir
from tinynas.validation import validated
from tinynas.yaml_file import read_mapping

KERNELS = (1, 3, 5, 7, 9, 11)
Choices = Annotated[tuple[int, ...], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Stem(_Strict):
    """The first convolution: kernel size, stride and channels before the width multiplier."""

    kernel: int = Field(ge=3, le=11)
    stride: int = Field(ge=1, le=2)
    channels: int = Field(ge=1, le=4096)


class Stage(_Strict):
    """Inverted residual blocks of one channel count; the first block carries the stride."""

    channels: int = Field(ge=1, le=4096)
    stride: int = Field(ge=1, le=2)
    depth: Choices
    kernel: Choices
    expansion: Choices

    @field_validator("depth", "kernel", "expansion")
    @classmethod
    def _ascending(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if list(values) != sorted(set(values)) or values[0] < 1:
            raise ValueError(f"must be positive and strictly ascending, got {list(values)}")
        return values

    @field_validator("kernel")
    @classmethod
    def _odd(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if not set(values) <= set(KERNELS):
            raise ValueError(f"kernel sizes must be among {list(KERNELS)}, got {list(values)}")
        return values

    @field_validator("depth")
    @classmethod
    def _shallow(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if values[-1] > 10:
            raise ValueError(f"a stage has at most 10 blocks, got {values[-1]}")
        return values

    def subnets(self) -> int:
        """Number of different stages: for each depth, kernel and expansion of each block."""
        choices = len(self.kernel) * len(self.expansion)
        return sum(choices**depth for depth in self.depth)


class NativeSize(_Strict):
    """For which native image sizes (pixels) a space is the default."""

    above: int = Field(default=0, ge=0)
    up_to: int | None = None


class SearchSpace(_Strict):
    """A family of networks: stem, stages of inverted residuals, pooling, fully connected.

    `width_multipliers` and `resolutions` (pixels) are what `shrink` chooses from; depth, kernel
    and expansion ratio of every block are what `search` chooses. A space that `shrink` has chosen
    says on how many patches, `patches` x `patches`, its networks begin.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    description: str = ""
    stem: Stem
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=20)
    width_multipliers: tuple[float, ...] = Field(min_length=1)
    resolutions: tuple[int, ...] = Field(min_length=1)
    native_size: NativeSize | None = None
    default_classes: int = Field(default=1000, ge=1)
    patches: int = Field(default=1, ge=1, le=8)

    @field_validator("width_multipliers")
    @classmethod
    def _widths(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if list(values) != sorted(set(values)) or not 0 < values[0] <= values[-1] <= 4:
            raise ValueError(
                f"must be strictly ascending, above 0 and at most 4, got {list(values)}"
            )
        return values

    @field_validator("resolutions")
    @classmethod
    def _resolutions(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if list(values) != sorted(set(values)) or not 4 <= values[0] <= values[-1] <= 1024:
            raise ValueError(
                f"must be strictly ascending, from 4 to 1024 pixels, got {list(values)}"
            )
        return values

    @model_validator(mode="after")
    def _has_a_name_for_each_pair(self) -> SearchSpace:
        if len(self.width_multipliers) * len(self.resolutions) > 10_000:
            raise ValueError("at most 10,000 (width multiplier, resolution) pairs are allowed")
        return self

    def subnets(self) -> int:
        """Number of different subnets at one width multiplier and resolution."""
        return prod(stage.subnets() for stage in self.stages)

    def channels(self, width: float) -> tuple[int, ...]:
        """Channels of the stem and of each stage at a width multiplier."""
        return tuple(
            scale_channels(c, width)
            for c in (self.stem.channels, *(stage.channels for stage in self.stages))
        )


def scale_channels(channels: int, width: float) -> int:
    """Channels times width, rounded to a multiple of 8: never below 8, never below 90 %.

    MobileNetV2's rule (Sandler et al. 2018, reference implementation), kept by MCUNet.
    """
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def read_space(path: Path) -> SearchSpace:
    """The search space of a YAML file.

    Raises UsageError, naming file, key and rule, for a file that cannot be read or breaks one.
    """
    content = read_mapping(path, "with name, stem, stages, ...")
    return validated(SearchSpace, content, str(path))


def shipped_spaces() -> dict[str, SearchSpace]:
    """All search spaces that come with tinynas, by name."""
    spaces = [read_space(path) for path in sorted(data_dir("search_spaces").glob("*.yaml"))]
    return {space.name: space for space in spaces}


def find_space(name: str) -> SearchSpace:
    """The space of that name, or of that YAML file (anything with a slash or .yaml).

    Raises UsageError with the nearest known name.
    """
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return read_space(Path(name))
    spaces = shipped_spaces()
    if name not in spaces:
        near = difflib.get_close_matches(name, spaces, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "or give the path of a YAML file"
        raise UsageError(f"unknown search space {name!r}; known: {', '.join(spaces)}; {hint}")
    return spaces[name]


def default_space(native_size: int) -> SearchSpace:
    """The shipped space made for images of `native_size` pixels."""
    for space in shipped_spaces().values():
        rule = space.native_size
        if rule and rule.above < native_size and (rule.up_to is None or native_size <= rule.up_to):
            return space
    raise UsageError(f"no search space is made for images of {native_size} pixels; use --space")
