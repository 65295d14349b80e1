"""The data set without files: 1,797 handwritten digits of 8 x 8 pixels from scikit-learn.

Source: the test set of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits,
UCI Machine Learning Repository 1998, as `sklearn.datasets.load_digits` embeds it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinynas.data.dataset import (
    ARRAYS_VERSION,
    SPLITS,
    DataInfo,
    Dataset,
    Images,
    Labels,
    Progress,
    hold_out,
    make_split,
    resize,
)

_NOTE = "60/20/20 % of every class by a fixed rule: the splits do not depend on the seed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitsSource:
    """The digits as one channel of 0 to 255, split 60/20/20 within every class."""

    info: DataInfo
    images: Images
    labels: Labels

    def load(self, resolution: int, progress: Progress | None = None) -> Dataset:
        """The data set in squares of `resolution` pixels; it is small and never cached."""
        splits = {
            name: make_split(resize(self.images[positions], resolution), self.labels[positions])
            for name, positions in zip(SPLITS, _positions(self.labels), strict=True)
        }
        if progress is not None:
            progress(len(self.labels), len(self.labels))
        return Dataset(info=self.info, resolution=resolution, **splits)


def open_digits() -> DigitsSource:
    """The digits that scikit-learn carries."""
    values, labels = _read()
    # Values are 0 to 16 (ink in a 4 x 4 cell); adding 0.5 rounds halves up.
    images = np.floor(values * (255 / 16) + 0.5).astype(np.uint8)[..., np.newaxis]
    return DigitsSource(info=_info(images, labels), images=images, labels=labels)


def _read() -> tuple[npt.NDArray[np.float64], Labels]:
    """Ink (1797, 8, 8) from 0 to 16, and the digits.

    Importing scikit-learn takes a second, reading the file that it carries none; a version that
    keeps it elsewhere is asked for it.
    """
    package = importlib.util.find_spec("sklearn")
    folders = (package.submodule_search_locations or []) if package else []
    for folder in folders:
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            rows = np.loadtxt(path, delimiter=",")
            return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.asarray(bunch.images, np.float64), np.asarray(bunch.target, np.int64)


def _positions(labels: Labels) -> list[Labels]:
    keys = [str(position) for position in range(len(labels))]
    return hold_out(keys, labels, parts=2)


def _info(images: Images, labels: Labels) -> DataInfo:
    content = blake2b(f"digits {ARRAYS_VERSION}".encode(), digest_size=16)
    content.update(images.tobytes())
    content.update(labels.astype("<i8").tobytes())
    train, val, test = _positions(labels)
    return DataInfo(
        name="digits",
        labels=tuple(str(digit) for digit in range(10)),
        channels=1,
        native_size=images.shape[1],
        train_count=len(train),
        val_count=len(val),
        test_count=len(test),
        fingerprint=content.hexdigest(),
        notes=(_NOTE,),
    )
