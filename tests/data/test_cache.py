"""The cache of decoded images: hits, damaged files, and places that cannot be written."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynas.data.cache import cached, default_cache_dir
from tinynas.errors import DataError

SHAPE = (5, 4, 4, 3)


@pytest.fixture
def expected():
    return np.random.default_rng(3).integers(0, 256, SHAPE, dtype=np.uint8)


def in_two_blocks(array, calls):
    def blocks():
        calls.append(1)
        yield array[:2]
        yield array[2:]

    return blocks


def test_what_is_cached_is_not_made_again(tmp_path, expected):
    calls: list[int] = []
    for _ in range(3):
        found = cached(tmp_path / "new" / "a.npy", SHAPE, in_two_blocks(expected, calls))
        assert np.array_equal(found, expected)
        assert not found.flags.writeable
    assert len(calls) == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.npy"]


def test_the_file_is_an_ordinary_npy_file(tmp_path, expected):
    cached(tmp_path / "a.npy", SHAPE, in_two_blocks(expected, []))
    assert np.array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), expected)


@pytest.mark.parametrize("length", [0, 1, 60, 128, 200])
def test_a_file_cut_short_is_made_anew(tmp_path, expected, length):
    path, calls = tmp_path / "a.npy", []
    cached(path, SHAPE, in_two_blocks(expected, calls))
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    assert np.array_equal(cached(path, SHAPE, in_two_blocks(expected, calls)), expected)
    assert len(calls) == 2
    assert path.read_bytes() == whole


@given(position=st.integers(0, 127), flip=st.integers(1, 255))
def test_a_damaged_header_is_made_anew(tmp_path_factory, position, flip):
    path, calls = tmp_path_factory.mktemp("cache") / "a.npy", []
    array = np.zeros(SHAPE, np.uint8)
    cached(path, SHAPE, in_two_blocks(array, calls))
    content = bytearray(path.read_bytes())
    content[position] ^= flip
    path.write_bytes(content)
    assert np.array_equal(cached(path, SHAPE, in_two_blocks(array, calls)), array)
    assert len(calls) == 2


def test_a_file_of_another_shape_is_made_anew(tmp_path, expected):
    path, calls = tmp_path / "a.npy", []
    np.save(path, expected.reshape(5, 4, 3, 4))
    assert np.array_equal(cached(path, SHAPE, in_two_blocks(expected, calls)), expected)
    assert len(calls) == 1


def test_without_a_place_the_arrays_stay_in_memory(tmp_path, expected):
    file = tmp_path / "file"
    file.write_text("a file where a folder should be")
    for path in (None, file / "a.npy", Path("/proc/none/a.npy")):
        calls: list[int] = []
        assert np.array_equal(cached(path, SHAPE, in_two_blocks(expected, calls)), expected)
        assert len(calls) == 1


def test_a_folder_in_the_place_of_the_file_is_left_alone(tmp_path, expected):
    (tmp_path / "a.npy").mkdir()
    found = cached(tmp_path / "a.npy", SHAPE, in_two_blocks(expected, []))
    assert np.array_equal(found, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_a_disk_that_runs_full_leaves_nothing_behind(tmp_path):
    array = np.ones((2, 100, 100, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        found = cached(tmp_path / "a.npy", array.shape, lambda: iter([array[:1], array[1:]]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert np.array_equal(found, array)
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_making_the_array_leaves_nothing_behind(tmp_path):
    def blocks():
        yield np.zeros((1, 4, 4, 3), np.uint8)
        raise DataError("the second image is broken")

    with pytest.raises(DataError, match="second image"):
        cached(tmp_path / "a.npy", SHAPE, blocks)
    assert list(tmp_path.iterdir()) == []


def test_where_the_cache_lies_by_default(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TINYNAS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache_dir() == tmp_path / ".cache" / "tinynas"
    monkeypatch.setenv("XDG_CACHE_HOME", "/shared")
    assert default_cache_dir() == Path("/shared/tinynas")
    monkeypatch.setenv("TINYNAS_CACHE", "/mine")
    assert default_cache_dir() == Path("/mine")
