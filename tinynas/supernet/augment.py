"""From uint8 images to a network's input, with or without random changes."""

from __future__ import annotations

import torch
from torch import Tensor

from tinynas.supernet.settings import Augmentation


def to_input(images: Tensor) -> Tensor:
    """uint8 (N, H, W, C) as float (N, C, H, W) = (pixel - 128) / 128, channels_last in memory."""
    return images.permute(0, 3, 1, 2).float().sub_(128).div_(128)


def augment(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """uint8 images (N, H, W, C) moved and mirrored, each by its own draw from `generator` (CPU).

    Pixels that come in over an edge repeat that edge, so that no background colour is assumed.
    """
    count, height, width, _ = images.shape
    rows = _moved(count, height, settings.shift, generator)
    cols = _moved(count, width, settings.shift, generator)
    if settings.flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        cols = torch.where(mirrored, width - 1 - cols, cols)
    sample = torch.arange(count)[:, None, None].to(images.device)
    rows, cols = rows.to(images.device), cols.to(images.device)
    return images[sample, rows[:, :, None], cols[:, None, :]]


def _moved(count: int, size: int, shift: float, generator: torch.Generator) -> Tensor:
    """For each sample the source of every pixel along one axis, shape (count, size)."""
    most = round(shift * size)
    offsets = torch.randint(-most, most + 1, (count, 1), generator=generator)
    return (torch.arange(size) + offsets).clamp_(0, size - 1)
