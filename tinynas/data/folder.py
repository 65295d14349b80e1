"""A folder of images as data: train/CLASS/*.jpg, and if they exist val/CLASS/ and test/CLASS/.

How a file becomes pixels, which firmware must do alike: turn it as its EXIF orientation says,
cut out the centred square, compose transparency on black, make it grey (if every image of the
data set is) or RGB, scale (see `dataset.scale`). 16-bit grey keeps its upper eight bits, a GIF
its first frame. A data set is grey if the file of every image says grey, with or without
transparency; palettes count as colour.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

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
    crop_square,
    hold_out,
    make_split,
    scale,
    to_pixels,
)
from tinynas.errors import DataError

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm"),
)
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM")
_UNCOMPRESSED = frozenset((".bmp", ".ppm", ".pgm", ".pbm"))
_GREY_MODES = frozenset(("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N"))
# The smallest class of which 20 % is one image.
_LEAST_TO_CUT = 100 // HELD_OUT_PERCENT
_WHOLE_BYTES = 128 * 1024
_BLOCK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    mode: str
    shorter_side: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """The images of one split: names relative to the data folder, and labels (N,)."""

    names: tuple[str, ...]
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSource:
    """The checked images of a folder, with where to keep them decoded."""

    info: DataInfo
    folder: Path
    cache_dir: Path | None
    splits: dict[str, _Listing]

    def load(self, resolution: int, progress: Progress | None = None) -> Dataset:
        """The data set in squares of `resolution` pixels.

        Decoded the first time and memory-mapped from the cache later. Raises
        DataError for an image that cannot be decoded, naming the first in the order of names.
        """
        total = sum(len(listing.names) for listing in self.splits.values())
        splits, done = {}, 0
        for name, listing in self.splits.items():
            images = self._images(name, resolution, done, total, progress)
            splits[name] = make_split(images, listing.labels)
            done += len(listing.names)
            if progress is not None:
                progress(done, total)
        return Dataset(info=self.info, resolution=resolution, **splits)

    def _images(
        self, split: str, resolution: int, done: int, total: int, progress: Progress | None
    ) -> Images:
        names, channels = self.splits[split].names, self.info.channels
        workers = _workers(self.info.native_size)

        def blocks() -> Iterator[Images]:
            count = done
            for block in _decode_all(self.folder, names, resolution, channels, workers):
                count += len(block)
                if progress is not None:
                    progress(count, total)
                yield block

        file_name = f"{self.info.fingerprint}-{resolution}-{split}.npy"
        path = self.cache_dir and self.cache_dir / file_name
        return cached(path, (len(names), resolution, resolution, channels), blocks)


def open_folder(folder: Path, cache_dir: Path | None) -> FolderSource:
    """The images below `folder`, their headers read and everything checked but the pixels.

    The fingerprint covers every file's name below the folder, size and content. Of compressed
    files above 128 KiB only the first and last 64 KiB are read.
    """
    # os.path.isdir throughout: Path.is_dir raises where a folder may not be entered.
    if not os.path.isdir(folder / "train"):
        raise DataError(_no_train(folder))
    classes = {split: _classes(folder, split) for split in SPLITS if os.path.isdir(folder / split)}
    labels = tuple(classes["train"])
    _check_classes(folder, classes)
    listings = {split: _listing(split, found, labels) for split, found in classes.items()}
    headers = _headers(folder, [name for listing in listings.values() for name in listing.names])
    splits, notes = _cut(listings)
    info = DataInfo(
        name=folder.resolve().name,
        labels=labels,
        channels=1 if all(header.mode in _GREY_MODES for header in headers.values()) else 3,
        native_size=int(np.median([header.shorter_side for header in headers.values()])),
        train_count=len(splits["train"].names),
        val_count=len(splits["val"].names),
        test_count=len(splits["test"].names),
        fingerprint=_fingerprint(headers),
        notes=notes,
    )
    return FolderSource(info=info, folder=folder, cache_dir=cache_dir, splits=splits)


def _no_train(folder: Path) -> str:
    inner = [path for path in _visible(folder) if os.path.isdir(path / "train")]
    if os.path.isdir(folder / "cifar-10-batches-py"):
        hint = f"these are the original files of CIFAR-10: give cifar10:{folder}"
    elif inner:
        hint = f"did you mean {inner[0]}?"
    else:
        hint = "put the images in train/CLASS/, one folder for each class"
    return f"{folder} has no folder train/: {hint}"


def _visible(folder: Path) -> list[Path]:
    """What the folder holds, sorted by name and without hidden entries."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise DataError(f"the folder {folder} cannot be read: {error.strerror}") from None
    return [folder / name for name in names]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _classes(folder: Path, split: str) -> dict[str, list[str]]:
    """File names by class of one split folder, both in order of names; other files are left."""
    found: dict[str, list[str]] = {}
    for path in _visible(folder / split):
        if os.path.isdir(path):
            found[path.name] = _class_files(path)
        elif _is_image(path):
            raise DataError(
                f"{path} is outside any class: images belong in {split}/CLASS/, "
                "one folder for each class"
            )
    return found


