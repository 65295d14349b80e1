"""Files with another plan: what they say, that nothing else changed, and that TFLM agrees."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hand_models import HandOp, HandTensor, add_options, hand_model
from hypothesis import given, settings
from hypothesis import strategies as st
from kind_models import KINDS, kind_model, options
from random_models import random_constants, random_graph, small_graph

from tinynas.cost.kernels import HOST_KERNELS, scratch_by_op
from tinynas.cost.memory import align
from tinynas.cost.plan_metadata import NOTE_NAME, PLAN_NAME, note_text
from tinynas.cost.tflite_reader import read_tflite
from tinynas.deploy.order import best_order
from tinynas.deploy.plan import greedy_plan, plan_memory
from tinynas.deploy.plan_file import random_inputs
from tinynas.deploy.replan import with_plan
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.deploy.verify import execute, runtime_available
from tinynas.errors import ModelFileError
from tinynas.graph import Graph

needs_tflm = pytest.mark.skipif(not runtime_available(), reason="tflite_micro is not installed")

NOTE = note_text("any", 0)
PIXELS = HandTensor(shape=(1, 4, 4, 8))
JOINED = HandTensor(shape=(1, 4, 4, 16))
JOIN = options("ConcatenationOptions", Axis=3)


def add(a: int, b: int, out: int) -> HandOp:
    return HandOp(kind="ADD", inputs=(a, b), outputs=(out,), options=add_options())


def join(a: int, b: int, out: int) -> HandOp:
    return HandOp(kind="CONCATENATION", inputs=(a, b), outputs=(out,), options=JOIN)


def branches(**more: Any) -> bytes:
    """Two inputs, two outputs, and two branches that can run in either order."""
    ops = [add(0, 0, 2), join(2, 2, 3), add(1, 1, 4), join(4, 4, 5), add(3, 5, 6), add(0, 1, 7)]
    tensors = [PIXELS, PIXELS, PIXELS, JOINED, PIXELS, JOINED, JOINED, PIXELS]
    return hand_model(tensors, ops, inputs=[0, 1], outputs=[6, 7], **more)


def unnamed(graph: Graph) -> Graph:
    """The graph with operators that are not named after their places."""
    return replace(graph, ops=tuple(replace(op, name="") for op in graph.ops))


def assert_replanned(content: bytes, plan: dict[int, int], order: list[int] | None = None) -> None:
    """The file with a plan is the same model under that plan, and the old file lies in it."""
    old, new = read_tflite(content), with_plan(content, plan, order, NOTE)
    read = read_tflite(new)
    steps = range(len(old.graph.ops)) if order is None else order
    moved = replace(old.graph, ops=tuple(old.graph.ops[step] for step in steps))
    assert unnamed(read.graph) == unnamed(moved)
    assert read.offsets == plan
    assert (read.description, read.plan_safe_for) == (old.description, "any")
    assert new.endswith(content) and (len(new) - len(content)) % 16 == 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_operator_is_kept_as_it_was(kind: str) -> None:
    content = kind_model(kind, copies=2)
    graph = read_tflite(content).graph
    assert_replanned(content, dict(plan_memory(graph).offsets))
    assert_replanned(content, dict(plan_memory(graph).offsets), [1, 0])


@pytest.mark.parametrize("order", [None, [0, 1, 2, 3, 4, 5], [2, 3, 0, 1, 5, 4]])
def test_several_inputs_and_outputs_and_any_order(order: list[int] | None) -> None:
    assert_replanned(branches(), {0: 0, 2: 128, 7: 1024}, order)


@given(st.permutations(range(5)), st.dictionaries(st.integers(0, 5), st.integers(0, 2**31 - 1)))
def test_any_order_and_any_offsets_are_read_back(order: list[int], plan: dict[int, int]) -> None:
    ops = [add(0, 0, t) for t in range(1, 6)]
    content = hand_model([PIXELS] * 6, ops, inputs=[0], outputs=[1, 2, 3, 4, 5])
    assert_replanned(content, plan, order)


def test_subnets_of_ours_are_replanned_too() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        graph = random_graph(rng, max_classes=50)
        offsets = dict(plan_memory(graph).offsets)
        for plan in (None, offsets):
            assert_replanned(write_tflite(random_constants(graph, rng), plan=plan), offsets)


def test_an_old_plan_and_an_old_note_are_replaced_and_other_metadata_kept() -> None:
    plan = [1, 0, 8, 0, 128, 256, 384, -1, -1, -1, -1]
    other = {"min_runtime_version": np.frombuffer(b"1.5.0\0", np.uint8)}
    old = with_plan(branches(plan=plan, metadata=other), {0: 16}, None, note_text("reference", 7))
    assert read_tflite(old).plan_safe_for == "reference"
    new = with_plan(old, {1: 32}, None, NOTE)
    assert read_tflite(new).offsets == {1: 32}
    assert read_tflite(new).plan_safe_for == "any"
    names = [name for name, _ in metadata(new)]
    assert names == ["min_runtime_version", PLAN_NAME, NOTE_NAME]
    assert dict(metadata(new))["min_runtime_version"] == b"1.5.0\0"


def metadata(content: bytes) -> list[tuple[str, bytes]]:
    import tflite

    model = tflite.Model.GetRootAs(content)
    entries = [model.Metadata(index) for index in range(model.MetadataLength())]
    return [
        (entry.Name().decode(), model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
        for entry in entries
    ]


def test_the_plan_is_in_tflms_format_and_the_note_is_json() -> None:
    found = dict(metadata(with_plan(branches(), {0: 16, 6: 48}, None, NOTE)))
    assert struct.unpack("<11i", found[PLAN_NAME]) == (1, 0, 8, 16, -1, -1, -1, -1, -1, 48, -1)
    assert json.loads(found[NOTE_NAME])["safe_for"] == "any"


def test_a_file_grows_by_a_list_entry_for_each_tensor_and_buffer_and_little_more() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        graph = random_graph(rng, max_classes=50)
        content = write_tflite(random_constants(graph, rng))
        grown = len(with_plan(content, {}, None, NOTE)) - len(content)
        entries = len(graph.tensors) + 2 + sum(tensor.constant for tensor in graph.tensors)
        assert 4 * entries < grown <= 4 * entries + 320


def as_objects(content: bytes) -> dict[str, Any]:
    """All that the schema knows of a file, without its plan, as plain values."""
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, np.ndarray):
            return value.tolist()
        return (
            {k: plain(v) for k, v in vars(value).items()} if hasattr(value, "__dict__") else value
        )

    found: dict[str, Any] = plain(model)
    used = {entry["buffer"] for entry in found["metadata"] or ()}
    found["buffers"] = [b for number, b in enumerate(found["buffers"]) if number not in used]
    return {**found, "metadata": None}


def full_model() -> bytes:
    """A model with signatures, an old-style list of metadata buffers and a subgraph's name."""
    import flatbuffers
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    content = branches()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    model.metadataBuffer = [0]
    model.subgraphs[0].name = b"main"
    model.subgraphs[0].debugMetadataIndex = 3
    signature, named = schema.SignatureDefT(), schema.TensorMapT()
    named.name, named.tensorIndex = b"image", 1
    signature.inputs, signature.outputs, signature.signatureKey = [named], [named], b"serve"
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@needs_tflm
@pytest.mark.parametrize("build", [branches, full_model])
def test_nothing_that_the_schema_knows_is_lost(build: Callable[[], bytes]) -> None:
    content = build()
    old, new = as_objects(content), as_objects(with_plan(content, {0: 0}, None, NOTE))
    assert old == new
    order = [2, 3, 0, 1, 5, 4]
    operators = old["subgraphs"][0]["operators"]
    old["subgraphs"][0]["operators"] = [operators[step] for step in order]
    assert as_objects(with_plan(content, {0: 0}, order, NOTE)) == old


