"""A profile in words: the totals and sentences that terminal and page share."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinynas.budget import format_bytes
from tinynas.cost.interval import CONFIDENCE
from tinynas.cost.latency import Latency
from tinynas.cost.plan_safety import LIBRARY_TEXTS, safety_lines, safety_warning
from tinynas.cost.tflite_reader import printable
from tinynas.report.memory_map import short_shape, span_text
from tinynas.report.profile import OpProfile, Profile
from tinynas.report.profile_plan import Replanned, replanned_lines

NONE = "-"
UJ_PER_MJ = 1000
INTERVAL_LABEL = f"  its interval at {CONFIDENCE:.0%}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """One line of the totals: predicted and counted figures never share a column.

    `note` is the number of its source in `sources`.
    """

    label: str
    predicted: str = NONE
    counted: str = NONE
    limit: str = ""
    note: int | None = None

    @property
    def mark(self) -> str:
        """The number of its note in brackets."""
        return "" if self.note is None else f"({self.note})"


def shapes_text(shapes: Sequence[tuple[int, ...]]) -> str:
    """The first of several shapes, and how many more there are."""
    if not shapes:
        return NONE
    return short_shape(shapes[0]) + (f" +{len(shapes) - 1}" if len(shapes) > 1 else "")


def count_text(count: int | None) -> str:
    """A whole number with separators."""
    return NONE if count is None else f"{count:,}"


def figure_text(value: float | None) -> str:
    """A number with about three digits, never in powers of ten and never 0 by rounding."""
    if value is None:
        return NONE
    if 0 < value < 0.0005:
        return "<0.001"
    digits = 0 if value >= 100 or value == 0 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f}"


def percent_text(share: float | None) -> str:
    """A share in per cent, without the sign."""
    if share is None:
        return NONE
    return "<0.1" if 0 < share < 0.0005 else f"{100 * share:.1f}"


def interval_text(low: float, high: float) -> str:
    """Both ends of an interval."""
    return f"{figure_text(low)} to {figure_text(high)}"


def share_of_operators(profile: Profile) -> float | None:
    """The part of the latency that operators take; the rest is the inference's own."""
    if profile.latency is None or profile.operators_ms is None or not profile.latency.ms:
        return None
    return profile.operators_ms / profile.latency.ms


def energy_of_operators_uj(profile: Profile) -> float | None:
    """Energy of the operators whose energy is known; None if that is none."""
    known = [op.energy_uj for op in profile.operators if op.energy_uj is not None]
    return sum(known) if known else None


def shares_text(latency: Latency) -> str:
    """How much of a latency, and how many of its operators, are of each provenance."""
    parts = (
        f"{share.time:.0%} of it and {share.operators:.0%} of the operators are {name}"
        for name, share in latency.shares.items()
    )
    return ", ".join(parts)


def chip_text(profile: Profile) -> str:
    """Chip and runtime, and whether the user named the chip."""
    device = profile.target.device
    default = "" if profile.target.named else ", the default chip as no --mcu is given"
    return (
        f"{device.name} ({device.core}, {device.clock_hz.value / 1e6:g} MHz) with "
        f"{profile.target.runtime}{default}"
    )


def operator_text(op: OpProfile) -> str:
    """An operator in a sentence: number, kind, name where it says more, and shapes."""
    name = "" if op.name == f"{op.kind} {op.number}" else f" {op.name}"
    return f"{op.number}, {op.kind}{name} ({shapes_text(op.inputs)} to {shapes_text(op.outputs)})"


def totals(profile: Profile) -> list[Total]:
    """What the whole model costs, line by line."""
    return [*_sram(profile), *_flash(profile), *_work(profile)]


