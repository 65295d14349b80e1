"""Kernel libraries that TensorFlow Lite Micro (TFLM) runs on, and the memory each asks for.

A kernel's Prepare may ask for scratch buffers, which live in the arena's head while it runs, and
for arrays that stay in the tail. The rules are those of tflite-micro (micro/kernels, and
micro/kernels/cmsis_nn) and of CMSIS-NN's *_get_buffer_size functions as of 2026; how far they were
checked is in the README of experiments/memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Literal

from tinynas.cost.records import ARM, HOST, INT_ENUMS, Build
from tinynas.errors import UsageError
from tinynas.graph import Graph, Op, same_padding

Kernels = Literal[
    "reference", "reference-int-enums", "cmsis-nn-dsp", "cmsis-nn-c", "cmsis-nn-mve", "host"
]
Sizes = Callable[[Graph, Op], tuple[int, ...]]

# The package that runs models on this host: reference kernels, 64 bits.
HOST_KERNELS: Kernels = "host"
DSP_CORES = ("Cortex-M4", "Cortex-M4F", "Cortex-M7", "Cortex-M33", "Cortex-M33F")
PLAIN_CORES = ("Cortex-M0", "Cortex-M0+", "Cortex-M3")
MVE_CORES = ("Cortex-M55", "Cortex-M85")


def _filter(graph: Graph, op: Op) -> tuple[int, int, int]:
    """Height, width and last axis of a convolution's weights."""
    _, height, width, channels = graph.tensors[op.inputs[1]].shape
    return height, width, channels


def _channels(graph: Graph, tensor: int) -> int:
    return graph.tensors[tensor].shape[-1]


def _elements(graph: Graph, tensor: int) -> int:
    return prod(graph.tensors[tensor].shape)


def _none(graph: Graph, op: Op) -> tuple[int, ...]:
    return ()


def _asked(size_bytes: int) -> tuple[int, ...]:
    """One buffer, or none where the size is 0: kernels do not ask for it then."""
    return (size_bytes,) if size_bytes else ()


def _is_1x1(graph: Graph, op: Op) -> bool:
    height, width, channels = _filter(graph, op)
    plain = (height, width) == (1, 1) and op.dilation == (1, 1)
    return plain and channels == _channels(graph, op.inputs[0])


def _column(graph: Graph, op: Op) -> int:
    height, width, _ = _filter(graph, op)
    return height * width * _channels(graph, op.inputs[0])


def _two_columns(graph: Graph, op: Op) -> tuple[int, ...]:
    """Two columns of int16 for a convolution other than 1x1 (arm_convolve_s8)."""
    return () if _is_1x1(graph, op) else (2 * 2 * _column(graph, op),)


