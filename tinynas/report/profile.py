"""What a model costs on a chip, operator by operator: the figures behind `tinynas profile`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from tinynas.cost.code_size import CodeSize, code_size
from tinynas.cost.energy import Energy
from tinynas.cost.kernels import Kernels, scratch_sizes
from tinynas.cost.latency import MS_PER_US, Latency, OpTime
from tinynas.cost.latency_table import Provenance
from tinynas.cost.memory import Arena, predict_arena, unknown_memory
from tinynas.cost.model_file import read_bytes, read_model, refuse_unknown
from tinynas.cost.plan_safety import PlanSafety, plan_safety
from tinynas.cost.tflite_reader import IDENTIFIER, ModelFile, printable
from tinynas.errors import ModelFileError
from tinynas.graph import Graph, Op, op_macs
from tinynas.report.graph_map import memory_of, tensor_name
from tinynas.report.latency_json import latency_json, model_json, shares_json
from tinynas.report.memory_map import MemoryMap
from tinynas.report.profile_plan import Replanned, replanned, replanned_json
from tinynas.target import Target

UJ_PER_US_MW = 1e-3
MJ_PER_UJ = 1e-3
COLUMNS = (
    *("number", "name", "kind", "writes", "inputs", "outputs", "window", "macs"),
    *("live_bytes", "flash_bytes", "latency_ms_predicted", "energy_uj_predicted"),
    "latency_provenance",
)
WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpProfile:
    """What one operator reads, writes and costs; None for what is not known.

    `writes` is the name of its first output, by which converters tell where it comes from.
    `window` is its kernel, stride and dilation as in `3x3 s2`, empty where it has none.
    `live_bytes` are all activations and scratch buffers in memory while it runs; `flash_bytes`
    the constants that it is the first to read. Latency and energy are predicted, `provenance` says
    from what; `share` is the part of the model's latency as far as that is known.
    """

    number: int
    name: str
    kind: str
    writes: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    window: str
    macs: int
    live_bytes: int | None
    flash_bytes: int
    latency_us: float | None
    provenance: Provenance | None
    share: float | None
    energy_uj: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A model's operators, its memory map and its totals on a target.

    `file_bytes` is the length of a .tflite file, None for a layer list. `arena` is None where the
    memory of something is not known, which `unknown` then names. `plan` says who placed the
    activations; `safety` is that of the file's plan, None where it has none. `replanned` is what a
    new plan would give, where that was asked for. `latency` is that of the operators whose latency
    is known, None if that is none.
    """

    path: Path
    target: Target
    file_bytes: int | None
    operators: tuple[OpProfile, ...]
    memory: MemoryMap
    arena: Arena | None
    latency: Latency | None
    unknown: tuple[str, ...]
    plan: str
    safety: PlanSafety | None
    replanned: Replanned | None
    parameters: int
    code: CodeSize

    @property
    def name(self) -> str:
        """The file's name, as far as it can be printed."""
        return printable(self.path.name)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(op.macs for op in self.operators)

    @property
    def constants_bytes(self) -> int:
        """Bytes of all constants that operators read."""
        return sum(op.flash_bytes for op in self.operators)

    @property
    def flash_bytes(self) -> int:
        """File, or for a layer list its constants, and code."""
        model = self.constants_bytes if self.file_bytes is None else self.file_bytes
        return model + self.code.bytes

    @property
    def sram_limit_bytes(self) -> int:
        """What the chip leaves an arena: its largest region less the reserve."""
        device = self.target.device
        return device.sram_contiguous_bytes.value - device.reserve_sram_bytes.value

    @property
    def operators_ms(self) -> float | None:
        """Latency of the operators alone, without what an inference takes besides."""
        known = [op.latency_us for op in self.operators if op.latency_us is not None]
        return sum(known) * MS_PER_US if known else None

    @property
    def energy(self) -> Energy | None:
        """Energy of that latency; None where it or the chip's power is not known."""
        return self.target.energy(self.latency) if self.latency else None

    @property
    def untimed(self) -> tuple[str, ...]:
        """Kinds of the operators whose latency is not known."""
        return tuple(sorted({op.kind for op in self.operators if op.latency_us is None}))


