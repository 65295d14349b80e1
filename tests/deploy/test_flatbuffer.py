import struct

import pytest

from tinynas.deploy.flatbuffer import FlatbufferWriter, Ref, TableType

POINT = TableType(((0, "i"), (2, "I"), (3, "b")))


def test_a_vtable_gives_sizes_and_the_place_of_each_slot() -> None:
    # Own size 12, table of 4 + 4 + 4 + 1 bytes padded to 16, slot 1 absent.
    assert POINT.vtable() == struct.pack("<6H", 12, 16, 4, 0, 8, 12)


def test_a_table_without_fields_is_four_bytes() -> None:
    assert TableType(()).vtable() == struct.pack("<2H", 4, 4)


def test_a_file_is_read_back_by_following_its_references() -> None:
    writer = FlatbufferWriter(b"TEST", [POINT])
    writer.table("root", POINT, -7, Ref("name"), 5)
    writer.string("name", "abc")
    content = writer.finish("root")
    (root,) = struct.unpack_from("<I", content, 0)
    vtable = root - struct.unpack_from("<i", content, root)[0]
    places = struct.unpack_from("<6H", content, vtable)[2:]
    assert content[4:8] == b"TEST"
    assert struct.unpack_from("<i", content, root + places[0]) == (-7,)
    assert content[root + places[3]] == 5
    name = root + places[2] + struct.unpack_from("<I", content, root + places[2])[0]
    assert content[name : name + 8] == b"\3\0\0\0abc\0"


def test_vectors_of_eight_byte_items_are_aligned_to_eight() -> None:
    writer = FlatbufferWriter(b"TEST", [POINT])
    writer.string("odd", "")
    writer.vector("long", "q", [1, -1])
    assert (writer.position - 16) % 8 == 0


def test_data_are_aligned_as_asked() -> None:
    writer = FlatbufferWriter(b"TEST", [POINT])
    writer.data("bytes", b"xyz", alignment=16)
    assert (writer.position - 3) % 16 == 0


def test_a_reference_backward_is_refused() -> None:
    writer = FlatbufferWriter(b"TEST", [POINT])
    writer.string("name", "abc")
    writer.table("root", POINT, 0, Ref("name"), 0)
    with pytest.raises(ValueError, match="would point backward"):
        writer.finish("root")


def test_a_label_is_used_once() -> None:
    writer = FlatbufferWriter(b"TEST", [POINT])
    writer.string("name", "abc")
    with pytest.raises(ValueError, match="two objects are labelled 'name'"):
        writer.string("name", "def")


def test_padding_cannot_be_negative() -> None:
    with pytest.raises(ValueError, match="4 bytes more than their room"):
        FlatbufferWriter(b"TEST", []).pad(-4)


def test_another_file_is_kept_byte_for_byte_and_can_be_referred_to() -> None:
    inner = b"0123456789"
    writer = FlatbufferWriter(b"TEST", [POINT])
    writer.table("root", POINT, 0, Ref("seven"), 0)
    writer.embed(inner, {"seven": 7}, alignment=16)
    content = writer.finish("root")
    start = len(content) - len(inner)
    assert content[start:] == inner and start % 16 == 0
    (root,) = struct.unpack_from("<I", content, 0)
    field = root + struct.unpack_from("<6H", content, 8)[4]
    assert content[field + struct.unpack_from("<I", content, field)[0] :] == b"789"