def test_a_field_of_a_newer_schema_is_refused_because_it_would_be_lost() -> None:
    content = bytearray(branches())
    (root,) = struct.unpack_from("<I", content)
    # A vtable for the root with ten more slots, the last of them used, behind the file.
    vtable = root - struct.unpack_from("<i", content, root)[0]
    length, size = struct.unpack_from("<2H", content, vtable)
    slots = [*struct.unpack_from(f"<{length // 2 - 2}H", content, vtable + 4)]
    slots += [0] * (17 - len(slots)) + [slots[0]]
    struct.pack_into("<i", content, root, root - len(content))
    content += struct.pack(f"<2H{len(slots)}H", 4 + 2 * len(slots), size, *slots)
    read_tflite(bytes(content))
    with pytest.raises(ModelFileError, match="field 17 of a newer schema"):
        with_plan(bytes(content), {}, None, NOTE)


@pytest.mark.parametrize("order", [[0], [0, 1, 2, 3, 4, 4], [1, 2, 3, 4, 5, 6]])
def test_an_order_names_each_operator_once(order: list[int]) -> None:
    with pytest.raises(ValueError, match="each of 6 operators once"):
        with_plan(branches(), {}, order, NOTE)


def test_an_order_that_reads_before_it_writes_is_refused() -> None:
    with pytest.raises(ModelFileError, match="reads tensor 2 before ADD 0 writes it"):
        with_plan(branches(), {}, [1, 0, 2, 3, 4, 5], NOTE)


