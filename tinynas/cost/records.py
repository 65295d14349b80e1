"""The C structs that TensorFlow Lite Micro (TFLM) keeps in its arena, and how large they are.

A struct is written as the types of its fields in order: "enum 2int ptr" is an enum, two 32-bit
integers and a pointer. Its size follows from how a compiler lays structs out, so one table serves
32-bit chips, where whole arenas were measured in an emulator, and the 64-bit host, where every row
can be compared with the runtime itself.

Sources, all of tflite-micro as of 2026: micro/builtin_op_data.h for what a file's options become,
micro/kernels for what a kernel's Init keeps, micro/micro_allocator.h and its neighbours for the
runtime's own objects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

FIELD = re.compile(r"(\d*)(enum|bool|int16|int|float|ptr|double)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How the runtime was compiled: what decides the size of its structs.

    Arm's calling convention gives an enum the smallest type that holds it on bare metal
    (-fshort-enums, gcc's default there); other processors give it an int. `compression` adds what
    decoding compressed weights needs (USE_TFLM_COMPRESSION), `recording` what counts allocations
    (RecordingMicroAllocator): the host's package has both.
    """

    pointer_bytes: int = 4
    enum_bytes: int = 1
    compression: bool = False
    recording: bool = False

    def field_bytes(self, kind: str) -> int:
        """Size of a field, which is also its alignment."""
        sizes = {"bool": 1, "int16": 2, "int": 4, "float": 4, "double": 8}
        return {**sizes, "ptr": self.pointer_bytes, "enum": self.enum_bytes}[kind]


ARM = Build()
INT_ENUMS = Build(enum_bytes=4)  # Xtensa, RISC-V
HOST = Build(pointer_bytes=8, enum_bytes=4, compression=True, recording=True)