def _mve_columns(graph: Graph, op: Op) -> tuple[int, ...]:
    """Four columns of int8 in vectors of 16, fewer for a row (arm_convolve_1_x_n_s8)."""
    if _is_1x1(graph, op):
        return ()
    columns = 4 * 16 * -(-_column(graph, op) // 16)
    return _asked(_mve_row(graph, op, columns))


def _mve_row(graph: Graph, op: Op, columns: int) -> int:
    """What a convolution over one row needs, `columns` for any other."""
    height, width, channels = _filter(graph, op)
    _, rows, pixels, cin = graph.tensors[op.inputs[0]].shape
    stride = op.stride[1]
    row = rows == 1 and height == 1 and op.dilation[1] == 1 and stride * cin % 4 == 0
    if not row or channels != cin:
        return columns
    outputs = graph.tensors[op.outputs[0]].shape[2]
    before = same_padding(pixels, width, stride)[0] if op.padding == "SAME" else 0
    uneven = max((outputs - 1) * stride + width - pixels, 0) % 2
    right = max(1, (before + uneven + stride - 1) // stride) if before + uneven else 0
    left = max(1, (before + stride - 1) // stride) if before else 0
    if left + right > outputs:
        return columns
    return max(
        (width + before) * cin, (width - 1) * cin + (right * cin if uneven else before * cin)
    )


def _is_plain_depthwise(graph: Graph, op: Op) -> bool:
    batch, _, _, cin = graph.tensors[op.inputs[0]].shape
    return cin == _filter(graph, op)[2] and batch == 1 and op.dilation == (1, 1)


def _depthwise_column(graph: Graph, op: Op) -> tuple[int, ...]:
    """One column of int16 unless the kernel is 3x3 (arm_depthwise_conv_s8_opt)."""
    height, width, channels = _filter(graph, op)
    if (height, width) == (3, 3) or not _is_plain_depthwise(graph, op):
        return ()
    return (2 * height * width * channels,)


def _mve_depthwise(graph: Graph, op: Op) -> tuple[int, ...]:
    """Four columns of blocks of 124 channels; a single channel runs as a convolution."""
    height, width, channels = _filter(graph, op)
    if _channels(graph, op.inputs[0]) == 1 and channels > 1:
        one_by_one = (height, width) == (1, 1)
        columns = 0 if one_by_one else 64 * -(-height * width // 16)
        return _asked(columns + channels * height * width)
    return (4 * 124 * height * width,) if _is_plain_depthwise(graph, op) else ()


def _pool_sums(graph: Graph, op: Op) -> tuple[int, ...]:
    """One int32 per channel (arm_avgpool_s8)."""
    return (4 * _channels(graph, op.outputs[0]),)


def _axes(graph: Graph, op: Op) -> tuple[int, int]:
    """Indices over the input's axes, and the axes reduced (micro/kernels/reduce_common.cc)."""
    rank, axes = len(graph.tensors[op.inputs[0]].shape), _elements(graph, op.inputs[1])
    return 4 * rank, 4 * axes


def _mean(graph: Graph, op: Op) -> tuple[int, ...]:
    """An int32 for each output on top of what every reduction needs."""
    return (4 * _elements(graph, op.outputs[0]), *_axes(graph, op))


def _dense_as_convolution(graph: Graph, op: Op) -> tuple[int, ...]:
    """Multipliers and shifts for a fully connected layer that keeps its input's axes."""
    depth, accumulated = graph.tensors[op.inputs[1]].shape
    kept = len(graph.tensors[op.outputs[0]].shape) > 2 and accumulated % 4 == 0
    return (8 * depth,) if kept and not op.per_channel else ()


def _convolution_arrays(graph: Graph, op: Op) -> tuple[int, ...]:
    """A multiplier and a shift for each output channel."""
    return (4 * _channels(graph, op.outputs[0]),) * 2


def _dense_arrays(graph: Graph, op: Op) -> tuple[int, ...]:
    return (4 * graph.tensors[op.inputs[1]].shape[0],) * 2 if op.per_channel else ()


def _mve_dense(graph: Graph, op: Op) -> tuple[int, ...]:
    """An int32 for each output, the sum of its weights (arm_vector_sum_s8)."""
    if len(graph.tensors[op.outputs[0]].shape) > 2:
        return _dense_as_convolution(graph, op)
    return (4 * graph.tensors[op.inputs[1]].shape[0],)


REDUCTIONS: dict[str, Sizes] = {"MEAN": _mean, "SUM": _mean, "REDUCE_MAX": _axes}
ARRAYS: dict[str, Sizes] = {
    "CONV_2D": _convolution_arrays,
    "DEPTHWISE_CONV_2D": _convolution_arrays,
    "FULLY_CONNECTED": _dense_arrays,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """How a kernel library was built, and what its kernels ask for beyond their records.

    `scratch` gives the bytes of each scratch buffer by operator kind; a kind that is not there
    asks for none.
    """

    build: Build = ARM
    cmsis_nn: bool = False
    scratch: Mapping[str, Sizes] = field(default_factory=lambda: REDUCTIONS)


_CMSIS_C: dict[str, Sizes] = {
    **REDUCTIONS,
    "CONV_2D": _two_columns,
    "FULLY_CONNECTED": _dense_as_convolution,
}
LIBRARIES: dict[Kernels, Library] = {
    "reference": Library(),
    "reference-int-enums": Library(build=INT_ENUMS),
    "cmsis-nn-c": Library(cmsis_nn=True, scratch=_CMSIS_C),
    "cmsis-nn-dsp": Library(
        cmsis_nn=True,
        scratch={
            **_CMSIS_C,
            "DEPTHWISE_CONV_2D": _depthwise_column,
            "AVERAGE_POOL_2D": _pool_sums,
        },
    ),
    "cmsis-nn-mve": Library(
        cmsis_nn=True,
        scratch={
            **_CMSIS_C,
            "CONV_2D": _mve_columns,
            "DEPTHWISE_CONV_2D": _mve_depthwise,
            "FULLY_CONNECTED": _mve_dense,
        },
    ),
    "host": Library(build=HOST),
}


def kernels_of(runtime: str, core: str) -> Kernels:
    """The kernel library that a runtime uses on a core: it decides records and scratch buffers.

    Raises UsageError for a runtime or core whose memory is not known.
    """
    if runtime == "tflm":
        return "reference" if core.startswith("Cortex-") else "reference-int-enums"
    cores: dict[tuple[str, ...], Kernels] = {
        DSP_CORES: "cmsis-nn-dsp",
        PLAIN_CORES: "cmsis-nn-c",
        MVE_CORES: "cmsis-nn-mve",
    }
    found = next((kernels for names, kernels in cores.items() if core in names), None)
    if runtime == "tflm-cmsis-nn" and found:
        return found
    raise UsageError(
        f"the memory that runtime {runtime!r} needs on core {core!r} is not known; use --runtime "
        f"tflm, or tflm-cmsis-nn on {', '.join(DSP_CORES + PLAIN_CORES + MVE_CORES)}"
    )


def scratch_sizes(graph: Graph, op: Op, kernels: Kernels) -> tuple[int, ...]:
    """Bytes of each scratch buffer that an operator's kernel asks for."""
    return LIBRARIES[kernels].scratch.get(op.kind, _none)(graph, op)


def scratch_by_op(graph: Graph, kernels: Kernels) -> list[tuple[int, ...]]:
    """`scratch_sizes` of every operator, as memory plans take them."""
    return [scratch_sizes(graph, op, kernels) for op in graph.ops]


def array_sizes(graph: Graph, op: Op) -> tuple[int, ...]:
    """Bytes of each array that an operator's kernel keeps in the tail beside its records."""
    return ARRAYS.get(op.kind, _none)(graph, op)