def profile_file(path: Path, target: Target, *, plan: bool = False) -> Profile:
    """The profile of the .tflite file or layer list at `path`; `plan` also plans it anew.

    Raises ModelFileError for anything else, for a model of which an operator is not known, and
    for one to be planned of which the memory is not.
    """
    model, content = read_model(path), read_bytes(path)
    length = len(content) if content[4:8] == IDENTIFIER else None
    try:
        refuse_unknown(model.graph)
        return profile_model(model, target, path=path, file_bytes=length, plan=plan)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def profile_model(
    model: ModelFile, target: Target, *, path: Path, file_bytes: int | None, plan: bool = False
) -> Profile:
    """The profile of a model all of whose operators are known."""
    graph, kernels, offsets = model.graph, target.kernels, model.offsets
    unknown = unknown_memory(graph)
    scratch = [_scratch(graph, op, kernels) for op in graph.ops]
    times = [_time(graph, op, target) for op in graph.ops]
    known = [time for time in times if time]
    latency = target.timer.total(known) if known else None
    memory = memory_of(graph, offsets, [sizes or () for sizes in scratch])
    return Profile(
        path=path,
        target=target,
        file_bytes=file_bytes,
        operators=_operators(graph, scratch, memory, target, times, latency),
        memory=memory,
        arena=None if unknown else predict_arena(graph, kernels, memory.head_bytes),
        latency=latency,
        unknown=unknown,
        plan=_plan(graph, offsets),
        safety=plan_safety(graph, offsets, model.plan_safe_for) if offsets else None,
        replanned=replanned(model, target) if plan else None,
        parameters=_parameters(graph),
        code=code_size({op.kind for op in graph.ops}, target.device, target.runtime),
    )


def _scratch(graph: Graph, op: Op, kernels: Kernels) -> tuple[int, ...] | None:
    """Sizes of an operator's scratch buffers; None where no rule covers it."""
    unknown = unknown_memory(replace(graph, ops=(op,)))
    return None if unknown else scratch_sizes(graph, op, kernels)


def _plan(graph: Graph, offsets: dict[int, int]) -> str:
    """Who placed the activations, in words."""
    if not offsets:
        return "TFLM's greedy plan"
    count = len(graph.lifetimes())
    if len(offsets) == count:
        return "the file's own plan"
    return f"the file's own plan for {len(offsets)} of {count} tensors, TFLM's for the rest"


def _operators(
    graph: Graph,
    scratch: Sequence[tuple[int, ...] | None],
    memory: MemoryMap,
    target: Target,
    times: Sequence[OpTime | None],
    latency: Latency | None,
) -> tuple[OpProfile, ...]:
    flash = _flash(graph)
    total_us = latency.ms / MS_PER_US if latency else 0.0
    rows = []
    for step, op in enumerate(graph.ops):
        time = times[step]
        latency_us = time.us if time else None
        rows.append(
            OpProfile(
                number=step,
                name=op.name,
                kind=op.kind,
                writes=tensor_name(graph, op.outputs[0]) if op.outputs else "",
                inputs=tuple(graph.tensors[t].shape for t in graph.activations(op)),
                outputs=tuple(graph.tensors[t].shape for t in op.outputs),
                window=_window(op),
                macs=op_macs(graph, op),
                live_bytes=None if scratch[step] is None else memory.live_bytes[step],
                flash_bytes=flash[step],
                latency_us=latency_us,
                provenance=time.provenance if time else None,
                share=latency_us / total_us if latency_us is not None and total_us else None,
                energy_uj=_energy_uj(latency_us, target),
            )
        )
    return tuple(rows)


def _flash(graph: Graph) -> list[int]:
    """Per operator, the bytes of the constants that no operator before it reads."""
    counted: set[int] = set()
    sizes = []
    for op in graph.ops:
        new = {t for t in op.inputs if t >= 0 and graph.tensors[t].constant} - counted
        sizes.append(sum(graph.tensors[t].size_bytes for t in new))
        counted |= new
    return sizes


