"""From a trained subnet to the bytes of its model, and what is predicted of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinynas.cost.flash import file_bytes
from tinynas.cost.kernels import Kernels, scratch_by_op
from tinynas.cost.memory import predict_arena
from tinynas.cost.overlap import overlaps, safe_kernels
from tinynas.cost.patch import patch
from tinynas.cost.plan_metadata import note_text
from tinynas.cost.plan_safety import plan_safety
from tinynas.deploy.chain_plan import chain_plan
from tinynas.deploy.plan import MemoryPlan, head_with_scratch, plan_memory
from tinynas.deploy.quantize import (
    FloatWeights,
    QuantizedModel,
    calibrate,
    patched_model,
    quantize,
)
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.graph import Graph, total_macs

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What is predicted of a model.

    `sram_bytes` must be reserved for the arena on the chip, scratch buffers of its runtime and
    32-bit structures included; `sram_head_bytes` is the head with reference kernels, which the
    host measures too. `tail_bytes` are the runtime's own records, within `sram_bytes`.
    """

    sram_bytes: int
    sram_head_bytes: int
    tail_bytes: int
    flash_bytes: int
    macs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An int8 model: its file, its memory plan for a kernel library, and what is predicted."""

    model: QuantizedModel
    kernels: Kernels
    plan: MemoryPlan
    content: bytes
    predicted: Predicted


def predict(graph: Graph, kernels: Kernels, plan: MemoryPlan) -> Predicted:
    """What a graph under a memory plan will need, for a runtime's kernel library."""
    arena = predict_arena(graph, kernels, plan.head_bytes)
    return Predicted(
        sram_bytes=arena.sram_bytes,
        sram_head_bytes=head_with_scratch(graph, plan.offsets),
        tail_bytes=arena.tail_bytes,
        flash_bytes=file_bytes(graph),
        macs=total_macs(graph),
    )


def best_plan(graph: Graph, kernels: Kernels) -> MemoryPlan:
    """The smallest of three plans: without overlap, found by search, and what tables count on.

    Tensors overlap in the last two as far as the kernel library allows. Of equals the first is
    taken: a plan without overlap is safe with any kernels.
    """
    scratch = scratch_by_op(graph, kernels)
    found = plan_memory(graph, scratch, overlaps(graph, safe_kernels(kernels)))
    plans = [plan_memory(graph, scratch), found]
    offsets = chain_plan(graph, kernels)
    if offsets is not None:
        head = head_with_scratch(graph, offsets, scratch)
        plans.append(MemoryPlan(offsets=offsets, head_bytes=head, bound_bytes=found.bound_bytes))
    return min(plans, key=lambda plan: plan.head_bytes)


def plan_note(graph: Graph, plan: MemoryPlan, kernels: Kernels) -> str:
    """What a file says of its plan, made for a kernel library; the same as `tinynas plan` says."""
    safety = plan_safety(graph, plan.offsets)
    return note_text(safety.to_note(safe_kernels(kernels)), plan.head_bytes)


def build(
    graph: Graph,
    weights: FloatWeights,
    images: Images,
    kernels: Kernels,
    *,
    split: int = 0,
    patches: int = 1,
) -> Built:
    """Quantise on `images` (N, H, W, C), plan the arena for `kernels`, and write the file.

    The images are to come from the training split. The first `split` operators run on `patches` x
    `patches` patches. The file says with which kernels its plan is safe.
    """
    real = (images.astype(np.float32).transpose(0, 3, 1, 2) - 128) / 128
    model = quantize(graph, weights, calibrate(graph, weights, real))
    if patches > 1:
        model = patched_model(model, patch(graph, split, patches, patches))
    plan = best_plan(model.graph, kernels)
    note = plan_note(model.graph, plan, kernels)
    content = write_tflite(model, plan=plan.offsets, note=note)
    predicted = predict(model.graph, kernels, plan)
    return Built(model=model, kernels=kernels, plan=plan, content=content, predicted=predicted)


def to_int8(images: Images) -> npt.NDArray[np.int8]:
    """What the model is fed for uint8 images: pixel - 128."""
    return (images.astype(np.int16) - 128).astype(np.int8)


def class_accuracy(logits: npt.NDArray[np.int8], labels: npt.NDArray[np.int64]) -> float:
    """Fraction of rows (N, classes) whose largest logit, the first of equals, is at the label."""
    return float((logits.argmax(axis=1) == labels).mean())