def test_damaged_files_are_replanned_or_refused_in_a_sentence() -> None:
    rng = np.random.default_rng(2)
    seeds = [branches(), kind_model("CONV_2D"), with_plan(branches(), {0: 0}, None, NOTE)]
    read = 0
    for number in range(1_500):
        content = bytearray(seeds[number % 3])
        for _ in range(int(rng.integers(1, 4))):
            content[int(rng.integers(8, len(content)))] = int(rng.integers(256))
        try:
            graph = read_tflite(bytes(content)).graph
            order = [2, 3, 0, 1, 5, 4] if len(graph.ops) == 6 and number % 2 else None
            again = with_plan(bytes(content), {0: 0}, order, NOTE)
        except ModelFileError as error:
            assert str(error).isprintable()
            continue
        read += 1
        assert again.endswith(content)
    assert read > 300


def run(models: list[bytes], graph: Graph) -> list[Any]:
    """Outputs and heads of models of the same graph for the same random inputs."""
    inputs = random_inputs(graph, 2, np.random.default_rng(0))
    runs = execute(models, inputs, len(graph.outputs))
    return [
        ([[array.tobytes() for array in turn] for turn in r.outputs], r.use.head_bytes)
        for r in runs
    ]


@needs_tflm
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"TILE"}))  # TFLM here has no TILE
def test_tflm_gives_the_same_for_every_kind_and_takes_the_plan(kind: str) -> None:
    content = kind_model(kind)
    graph = read_tflite(content).graph
    apart = {t: 4096 * (k + 1) for k, t in enumerate(graph.lifetimes())}
    planned = with_plan(content, apart, [0], NOTE)
    (plain, _), (again, head), (freed, free_head) = run(
        [content, planned, with_plan(planned, {}, None, NOTE)], graph
    )
    assert plain == again == freed
    last = max(apart, key=lambda t: apart[t])
    scratch = scratch_by_op(graph, HOST_KERNELS)
    assert head == apart[last] + align(graph.tensors[last].size_bytes)
    assert free_head == greedy_plan(graph, scratch).head_bytes


@needs_tflm
def test_tflm_runs_branches_in_another_order_and_twice_replanned() -> None:
    content = branches()
    graph = read_tflite(content).graph
    swapped = with_plan(content, {}, [2, 3, 0, 1, 5, 4], NOTE)
    back = with_plan(swapped, {}, best_order(read_tflite(swapped).graph), NOTE)
    results = run([content, swapped, back], graph)
    assert results[0][0] == results[1][0] == results[2][0]


@needs_tflm
@settings(max_examples=8)
@given(st.integers(0, 2**32))
def test_tflm_takes_plans_for_subnets_of_ours(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = small_graph(rng)
    content = write_tflite(random_constants(graph, rng))
    plan = plan_memory(graph)
    (plain, greedy_head), (planned, head) = run(
        [content, with_plan(content, plan.offsets, None, NOTE)], graph
    )
    assert planned == plain
    assert (greedy_head, head) == (greedy_plan(graph).head_bytes, plan.head_bytes)