def round_up(size_bytes: int, alignment: int) -> int:
    """`size_bytes` rounded up to a multiple of `alignment`."""
    return -(-size_bytes // alignment) * alignment


@cache
def struct_layout(fields: str, build: Build) -> tuple[int, int]:
    """Size and alignment in bytes of a struct with these fields."""
    size, alignment = 0, 1
    for count, kind in FIELD.findall(fields):
        width = build.field_bytes(kind)
        size = round_up(size, width) + width * int(count or 1)
        alignment = max(alignment, width)
    return round_up(size, alignment), alignment


def struct_bytes(fields: str, build: Build) -> int:
    """Size in bytes of a struct with these fields."""
    return struct_layout(fields, build)[0]


def runtime_objects(build: Build) -> tuple[str, ...]:
    """The runtime's own objects in the order of their creation.

    SingleArenaBufferAllocator, GreedyMemoryPlanner, MicroAllocator, MicroBuiltinDataAllocator and
    SubgraphAllocations, those of the recording kind where the build records.
    """
    recorded = 7 + build.compression
    return (
        f"2ptr 5ptr ptr int {'4ptr' if build.recording else ''}",
        "ptr 2int 4ptr 2int ptr bool",
        f"5ptr bool 3ptr {f'ptr {3 * recorded}ptr' if build.recording else ''}",
        "2ptr",
        "3ptr" if build.compression else "2ptr",
    )


EVAL_TENSOR = "2ptr enum"
NODE = "6ptr int ptr"
SCRATCH_HANDLE = "ptr"
TENSOR = "enum ptr float int 3ptr 2enum bool"
QUANTIZATION = "2ptr int"
# While it plans: per scratch buffer a request, per tensor and scratch buffer an AllocationInfo,
# per planned buffer what the greedy planner keeps of it (40 bytes everywhere).
SCRATCH_REQUEST = "ptr 2int"
ALLOCATION_INFO = "2ptr 3int bool"
PLANNED_BUFFER = "4int int int 3int int"
SPARE_REQUESTS = 12  # kMaxScratchBuffersPerOp


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What TFLM keeps for one operator of a kind, None where it keeps nothing.

    `parameters` is the struct that its options become and `kernel` what its kernel's Init
    allocates; `cmsis_nn` and `compression` are the fields that those builds add to the latter.
    """

    parameters: str | None = None
    kernel: str | None = None
    cmsis_nn: str = ""
    compression: str = ""

    def kernel_bytes(self, build: Build, *, cmsis_nn: bool) -> int:
        """Bytes that the kernel's Init asks for, unaligned; 0 for none."""
        if self.kernel is None:
            return 0
        fields = f"{self.kernel} {self.compression if build.compression else ''}"
        if not cmsis_nn or not self.cmsis_nn:
            return struct_bytes(fields, build)
        # A struct within a struct keeps its own padding.
        size, alignment = struct_layout(fields, build)
        more, more_alignment = struct_layout(self.cmsis_nn, build)
        end = round_up(size, more_alignment) + more
        return round_up(end, max(alignment, more_alignment))


_PADDING = "4int"
_CONVOLUTION = Records(
    parameters="enum 2int enum 2int enum",
    kernel=f"{_PADDING} 5int 2ptr 3int",
    cmsis_nn="int",
    compression="2int",
)
_POOL = Records(
    parameters=f"enum 4int enum {_PADDING}",
    kernel=f"{_PADDING} 2int 2float",
    cmsis_nn="int",
)
_REDUCTION = Records(parameters="bool", kernel="6int float int float 2int")
_PAD = Records(kernel="bool 5int bool 5int bool int")
_SIGMOID = Records(kernel="4int")
_RESIZE = Records(parameters="2bool")
_LIST = Records(parameters="2int")

RECORDS: dict[str, Records] = {
    "ADD": Records(parameters="enum bool", kernel="bool 12int 2float"),
    "AVERAGE_POOL_2D": _POOL,
    "CONCATENATION": Records(
        parameters="int enum", kernel="bool 2ptr int16 int float", compression="10int"
    ),
    "CONV_2D": _CONVOLUTION,
    "DEPTHWISE_CONV_2D": Records(
        parameters="enum 3int enum 2int",
        kernel=_CONVOLUTION.kernel,
        cmsis_nn="int",
        compression="2int",
    ),
    "DEQUANTIZE": Records(kernel="double 5int"),
    "EXPAND_DIMS": Records(),
    "FULLY_CONNECTED": Records(
        parameters="2enum 2bool enum",
        kernel="9int 2ptr bool",
        cmsis_nn="2int ptr 3int",
        # Two fields by the sources; the host's package, two months younger than the measured
        # chips' runtime, keeps 16 bytes more, of which fields is not known.
        compression="2int 2ptr",
    ),
    "HARD_SWISH": Records(kernel="3int16 int int16 int"),
    "LEAKY_RELU": Records(parameters="float", kernel="6int"),
    "LOGISTIC": _SIGMOID,
    "MAXIMUM": Records(),
    "MAX_POOL_2D": _POOL,
    "MEAN": _REDUCTION,
    "MINIMUM": Records(),
    "MUL": Records(parameters="enum", kernel="7int 2float"),
    "PACK": _LIST,
    "PAD": _PAD,
    "PADV2": _PAD,
    "QUANTIZE": Records(kernel="int double 3int"),
    "REDUCE_MAX": _REDUCTION,
    "RELU": Records(kernel="bool 6int"),
    "RELU6": Records(kernel="2int"),
    "RESHAPE": Records(parameters="9int"),
    "RESIZE_BILINEAR": _RESIZE,
    "RESIZE_NEAREST_NEIGHBOR": _RESIZE,
    "SHAPE": Records(parameters="enum"),
    "SOFTMAX": Records(parameters="float", kernel="double 6int float 5ptr", cmsis_nn="2int"),
    "SPLIT": Records(parameters="int"),
    "SQUEEZE": Records(parameters="9int"),
    "STRIDED_SLICE": Records(
        parameters="5int bool", kernel="bool 5int bool 5int bool 5int 6int16 bool"
    ),
    "SUB": Records(parameters="enum bool", kernel="bool 12int"),
    "SUM": _REDUCTION,
    "TANH": _SIGMOID,
    "TRANSPOSE": Records(),
    "UNPACK": _LIST,
}
