"""CIFAR-10 in its original files, read by torchvision.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009: 60,000
colour images of 32 x 32 pixels in ten classes, 50,000 for training and 10,000 for testing.
torchvision checks the MD5 sum of every file, so what is read is always the same data and can be
described before reading.
"""

from __future__ import annotations

import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinynas.data.cache import cached
from tinynas.data.dataset import (
    ARRAYS_VERSION,
    HELD_OUT_PERCENT,
    SPLITS,
    DataInfo,
    Dataset,
    Images,
    Labels,
    Progress,
    Split,
    hold_out,
    make_split,
    resize,
)
from tinynas.errors import DataError

ARCHIVE = "cifar-10-python.tar.gz"
FOLDER = "cifar-10-batches-py"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
_FILES = ("batches.meta", *(f"data_batch_{n}" for n in range(1, 6)), "test_batch")
# MD5 of the archive, as on the author's page; here only a name for its content.
_ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
_COUNTS = (40_000, 10_000, 10_000)
_NOTE = (
    f"{HELD_OUT_PERCENT} % of every class of the training images is the validation split, "
    "by a fixed rule that does not depend on the seed"
)
_INFO = DataInfo(
    name="cifar10",
    labels=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    channels=3,
    native_size=32,
    train_count=_COUNTS[0],
    val_count=_COUNTS[1],
    test_count=_COUNTS[2],
    fingerprint=f"{_ARCHIVE_MD5}-{ARRAYS_VERSION}",
    notes=(_NOTE,),
)
_CONNECT_LIMIT_S = 10.0
_STALL_LIMIT_S = 30.0
_BLOCK = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cifar10Source:
    """The files of CIFAR-10 below `folder`, with where to keep them resized."""

    info: DataInfo
    folder: Path
    cache_dir: Path | None

    def load(self, resolution: int, progress: Progress | None = None) -> Dataset:
        """The data set in squares of `resolution` pixels; DataError if a file is damaged."""
        train, train_labels = _read(self.folder, train=True)
        test, test_labels = _read(self.folder, train=False)
        rest, held = hold_out([str(n) for n in range(len(train))], train_labels, parts=1)
        parts = (
            (train, train_labels, rest),
            (train, train_labels, held),
            (test, test_labels, np.arange(len(test))),
        )
        splits: dict[str, Split] = {}
        for name, (images, labels, positions) in zip(SPLITS, parts, strict=True):
            resized = self._resized(name, images, positions, resolution)
            splits[name] = make_split(resized, labels[positions])
            if progress is not None:
                progress(sum(len(split.labels) for split in splits.values()), sum(_COUNTS))
        return Dataset(info=self.info, resolution=resolution, **splits)

    def _resized(self, name: str, images: Images, positions: Labels, resolution: int) -> Images:
        def blocks() -> Iterator[Images]:
            for start in range(0, len(positions), _BLOCK):
                yield resize(images[positions[start : start + _BLOCK]], resolution)

        shape = (len(positions), resolution, resolution, 3)
        path = self.cache_dir and self.cache_dir / f"{_INFO.fingerprint}-{resolution}-{name}.npy"
        return cached(path, shape, blocks)


def open_cifar10(folder: Path, cache_dir: Path | None) -> Cifar10Source:
    """The files in `folder`, downloaded to it if they are not there; DataError if that fails."""
    if folder.name == FOLDER:
        folder = folder.parent
    if not all(os.path.isfile(folder / FOLDER / name) for name in _FILES):
        _download(folder)
    return Cifar10Source(info=_INFO, folder=folder, cache_dir=cache_dir)


def _cifar10() -> Any:
    try:
        from torchvision.datasets import CIFAR10
    except ImportError:
        raise DataError("cifar10 is read by torchvision: pip install torchvision") from None
    return CIFAR10


def _read(folder: Path, *, train: bool) -> tuple[Images, Labels]:
    try:
        read = _cifar10()(root=str(folder), train=train, download=False)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"the files in {folder / FOLDER} are damaged or cannot be read ({error}): "
            f"delete that folder to have it downloaded again"
        ) from None
    return np.ascontiguousarray(read.data, np.uint8), np.asarray(read.targets, np.int64)


def _download(folder: Path) -> None:
    """Let torchvision download and unpack, or only unpack an archive that is in the folder.

    torchvision sets no time limit, hence a first connection under one and a limit for stalls.
    """
    reader = _cifar10()
    if not os.path.isfile(folder / ARCHIVE) and (reason := _unreachable(URL, _CONNECT_LIMIT_S)):
        raise _missing(folder, reason)
    limit_before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALL_LIMIT_S)
    try:
        reader(root=str(folder), train=False, download=True)
    except Exception as error:  # sockets, HTTP, gzip, tar and torchvision each have their own
        raise _missing(folder, _reason(error)) from None
    finally:
        socket.setdefaulttimeout(limit_before)


def _missing(folder: Path, reason: str) -> DataError:
    return DataError(
        f"CIFAR-10 is not in {folder} and could not be downloaded ({reason}): "
        f"put {ARCHIVE} from {URL} there, or the folder {FOLDER} unpacked from it"
    )


def _unreachable(url: str, limit_s: float) -> str | None:
    """Why the address cannot be reached within the limit, or None.

    In a thread of its own because looking up a name heeds no socket's time limit.
    """
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=limit_s):
                outcome.append(None)
        except Exception as error:  # whatever it is, it must reach the waiting thread as a reason
            outcome.append(_reason(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(limit_s)
    return outcome[0] if outcome else f"no answer within {limit_s:g} s"


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)  # URLError wraps what a user can read
    return " ".join(str(cause).split()) or type(error).__name__
