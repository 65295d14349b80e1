"""What an operator's latency is a sum of: its group, and how often each part of its kernel runs.

The parts follow the loops of the int8 kernels of CMSIS-NN (Source/ConvolutionFunctions,
Source/NNSupportFunctions) and of TFLM's reference kernels: cycles are the sum of these features,
each times a coefficient that is never negative; zero where a library has no such part.
"""

from __future__ import annotations

from collections.abc import Callable

from tinynas.cost.op_shape import OpShape

Values = tuple[float, ...]

# Bytes that chips keep of what they read from flash: the lines in front of a slow flash, and
# caches of 4 KiB (STM32F746) to 32 KiB. Weights that were pushed out are fetched again.
LINES_BYTES = 128
CACHES_BYTES = {"4k": 4096, "8k": 8192, "16k": 16384, "32k": 32768}
FETCHED_AGAIN = ("fetched_again_128", *(f"fetched_again_{name}" for name in CACHES_BYTES))

# A network's first convolution has few input channels: copying each pixel, one call for so few
# bytes, weighs more there, and some engines have a kernel of its own for it.
STEM_CHANNELS = 4
# CMSIS-NN multiplies two output pixels by two output channels at a time, four elements of the
# window at once, or sixteen where nothing has to be gathered. What is left of pixels, channels
# and elements goes through slower loops.
PRODUCT = (
    "macs",  # padding taps included: they are multiplied as zeros
    "rest_macs",  # of a window's elements beyond a multiple of 4
    "rest_of_16_macs",  # of the fours beyond a multiple of 16
    "unaligned_macs",  # of fours in rows of weights that start off a 4-byte word
    "odd_channel_macs",  # of an output channel without a partner
    "odd_pixel_macs",  # of an output pixel without a partner
    "sixteens",  # runs of up to 16 elements
    "outputs",
    "pixels",
    "weights",  # read once more to sum them up
    "channels",
)
POINTWISE = (*PRODUCT, "gathered", "gathered_rest", *FETCHED_AGAIN, "calls")
CONV = (
    *PRODUCT,
    "inside_macs",  # of taps inside the image
    "tap_outputs",  # taps inside the image, once for each output
    "taps",  # times that a pixel is copied into a window (im2col)
    "gathered",  # elements copied
    "gathered_rest",  # of these, channels beyond a multiple of 4
    "padded_taps",
    "padded",  # elements set to zero
    "window_rows",
    *FETCHED_AGAIN,
    "calls",
)
# Channels in fours, one pixel after the other; taps outside the image are left out of 3x3
# windows, and gathered as zeros into others.
DEPTHWISE = (
    "macs",
    "rest_macs",  # of channels beyond a multiple of 4
    "inside_macs",
    "inside_rest_macs",
    "tap_fours",  # taps for each four channels, a part of four included
    "taps",
    "padded_taps",
    "padded",
    "window_rows",  # rows of windows inside the image, for each channel
    "row_fours",  # the same for each whole four channels
    "outputs",
    "fours",  # of outputs
    "pixel_inputs",  # input channels for each output pixel
    "pixels",
    "channels",
    *FETCHED_AGAIN,
    "calls",
)
FULLY_CONNECTED = (
    "macs",
    "rest_macs",
    "odd_channel_macs",
    "rest_of_3_macs",  # of output channels beyond a multiple of 3
    "sixteens",
    "outputs",
    "calls",
)
POOL = (
    "window",  # elements of windows inside the image
    "window_sixteens",  # the same in runs of up to 16 channels
    "taps",
    "rows",  # rows of windows inside the image
    "row_outputs",  # the same for each channel
    "outputs",
    "rest_outputs",  # of channels beyond a multiple of 4
    "sixteens",  # of outputs
    "pixels",
    "calls",
)
ADD = ("outputs", "rest_outputs", "calls")
REDUCED = ("inputs", "outputs", "calls")
SOFTMAX = ("outputs", "rows", "calls")
MOVED = ("copied", "added", "unaligned", "runs", "calls")
# Kinds that go over their elements once, by what each element asks for.
ELEMENTWISE_CLASSES = {
    "HARD_SWISH": "multiplied",
    "LEAKY_RELU": "multiplied",
    "MUL": "multiplied",
    "SUB": "multiplied",
    "DEQUANTIZE": "quantized",
    "QUANTIZE": "quantized",
    "MAXIMUM": "compared",
    "MINIMUM": "compared",
    "RELU": "compared",
    "RELU6": "compared",
    "LOGISTIC": "curved",
    "TANH": "curved",
    "RESIZE_BILINEAR": "interpolated",
    "PACK": "placed",
    "RESIZE_NEAREST_NEIGHBOR": "placed",
    "SPLIT": "placed",
    "TILE": "placed",
    "TRANSPOSE": "placed",
    "UNPACK": "placed",
}
ELEMENTWISE = (*dict.fromkeys(ELEMENTWISE_CLASSES.values()), "calls")


