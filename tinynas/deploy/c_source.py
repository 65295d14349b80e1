"""A model as C++ source for projects that build TensorFlow Lite Micro themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tinynas.errors import UsageError
from tinynas.graph import Graph

# Kind of operator: the method of tflite::MicroMutableOpResolver (micro_mutable_op_resolver.h).
RESOLVER_METHODS = {
    "ADD": "AddAdd",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "FULLY_CONNECTED": "AddFullyConnected",
    "CONCATENATION": "AddConcatenation",
    "PAD": "AddPad",
    "STRIDED_SLICE": "AddStridedSlice",
}
BYTES_PER_LINE = 16
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CSource:
    """The text of `<name>.h` and of `<name>.cc`."""

    header: str
    source: str


def resolver_calls(graph: Graph) -> tuple[str, ...]:
    """The operators to register, one call of MicroMutableOpResolver each.

    Raises ValueError for an operator kind that is not known.
    """
    kinds = dict.fromkeys(op.kind for op in graph.ops)
    unknown = sorted(kind for kind in kinds if kind not in RESOLVER_METHODS)
    if unknown:
        raise ValueError(f"no resolver method is known for {unknown}")
    return tuple(f"{RESOLVER_METHODS[kind]}()" for kind in kinds)


def _array_lines(model_bytes: bytes) -> str:
    starts = range(0, len(model_bytes), BYTES_PER_LINE)
    rows = (model_bytes[start : start + BYTES_PER_LINE] for start in starts)
    return "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)


def c_source(model_bytes: bytes, graph: Graph, *, name: str, arena_bytes: int) -> CSource:
    """Header and source that hold the model as a constant array aligned to 16 bytes.

    `arena_bytes` becomes a constant: the size of the tensor arena to reserve, which must itself
    be aligned to 16 bytes. Raises UsageError for a name that is no C++ identifier.
    """
    if not IDENTIFIER.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name C++ code: use letters, digits and _, a letter first"
        )
    calls = resolver_calls(graph)
    register = "\n".join(f"//   resolver.{call};" for call in calls)
    header = f"""\
// {graph.name}: a model for TensorFlow Lite Micro, written by tinynas.
//
// Operators to register:
//   tflite::MicroMutableOpResolver<{len(calls)}> resolver;
{register}
// Arena to reserve:
//   alignas(16) static uint8_t arena[{name}_arena_bytes];
#pragma once

#include <cstddef>
#include <cstdint>

constexpr std::size_t {name}_arena_bytes = {arena_bytes};
constexpr std::size_t {name}_bytes = {len(model_bytes)};
extern const std::uint8_t {name}[{name}_bytes];
"""
    source = f"""\
#include "{name}.h"

alignas(16) const std::uint8_t {name}[{name}_bytes] = {{
{_array_lines(model_bytes)}
}};
"""
    return CSource(header=header, source=source)
