"""The JSON form of a layer list: the operators of a network with their shapes.

A list is an object with `inputs` and `layers`, and perhaps `name` and `outputs`. Layers are in
execution order; each has `op` (TFLite's name), `ins` and `outs`, and for convolutions and pools
`kernel`, `stride` and `pad`. A tensor is an object with `shape`, and perhaps `type` (INT8 if
missing), `const` and a number `t`. Keys that are not named below are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tinynas.cost.op_rules import Shape
from tinynas.cost.tflite_reader import LARGEST_LIST, LARGEST_RANK, printable
from tinynas.errors import ModelFileError
from tinynas.graph import Padding

LARGEST_BYTES = 2**20  # the lists of published networks have at most a tenth
LARGEST_SIZE = 2**31 - 1
SHOWN_TENSORS = 4
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors put it first

Size = Annotated[int, Field(ge=0, le=LARGEST_SIZE)]
Count = Annotated[int, Field(ge=1, le=LARGEST_SIZE)]
Pair = tuple[Count, Count]


class _Listed(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class ListedTensor(_Listed):
    """A tensor where a layer reads or writes it."""

    shape: Annotated[list[Size], Field(max_length=LARGEST_RANK)]
    type: Literal["INT8", "UINT8", "BOOL", "INT16", "INT32", "FLOAT32", "INT64"] = "INT8"
    const: bool = False
    t: Size | None = None

    @property
    def form(self) -> tuple[Shape, str]:
        """Shape and type, as a Tensor has them."""
        return tuple(self.shape), self.type.lower()

    @property
    def number(self) -> int:
        """Its number, once it has one."""
        assert self.t is not None
        return self.t

    def numbered(self, number: int | None) -> ListedTensor:
        """The same with another number."""
        return self.model_copy(update={"t": number})


Tensors = Annotated[list[ListedTensor], Field(min_length=1, max_length=LARGEST_LIST)]


class ListedLayer(_Listed):
    """An operator; channels, groups and multiplier are those of weights that it lacks."""

    op: Annotated[str, Field(min_length=1)]
    ins: Tensors
    outs: Tensors
    kernel: Pair | None = None
    stride: Pair | None = None
    dilation: Pair = (1, 1)
    pad: Padding | None = None
    act: Literal["NONE", "RELU", "RELU_N1_TO_1", "RELU6"] = "NONE"
    cin: Count | None = None
    cout: Count | None = None
    groups: Count = 1
    mult: Count = 1


class LayerList(_Listed):
    """The whole file."""

    name: str = ""
    inputs: Tensors
    outputs: Tensors | None = None
    layers: Annotated[list[ListedLayer], Field(min_length=1, max_length=LARGEST_LIST)]

    def read_or_written(self) -> Iterator[ListedTensor]:
        """All tensors of its layers, as often as they are named."""
        for layer in self.layers:
            yield from layer.ins
            yield from layer.outs


def parse_list(content: bytes) -> LayerList:
    """The layer list in a JSON text; ModelFileError with the place of the first mistake."""
    if len(content) > LARGEST_BYTES:
        raise ModelFileError(
            f"this layer list has {len(content):,} bytes; at most {LARGEST_BYTES:,} can be read"
        )
    try:
        return LayerList.model_validate_json(content.removeprefix(BYTE_ORDER_MARK))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])).replace("layers.", "layer ", 1)
        complaint = f"{place}: {first['msg']}" if place else first["msg"]
        raise ModelFileError(f"this is not a layer list: {printable(complaint)}") from None


def wrong(step: int, layer: ListedLayer, what: str) -> ModelFileError:
    """The error for a layer that cannot be as it is."""
    return ModelFileError(f"layer {step} ({printable(layer.op)}) of this layer list {what}")


def shown(entries: Sequence[ListedTensor]) -> str:
    """Types and shapes, in words."""
    some = ", ".join(f"{entry.type} {entry.shape}" for entry in entries[:SHOWN_TENSORS])
    return some + (", ..." if len(entries) > SHOWN_TENSORS else "")