def _class_files(folder: Path) -> list[str]:
    files = []
    for path in _visible(folder):
        if not os.path.isdir(path):
            files += [path.name] if _is_image(path) else []
        elif any(_is_image(inner) for inner in path.rglob("*")):
            raise DataError(
                f"{path} is a folder of images inside a class: move its images up into "
                f"{folder}, or make each such folder a class"
            )
    return files


def _check_classes(folder: Path, classes: dict[str, dict[str, list[str]]]) -> None:
    known = classes["train"]
    if len(known) < 2:
        found = f"only the class {next(iter(known))}" if known else "no class"
        raise DataError(f"{folder / 'train'} has {found}: at least 2 class folders are needed")
    for split, found_classes in classes.items():
        if not found_classes:
            raise DataError(f"{folder / split} has no class: fill it or delete the folder")
        for label, files in found_classes.items():
            place = folder / split / label
            if label not in known:
                raise DataError(f"{place} is a class that train/ does not have: add it or rename")
            if not files:
                raise DataError(f"{place} has no image ({_suffixes()}): fill or delete the folder")
    missing = [split for split in SPLITS if split not in classes]
    for label, files in known.items():
        if missing and len(files) < _LEAST_TO_CUT:
            raise DataError(
                f"{folder / 'train' / label} has {len(files)} image(s): at least "
                f"{_LEAST_TO_CUT} are needed to cut the missing {' and '.join(missing)} split "
                "from it"
            )


def _suffixes() -> str:
    return ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))


def _listing(split: str, classes: dict[str, list[str]], labels: tuple[str, ...]) -> _Listing:
    names = tuple(f"{split}/{label}/{file}" for label in classes for file in classes[label])
    number_of = {label: number for number, label in enumerate(labels)}
    numbers = [number_of[label] for label in classes for _ in classes[label]]
    return _Listing(names=names, labels=np.array(numbers, np.int64))


def _cut(listings: dict[str, _Listing]) -> tuple[dict[str, _Listing], tuple[str, ...]]:
    """All three splits, the missing ones cut from train, and a note for each that was cut."""
    missing = [split for split in SPLITS if split not in listings]
    train = listings["train"]
    parts = hold_out(train.names, train.labels, len(missing))
    cut = {
        split: _Listing(
            names=tuple(train.names[position] for position in positions),
            labels=train.labels[positions],
        )
        for split, positions in zip(["train", *missing], parts, strict=True)
    }
    notes = tuple(
        f"no folder {split}/: {HELD_OUT_PERCENT} % of every class of train/ is the {split} split, "
        "chosen by file name whatever the seed"
        for split in missing
    )
    everything = {**listings, **cut}
    return {split: everything[split] for split in SPLITS}, notes