def _sram(profile: Profile) -> Iterator[Total]:
    arena, limit = profile.arena, count_text(profile.sram_limit_bytes)
    if arena is None:
        yield Total(label="SRAM: arena to reserve, bytes", limit=limit, note=1)
        return
    yield Total(
        label="SRAM: arena to reserve, bytes",
        predicted=count_text(arena.sram_bytes),
        limit=limit,
        note=1,
    )
    yield Total(
        label="  head: activations, scratch", predicted=count_text(arena.head_bytes), note=2
    )
    bound = count_text(profile.memory.bound_bytes)
    yield Total(label="    lower bound of live bytes", predicted=bound)
    if arena.planning_bytes > arena.head_bytes:
        planning = count_text(arena.planning_bytes)
        yield Total(label="    needed there to allocate", predicted=planning)
    yield Total(label="  tail: TFLM's records", predicted=count_text(arena.tail_bytes))


def _flash(profile: Profile) -> Iterator[Total]:
    file, constants = profile.file_bytes, profile.constants_bytes
    what = "constants" if file is None else "model"
    yield Total(
        label=f"flash: {what} and code, bytes",
        predicted=count_text(profile.flash_bytes),
        limit=count_text(profile.target.device.flash_bytes.value),
    )
    yield Total(label="  model file", counted=count_text(file), note=3)
    yield Total(label="    constants", counted=count_text(constants))
    if file is not None and file >= constants:
        yield Total(label="    the rest: its tables", counted=count_text(file - constants))
    yield Total(label="  runtime and other code", predicted=count_text(profile.code.bytes), note=4)


def _work(profile: Profile) -> Iterator[Total]:
    yield Total(label="MACs", counted=count_text(profile.macs))
    yield Total(label="parameters", counted=count_text(profile.parameters))
    latency, energy = profile.latency, profile.energy
    provenance = latency.provenance if latency else "estimated"
    what = f"{provenance} latency"
    if profile.untimed:
        timed = sum(op.latency_us is not None for op in profile.operators)
        what += f" of {timed} of {len(profile.operators)} operators"
    ms = figure_text(latency.ms if latency else None)
    yield Total(label=f"{what}, ms", predicted=ms, note=5)
    if latency:
        ends = interval_text(latency.low_ms, latency.high_ms)
        yield Total(label=INTERVAL_LABEL, predicted=ends)
    uj = figure_text(energy.mj * UJ_PER_MJ if energy else None)
    yield Total(label=f"{provenance} energy, uJ", predicted=uj, note=6)
    if energy:
        ends = interval_text(energy.low_mj * UJ_PER_MJ, energy.high_mj * UJ_PER_MJ)
        yield Total(label=INTERVAL_LABEL, predicted=ends)


def sources(profile: Profile) -> list[str]:
    """Where the figures come from, in the order of the notes of `totals`."""
    device, runtime = profile.target.device, profile.target.runtime
    return [
        f"predicted: TFLM's allocation on a 32-bit chip with {runtime}, by rule; nothing was run. "
        f"Limit: the largest region of SRAM, {device.sram_contiguous_bytes.value:,} bytes, less "
        f"{device.reserve_sram_bytes.value:,} for the stack and what else the runtime keeps",
        f"{profile.plan}, with the scratch buffers of {runtime}",
        _file_source(profile),
        profile.code.source.partition("; ")[0],
        _latency_source(profile),
        _energy_source(profile),
    ]


def _file_source(profile: Profile) -> str:
    if profile.file_bytes is None:
        return "a layer list has no length as a model: flash counts its constants alone"
    if profile.file_bytes < profile.constants_bytes:
        return "the length of the file, in which several constants share their data"
    return "the length of the file"


def _latency_source(profile: Profile) -> str:
    """What the latency rests on, and what it leaves out."""
    known = profile.target.timer.known
    if profile.latency is None:
        return f"no latency is known for {profile.target.runtime} on {known.mcu}"
    words = (
        f"sum of cycles per operator, {known.words()}, {known.rests_on()}; {known.error_text()}"
    )
    if len(profile.latency.shares) > 1:
        words += f"; {shares_text(profile.latency)}"
    if profile.untimed:
        count = sum(op.latency_us is None for op in profile.operators)
        words += (
            f". The total leaves out {count} of {len(profile.operators)} operators, whose latency "
            f"is not known: {', '.join(profile.untimed)}"
        )
    return words


