"""The data set without files: 1,797 handwritten digits of 8 x 8 pixels from scikit-learn.

Source: the test set of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits,
UCI Machine Learning Repository 1998, as `sklearn.datasets.load_digits` embeds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

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
    # Slow to import, and other data do without it.
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    bunch = load_digits()
    # Values are 0 to 16 (ink in a 4 x 4 cell); adding 0.5 rounds halves up.
    images = np.floor(bunch.images * (255 / 16) + 0.5).astype(np.uint8)[..., np.newaxis]
    labels = np.asarray(bunch.target, np.int64)
    info = _info(images, labels)
    return DigitsSource(info=info, images=images, labels=labels)


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