def _fingerprint(headers: dict[str, _Header]) -> str:
    content = blake2b(f"folder {ARRAYS_VERSION}".encode(), digest_size=16)
    for name, header in headers.items():
        encoded = name.encode("utf-8", "surrogateescape")
        content.update(len(encoded).to_bytes(4, "little") + encoded + header.digest)
    return content.hexdigest()


def _headers(folder: Path, names: Iterable[str]) -> dict[str, _Header]:
    with warnings.catch_warnings():
        # Pillow warns above 89 million pixels and refuses above twice that; here both refuse.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return {name: _read_header(folder / name) for name in names}


def _read_header(path: Path) -> _Header:
    try:
        with open(path, "rb") as file:
            content = _sample(file, path.suffix.lower() in _UNCOMPRESSED)
            with _open_image(content if len(content) < _WHOLE_BYTES else file) as image:
                size = os.fstat(file.fileno()).st_size
                digest = blake2b(size.to_bytes(8, "little") + content, digest_size=16).digest()
                return _Header(mode=image.mode, shorter_side=min(image.size), digest=digest)
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise _unusable(path, error) from None


def _sample(file: io.BufferedReader, whole: bool) -> bytes:
    """The content of a file, or of a long compressed one its first and last 64 KiB."""
    content = file.read() if whole else file.read(_WHOLE_BYTES)
    if not whole and len(content) == _WHOLE_BYTES:
        file.seek(-_WHOLE_BYTES // 2, os.SEEK_END)
        content = content[: _WHOLE_BYTES // 2] + file.read()
    return content


def _open_image(source: bytes | io.BufferedReader) -> Image.Image:
    if isinstance(source, bytes):
        return Image.open(io.BytesIO(source), formats=FORMATS)
    source.seek(0)
    return Image.open(source, formats=FORMATS)


def _unusable(path: Path, error: Exception) -> DataError:
    if isinstance(error, UnidentifiedImageError):
        empty = path.stat().st_size == 0
        reason = "it is empty" if empty else f"its content is none of {', '.join(FORMATS)}"
    elif isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        reason = f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    elif isinstance(error, OSError) and error.strerror:
        return DataError(f"the image {path} cannot be read: {error.strerror}")
    else:
        reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"the image {path} cannot be decoded, {reason}: replace or delete it")


def _workers(native_size: int) -> int:
    """How many threads decode fastest.

    Pillow decodes outside the interpreter's lock but opens files inside it. Measured with JPEG
    on two cores: from about 96 pixels on two threads are faster than one, below it slower.
    """
    return 1 if native_size < 96 else min(os.cpu_count() or 1, 8)


def _decode_all(
    folder: Path, names: tuple[str, ...], resolution: int, channels: int, workers: int
) -> Iterator[Images]:
    """The images in order of names, some at a time."""

    def decode(block: tuple[str, ...]) -> Images:
        return np.stack([_decode(folder / name, resolution, channels) for name in block])

    starts = range(0, len(names), _BLOCK)
    with ThreadPoolExecutor(workers) as pool:
        # A few blocks ahead of the reader and no more, or a slow disk would fill the memory.
        for first in range(0, len(starts), 4 * workers):
            ahead = starts[first : first + 4 * workers]
            yield from pool.map(decode, [names[start : start + _BLOCK] for start in ahead])


def _decode(path: Path, resolution: int, channels: int) -> Images:
    try:
        with Image.open(path, formats=FORMATS) as image:
            square = crop_square(ImageOps.exif_transpose(image))
            return to_pixels(scale(_flatten(square, "L" if channels == 1 else "RGB"), resolution))
    except Exception as error:  # Pillow's decoders raise whatever a broken file leads them to
        raise _unusable(path, error) from None


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """The image in mode L or RGB, without transparency."""
    if image.mode == "F":
        raise ValueError("its pixels are floating point numbers")
    if image.mode.startswith("I"):
        # Pillow's own conversion cuts at 255 instead of scaling.
        wide = np.asarray(image).astype(np.int64)
        image = Image.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return image if image.mode == mode else image.convert(mode)