def _energy_source(profile: Profile) -> str:
    power = profile.target.device.active_power_mw
    if power is None:
        return f"the active power of {profile.target.device.name} is not known"
    spread = (
        ""
        if power.low is None and power.high is None
        else (f", from {power.lowest:g} to {power.highest:g} in single measurements")
    )
    words = f"the latency times an active power of {power.value:g} mW{spread} ({power.source})"
    return words + ("; it leaves out the same operators" if profile.untimed else "")


def fits(profile: Profile) -> list[str]:
    """Whether the model fits the chip, a sentence for each memory."""
    device, arena = profile.target.device, profile.arena
    if arena is None:
        sram = f"SRAM is not known: no rule covers {', '.join(profile.unknown)}."
    else:
        sram = _fit("SRAM", device.name, profile.sram_limit_bytes - arena.sram_bytes)
    flash = _fit("flash", device.name, device.flash_bytes.value - profile.flash_bytes)
    return [sram, flash]


def _fit(memory: str, chip: str, left_bytes: int) -> str:
    if left_bytes >= 0:
        return f"{memory} fits {chip}: {format_bytes(left_bytes)} left."
    return f"{memory} does NOT fit {chip}: {format_bytes(-left_bytes)} too much."


def safety_text(profile: Profile) -> list[str]:
    """What is known of the safety of the plan in the file; nothing where there is none."""
    return safety_lines(profile.safety) if profile.safety else []


def warning_text(profile: Profile) -> str | None:
    """A sentence where the file's plan is not known to be safe on the chosen runtime."""
    if profile.safety is None:
        return None
    return safety_warning(profile.safety, profile.target.kernels, profile.target.runtime)


def map_heading(profile: Profile) -> str:
    """The title of the first memory map."""
    return "Memory map before planning" if profile.replanned else "Memory map"


def replanned_heading(new: Replanned) -> str:
    """The title of the second memory map."""
    return f"Memory map after planning for {LIBRARY_TEXTS[new.planned.made_for]}"


def replanned_text(profile: Profile, new: Replanned) -> list[str]:
    """What the new plan is worth, and how to have it."""
    left_bytes = profile.sram_limit_bytes - new.comparison.planned.sram_bytes
    fit = _fit("SRAM", profile.target.device.name, left_bytes)
    lines = [*replanned_lines(new), f"With the new plan {fit}"]
    if profile.file_bytes is not None:
        model = shlex.quote(printable(str(profile.path)))
        lines.append(
            f"This writes it: tinynas plan {model} -o OUT --kernels {new.planned.made_for}"
        )
    return lines


def common_head_bytes(profile: Profile) -> int:
    """What the height of both memory maps stands for, so that they can be compared."""
    maps = [profile.memory, *([profile.replanned.memory] if profile.replanned else [])]
    return max(memory.head_bytes for memory in maps)


def peak_text(profile: Profile) -> list[str]:
    """Where the peak is, and how far the plan is from it."""
    memory = profile.memory
    head, size = memory.head_bytes, format_bytes(memory.bound_bytes)
    if memory.peak >= 0:
        op = profile.operators[memory.peak]
        lines = [f"Operator {operator_text(op)} has {size} in memory while it runs."]
    else:
        lines = [f"Before the first operator {size} are in memory, which no operator exceeds."]
    blind = sorted({o.kind for o in profile.operators if o.live_bytes is None})
    if blind:
        lines[0] += f" Scratch buffers of {', '.join(blind)} are not known and left out."
    above = head - memory.bound_bytes
    plan = profile.plan[0].upper() + profile.plan[1:]
    if above > 0:
        top = max(memory.boxes, key=lambda box: box.offset + box.size_bytes)
        lines.append(
            f"{plan} takes {head:,} bytes, {above:,} above this lower bound: fragmentation. Its "
            f"highest byte belongs to {top.name}, operators {span_text(top)}."
        )
    elif above == 0:
        lines.append(f"{plan} takes no more: none without overlap can do with less.")
    else:
        lines.append(f"{plan} takes {head:,} bytes, {-above:,} less: tensors share memory.")
    return lines
