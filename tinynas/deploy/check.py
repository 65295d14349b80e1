"""Whether any .tflite file keeps a budget, as far as rules and the runtime can tell."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tinynas.budget import Budget, format_bytes
from tinynas.cost.memory import KERNEL_BYTES, Kernels, predict_arena, scratch_bytes
from tinynas.cost.tflite_reader import ModelFile, read_tflite
from tinynas.deploy.plan import head_with_scratch
from tinynas.deploy.verify import (
    measure_arena,
    runtime_available,
    smallest_arena_bytes,
)
from tinynas.errors import ModelFileError, TinynasError
from tinynas.graph import Graph, Op

LARGEST_FILE_BYTES = 64 * 2**20  # more than the flash of any MCU


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedSram:
    """What rules say: the arena on a 32-bit chip, and its head with reference kernels, in bytes.

    `sram_bytes` includes the scratch buffers of the chip's kernels.
    """

    sram_bytes: int
    sram_head_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredSram:
    """What TFLM reports on this host, in bytes, all None where it is not installed.

    `sram_host_needed_bytes` is the smallest arena that works here, at least the total; it is
    looked for only where nothing is predicted. Pointers have 8 bytes here, so a 32-bit chip with
    reference kernels needs no more.
    """

    sram_head_bytes: int | None = None
    sram_host_total_bytes: int | None = None
    sram_host_needed_bytes: int | None = None


def check_file(path: Path, budget: Budget, kernels: Kernels, runtime: str) -> dict[str, Any]:
    """Whether the .tflite file at `path` keeps a budget, and on which figures that rests.

    `kernels` is the kernel library of `runtime` on the chip. Raises ModelFileError for what is no
    model or none that TFLM can run, TinynasError for one that nothing here can tell about.
    """
    try:
        return _check(path, _read(path), budget, kernels, runtime)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def unknown_parts(model: ModelFile) -> tuple[str, ...]:
    """What of a model the rules for its memory do not know, in words; empty if they know all.

    The rules were checked for one input, one output and int8 activations.
    """
    graph = model.graph
    kinds = sorted({op.kind for op in graph.ops} - set(KERNEL_BYTES))
    parts = [f"operator kind {kind}" for kind in kinds]
    used = {t for op in graph.ops for t in (*graph.activations(op), *op.outputs)}
    types = sorted({graph.tensors[t].dtype for t in used} - {"int8"})
    parts += [f"activations of type {dtype}" for dtype in types]
    if any(_has_odd_output(graph, op) for op in graph.ops):
        parts.append("operators without exactly one output of one or more dimensions")
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        parts.append(f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs")
    return (*parts, *model.beyond)


def _has_odd_output(graph: Graph, op: Op) -> bool:
    return len(op.outputs) != 1 or not graph.tensors[op.outputs[0]].shape


def predict_sram(model: ModelFile, kernels: Kernels) -> PredictedSram:
    """The arena of a model all of whose parts are known, under the plan that its file carries.

    Where the file places nothing TFLM's own planner does.
    """
    graph = model.graph
    scratch = [scratch_bytes(graph, op, kernels) for op in graph.ops]
    head = head_with_scratch(graph, model.offsets, scratch)
    return PredictedSram(
        sram_bytes=predict_arena(graph, kernels, head).sram_bytes,
        sram_head_bytes=head_with_scratch(graph, model.offsets),
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
        sram_host_total_bytes=use.total_bytes,
        sram_host_needed_bytes=needed,
    )


def _read(path: Path) -> bytes:
    """A regular file's bytes; ModelFileError where it cannot be read or is too large."""
    try:
        if not path.exists():
            raise ModelFileError("there is no such file")
        if not path.is_file():
            raise ModelFileError("this is not a file that can be read")
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise ModelFileError(
                f"it has {format_bytes(path.stat().st_size)}; models of at most "
                f"{format_bytes(LARGEST_FILE_BYTES)} are read"
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"this file cannot be read: {error.strerror}") from None


def _check(
    path: Path, content: bytes, budget: Budget, kernels: Kernels, runtime: str
) -> dict[str, Any]:
    model = read_tflite(content)
    unknown = unknown_parts(model)
    predicted = None if unknown else predict_sram(model, kernels)
    measured = _measure(content, unknown)
    misses = _misses(predicted, measured, len(content), budget)
    executed = measured.sram_head_bytes is not None
    return {
        "model": str(path),
        "file_bytes": len(content),
        "predicted": asdict(predicted) if predicted else None,
        "measured": {**asdict(measured), "file_bytes": len(content)},
        "budget": asdict(budget),
        "runtime": runtime,
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
    if predicted and measured.sram_head_bytes not in (None, predicted.sram_head_bytes):
        misses.append(
            f"the arena's head has {measured.sram_head_bytes:,} bytes in the runtime, predicted "
            f"were {predicted.sram_head_bytes:,}: the prediction cannot be relied on"
        )
    return misses


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
            f"the verdict rests on the arena predicted for a 32-bit chip with {runtime}, whose "
            "head with reference kernels was compared with the runtime's on this host"
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
