"""A model file under a better memory plan, once the runtime has borne it out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinynas.cost.kernels import HOST_KERNELS, Kernels, scratch_by_op
from tinynas.cost.model_file import read_bytes
from tinynas.cost.overlap import SafeKernels
from tinynas.cost.plan_metadata import note_text
from tinynas.cost.tflite_reader import ModelFile, read_tflite
from tinynas.deploy.plan import greedy_plan
from tinynas.deploy.plan_model import LIBRARIES, Comparison, Planned, compare, plan_model
from tinynas.deploy.replan import with_plan
from tinynas.deploy.verify import Execution, execute
from tinynas.errors import ModelFileError, TinynasError, UsageError
from tinynas.graph import Graph

INPUTS = 4  # random inputs on which outputs are compared, one invocation after the other
SEED = 0
Inputs = list[list[npt.NDArray[Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What TFLM on this host says of a plan: heads in bytes; all outputs were equal bit by bit.

    `own_agrees` tells whether the plan that the file carried gives the same outputs too, None
    where it carried none.
    """

    greedy_head_bytes: int
    head_bytes: int
    inputs: int
    own_agrees: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A model file under its new plan, ready to be written, and all that was found out on it."""

    path: Path
    old_bytes: int
    content: bytes
    planned: Planned
    comparisons: tuple[Comparison, ...]
    measured: Measured


def plan_file(path: Path, made_for: SafeKernels, libraries: Sequence[Kernels] = ()) -> PlannedFile:
    """The .tflite file at `path` with a new plan, which TFLM has run on this host.

    Raises ModelFileError for what is no model or none that can be planned or run, TinynasError
    where TFLM is not installed or does not bear the plan out.
    """
    try:
        return _plan_content(path, read_bytes(path), made_for, libraries)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def _plan_content(
    path: Path, content: bytes, made_for: SafeKernels, libraries: Sequence[Kernels]
) -> PlannedFile:
    model = read_tflite(content)
    libraries = libraries or LIBRARIES[made_for]
    planned = plan_model(model.graph, made_for, libraries)
    comparisons = tuple(compare(model, planned, kernels) for kernels in libraries)
    head = max(comparison.planned.head_bytes for comparison in comparisons)
    note = note_text(planned.safe_for, head)
    new = with_plan(content, planned.offsets, planned.order, note)
    return PlannedFile(
        path=path,
        old_bytes=len(content),
        content=new,
        planned=planned,
        comparisons=comparisons,
        measured=_measure(content, new, model, planned),
    )


def random_inputs(graph: Graph, count: int, rng: np.random.Generator) -> Inputs:
    """For each of `count` invocations an array per graph input, any value of its type.

    Real numbers are drawn from the standard normal distribution.
    """

    def drawn(shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        if dtype == "float32":
            return rng.standard_normal(shape, np.float32)
        if dtype == "bool":
            return rng.integers(0, 2, shape).astype(np.bool_)
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)

    tensors = [graph.tensors[t] for t in graph.inputs]
    return [[drawn(tensor.shape, tensor.dtype) for tensor in tensors] for _ in range(count)]


def _measure(content: bytes, new: bytes, model: ModelFile, planned: Planned) -> Measured:
    """Run the model under TFLM's plan, the new one and the one it came with, if any.

    Raises TinynasError unless the first two give equal outputs in the arenas predicted.
    """
    graph = model.graph
    unplanned = with_plan(content, {}, None, "") if model.offsets else content
    files = [unplanned, new, *([content] if model.offsets else [])]
    inputs = random_inputs(graph, INPUTS, np.random.default_rng(SEED))
    runs = execute(files, inputs, len(graph.outputs))
    if not _same_outputs(runs[0], runs[1]):
        raise TinynasError(
            "nothing was written: with the new plan TFLM gives other outputs than with its own"
        )
    scratch = scratch_by_op(graph, HOST_KERNELS)
    predicted = (
        greedy_plan(graph, scratch).head_bytes,
        planned.head_bytes(HOST_KERNELS),
    )
    for run, expected in zip(runs, predicted, strict=False):
        if run.use.head_bytes != expected:
            raise TinynasError(
                f"nothing was written: the arena's head has {run.use.head_bytes:,} bytes in TFLM, "
                f"predicted were {expected:,}"
            )
    return Measured(
        greedy_head_bytes=runs[0].use.head_bytes,
        head_bytes=runs[1].use.head_bytes,
        inputs=INPUTS,
        own_agrees=_same_outputs(runs[0], runs[2]) if model.offsets else None,
    )


def _same_outputs(one: Execution, other: Execution) -> bool:
    """Whether all outputs are equal bit by bit."""
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for ones, others in zip(one.outputs, other.outputs, strict=True)
        for a, b in zip(ones, others, strict=True)
    )


def check_place(out: Path, model: Path) -> None:
    """UsageError where a new file would replace the model itself or something that is no file."""
    if out.exists() and model.exists() and out.samefile(model):
        raise UsageError(f"{out} is the model itself; write the plan to another file")
    if out.exists() and not out.is_file():
        raise UsageError(f"{out} cannot be written: it is there and not a regular file")
    if not out.parent.is_dir():
        raise UsageError(f"{out} cannot be written: there is no folder {out.parent}")


def write_file(out: Path, content: bytes) -> None:
    """Write a file whole or not at all; UsageError where that is not allowed."""
    place = out.resolve()  # where `out` is a link, the file that it leads to
    temporary = place.with_name(f".{place.name}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, place)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
