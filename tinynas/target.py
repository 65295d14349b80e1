"""What a run is for: chip, runtime, limits, and the space and task that the data ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tinynas.budget import Budget, effective_budget
from tinynas.config import Config, config_from
from tinynas.cost.device import DEFAULT_DEVICE, Device, find_device
from tinynas.cost.kernels import Kernels, kernels_of
from tinynas.cost.latency import op_latency_us
from tinynas.cost.overlap import SafeKernels, safe_kernels
from tinynas.errors import UsageError
from tinynas.shrink import Task
from tinynas.space.spec import SearchSpace, default_space, find_space

# More pixels than four times what the camera saw only add computation.
LARGEST_ENLARGEMENT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the model will run on; `named` says whether the user chose the chip."""

    device: Device
    runtime: str
    named: bool
    budget: Budget

    @property
    def kernels(self) -> Kernels:
        """The kernel library of the runtime on this core."""
        return kernels_of(self.runtime, self.device.core)


def resolve_target(config: Config) -> Target:
    """Chip, runtime and the limits that hold; UsageError for what does not go together."""
    asked = config.target
    device = find_device(
        asked.mcu or DEFAULT_DEVICE, Path(asked.devices) if asked.devices else None
    )
    runtime = asked.runtime or device.default_runtime
    device.runtime(runtime)
    kernels_of(runtime, device.core)
    budget = effective_budget(
        asked.sram, asked.flash, asked.latency, None, device if asked.mcu else None, runtime
    )
    return Target(device=device, runtime=runtime, named=asked.mcu is not None, budget=budget)


def make_task(target: Target, classes: int, channels: int, *, patch: bool = False) -> Task:
    """What all subnets of a run have in common; `patch` allows them to begin on patches.

    Not where the chip's file does not know what the operators take that patches need.
    """
    device, runtime = target.device, target.runtime
    cycles = device.runtime(runtime).latency.cycles
    return Task(
        classes=classes,
        channels=channels,
        kernels=target.kernels,
        latency=lambda graph, op: op_latency_us(graph, op, device, runtime),
        patch=patch and cycles.move is not None and cycles.pad is not None,
    )


def offered_space(name: str | None, native_size: int) -> SearchSpace:
    """The space of that name, or the one made for the data, up to four times the data's size.

    `native_size` is in pixels. Raises UsageError when no resolution is left.
    """
    space = find_space(name) if name else default_space(native_size)
    kept = tuple(r for r in space.resolutions if r <= LARGEST_ENLARGEMENT * native_size)
    if not kept:
        raise UsageError(
            f"space {space.name} begins at {space.resolutions[0]} pixels, more than "
            f"{LARGEST_ENLARGEMENT} times the {native_size} pixels of the data; "
            "choose another --space or larger images"
        )
    return space.model_copy(update={"resolutions": kept})


def plan_target(
    mcu: str | None, kernels: str | None, devices: str | None
) -> tuple[SafeKernels, tuple[Kernels, ...]]:
    """What a memory plan must be safe with, and the libraries that will run it, none for all.

    Those of a chip's default runtime, or of a name; by default any. Raises UsageError for both.
    """
    if mcu and kernels:
        raise UsageError("--mcu says which kernels run on the chip; drop --kernels or --mcu")
    if mcu:
        flags = {"target": {"mcu": mcu, "devices": devices}}
        library = resolve_target(config_from(None, flags)).kernels
        return safe_kernels(library), (library,)
    if devices:
        raise UsageError("--devices is where --mcu is looked up; give both or none")
    found = next((name for name in get_args(SafeKernels) if name == (kernels or "any")), None)
    if found is None:
        known = ", ".join(get_args(SafeKernels))
        raise UsageError(f"--kernels {kernels!r} is not known; it is one of {known}")
    return found, ()
