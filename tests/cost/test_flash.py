from typing import get_args

import numpy as np

from tinynas.cost.flash import (
    CODE_BYTES,
    NOTE_BYTES,
    WEIGHTED,
    file_bytes,
    fixed_file_bytes,
    op_file_bytes,
    own_constants,
    string_bytes,
    zero_points_step,
)
from tinynas.cost.overlap import SafeKernels
from tinynas.cost.patch import patch
from tinynas.cost.plan_metadata import note_text
from tinynas.graph import Graph
from tinynas.space.arch import decode, random_genes
from tinynas.space.lower import GraphBuilder, lower
from tinynas.space.spec import find_space


def _block(kernel: int = 3) -> Graph:
    builder = GraphBuilder()
    x = builder.tensor("image", (1, 8, 8, 16))
    y = builder.block("b", x, cout=16, kernel=kernel, expansion=3, stride=1)
    return builder.build("block", (x,), (y,))


def _pooled() -> Graph:
    builder = GraphBuilder()
    x = builder.tensor("x", (1, 8, 8, 16))
    y = builder.block("b", x, cout=24, kernel=3, expansion=3, stride=1)
    return builder.build("block", (x,), (builder.global_pool("pool", y),))


def _patched() -> Graph:
    return patch(_pooled(), 3, 2, 2)


def test_the_bytes_of_an_add_by_hand() -> None:
    # Tensor 20, quantisation 12, shape 20, scale 8, name "b.add" 12; operator 24, inputs 12,
    # outputs 8: 116, length of the zero point to 120, its 8 bytes: 128. Entries: 3 words.
    graph = _block()
    assert op_file_bytes(graph, graph.ops[3]) == 128 + 12


def test_the_bytes_of_a_depthwise_convolution_by_hand() -> None:
    # Output 20 + 12 + 20 + 8 + 16 ("b.depthwise" is 11 letters), operator 24 + 16 + 8: 124.
    # Constants: tensors 20 + 16, quantisation 16, scales 4 + 4 * 48, buffers 16, shapes 20 + 8:
    # 292, so 416. Zero points of 48 channels: 424 + 384 = 808. Weights of 432 bytes begin at
    # 816: 1248; biases at 1264: 1456, a multiple of 16. Entries: 9 words.
    graph = _block()
    assert op_file_bytes(graph, graph.ops[1]) == 1456 + 36


def test_a_larger_kernel_costs_its_weights() -> None:
    small, large = _block(3), _block(5)
    assert file_bytes(large) - file_bytes(small) == (25 - 9) * 48


def test_the_file_is_a_constant_and_a_sum_over_operators() -> None:
    rng = np.random.default_rng(0)
    space = find_space("mcunet")
    constants = set()
    for genes in random_genes(space, 30, rng):
        graph = lower(space, decode(space, genes, width=0.5, resolution=96), classes=10)
        total = sum(op_file_bytes(graph, op) for op in graph.ops)
        assert file_bytes(graph) == fixed_file_bytes(graph) + total
        constants.add(fixed_file_bytes(graph))
    assert len(constants) == 1


def test_the_bytes_of_an_operator_do_not_depend_on_where_it_stands() -> None:
    rng = np.random.default_rng(1)
    space = find_space("mcunet-small")
    seen: dict[tuple[object, ...], int] = {}
    for genes in random_genes(space, 30, rng):
        graph = lower(space, decode(space, genes, width=0.5, resolution=32), classes=10)
        for op in graph.ops:
            shapes = tuple(graph.tensors[t].shape for t in (*op.inputs, *op.outputs))
            key = (op.kind, op.stride, len(op.name), shapes)
            assert seen.setdefault(key, op_file_bytes(graph, op)) == op_file_bytes(graph, op)


def test_every_note_on_a_plan_has_room() -> None:
    longest = max(len(note_text(safe, 2**32 - 1)) for safe in get_args(SafeKernels))
    assert longest <= NOTE_BYTES


def test_the_plan_behind_the_note_is_as_aligned_as_the_note() -> None:
    assert (4 + NOTE_BYTES) % 16 == 0


def test_the_resolution_costs_nothing() -> None:
    space = find_space("mcunet")
    genes = random_genes(space, 1, np.random.default_rng(2))[0]
    sizes = {
        file_bytes(lower(space, decode(space, genes, width=1.0, resolution=r), classes=5))
        for r in (48, 96, 224)
    }
    assert len(sizes) == 1


def test_only_an_expansion_uses_the_zero_points_of_another() -> None:
    graph = _block()
    assert [zero_points_step(graph, step) for step in range(4)] == [1, 1, 2, 3]


def test_an_expansion_finds_the_depthwise_convolution_behind_its_padding() -> None:
    graph = _patched()
    assert [op.kind for op in graph.ops[:4]] == [
        "STRIDED_SLICE",
        "CONV_2D",
        "PAD",
        "DEPTHWISE_CONV_2D",
    ]
    assert zero_points_step(graph, 1) == 3


def test_constants_lie_with_the_first_operator_that_reads_them() -> None:
    graph = _patched()
    owned = own_constants(graph)
    numbers = [t for of_one in owned for t in of_one]
    assert sorted(numbers) == [t for t, x in enumerate(graph.tensors) if x.constant]
    weighted = [
        constants for op, constants in zip(graph.ops, owned, strict=True) if op.kind in WEIGHTED
    ]
    assert [len(constants) for constants in weighted] == [2] * 3 + [0] * 9


def test_the_bytes_of_a_slice_by_hand() -> None:
    # Tensor 20, quantisation 12, shape 20, scale 8, name "x@0.0" 12; operator 24, inputs 20,
    # outputs 8: 124. Where it starts is where nothing is skipped, (0, 0, 0, 0); with end and
    # strides three constants of table 16, buffer 8 and shape 8: 220. Zero point at 224: 232.
    # Data at 240, 272 and 304: 320. Entries: operator, 4 tensors, planned twice, 3 buffers.
    graph = _patched()
    assert graph.ops[0].name == "x@0.0"
    assert op_file_bytes(graph, graph.ops[0]) == 320 + 4 * (1 + 4 + 4 + 3)


def test_the_bytes_of_an_operator_that_has_its_constants_from_another_by_hand() -> None:
    # Output 20 + 12 + 20 + 8, name "b.depthwise@0.1" 20; operator 24 + 16 + 8, and options of
    # its own, as it is not SAME: 20. 148, no zero point of its own: 160. Entries: 3 words.
    graph = _patched()
    depthwise = next(op for op in graph.ops if op.name == "b.depthwise@0.1")
    assert op_file_bytes(graph, depthwise) == 160 + 12


def test_a_patched_file_has_codes_for_three_more_kinds_and_constants_once() -> None:
    graph, patched = _pooled(), _patched()
    assert fixed_file_bytes(patched) == fixed_file_bytes(graph) + 3 * CODE_BYTES
    assert file_bytes(patched) == fixed_file_bytes(patched) + sum(
        op_file_bytes(patched, op) for op in patched.ops
    )


def test_strings_end_with_a_zero_and_are_padded() -> None:
    assert [string_bytes(text) for text in ("", "abc", "abcd", "é")] == [8, 8, 12, 8]