def _fetched_again(fetches: float, distance: int) -> Values:
    """Bytes of weights fetched again, of those that are read, by how much a chip can keep.

    `distance` bytes of weights lie between two reads of the same. Lines that are used in turn are
    all lost as soon as one is missing; in a cache of two ways those are lost whose set is full
    until, at one and a half times its size, no set is left.
    """
    past_lines = fetches if distance >= LINES_BYTES else 0
    lost = (min(max(2 * (distance - size), 0), distance) for size in CACHES_BYTES.values())
    return past_lines, *(fetches * part / max(distance, 1) for part in lost)


def _product(shape: OpShape, window: int, sweeps: int) -> Values:
    """PRODUCT, for windows of so many elements; weights start anew in each of the sweeps."""
    pixels, channels = shape.pixels, shape.out_c
    outputs = pixels * channels
    rest = window % 4
    unaligned = 0 if rest == 0 else channels // 2 if rest == 2 else channels - -(-channels // 4)
    return (
        outputs * window,
        outputs * rest,
        outputs * (window % 16 - rest),
        pixels * unaligned * (window - rest),
        channels % 2 * pixels * window,
        pixels // sweeps % 2 * sweeps * channels * window,
        outputs * -(-window // 16),
        outputs,
        pixels,
        sweeps * window * channels,
        sweeps * channels,
    )


def _pointwise(shape: OpShape) -> Values:
    """The weights of two channels are multiplied by all pixels, in each row where one is left out.

    (arm_convolve_1x1_s8.c, arm_nn_mat_mult_nt_t_s8.c).
    """
    pixels, elements = shape.pixels, shape.in_c
    strided = shape.stride_h != 1 or shape.stride_w != 1
    return (
        *_product(shape, elements, shape.out_h if strided else 1),
        pixels * elements,
        pixels * (elements % 4),
        *_fetched_again(pixels / 2 * elements * shape.out_c, 2 * elements),
        1,
    )


def _conv(shape: OpShape) -> Values:
    """All weights are multiplied by two pixels, then by the next two (arm_convolve_s8.c)."""
    rows, columns = shape.taps_inside
    taps, pixels, elements = rows * columns, shape.pixels, shape.in_c
    window = shape.kernel_h * shape.kernel_w * elements
    weights = window * shape.out_c
    outside = pixels * shape.kernel_h * shape.kernel_w - taps
    return (
        *_product(shape, window, 1),
        taps * elements * shape.out_c,
        taps * shape.out_c,
        taps,
        taps * elements,
        taps * (elements % 4),
        outside,
        outside * elements,
        pixels * shape.kernel_h,
        *_fetched_again(pixels / 2 * weights, weights),
        1,
    )


def _depthwise(shape: OpShape) -> Values:
    """(arm_depthwise_conv_3x3_s8.c, arm_depthwise_conv_s8_opt.c, arm_depthwise_conv_s8.c)."""
    rows, columns = shape.taps_inside
    taps, pixels, channels = rows * columns, shape.pixels, shape.out_c
    window = shape.kernel_h * shape.kernel_w
    everywhere = pixels * window
    rest, fours = channels % 4, channels // 4
    return (
        everywhere * channels,
        everywhere * rest,
        taps * channels,
        taps * rest,
        everywhere * -(-channels // 4),
        taps,
        everywhere - taps,
        (everywhere - taps) * channels,
        rows * shape.out_w * channels,
        rows * shape.out_w * fours,
        pixels * channels,
        pixels * fours,
        pixels * shape.in_c,
        pixels,
        channels,
        *_fetched_again(taps * channels, window * channels),
        1,
    )


def _fully_connected(shape: OpShape) -> Values:
    """(arm_nn_vec_mat_mult_t_s8.c)."""
    rows, elements, channels = shape.pixels, shape.in_c, shape.out_c
    return (
        rows * channels * elements,
        rows * channels * (elements % 4),
        rows * (channels % 2) * elements,
        rows * (channels % 3) * elements,
        rows * channels * -(-elements // 16),
        rows * channels,
        1,
    )


def _pool(shape: OpShape) -> Values:
    """(arm_avgpool_s8.c, arm_max_pool_s8.c)."""
    rows, columns = shape.taps_inside
    taps, pixels, channels = rows * columns, shape.pixels, shape.out_c
    sixteens = -(-channels // 16)
    return (
        taps * channels,
        taps * sixteens,
        taps,
        rows * shape.out_w,
        rows * shape.out_w * channels,
        shape.outputs,
        pixels * (channels % 4),
        pixels * sixteens,
        pixels,
        1,
    )


def _add(shape: OpShape) -> Values:
    return shape.outputs, shape.outputs % 4, 1


def _reduced(shape: OpShape) -> Values:
    return shape.inputs, shape.outputs, 1


def _softmax(shape: OpShape) -> Values:
    return shape.outputs, shape.pixels, 1


def _moved(shape: OpShape) -> Values:
    """Bytes copied and set; byte by byte on some cores where a pixel is not a whole word."""
    copied = min(shape.inputs, shape.outputs)
    unaligned = shape.outputs if shape.out_c % 4 else 0
    return copied, shape.outputs - copied, unaligned, shape.runs, 1


def _elementwise(shape: OpShape) -> Values:
    wanted = ELEMENTWISE_CLASSES[shape.kind]
    return (*(shape.outputs if name == wanted else 0 for name in ELEMENTWISE[:-1]), 1)


def _reshaped(shape: OpShape) -> Values:
    return shape.outputs, 1


def _conv_group(shape: OpShape) -> str:
    if shape.kernel_h != 1 or shape.kernel_w != 1:
        return "conv_stem" if shape.in_c <= STEM_CHANNELS else "conv_kxk"
    if shape.stride_h != 1 or shape.stride_w != 1:
        return "conv_1x1_strided"
    return "conv_1x1" if shape.in_c % 4 == 0 else "conv_1x1_ragged"


def _depthwise_group(shape: OpShape) -> str:
    if shape.in_c != shape.out_c:
        return "depthwise_multiplied"
    return "depthwise_3x3" if shape.kernel_h == shape.kernel_w == 3 else "depthwise"


BY_SHAPE: dict[str, Callable[[OpShape], str]] = {
    "CONV_2D": _conv_group,
    "DEPTHWISE_CONV_2D": _depthwise_group,
}
GROUPS = {
    "FULLY_CONNECTED": "fully_connected",
    "ADD": "add",
    "AVERAGE_POOL_2D": "average_pool",
    "MAX_POOL_2D": "max_pool",
    **dict.fromkeys(("MEAN", "REDUCE_MAX", "SUM"), "mean"),
    "SOFTMAX": "softmax",
    **dict.fromkeys(("PAD", "PADV2"), "pad"),
    **dict.fromkeys(("CONCATENATION", "STRIDED_SLICE"), "move"),
    **dict.fromkeys(("EXPAND_DIMS", "RESHAPE", "SHAPE", "SQUEEZE"), "reshape"),
    **dict.fromkeys(ELEMENTWISE_CLASSES, "elementwise"),
}
BY_GROUP: dict[str, tuple[tuple[str, ...], Callable[[OpShape], Values]]] = {
    "conv_1x1": (POINTWISE, _pointwise),
    "conv_1x1_ragged": (POINTWISE, _pointwise),
    "conv_1x1_strided": (POINTWISE, _pointwise),
    "conv_stem": (CONV, _conv),
    "conv_kxk": (CONV, _conv),
    "depthwise_3x3": (DEPTHWISE, _depthwise),
    "depthwise": (DEPTHWISE, _depthwise),
    "depthwise_multiplied": (DEPTHWISE, _depthwise),
    "fully_connected": (FULLY_CONNECTED, _fully_connected),
    "add": (ADD, _add),
    "average_pool": (POOL, _pool),
    "max_pool": (POOL, _pool),
    "mean": (REDUCED, _reduced),
    "softmax": (SOFTMAX, _softmax),
    "pad": (MOVED, _moved),
    "move": (MOVED, _moved),
    "reshape": (("copied", "calls"), _reshaped),
    "elementwise": (ELEMENTWISE, _elementwise),
}
FEATURES: dict[str, tuple[str, ...]] = {group: names for group, (names, _) in BY_GROUP.items()}


def group_of(shape: OpShape) -> str:
    """The group of operators whose coefficients hold for this one.

    Raises ValueError for a kind that is not known: nothing costs zero by being unknown.
    """
    if shape.kind in BY_SHAPE:
        return BY_SHAPE[shape.kind](shape)
    if shape.kind not in GROUPS:
        raise ValueError(f"the latency of operator kind {shape.kind!r} is not known")
    return GROUPS[shape.kind]


def feature_values(shape: OpShape) -> Values:
    """How often each of FEATURES[group_of(shape)] occurs in this operator, in their order."""
    return BY_GROUP[group_of(shape)][1](shape)
