"""Features of operators against values by hand and loops over every tap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.cost.latency_features import FEATURES, feature_values, group_of
from tinynas.cost.op_shape import OpShape
from tinynas.graph import MACS, output_size, same_padding

CONV_3X3 = OpShape("CONV_2D", 5, 5, 3, 3, 3, 7, 3, 3, 2, 2, "same", "relu")
DEPTHWISE_3X3 = OpShape("DEPTHWISE_CONV_2D", 4, 4, 6, 4, 4, 6, 3, 3, 1, 1, "same", "relu6")


def features(shape: OpShape) -> dict[str, float]:
    return dict(zip(FEATURES[group_of(shape)], feature_values(shape), strict=True))


def one_by_one(
    height: int, width: int, inputs: int, outputs: int, stride: int = 1, kind: str = "CONV_2D"
) -> OpShape:
    out_h, out_w = -(-height // stride), -(-width // stride)
    return OpShape(
        kind, height, width, inputs, out_h, out_w, outputs, 1, 1, stride, stride, "same", ""
    )


def taps(shape: OpShape) -> int:
    """Taps inside the image, counted one by one."""
    sizes = (
        (shape.in_h, shape.out_h, shape.kernel_h, shape.stride_h),
        (shape.in_w, shape.out_w, shape.kernel_w, shape.stride_w),
    )
    found = 1
    for size, outputs, kernel, stride in sizes:
        before = same_padding(size, kernel, stride)[0] if shape.padding == "same" else 0
        places = [o * stride + k - before for o in range(outputs) for k in range(kernel)]
        found *= sum(0 <= place < size for place in places)
    return found


@st.composite
def windowed(draw: st.DrawFn, kind: str = "CONV_2D") -> OpShape:
    kernel, stride = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    padding = draw(st.sampled_from(("same", "valid")))
    height, width = (draw(st.integers(kernel if padding == "valid" else 1, 20)) for _ in range(2))
    inputs, outputs = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    rule = "SAME" if padding == "same" else "VALID"
    return OpShape(
        kind,
        *(height, width, inputs),
        *(output_size(size, kernel, stride, rule) for size in (height, width)),
        inputs if kind != "CONV_2D" else outputs,
        *(kernel, kernel, stride, stride),
        padding,
    )


@pytest.mark.parametrize("kind", MACS)
def test_every_kind_that_has_multiply_accumulates_has_features(kind: str) -> None:
    shape = OpShape(kind, 4, 4, 8, 4, 4, 8, 1, 1, 1, 1, "same", "")
    names = FEATURES[group_of(shape)]
    assert len(feature_values(shape)) == len(names) == len(set(names))
    assert names[-1] == "calls" and feature_values(shape)[-1] == 1


def test_an_unknown_kind_has_no_group() -> None:
    with pytest.raises(ValueError, match="operator kind 'SVDF' is not known"):
        group_of(OpShape("SVDF", 1, 1, 8, 1, 1, 8))


@pytest.mark.parametrize(
    ("shape", "group"),
    [
        (CONV_3X3, "conv_stem"),
        (OpShape("CONV_2D", 5, 5, 5, 5, 5, 7, 3, 3, 1, 1, "same"), "conv_kxk"),
        (one_by_one(4, 4, 8, 9), "conv_1x1"),
        (one_by_one(4, 4, 6, 9), "conv_1x1_ragged"),
        (one_by_one(4, 4, 8, 9, stride=2), "conv_1x1_strided"),
        (DEPTHWISE_3X3, "depthwise_3x3"),
        (OpShape("DEPTHWISE_CONV_2D", 4, 4, 6, 4, 4, 6, 5, 5, 1, 1, "same"), "depthwise"),
        (
            OpShape("DEPTHWISE_CONV_2D", 4, 4, 1, 4, 4, 8, 3, 3, 1, 1, "same"),
            "depthwise_multiplied",
        ),
        (OpShape("TANH", 1, 1, 8, 1, 1, 8), "elementwise"),
        (OpShape("CONCATENATION", 1, 1, 8, 1, 1, 16, runs=2), "move"),
        (OpShape("SQUEEZE", 1, 1, 8, 1, 1, 8), "reshape"),
    ],
)
def test_the_kernel_decides_the_group(shape: OpShape, group: str) -> None:
    assert group_of(shape) == group


def test_a_convolution_of_odd_sizes_by_hand() -> None:
    # 9 windows of 27 elements, 7 channels. Along an axis windows start at -1, 1 and 3: the first
    # and the last have a tap outside, so 7 of 9 taps are inside, 49 of 81 on the image. Rows of
    # weights start at 0, 27, 54, ...: the rows 0 and 4 on a word.
    assert features(CONV_3X3) == {
        "macs": 9 * 7 * 27,
        "rest_macs": 9 * 7 * 3,
        "rest_of_16_macs": 9 * 7 * 8,
        "unaligned_macs": 9 * 5 * 24,
        "odd_channel_macs": 9 * 27,
        "odd_pixel_macs": 7 * 27,
        "sixteens": 9 * 7 * 2,
        "outputs": 63,
        "pixels": 9,
        "weights": 189,
        "channels": 7,
        "inside_macs": 49 * 3 * 7,
        "tap_outputs": 49 * 7,
        "taps": 49,
        "gathered": 49 * 3,
        "gathered_rest": 49 * 3,
        "padded_taps": 81 - 49,
        "padded": (81 - 49) * 3,
        "window_rows": 27,
        "fetched_again_128": 4.5 * 189,
        **dict.fromkeys((f"fetched_again_{size}" for size in ("4k", "8k", "16k", "32k")), 0),
        "calls": 1,
    }


def test_a_depthwise_convolution_by_hand() -> None:
    # Along an axis of 4 pixels 10 of 12 taps are inside; 6 channels are one four and two more.
    found = features(DEPTHWISE_3X3)
    assert {name: value for name, value in found.items() if "fetched" not in name} == {
        "macs": 16 * 9 * 6,
        "rest_macs": 16 * 9 * 2,
        "inside_macs": 600,
        "inside_rest_macs": 200,
        "tap_fours": 16 * 9 * 2,
        "taps": 100,
        "padded_taps": 44,
        "padded": 264,
        "window_rows": 10 * 4 * 6,
        "row_fours": 10 * 4,
        "outputs": 96,
        "fours": 16,
        "pixel_inputs": 96,
        "pixels": 16,
        "channels": 6,
        "calls": 1,
    }


def test_other_kinds_by_hand() -> None:
    assert features(OpShape("FULLY_CONNECTED", 1, 1, 18, 1, 1, 5)) == {
        "macs": 90,
        "rest_macs": 10,
        "odd_channel_macs": 18,
        "rest_of_3_macs": 36,
        "sixteens": 10,
        "outputs": 5,
        "calls": 1,
    }
    assert features(OpShape("AVERAGE_POOL_2D", 4, 4, 18, 2, 2, 18, 2, 2, 2, 2, "valid")) == {
        "window": 288,
        "window_sixteens": 32,
        "taps": 16,
        "rows": 8,
        "row_outputs": 144,
        "outputs": 72,
        "rest_outputs": 8,
        "sixteens": 8,
        "pixels": 4,
        "calls": 1,
    }
    assert feature_values(OpShape("ADD", 2, 2, 3, 2, 2, 3)) == (12, 0, 1)
    assert feature_values(OpShape("MEAN", 4, 4, 8, 1, 1, 8)) == (128, 8, 1)
    assert feature_values(OpShape("SOFTMAX", 3, 1, 10, 3, 1, 10)) == (30, 3, 1)
    assert feature_values(OpShape("PAD", 2, 2, 3, 4, 4, 3, runs=12)) == (12, 36, 48, 12, 1)
    assert feature_values(OpShape("STRIDED_SLICE", 4, 4, 8, 2, 2, 8, runs=4)) == (32, 0, 0, 4, 1)
    assert features(OpShape("LOGISTIC", 1, 1, 9, 1, 1, 9))["curved"] == 9
    assert sum(feature_values(OpShape("MUL", 1, 1, 9, 1, 1, 9))) == 10


def test_a_strided_1x1_sums_its_weights_in_each_row() -> None:
    whole, strided = one_by_one(3, 3, 8, 2), one_by_one(6, 6, 8, 2, stride=2)
    assert features(whole)["weights"] == 16 and features(strided)["weights"] == 48
    assert features(whole)["odd_pixel_macs"] == 16 and features(strided)["odd_pixel_macs"] == 48
    assert features(whole)["macs"] == features(strided)["macs"] == 9 * 16


def test_weights_are_fetched_again_when_the_cache_is_too_small() -> None:
    # A 1x1 kernel goes over all pixels with two rows of weights: 2 x 64 bytes are 8 lines.
    assert features(one_by_one(4, 4, 60, 10))["fetched_again_128"] == 0
    assert features(one_by_one(4, 4, 64, 10))["fetched_again_128"] == 8 * 640
    # Another goes over all weights with two pixels: 9216 bytes are 1024 above 8 KiB, so that
    # twice as many are lost, and none is left of 4 KiB.
    found = features(OpShape("CONV_2D", 4, 4, 32, 4, 4, 32, 3, 3, 1, 1, "same"))
    assert found["fetched_again_4k"] == 8 * 9216
    assert found["fetched_again_8k"] == 8 * 2048
    assert found["fetched_again_16k"] == 0


@given(st.one_of(windowed(), windowed("DEPTHWISE_CONV_2D"), windowed("MAX_POOL_2D")))
def test_taps_are_those_inside_the_image_and_nothing_is_negative(shape: OpShape) -> None:
    found = features(shape)
    if "taps" in found:
        assert found["taps"] == taps(shape)
    assert all(value >= 0 for value in found.values())


@given(windowed())
def test_macs_are_those_of_the_graph(shape: OpShape) -> None:
    window = shape.kernel_h * shape.kernel_w * shape.in_c
    assert features(shape)["macs"] == shape.outputs * window
    assert (
        features(shape)["rest_macs"] + features(shape)["unaligned_macs"] <= shape.outputs * window
    )
