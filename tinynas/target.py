"""What a run is for: chip, runtime, limits, and the space and task that the data ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from tinynas.budget import Budget, effective_budget
from tinynas.config import Config, TargetConfig, config_from
from tinynas.cost.device import DEFAULT_DEVICE, Device, find_device, shipped_devices
from tinynas.cost.energy import Energy, energy_of
from tinynas.cost.kernels import Kernels, kernels_of
from tinynas.cost.latency import Latency, Timer, find_timer, unknowing_timer
from tinynas.cost.overlap import SafeKernels, safe_kernels
from tinynas.errors import UsageError
from tinynas.graph import Graph, Op
from tinynas.space.spec import SearchSpace, default_space, find_space
from tinynas.task import Task

# More pixels than four times what the camera saw only add computation.
LARGEST_ENLARGEMENT = 4
# Groups of operators that only a network on patches has.
PATCH_GROUPS = frozenset({"pad", "move"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """What a model will run on and the memory there; `named` says whether the user chose it."""

    device: Device
    runtime: str
    named: bool
    budget: Budget

    @property
    def kernels(self) -> Kernels:
        """The kernel library of the runtime on this core."""
        return kernels_of(self.runtime, self.device.core)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target(Chip):
    """A chip whose latency is known; its budget says what that is held against."""

    timer: Timer

    def energy(self, latency: Latency) -> Energy | None:
        """The energy of a latency; None where the chip's active power is not known."""
        power = self.device.active_power_mw
        return energy_of(latency, power) if power else None


def resolve_chip(config: Config) -> Chip:
    """Chip, runtime and the limits on memory; UsageError for what does not go together."""
    asked = config.target
    device = find_device(asked.mcu or DEFAULT_DEVICE, _folder(asked))
    runtime = asked.runtime or device.default_runtime
    device.runtime(runtime)
    kernels_of(runtime, device.core)
    budget = effective_budget(
        asked.sram,
        asked.flash,
        asked.latency,
        asked.energy,
        device if asked.mcu else None,
        runtime,
    )
    return Chip(
        device=device,
        runtime=runtime,
        named=asked.mcu is not None,
        budget=replace(budget, macs=asked.max_macs),
    )


def resolve_target(config: Config) -> Target:
    """The same with what times models there; UsageError also where no latency is known."""
    asked, chip = config.target, resolve_chip(config)
    timer = find_timer(chip.device, chip.runtime, devices=_folder(asked))
    if asked.confidence is not None and asked.latency is None and asked.energy is None:
        raise UsageError(
            "--confidence says how surely a limit on latency or energy must hold; give --latency "
            "or --energy with it"
        )
    return Target(
        device=chip.device,
        runtime=chip.runtime,
        named=chip.named,
        budget=replace(
            chip.budget,
            confidence=asked.confidence,
            margin=1.0 if asked.confidence is None else timer.factor(asked.confidence),
            power_mw=None if asked.energy is None else _power_mw(chip.device, asked),
        ),
        timer=timer,
    )


def profiled_target(config: Config) -> Target:
    """The same for a model whose costs are only to be told: of unknown latency where need be."""
    try:
        return resolve_target(config)
    except UsageError:
        chip = resolve_chip(config)  # raises what else is wrong
        timer = unknowing_timer(chip.device, chip.runtime)
        return Target(
            device=chip.device,
            runtime=chip.runtime,
            named=chip.named,
            budget=chip.budget,
            timer=timer,
        )


def _folder(asked: TargetConfig) -> Path | None:
    return Path(asked.devices) if asked.devices else None


def _power_mw(device: Device, asked: TargetConfig) -> float:
    """The active power that an energy limit is divided by, its upper end with a confidence."""
    power = device.active_power_mw
    if power is None:
        powered = [
            name for name, d in shipped_devices(_folder(asked)).items() if d.active_power_mw
        ]
        raise UsageError(
            f"--energy cannot be held against anything: the active power of {device.name} is not "
            f"known; it is of {', '.join(powered) or 'no chip'}"
        )
    return power.value if asked.confidence is None else power.highest


@dataclass(frozen=True, slots=True)
class KnownTime:
    """Microseconds of one operator; UsageError where the timer does not know them."""

    timer: Timer

    def __call__(self, graph: Graph, op: Op) -> float:
        """The time of an operator of a graph."""
        try:
            return self.timer.op_us(graph, op)
        except ValueError as error:
            raise UsageError(
                f"{error}; measure such operators and import them with tinynas lut import, or "
                "choose another --mcu or --runtime"
            ) from None


def make_task(target: Target, classes: int, channels: int, *, patch: bool = False) -> Task:
    """What all subnets of a run have in common; `patch` allows them to begin on patches.

    Not where nothing is known of the latency of the operators that patches need.
    """
    timer = target.timer
    return Task(
        classes=classes,
        channels=channels,
        kernels=target.kernels,
        latency=KnownTime(timer),
        inference_us=timer.inference_us,
        patch=patch and timer.known.model.cycles.keys() >= PATCH_GROUPS,
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
        library = resolve_chip(config_from(None, flags)).kernels
        return safe_kernels(library), (library,)
    if devices:
        raise UsageError("--devices is where --mcu is looked up; give both or none")
    found = next((name for name in get_args(SafeKernels) if name == (kernels or "any")), None)
    if found is None:
        known = ", ".join(get_args(SafeKernels))
        raise UsageError(f"--kernels {kernels!r} is not known; it is one of {known}")
    return found, ()
