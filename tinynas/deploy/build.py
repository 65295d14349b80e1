"""From a trained subnet to the bytes of its model, and what is predicted of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinynas.cost.flash import file_bytes
from tinynas.cost.kernels import Kernels, scratch_by_op
from tinynas.cost.memory import predict_arena
from tinynas.deploy.plan import MemoryPlan, head_with_scratch, plan_memory
from tinynas.deploy.quantize import FloatWeights, QuantizedModel, calibrate, quantize
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
    """An int8 model: its file, its memory plan, and what is predicted of it."""

    model: QuantizedModel
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


def build(graph: Graph, weights: FloatWeights, images: Images, kernels: Kernels) -> Built:
    """Quantise on `images` (N, H, W, C), plan the arena for `kernels`, and write the file.

    The images are to come from the training split.
    """
    real = (images.astype(np.float32).transpose(0, 3, 1, 2) - 128) / 128
    model = quantize(graph, weights, calibrate(graph, weights, real))
    plan = plan_memory(graph, scratch_by_op(graph, kernels))
    content = write_tflite(model, plan=plan.offsets)
    return Built(model=model, plan=plan, content=content, predicted=predict(graph, kernels, plan))


def to_int8(images: Images) -> npt.NDArray[np.int8]:
    """What the model is fed for uint8 images: pixel - 128."""
    return (images.astype(np.int16) - 128).astype(np.int8)


def class_accuracy(logits: npt.NDArray[np.int8], labels: npt.NDArray[np.int64]) -> float:
    """Fraction of rows (N, classes) whose largest logit, the first of equals, is at the label."""
    return float((logits.argmax(axis=1) == labels).mean())
