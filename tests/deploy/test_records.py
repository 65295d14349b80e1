"""The size of every record against TFLM itself: one small model of each operator kind."""

from __future__ import annotations

import pytest
from kind_models import KINDS, kind_model

from tinynas.cost.kernels import HOST_KERNELS, scratch_by_op
from tinynas.cost.memory import predict_arena, unknown_memory
from tinynas.cost.records import (
    ARM,
    HOST,
    INT_ENUMS,
    RECORDS,
    Build,
    runtime_objects,
    struct_bytes,
    struct_layout,
)
from tinynas.cost.tflite_reader import read_tflite
from tinynas.deploy.plan import greedy_plan
from tinynas.deploy.verify import measure_arenas, runtime_available, smallest_arena_bytes

needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")
COPIES = (1, 2, 3, 5)


def test_structs_are_laid_out_as_compilers_do() -> None:
    # TfLiteFullyConnectedParams: 3 enums, 2 bools.
    options = "2enum 2bool enum"
    assert [struct_layout(options, b) for b in (ARM, INT_ENUMS)] == [(5, 1), (16, 4)]
    # A double is aligned to 8 bytes, also at the end of an array of the struct.
    assert struct_layout("int double bool", ARM) == (24, 8)
    assert struct_layout("bool int16 ptr", HOST) == (16, 8)


def test_the_runtimes_objects_take_what_was_measured() -> None:
    # 32-bit: a line through 24 models on emulated chips; with compression and recording: the host.
    for build, wanted in ((ARM, 132), (INT_ENUMS, 132), (HOST, 488)):
        assert sum(struct_bytes(fields, build) for fields in runtime_objects(build)) == wanted


def test_records_of_cmsis_nn_keep_the_padding_of_the_struct_within() -> None:
    dense = RECORDS["FULLY_CONNECTED"]
    assert dense.kernel_bytes(ARM, cmsis_nn=False) == 48
    assert dense.kernel_bytes(ARM, cmsis_nn=True) == 72
    on_64_bits = Build(pointer_bytes=8, enum_bytes=4)
    assert dense.kernel_bytes(on_64_bits, cmsis_nn=True) == 96


@needs_tflm
@pytest.mark.parametrize("kind", sorted(RECORDS))
def test_tflm_takes_what_is_predicted_for_every_kind(kind: str) -> None:
    models = [kind_model(kind, copies) for copies in COPIES]
    for content, use in zip(models, measure_arenas(models), strict=True):
        graph = read_tflite(content).graph
        assert unknown_memory(graph) == ()
        head = greedy_plan(graph, scratch_by_op(graph, HOST_KERNELS)).head_bytes
        arena = predict_arena(graph, HOST_KERNELS, head)
        assert (use.head_bytes, use.tail_bytes) == (head, arena.tail_bytes)
    # What allocation needs is bounded: the largest of these is at most 300 bytes above it.
    assert arena.sram_bytes - 300 <= smallest_arena_bytes(models[-1]) <= arena.sram_bytes


def test_every_kind_with_records_has_a_model_here() -> None:
    assert RECORDS.keys() <= KINDS.keys()
