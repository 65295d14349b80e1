"""A .tflite file with another memory plan, whoever wrote it, and nothing else changed.

References of a FlatBuffer point forward and are relative, so the old file can stay as it is, byte
for byte, behind a new root that refers into it. New are the root, its lists of buffers and
metadata, the plan and a note on it, and, where operators run in another order, the subgraph with
its list of operators. The old file starts at a multiple of 16 bytes, so that its constants keep
the alignment that kernels need.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Mapping, Sequence

from tinynas.cost.op_rules import check_graph
from tinynas.cost.plan_metadata import NOTE_NAME, PLAN_NAME, plan_content
from tinynas.cost.tflite_reader import IDENTIFIER, read_tflite
from tinynas.deploy.flatbuffer import FlatbufferWriter, Ref, TableType
from tinynas.deploy.order import reordered
from tinynas.errors import ModelFileError
from tinynas.graph import Graph

ALIGNMENT = 16  # force_align of Buffer.data in the schema
# Slots of schema.fbs, schema version 3, and which of them hold a number instead of a reference.
SUBGRAPHS, BUFFERS, METADATA = 2, 4, 6  # of table Model
OPERATORS = 3  # of table SubGraph
NAME = 0  # of table Metadata
SLOTS = {"Model": 10, "SubGraph": 6, "Metadata": 2}
NUMBERS = {"Model": (0,), "SubGraph": (5,), "Metadata": (1,)}
METADATA_ENTRY, BUFFER = TableType(((NAME, "I"), (1, "I"))), TableType(((0, "I"),))

Fields = dict[int, "int | Ref"]


def with_plan(
    content: bytes, offsets: Mapping[int, int], order: Sequence[int] | None, note: str
) -> bytes:
    """The file with a plan of these arena offsets by tensor number, and a note on it, both new.

    TFLM places tensors without an offset. `order[i]` is the number of the operator that is to run
    at place i; None keeps them where they are. Raises ModelFileError for a file that read_tflite
    refuses, as it is or in that order, or that has fields of a newer schema, ValueError for an
    order that is none.
    """
    graph = read_tflite(content).graph
    _check_order(graph, order)
    old = _OldFile(content)
    root = old.target(0)
    model = old.fields(root, "Model") | {BUFFERS: Ref("buffers"), METADATA: Ref("metadata")}
    subgraph: Fields = {}
    if order is not None:
        (place,) = old.entries(root, SUBGRAPHS)
        model[SUBGRAPHS] = Ref("subgraphs")
        subgraph = old.fields(place, "SubGraph") | {OPERATORS: Ref("operators")}
    types = dict.fromkeys((_type(model), _type(subgraph), METADATA_ENTRY, BUFFER))
    writer = FlatbufferWriter(IDENTIFIER, [*types])
    _write_table(writer, "model", model)
    if order is not None:
        operators = old.entries(place, OPERATORS)
        writer.vector("subgraphs", "I", [Ref("subgraph")])
        _write_table(writer, "subgraph", subgraph)
        writer.vector("operators", "I", [old.kept(operators[number]) for number in order])
    _write_lists(writer, old, root)
    contents = {PLAN_NAME: plan_content(offsets, len(graph.tensors)), NOTE_NAME: note.encode()}
    for name, data in contents.items():
        writer.data(("data", name), data, alignment=ALIGNMENT)
    writer.embed(content, old.places, alignment=ALIGNMENT)
    return writer.finish("model")


def _check_order(graph: Graph, order: Sequence[int] | None) -> None:
    if order is None:
        return
    if sorted(order) != list(range(len(graph.ops))):
        raise ValueError(f"an order must name each of {len(graph.ops)} operators once")
    check_graph(reordered(graph, order))


def _type(fields: Fields) -> TableType:
    return TableType(tuple((slot, "I") for slot in sorted(fields)))


def _write_table(writer: FlatbufferWriter, label: str, fields: Fields) -> None:
    writer.table(label, _type(fields), *(fields[slot] for slot in sorted(fields)))


def _write_lists(writer: FlatbufferWriter, old: _OldFile, root: int) -> None:
    """Buffers and metadata: the old ones, without what was said of a plan, then plan and note."""
    buffers = old.entries(root, BUFFERS)
    names = (PLAN_NAME, NOTE_NAME)
    other = [
        entry
        for entry in old.entries(root, METADATA)
        if old.text(entry, NAME) not in [name.encode() for name in names]
    ]
    made = [Ref(("buffer", name)) for name in names]
    writer.vector("buffers", "I", [*(old.kept(place) for place in buffers), *made])
    entries = [Ref(("entry", name)) for name in names]
    writer.vector("metadata", "I", [*(old.kept(place) for place in other), *entries])
    for number, name in enumerate(names, len(buffers)):
        writer.table(("entry", name), METADATA_ENTRY, Ref(("name", name)), number)
        writer.table(("buffer", name), BUFFER, Ref(("data", name)))
        writer.string(("name", name), name)


class _OldFile:
    """Reads the few tables that are replaced, and notes what the new ones refer to."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.places: dict[Hashable, int] = {}

    def number(self, code: str, place: int) -> int:
        """A number at a place of the file."""
        if not 0 <= place <= len(self.content) - struct.calcsize(code):
            raise ModelFileError("this .tflite file is damaged: it refers to what is not in it")
        return int(struct.unpack_from(f"<{code}", self.content, place)[0])

    def target(self, place: int) -> int:
        """Where the reference at a place leads."""
        found = place + self.number("I", place)
        self.number("B", found)
        return found

    def kept(self, place: int) -> Ref:
        """A reference to an object of the old file, for a new table or list."""
        self.places[place] = place
        return Ref(place)

    def slots(self, table: int) -> dict[int, int]:
        """Places of the fields that a table has, by slot."""
        vtable = table - self.number("i", table)
        count = self.number("H", vtable) // 2 - 2
        found = ((slot, self.number("H", vtable + 4 + 2 * slot)) for slot in range(count))
        return {slot: table + distance for slot, distance in found if distance}

    def fields(self, table: int, kind: str) -> Fields:
        """The numbers of a table and references to all else that it has."""
        slots = self.slots(table)
        if max(slots, default=0) >= SLOTS[kind]:
            raise ModelFileError(
                f"this .tflite file has a {kind} with field {max(slots)} of a newer schema, which "
                "cannot be carried over into a new file"
            )
        return {
            slot: self.number("I", place)
            if slot in NUMBERS[kind]
            else self.kept(self.target(place))
            for slot, place in slots.items()
        }

    def entries(self, table: int, slot: int) -> list[int]:
        """Where the tables are that a list in a slot of a table refers to; none without it."""
        place = self.slots(table).get(slot)
        if place is None:
            return []
        vector = self.target(place)
        count = self.number("I", vector)
        return [self.target(vector + 4 + 4 * index) for index in range(count)]

    def text(self, table: int, slot: int) -> bytes:
        """The string in a slot of a table; none without it."""
        place = self.slots(table).get(slot)
        if place is None:
            return b""
        start = self.target(place)
        return self.content[start + 4 : start + 4 + self.number("I", start)]
