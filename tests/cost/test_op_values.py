"""What constants say of operators, against what NumPy does, and as it is read from files."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))

import numpy as np
import pytest
from hand_models import HandOp, HandTensor, hand_model
from hypothesis import given
from hypothesis import strategies as st
from kind_models import KINDS, kind_model, options, whole

from tinynas.cost.op_values import joined_axis, pads_of, slice_begin
from tinynas.cost.tflite_reader import read_tflite
from tinynas.graph import Op

SMALL = st.integers(1, 5)
INT32 = st.integers(-(2**31), 2**31 - 1)


@given(st.data(), st.lists(SMALL, min_size=1, max_size=4))
def test_a_slice_begins_where_numpy_begins(data: st.DataObject, shape: list[int]) -> None:
    rank = len(shape)
    indices = st.lists(st.integers(-7, 7), min_size=rank, max_size=rank)
    begin, end = data.draw(indices), data.draw(indices)
    masks = data.draw(st.integers(0, 2**rank - 1)), data.draw(st.integers(0, 2**rank - 1))
    cut = tuple(
        slice(None if masks[0] >> k & 1 else begin[k], None if masks[1] >> k & 1 else end[k])
        for k in range(rank)
    )
    whole_one = np.arange(np.prod(shape)).reshape(shape)
    taken = whole_one[cut]
    if taken.size:
        found = slice_begin(
            *(tuple(shape), taken.shape, begin, end), begin_mask=masks[0], end_mask=masks[1]
        )
        assert whole_one[found] == taken.flat[0]


@given(st.lists(INT32, max_size=4), st.lists(INT32, max_size=4), INT32, INT32)
def test_a_slice_that_does_not_explain_the_shapes_begins_nowhere(
    begin: list[int], end: list[int], begin_mask: int, end_mask: int
) -> None:
    found = slice_begin((4, 3), (2, 2), begin, end, begin_mask=begin_mask, end_mask=end_mask)
    assert found == () or (found[0] in (0, 1, 2) and found[1] in (0, 1))


@given(st.lists(SMALL, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=8))
def test_pads_are_those_that_explain_the_shapes(shape: list[int], values: list[int]) -> None:
    grown = tuple(n + sum(values[2 * k : 2 * k + 2]) for k, n in enumerate(shape))
    found = pads_of(tuple(shape), grown, values)
    if len(values) == 2 * len(shape):
        assert np.pad(np.zeros(shape), found).shape == grown
        assert pads_of(tuple(shape), (*grown[:-1], grown[-1] + 1), values) == ()
    else:
        assert found == ()


def test_negative_pads_are_none() -> None:
    assert pads_of((4,), (4,), [-1, 1]) == ()


@pytest.mark.parametrize(
    ("axis", "found"), [(2, 2), (-1, 2), (0, None), (3, None), (-4, None), (2**31 - 1, None)]
)
def test_an_axis_is_counted_from_the_first_and_explains_the_shapes(
    axis: int, found: int | None
) -> None:
    assert joined_axis(axis, [(1, 4, 2), (1, 4, 3)], (1, 4, 5)) == found


def _op(kind: str) -> Op:
    (op,) = read_tflite(kind_model(kind)).graph.ops
    return op


def test_kinds_are_read_with_what_their_constants_say() -> None:
    assert _op("PAD").pads == _op("PADV2").pads == ((0, 0), (1, 1), (0, 0), (1, 1))
    assert _op("CONCATENATION").axis == 3
    assert _op("STRIDED_SLICE").begin == (0, 0, 0, 0)
    for kind in KINDS.keys() - {"PAD", "PADV2", "CONCATENATION", "STRIDED_SLICE"}:
        assert (_op(kind).begin, _op(kind).pads, _op(kind).axis) == ((), (), None)


def _slice(
    begin: HandTensor, end: HandTensor, strides: HandTensor, out: tuple[int, ...], **fields: int
) -> Op:
    tensors = [HandTensor(shape=(1, 8, 8, 4)), begin, end, strides, HandTensor(shape=out)]
    op = HandOp(
        kind="STRIDED_SLICE",
        inputs=(0, 1, 2, 3),
        outputs=(4,),
        options=options("StridedSliceOptions", **fields),
    )
    inputs = [t for t in range(4) if tensors[t].data is None]
    (read,) = read_tflite(hand_model(tensors, [op], inputs=inputs, outputs=[4])).graph.ops
    return read


ONES = whole(1, 1, 1, 1)
PART = (whole(0, 2, 3, 0), whole(1, 6, 8, 4), ONES, (1, 4, 5, 4))


def test_a_slice_is_read_with_its_first_indices() -> None:
    assert _slice(*PART).begin == (0, 2, 3, 0)
    ends = whole(0, -6, -5, 0), whole(0, -2, 99, 0), ONES, (1, 4, 5, 4)
    assert _slice(*ends, BeginMask=9, EndMask=9).begin == (0, 2, 3, 0)


@pytest.mark.parametrize("field", ["EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset"])
def test_slices_of_other_sorts_begin_nowhere(field: str) -> None:
    assert _slice(*PART, **{field: 1}).begin == ()


def test_slices_with_steps_or_with_indices_that_are_computed_begin_nowhere() -> None:
    begin, end, ones, _ = PART
    strided = whole(1, 2, 1, 1)
    assert _slice(begin, whole(1, 6, 8, 4), strided, (1, 2, 5, 4)).begin == ()
    computed = HandTensor(shape=(4,), dtype="int32")
    assert _slice(begin, computed, ones, (1, 4, 5, 4)).begin == ()
    assert _slice(begin, whole(1, 7, 8, 4), ones, (1, 4, 5, 4)).begin == ()
    assert _slice(begin, end, whole(1, 1, 1), (1, 4, 5, 4)).begin == ()


def test_pads_in_64_bits_are_read_and_those_of_other_types_are_not() -> None:
    pads = np.array([[0, 0], [1, 1], [1, 1], [0, 0]])
    tensors = [HandTensor(shape=(1, 8, 8, 4)), HandTensor(shape=(1, 10, 10, 4))]
    for dtype, found in (("int32", True), ("float32", False)):
        constant = HandTensor(shape=(4, 2), dtype=dtype, data=pads.astype(dtype))
        op = HandOp(kind="PAD", inputs=(0, 2), outputs=(1,), options=options("PadOptions"))
        (read,) = read_tflite(
            hand_model([*tensors, constant], [op], inputs=[0], outputs=[1])
        ).graph.ops
        assert (read.pads == tuple(map(tuple, pads.tolist()))) is found
