"""What every source of images becomes: facts known before decoding, and three splits of arrays.

Splits that the data do not come with are cut by `hold_out`: the choice depends on the keys of
the images (file names, or positions in a published file) and on nothing else, so every run of
every version, whatever its seed, validates and tests on the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]

SPLITS = ("train", "val", "test")

# One percentage for every split that has to be cut, so that results on different data compare.
HELD_OUT_PERCENT = 20

# Part of every fingerprint: raised when splitting, cropping or scaling changes, because then the
# same files no longer give the same arrays.
ARRAYS_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DataInfo:
    """What is known of a data set without decoding it.

    `native_size` is in pixels: the median over all images of the shorter side. `fingerprint`
    changes when the data change and not when they are moved. `notes` are sentences for the
    user, such as where a split was cut from.
    """

    name: str
    labels: tuple[str, ...]
    channels: int
    native_size: int
    train_count: int
    val_count: int
    test_count: int
    fingerprint: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Images (N, H, W, C) with their labels (N,); both arrays are read-only."""

    images: Images
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The three splits at one resolution (pixels); no image is in two of them."""

    info: DataInfo
    resolution: int
    train: Split
    val: Split
    test: Split


class Source(Protocol):
    """A data set that has been found and checked, and can be decoded at any resolution."""

    @property
    def info(self) -> DataInfo:
        """What is known without decoding."""

    def load(self, resolution: int, progress: Progress | None = None) -> Dataset:
        """The data set in squares of `resolution` pixels; `progress` gets (done, total) images."""


def crop_square(image: Image.Image) -> Image.Image:
    """The centred square of the image, as large as its shorter side.

    Where the difference of the sides is odd, the right or lower edge loses the extra pixel.
    """
    width, height = image.size
    if width == height:
        return image
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))


def scale(image: Image.Image, resolution: int) -> Image.Image:
    """The square image of mode L or RGB at `resolution` pixels a side.

    Pillow's BILINEAR: a triangle filter, widened by the scale when it makes smaller
    (antialiasing), columns before rows, rounded to 8 bits after each. Firmware that feeds the
    network must crop (`crop_square`) and scale in the same way, or accuracy on the device is
    not the accuracy reported.
    """
    if image.size == (resolution, resolution):
        return image
    return image.resize((resolution, resolution), Image.Resampling.BILINEAR)


def to_pixels(image: Image.Image) -> Images:
    """The pixels (H, W, C) of an image of mode L (C = 1) or RGB (C = 3)."""
    pixels: Images = np.asarray(image, dtype=np.uint8)
    return pixels.reshape(image.height, image.width, -1)


def resize(images: Images, resolution: int) -> Images:
    """The images (N, H, W, C), cropped and scaled as files are: (N, resolution, resolution, C)."""
    count, height, width, channels = images.shape
    if height == width == resolution:
        return images
    resized = np.empty((count, resolution, resolution, channels), np.uint8)
    for position, pixels in enumerate(images):
        image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
        resized[position] = to_pixels(scale(crop_square(image), resolution))
    return resized


def make_split(images: Images, labels: Labels) -> Split:
    """The split of these arrays, which are made read-only: every stage sees the same pixels."""
    images.setflags(write=False)
    labels.setflags(write=False)
    return Split(images=images, labels=labels)


def hold_out(keys: Sequence[str], labels: Labels, parts: int) -> list[npt.NDArray[np.int64]]:
    """Positions of what remains, then of each of `parts` held-out parts: disjoint and sorted.

    A part gets `HELD_OUT_PERCENT` of every class, rounded, at least one. Images are ranked
    by a hash of their key, not drawn at random: no generator's stream has to stay the same for
    ever, and an image that is added moves few others from one part to another.
    """
    chosen: list[list[int]] = [[] for _ in range(parts + 1)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label).tolist()
        members.sort(key=lambda position: (_digest(keys[position]), position))
        size = max(1, (len(members) * HELD_OUT_PERCENT + 50) // 100)
        for part in range(parts):
            chosen[part + 1] += members[part * size : (part + 1) * size]
        chosen[0] += members[parts * size :]
    return [np.array(sorted(positions), np.int64) for positions in chosen]


def _digest(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def take(split: Split, count: int, seed: int) -> Split:
    """`count` images of the split in its order, each class in proportion to within one image.

    The same seed takes the same images. A count of the whole split or more gives the split
    itself; one below 1 raises ValueError.
    """
    if count < 1:
        raise ValueError(f"at least 1 image must be taken, not {count}")
    total = len(split.labels)
    if count >= total:
        return split
    labels, sizes = np.unique(split.labels, return_counts=True)
    shares, remainders = np.divmod(sizes * count, total)
    # Largest remainders get what rounding down has left over; among equals the first labels.
    shares[np.argsort(-remainders, kind="stable")[: count - shares.sum()]] += 1
    rng = np.random.Generator(np.random.PCG64(seed))
    chosen = [
        rng.permutation(np.flatnonzero(split.labels == label))[:share]
        for label, share in zip(labels, shares, strict=True)
    ]
    positions = np.sort(np.concatenate(chosen))
    return make_split(np.array(split.images[positions]), split.labels[positions])
