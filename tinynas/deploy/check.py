"""Whether any .tflite file keeps a budget, as far as rules and the runtime can tell."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tinynas.budget import Budget, format_bytes
from tinynas.cost.kernels import HOST_KERNELS, Kernels, scratch_by_op
from tinynas.cost.memory import predict_arena, unknown_memory
from tinynas.cost.model_file import read_bytes
from tinynas.cost.plan_safety import plan_safety, safety_warning
from tinynas.cost.tflite_reader import ModelFile, read_tflite
from tinynas.deploy.plan import head_with_scratch
from tinynas.deploy.verify import (
    measure_arena,
    runtime_available,
    smallest_arena_bytes,
)
from tinynas.errors import ModelFileError, TinynasError


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedSram:
    """What rules say: the arena on a 32-bit chip, and what this host can compare, in bytes.

    `sram_bytes` includes the scratch buffers of the chip's kernels. The head is that of reference
    kernels; `sram_host_tail_bytes` are TFLM's records on this host, by the rules of the chip's.
    """

    sram_bytes: int
    sram_head_bytes: int
    sram_host_tail_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSram:
    """What TFLM reports on this host, in bytes, all None where it is not installed.

    `sram_host_needed_bytes` is the smallest arena that works here, at least head and tail; it is
    looked for only where nothing is predicted. Pointers have 8 bytes here, so a 32-bit chip with
    reference kernels needs no more.
    """

    sram_head_bytes: int | None = None
    sram_host_tail_bytes: int | None = None
    sram_host_needed_bytes: int | None = None


def check_file(path: Path, budget: Budget, kernels: Kernels, runtime: str) -> dict[str, Any]:
    """Whether the .tflite file at `path` keeps a budget, and on which figures that rests.

    It does not hold either where the file's memory plan is not known to be safe on the chip.
    `kernels` is the kernel library of `runtime` on the chip. Raises ModelFileError for what is no
    model or none that TFLM can run, TinynasError for one that nothing here can tell about.
    """
    try:
        return _check(path, read_bytes(path), budget, kernels, runtime)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def predict_sram(model: ModelFile, kernels: Kernels) -> PredictedSram:
    """The arena of a model all of whose parts are known, under the plan that its file carries.

    Where the file places nothing TFLM's own planner does.
    """
    graph = model.graph
    head, reference_head = (
        head_with_scratch(graph, model.offsets, scratch_by_op(graph, library))
        for library in (kernels, HOST_KERNELS)
    )
    return PredictedSram(
        sram_bytes=predict_arena(graph, kernels, head).sram_bytes,
        sram_head_bytes=reference_head,
        sram_host_tail_bytes=predict_arena(graph, HOST_KERNELS).tail_bytes,
    )


def measure_sram(content: bytes, *, smallest: bool) -> MeasuredSram:
    """What TFLM reports for a model's bytes; `smallest` also looks for the smallest arena.

    Raises ModelFileError for a model that TFLM cannot run.
    """
    if not runtime_available():
        return MeasuredSram()
    use = measure_arena(content)
    needed = max(use.total_bytes, smallest_arena_bytes(content)) if smallest else None
    return MeasuredSram(
        sram_head_bytes=use.head_bytes,
        sram_host_tail_bytes=use.tail_bytes,
        sram_host_needed_bytes=needed,
    )


def _check(
    path: Path, content: bytes, budget: Budget, kernels: Kernels, runtime: str
) -> dict[str, Any]:
    model = read_tflite(content)
    unknown = unknown_memory(model.graph)
    predicted = None if unknown else predict_sram(model, kernels)
    measured = _measure(content, unknown)
    misses = _misses(predicted, measured, len(content), budget)
    offsets, noted = model.offsets, model.plan_safe_for
    safety = plan_safety(model.graph, offsets, noted) if offsets else None
    warning = safety_warning(safety, kernels, runtime) if safety else None
    misses += [warning] if warning else []
    executed = measured.sram_head_bytes is not None
    return {
        "model": str(path),
        "file_bytes": len(content),
        "predicted": asdict(predicted) if predicted else None,
        "measured": {**asdict(measured), "file_bytes": len(content)},
        "budget": asdict(budget),
        "runtime": runtime,
        "plan_safety": safety.to_json(kernels) if safety else None,
        "holds": not misses,
        "why": [*misses, _basis(unknown, executed, kernels, runtime)],
        "executed_by": runtime_name() if executed else None,
    }


def _measure(content: bytes, unknown: tuple[str, ...]) -> MeasuredSram:
    """As `measure_sram`; TinynasError where neither rules nor the runtime know the model."""
    if unknown and not runtime_available():
        raise TinynasError(
            f"the memory of this model cannot be told: {', '.join(unknown)} not known, and "
            "TensorFlow Lite Micro is not installed (pip install tflite-micro, Linux on x86-64)"
        )
    try:
        return measure_sram(content, smallest=bool(unknown))
    except ModelFileError as error:
        if not unknown:
            raise
        raise ModelFileError(
            f"{str(error).rstrip(': ')}; neither can its memory be predicted, with "
            f"{', '.join(unknown)}"
        ) from None


def _misses(
    predicted: PredictedSram | None, measured: MeasuredSram, file_bytes: int, budget: Budget
) -> list[str]:
    """A sentence for each limit missed, and for a prediction that the runtime contradicts."""
    needed = predicted.sram_bytes if predicted else measured.sram_host_needed_bytes
    sram, flash = format_bytes(budget.sram_bytes), format_bytes(budget.flash_bytes)
    misses = []
    if needed is not None and needed > budget.sram_bytes:
        which = "the arena" if predicted else "the arena on this host, an upper bound,"
        misses.append(f"{which} needs {format_bytes(needed)} of SRAM, above {sram}")
    if file_bytes > budget.flash_bytes:
        misses.append(f"the file has {format_bytes(file_bytes)}, above {flash}")
    return [*misses, *_contradictions(predicted, measured)]


def _contradictions(predicted: PredictedSram | None, measured: MeasuredSram) -> list[str]:
    """A sentence for each prediction that the runtime on this host contradicts."""
    if predicted is None or measured.sram_head_bytes is None:
        return []
    compared = {
        "the arena's head has": (measured.sram_head_bytes, predicted.sram_head_bytes),
        "the runtime's records take": (
            measured.sram_host_tail_bytes,
            predicted.sram_host_tail_bytes,
        ),
    }
    return [
        f"{what} {found:,} bytes in the runtime on this host, predicted were {expected:,}: the "
        "prediction cannot be relied on"
        for what, (found, expected) in compared.items()
        if found != expected
    ]


def _basis(unknown: tuple[str, ...], executed: bool, kernels: Kernels, runtime: str) -> str:
    """One sentence on the figures that the verdict rests on."""
    if unknown:
        bound = "an upper bound for a 32-bit chip with reference kernels"
        rest = "" if kernels == "reference" else f"; scratch buffers of {runtime} are not in it"
        return (
            f"the memory of {', '.join(unknown)} is not known, so the verdict rests on what the "
            f"runtime needs on this host, {bound}{rest}"
        )
    if executed:
        return (
            f"the verdict rests on the arena predicted for a 32-bit chip with {runtime}; what the "
            "same rules say of this host was compared with the runtime here"
        )
    return (
        f"the verdict rests on the arena predicted for a 32-bit chip with {runtime} alone: "
        "TensorFlow Lite Micro is not installed here"
    )


def runtime_name() -> str:
    """The runtime that executes models here, with its version."""
    try:
        return f"TensorFlow Lite Micro {version('tflite-micro')}, reference kernels"
    except PackageNotFoundError:
        return "TensorFlow Lite Micro, reference kernels"