def _parameters(graph: Graph) -> int:
    """Weights and biases of convolutions and fully connected layers, shared ones once."""
    read = {t for op in graph.ops if op.kind in WITH_WEIGHTS for t in op.inputs[1:] if t >= 0}
    return sum(prod(graph.tensors[t].shape) for t in read if graph.tensors[t].constant)


def _time(graph: Graph, op: Op, target: Target) -> OpTime | None:
    try:
        return target.timer.op(graph, op)
    except ValueError:
        return None


def _energy_uj(latency_us: float | None, target: Target) -> float | None:
    """Latency times the chip's active power, where both are known."""
    power = target.device.active_power_mw
    if power is None or latency_us is None:
        return None
    return latency_us * power.value * UJ_PER_US_MW


def _window(op: Op) -> str:
    """`3x3 s2 d2`; TFLite's kinds with a window are those named ..._2D."""
    if not op.kind.endswith("_2D"):
        return ""
    words = ["x".join(map(str, op.kernel))]
    for letter, sizes in (("s", op.stride), ("d", op.dilation)):
        if sizes != (1, 1):
            words.append(letter + "x".join(map(str, sizes if sizes[0] != sizes[1] else sizes[:1])))
    return " ".join(words)


def to_csv(profile: Profile) -> str:
    """One line per operator, numbers as they are; empty cells for what is not known."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for op in profile.operators:
        ms = None if op.latency_us is None else op.latency_us * MS_PER_US
        names = [_inert(name) for name in (op.name, op.kind, op.writes)]
        shapes = [";".join(map(_full_shape, shapes)) for shapes in (op.inputs, op.outputs)]
        costs = (op.macs, op.live_bytes, op.flash_bytes, ms, op.energy_uj, op.provenance)
        table.writerow([op.number, *names, *shapes, op.window, *costs])
    return text.getvalue()


def _full_shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _inert(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@")) else name


def to_json(profile: Profile) -> dict[str, Any]:
    """Totals, the peak and all operators; null for what is not known."""
    arena, memory, target = profile.arena, profile.memory, profile.target
    return {
        "model": str(profile.path.resolve()),
        "mcu": target.device.name,
        "mcu_named": target.named,
        "runtime": target.runtime,
        "counted": {
            "file_bytes": profile.file_bytes,
            "constants_bytes": profile.constants_bytes,
            "parameters": profile.parameters,
            "macs": profile.macs,
        },
        "predicted": {
            "sram_bytes": arena.sram_bytes if arena else None,
            "head_bytes": arena.head_bytes if arena else None,
            "tail_bytes": arena.tail_bytes if arena else None,
            "planning_bytes": arena.planning_bytes if arena else None,
            "live_bound_bytes": memory.bound_bytes if arena else None,
            "flash_bytes": profile.flash_bytes,
            "code_bytes": profile.code.bytes,
            **latency_json(profile.latency, profile.energy),
            "energy_uj": profile.energy.mj / MJ_PER_UJ if profile.energy else None,
        },
        "latency_provenance": profile.latency.provenance if profile.latency else None,
        "latency_shares": shares_json(profile.latency),
        "latency_model": model_json(target.timer),
        "limits": {
            "sram_bytes": profile.sram_limit_bytes,
            "flash_bytes": target.device.flash_bytes.value,
        },
        "code_source": profile.code.source,
        "unknown": {"memory": list(profile.unknown), "latency": list(profile.untimed)},
        "plan": profile.plan,
        "plan_safety": profile.safety.to_json(target.kernels) if profile.safety else None,
        "planned": replanned_json(profile.replanned) if profile.replanned else None,
        "peak": {
            "operator": memory.peak,
            "live_bytes": memory.bound_bytes,
            "buffers": [asdict(box) for box in memory.at(memory.peak)],
        },
        "operators": [asdict(op) for op in profile.operators],
    }
