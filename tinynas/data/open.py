"""From what the user wrote after --data to a source of images."""

from __future__ import annotations

import os
from pathlib import Path

from tinynas.data.cache import default_cache_dir
from tinynas.data.cifar10 import open_cifar10
from tinynas.data.dataset import Source
from tinynas.data.digits import open_digits
from tinynas.data.folder import open_folder
from tinynas.errors import DataError

ACCEPTED = (
    "digits, cifar10:FOLDER, or a folder of images laid out as train/CLASS/*.jpg "
    "(and if you have them val/CLASS/ and test/CLASS/)"
)


def open_data(spec: str | None, *, cache_dir: Path | None = None) -> Source:
    """The source that `spec` names; None means digits. Names go before folders: write ./digits.

    `cache_dir` keeps decoded images (default: `default_cache_dir`). Everything that can be wrong
    with the data and be seen without decoding them raises DataError here; an image that cannot
    be decoded does so in `load`.
    """
    if spec is None or spec == "digits":
        return open_digits()
    cache_dir = cache_dir or default_cache_dir()
    kind, _, rest = spec.partition(":")
    if kind == "cifar10":
        if not rest:
            raise DataError("cifar10 needs the folder that holds or shall hold it: cifar10:FOLDER")
        return open_cifar10(_path(rest), cache_dir)
    folder = _path(spec)
    if os.path.isdir(folder):
        return open_folder(folder, cache_dir)
    if os.path.isfile(folder):
        raise DataError(f"{spec} is a file: unpack it if it is an archive, and give {ACCEPTED}")
    raise DataError(f"there is no data set and no folder '{spec}': give {ACCEPTED}")


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise DataError(f"the home folder in '{text}' is not known: give the full path") from None
