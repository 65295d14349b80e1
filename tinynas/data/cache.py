"""Decoded images on disk: one .npy file per data set, resolution and split.

The files can be deleted at any time. Without a directory that can be written to, or with a
full disk, the arrays are kept in memory instead and the work is the same but for the wait.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tinynas.data.dataset import Images

Shape = tuple[int, int, int, int]
Blocks = Callable[[], Iterator[Images]]


def default_cache_dir() -> Path | None:
    """$TINYNAS_CACHE, else $XDG_CACHE_HOME/tinynas, else ~/.cache/tinynas; None without a home."""
    if chosen := os.environ.get("TINYNAS_CACHE"):
        return Path(chosen)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "tinynas"
    try:
        return Path.home() / ".cache" / "tinynas"
    except RuntimeError:  # a user without an entry in the password database, as in containers
        return None


def cached(path: Path | None, shape: Shape, blocks: Blocks) -> Images:
    """The array (N, H, W, C) kept at `path`, else made of `blocks()` and kept there.

    `blocks()` yields consecutive stretches of the array along N and is called again if writing
    fails half-way. What comes from a file is memory-mapped. A file that does not start with the
    right header or has the wrong length, as one cut short, is made anew; altered pixels in a
    file of the right length are not noticed, because that would mean reading all of it.
    """
    if path is not None:
        kept = _read(path, shape)
        if kept is None and _write(path, shape, blocks):
            kept = _read(path, shape)
        if kept is not None:
            return kept
    return _in_memory(shape, blocks())


def _header(shape: Shape) -> bytes:
    buffer = io.BytesIO()
    facts = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()


def _read(path: Path, shape: Shape) -> Images | None:
    header = _header(shape)
    try:
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            if file.read(len(header)) != header or length != len(header) + math.prod(shape):
                return None
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        return None
    return np.asarray(mapped)


def _write(path: Path, shape: Shape, blocks: Blocks) -> bool:
    """Whether the file could be written; it appears whole or not at all.

    Written as a stream and not through a memory map: a full disk is then an error to catch and
    not a signal that ends the process.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
    except OSError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_header(shape))
            for block in blocks():
                file.write(np.ascontiguousarray(block).data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):  # gone already where all went well
            os.unlink(temporary)
    return True


def _in_memory(shape: Shape, blocks: Iterator[Images]) -> Images:
    images = np.empty(shape, np.uint8)
    start = 0
    for block in blocks:
        images[start : start + len(block)] = block
        start += len(block)
    return images
