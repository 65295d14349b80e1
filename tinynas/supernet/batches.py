"""Training images dealt into batches, on the device where the network is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinynas.errors import DataError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer[Any]]
Indices = npt.NDArray[np.int64]

# Of a GPU's free memory: activations and the optimiser need the rest.
SHARE_FOR_IMAGES = 0.5


class Batches:
    """Images uint8 (N, H, W, C) and labels (N,), kept on the GPU if they fit there.

    Raises DataError unless there are two or more images with a label each.
    """

    def __init__(self, images: Images, labels: Labels, device: torch.device) -> None:
        check_data(images, labels)
        self.images, self.labels, self.device = images, labels.astype(np.int64), device
        self._resident: tuple[Tensor, Tensor] | None = None
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            if images.nbytes <= SHARE_FOR_IMAGES * free:
                self._resident = self._moved(images, self.labels)

    def take(self, chosen: Indices) -> tuple[Tensor, Tensor]:
        """The chosen images, uint8 (n, H, W, C), and their labels, int64 (n,)."""
        if self._resident is None:
            return self._moved(self.images[chosen], self.labels[chosen])
        images, labels = self._resident
        index = torch.from_numpy(chosen).to(self.device, non_blocking=True)
        return images[index], labels[index]

    def _moved(self, images: Images, labels: Labels) -> tuple[Tensor, Tensor]:
        # A copy where the array is read-only, as a memory map is: torch wants to be able to write.
        x = torch.from_numpy(images if images.flags.writeable else np.array(images))
        return x.to(self.device), torch.from_numpy(labels).to(self.device)


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Number of batches that `images` images are dealt into, each of at least the batch size."""
    return max(1, images // batch_size)


def check_data(images: Images, labels: Labels) -> None:
    """Raise DataError unless there are two or more uint8 images (N, H, W, C) and their labels."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(
            f"images must be uint8 of shape (N, H, W, C), got {images.dtype} of {images.shape}"
        )
    if len(images) < 2 or labels.shape != (len(images),):
        raise DataError(
            f"training needs two or more images with one label each, "
            f"got {len(images)} images and labels of shape {labels.shape}"
        )
