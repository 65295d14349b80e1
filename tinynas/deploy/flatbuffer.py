"""A FlatBuffer written front to back, for files whose size must be known before writing.

The builders of the `flatbuffers` package write back to front, share equal vtables and pad by what
came before, so a table's bytes depend on its neighbours. Here all vtables come first, in one fixed
set, and every table, vector and string takes the same bytes wherever it stands; references are
filled in at the end. The format is described in "FlatBuffer Internals"
(https://flatbuffers.dev/internals): little endian, references are unsigned and point forward,
a table begins with the signed distance back to its vtable.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableType:
    """Which fields a table has: (slot number of the schema, `struct` code) in inline order.

    Fields of four bytes must come before fields of one byte, so that nothing needs padding.
    """

    fields: tuple[tuple[int, str], ...]

    @property
    def table_bytes(self) -> int:
        """Bytes of one table, its vtable reference included, a multiple of 4."""
        return aligned(4 + sum(struct.calcsize(code) for _, code in self.fields), 4)

    def vtable(self) -> bytes:
        """Its size, the table's size, and each slot's distance from the table's start or 0."""
        slots = [0] * (max((slot for slot, _ in self.fields), default=-1) + 1)
        place = 4
        for slot, code in self.fields:
            slots[slot] = place
            place += struct.calcsize(code)
        return struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), self.table_bytes, *slots)


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to the object written, or yet to be written, under a label."""

    label: Hashable


def aligned(position: int, multiple: int) -> int:
    """`position` rounded up to a multiple."""
    return -(-position // multiple) * multiple


class FlatbufferWriter:
    """Collects objects in file order; `finish` fills in the references."""

    def __init__(self, identifier: bytes, types: Sequence[TableType]) -> None:
        self._bytes = bytearray(4) + identifier
        self._places: dict[Hashable, int] = {}
        self._references: list[tuple[int, Hashable]] = []
        self._vtables: dict[TableType, int] = {}
        for kind in types:
            self._vtables[kind] = len(self._bytes)
            self._bytes += kind.vtable()
        self.align(4)

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return len(self._bytes)

    def pad(self, count: int) -> None:
        """Write `count` zero bytes; raises ValueError if that many do not fit (negative)."""
        if count < 0:
            raise ValueError(f"the objects take {-count} bytes more than their room")
        self._bytes += bytes(count)

    def align(self, multiple: int, *, lead: int = 0) -> None:
        """Pad so that what follows the next `lead` bytes is aligned."""
        self.pad(-(self.position + lead) % multiple)

    def _mark(self, label: Hashable, place: int | None = None) -> None:
        if label in self._places:
            raise ValueError(f"two objects are labelled {label!r}")
        self._places[label] = self.position if place is None else place

    def _values(self, codes: str, values: Sequence[int | float | Ref]) -> None:
        """Numbers by their `struct` codes, and zeros where references will stand."""
        place = self.position
        for code, value in zip(codes, values, strict=True):
            if isinstance(value, Ref):
                self._references.append((place, value.label))
            place += struct.calcsize("<" + code)
        numbers = [0 if isinstance(value, Ref) else value for value in values]
        self._bytes += struct.pack("<" + codes, *numbers)

    def table(self, label: Hashable, kind: TableType, *values: int | Ref) -> None:
        """A table with one value per field of its type."""
        self._mark(label)
        self._bytes += struct.pack("<i", self.position - self._vtables[kind])
        self._values("".join(code for _, code in kind.fields), values)
        self.align(4)

    def vector(self, label: Hashable, code: str, values: Sequence[int | float | Ref]) -> None:
        """A vector of numbers or references, its items aligned to their size."""
        self.align(max(4, struct.calcsize("<" + code)), lead=4)
        self._mark(label)
        self._bytes += struct.pack("<I", len(values))
        self._values(code * len(values), values)

    def string(self, label: Hashable, text: str) -> None:
        """A string in UTF-8 with its closing zero, padded to a multiple of 4 bytes."""
        self._mark(label)
        encoded = text.encode()
        self._bytes += struct.pack("<I", len(encoded)) + encoded + b"\0"
        self.align(4)

    def data(self, label: Hashable, content: bytes, *, alignment: int) -> None:
        """A vector of bytes whose content is aligned (the schema's force_align)."""
        self.align(alignment, lead=4)
        self._mark(label)
        self._bytes += struct.pack("<I", len(content)) + content

    def embed(self, file: bytes, places: Mapping[Hashable, int], *, alignment: int) -> None:
        """Another file's bytes as they are; `places` labels objects in them by their position."""
        self.align(alignment)
        for label, place in places.items():
            self._mark(label, self.position + place)
        self._bytes += file

    def finish(self, root: Hashable) -> bytes:
        """The file, its root table being the one labelled `root`."""
        for position, label in [(0, root), *self._references]:
            distance = self._places[label] - position
            if distance <= 0:
                raise ValueError(f"the reference to {label!r} would point backward")
            struct.pack_into("<I", self._bytes, position, distance)
        return bytes(self._bytes)
