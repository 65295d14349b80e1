"""What was predicted of a model beside what was measured, never in one column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from tinynas.budget import Budget, format_bytes, time_text
from tinynas.cost.kernels import HOST_KERNELS
from tinynas.cost.latency import Latency, Timer
from tinynas.cost.memory import predict_arena
from tinynas.cost.plan_safety import plan_safety, safety_lines
from tinynas.data.dataset import Dataset
from tinynas.deploy.build import Built, class_accuracy, to_int8
from tinynas.deploy.c_source import resolver_calls
from tinynas.deploy.check import runtime_name
from tinynas.deploy.finetune import float_accuracy
from tinynas.deploy.integer import simulate
from tinynas.deploy.verify import ArenaUse, measure_arena, run_int8, runtime_available
from tinynas.report.latency_json import latency_json, model_json, shares_json
from tinynas.search.candidates import Candidate
from tinynas.space.arch import Arch
from tinynas.target import Target

Int8Array = npt.NDArray[np.int8]
Progress = Callable[[int, int], None]

# Images per process of the runtime: enough to outweigh its start of about a second.
CHUNK_IMAGES = 200
# Sums of the same microseconds in another order differ by as much at most.
ROUNDING = 1e-9


def measure(built: Built) -> ArenaUse | None:
    """The arena that the runtime used on this host; None where the runtime is not installed."""
    return measure_arena(built.content) if runtime_available() else None


def misses(built: Built, arena: ArenaUse | None, budget: Budget, timer: Timer) -> str | None:
    """Why a model is no answer to the budget, in one sentence; None if it is one.

    A measurement that differs from the prediction counts as a miss: the 32-bit figure, which no
    host can measure, is believed only as far as what can be measured agrees.
    """
    predicted, file_bytes = built.predicted, len(built.content)
    if not plan_safety(built.model.graph, built.plan.offsets).holds_on(built.kernels):
        return f"its memory plan is not known to be safe with {built.kernels} kernels"
    if predicted.sram_bytes > budget.sram_bytes:
        return (
            f"its memory plan needs {format_bytes(predicted.sram_bytes)} of SRAM, "
            f"above {format_bytes(budget.sram_bytes)}"
        )
    if file_bytes > budget.flash_bytes:
        return f"its file has {format_bytes(file_bytes)}, above {format_bytes(budget.flash_bytes)}"
    if file_bytes != predicted.flash_bytes:
        return f"its file has {file_bytes:,} bytes, predicted were {predicted.flash_bytes:,}"
    if arena and arena.head_bytes != predicted.sram_head_bytes:
        return (
            f"its arena's head has {arena.head_bytes:,} bytes in the runtime, "
            f"predicted were {predicted.sram_head_bytes:,}"
        )
    records = predict_arena(built.model.graph, HOST_KERNELS).tail_bytes
    if arena and arena.tail_bytes != records:
        return (
            f"the runtime's records take {arena.tail_bytes:,} bytes on this host, predicted were "
            f"{records:,}"
        )
    return too_slow(timer.graph(built.model.graph), budget)


def too_slow(latency: Latency, budget: Budget) -> str | None:
    """Why a latency keeps the limits on latency and energy not, None if it does."""
    limit_ms = budget.predicted_ms
    if limit_ms is None or latency.ms <= limit_ms * (1 + ROUNDING):
        return None
    takes = time_text(budget, latency.ms)
    return f"it takes {takes}, where at most {limit_ms:.4g} ms may be predicted"


def describe(
    built: Built,
    arena: ArenaUse | None,
    net: nn.Sequential,
    arch: Arch,
    winner: Candidate,
    target: Target,
    data: Dataset,
    threads: int,
    progress: Progress,
) -> dict[str, Any]:
    """The content of 7_verify.json; reads the test split, which nothing before it has touched."""
    test = data.test
    images = to_int8(test.images)
    simulated = simulate(built.model, images)
    executed = run_in_chunks(built.content, images, threads, progress) if arena else None
    answers = simulated if executed is None else executed
    graph = built.model.graph
    latency = target.timer.graph(graph)
    return {
        "model": "6_model.tflite",
        "arch": arch.to_json(),
        "budget": asdict(target.budget),
        "mcu": target.device.name,
        "mcu_named": target.named,
        "runtime": target.runtime,
        "predicted": {
            **asdict(built.predicted),
            **latency_json(latency, target.energy(latency)),
        },
        "latency_provenance": latency.provenance,
        "latency_shares": shares_json(latency),
        "latency_model": model_json(target.timer),
        "active_power_mw": target.device.active_power_mw
        and target.device.active_power_mw.model_dump(mode="json"),
        "measured": {
            "sram_head_bytes": arena.head_bytes if arena else None,
            "file_bytes": len(built.content),
            "accuracy_int8": class_accuracy(answers, test.labels),
            "accuracy_float": float_accuracy(net, test.images, test.labels),
        },
        "test_images": len(test.labels),
        "executed_by": runtime_name() if arena else None,
        "bit_exact": None if executed is None else bool((executed == simulated).all()),
        "validation": {"accuracy": winner.accuracy, "images": winner.count},
        "left": what_is_left(built, target),
        "firmware": firmware(built, data),
    }


def run_in_chunks(
    content: bytes, images: Int8Array, threads: int, progress: Progress
) -> Int8Array:
    """Outputs of the runtime for all images, several processes of it at work at once."""
    chunks = np.array_split(images, max(1, -(-len(images) // CHUNK_IMAGES)))
    outputs: list[Int8Array] = []
    with ThreadPoolExecutor(threads) as pool:
        for answer in pool.map(lambda chunk: run_int8(content, chunk), chunks):
            outputs.append(answer)
            progress(sum(len(o) for o in outputs), len(images))
    return np.concatenate(outputs)


def what_is_left(built: Built, target: Target) -> dict[str, int] | None:
    """Bytes of the named chip that remain for the application; None without a named chip."""
    if not target.named:
        return None
    device = target.device
    code = device.runtime(target.runtime).runtime_code_bytes.value
    used = built.predicted.sram_bytes + device.reserve_sram_bytes.value
    return {
        "sram_bytes": device.sram_bytes.value - used,
        "flash_bytes": device.flash_bytes.value - code - len(built.content),
    }


def firmware(built: Built, data: Dataset) -> dict[str, Any]:
    """What the firmware has to know to run the model."""
    model, graph = built.model, built.model.graph

    def tensor(number: int) -> dict[str, Any]:
        return {
            "shape": list(graph.tensors[number].shape),
            "type": "int8",
            "scale": model.scales[number],
            "zero_point": model.zero_points[number],
        }

    return {
        "arena_bytes": built.predicted.sram_bytes,
        "plan": safety_lines(plan_safety(graph, built.plan.offsets)),
        "operators": list(resolver_calls(graph)),
        "input": tensor(graph.inputs[0]),
        "output": tensor(graph.outputs[0]),
        "preprocessing": preprocessing(data.resolution, data.info.channels),
        "labels": list(data.info.labels),
    }


def preprocessing(resolution: int, channels: int) -> Sequence[str]:
    """The steps from a camera's picture to the input tensor."""
    colour = "grey" if channels == 1 else "RGB"
    return [
        "crop the largest square from the middle of the picture",
        f"scale it to {resolution} x {resolution} pixels, averaging where it shrinks "
        "(bilinear with antialiasing)",
        f"take {colour} values from 0 to 255, row by row",
        "subtract 128 from each: that is the int8 input",
    ]
