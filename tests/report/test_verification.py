from dataclasses import replace

import numpy as np
import pytest

from tinynas.budget import Budget
from tinynas.config import build_config
from tinynas.cost.device import find_device
from tinynas.cost.kernels import HOST_KERNELS
from tinynas.cost.latency import find_timer
from tinynas.cost.memory import predict_arena
from tinynas.data.dataset import DataInfo, Dataset, Split
from tinynas.deploy.build import Built, build, to_int8
from tinynas.deploy.verify import ArenaUse, runtime_available
from tinynas.report.firmware import page
from tinynas.report.verification import (
    firmware,
    measure,
    misses,
    run_in_chunks,
    what_is_left,
)
from tinynas.space.arch import smallest
from tinynas.space.lower import lower
from tinynas.space.spec import find_space
from tinynas.target import Target, resolve_target

ROOMY = Budget(sram_bytes=10**6, flash_bytes=10**6)
TIMER = find_timer(find_device("stm32f746"), "tflm-cmsis-nn")


@pytest.fixture(scope="module")
def built() -> Built:
    """The smallest subnet of `mcunet-small` with random weights."""
    space = find_space("mcunet-small")
    graph = lower(space, smallest(space, width=0.2, resolution=12), classes=3, channels=1)
    rng = np.random.default_rng(0)
    weights = {}
    for op in graph.ops:
        if len(op.inputs) == 3:
            shape = graph.tensors[op.inputs[1]].shape
            if op.kind == "CONV_2D":
                shape = (shape[0], shape[3], shape[1], shape[2])
            elif op.kind == "DEPTHWISE_CONV_2D":
                shape = (shape[3], 1, shape[1], shape[2])
            fan_in = np.prod(shape[1:])
            weights[op.name] = (
                rng.normal(0, np.sqrt(2 / fan_in), shape),
                rng.normal(0, 0.1, shape[0]),
            )
    images = rng.integers(0, 256, (16, 12, 12, 1)).astype(np.uint8)
    return build(graph, weights, images, "cmsis-nn-dsp")


def arena(built: Built) -> ArenaUse:
    records = predict_arena(built.model.graph, HOST_KERNELS).tail_bytes
    return ArenaUse(head_bytes=built.predicted.sram_head_bytes, tail_bytes=records)


def test_a_model_inside_the_budget_misses_nothing(built: Built) -> None:
    predicted = built.predicted
    just = Budget(sram_bytes=predicted.sram_bytes, flash_bytes=predicted.flash_bytes)
    assert misses(built, arena(built), just, TIMER) is None
    assert misses(built, None, just, TIMER) is None


def test_each_way_to_miss_the_budget_is_said_with_both_numbers(built: Built) -> None:
    predicted = built.predicted
    sram = replace(ROOMY, sram_bytes=predicted.sram_bytes - 1)
    assert f"{predicted.sram_bytes:,} bytes" in str(misses(built, arena(built), sram, TIMER))
    flash = replace(ROOMY, flash_bytes=len(built.content) - 1)
    assert f"{len(built.content):,} bytes" in str(misses(built, arena(built), flash, TIMER))


def test_a_measurement_that_differs_from_the_prediction_is_a_miss(built: Built) -> None:
    other = replace(arena(built), head_bytes=built.predicted.sram_head_bytes + 16)
    assert "predicted were" in str(misses(built, other, ROOMY, TIMER))
    records = replace(arena(built), tail_bytes=arena(built).tail_bytes + 16)
    assert "runtime's records take" in str(misses(built, records, ROOMY, TIMER))
    longer = replace(built, content=built.content + b"\0")
    assert "predicted were" in str(misses(longer, arena(built), ROOMY, TIMER))


def test_a_model_that_is_too_slow_or_takes_too_much_energy_is_a_miss(built: Built) -> None:
    latency = TIMER.graph(built.model.graph)
    just = replace(ROOMY, latency_ms=latency.ms)
    assert misses(built, None, just, TIMER) is None
    slower = str(misses(built, None, replace(just, latency_ms=latency.ms * 0.999), TIMER))
    assert f"a predicted {latency.ms:.3g} ms" in slower
    surely = replace(just, confidence=0.9, margin=TIMER.factor(0.9))
    assert "at a confidence of 0.9" in str(misses(built, None, surely, TIMER))
    assert misses(built, None, replace(surely, latency_ms=latency.high_ms), TIMER) is None
    energy = replace(ROOMY, energy_mj=latency.ms * 50 / 1000 * 0.999, power_mw=50.0)
    assert "mJ" in str(misses(built, None, energy, TIMER))
    assert misses(built, None, replace(energy, power_mw=49.9), TIMER) is None


def test_the_runtime_measures_the_predicted_head_and_answers_in_order(built: Built) -> None:
    if not runtime_available():
        pytest.skip("no tflite-micro on this platform")
    found = measure(built)
    assert found == arena(built)
    from tinynas.deploy.integer import simulate

    rng = np.random.default_rng(1)
    images = to_int8(rng.integers(0, 256, (230, 12, 12, 1)).astype(np.uint8))
    told: list[tuple[int, int]] = []
    answers = run_in_chunks(
        built.content, images, 2, lambda done, total: told.append((done, total))
    )
    assert (answers == simulate(built.model, images)).all()
    assert told[-1] == (230, 230)


def target(**asked: str) -> Target:
    return resolve_target(build_config({"target": asked}, {}, "test"))


def test_what_is_left_of_a_chip_is_its_memory_less_model_and_runtime(built: Built) -> None:
    chip = target(mcu="stm32f746")
    left = what_is_left(built, chip)
    assert left is not None
    code = chip.device.runtime("tflm-cmsis-nn").runtime_code_bytes.value
    assert left["flash_bytes"] == 2**20 - code - len(built.content)
    reserve = chip.device.reserve_sram_bytes.value
    assert left["sram_bytes"] == 320 * 1024 - reserve - built.predicted.sram_bytes
    assert what_is_left(built, target(sram="64k", flash="1m")) is None


def test_the_page_for_the_firmware_has_all_that_it_needs(built: Built) -> None:
    split = Split(images=np.zeros((0, 12, 12, 1), np.uint8), labels=np.zeros(0, np.int64))
    info = DataInfo(
        name="pets",
        labels=("cat", "dog", "fish"),
        channels=1,
        native_size=12,
        train_count=0,
        val_count=0,
        test_count=0,
        fingerprint="",
    )
    data = Dataset(info=info, resolution=12, train=split, val=split, test=split)
    facts = firmware(built, data)
    assert facts["arena_bytes"] == built.predicted.sram_bytes and facts["arena_bytes"] % 16 == 0
    assert facts["input"] == {
        "shape": [1, 12, 12, 1],
        "type": "int8",
        "scale": 1 / 128,
        "zero_point": 0,
    }
    report = {
        "firmware": facts,
        "measured": {"file_bytes": len(built.content)},
        "executed_by": None,
        "runtime": "tflm-cmsis-nn",
    }
    text = page(report)
    for needed in ("AddDepthwiseConv2D();", "1. dog", "12 x 12 pixels", "no runtime"):
        assert needed in text
    assert f"{facts['arena_bytes']:,} bytes" in text
