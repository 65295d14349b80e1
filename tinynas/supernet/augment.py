"""From uint8 images to a network's input, with or without random changes.

Whole batches at a time and on their device, yet every image by its own draw, which torchvision's
random transforms do not offer: they change all images of a batch alike.
"""

from __future__ import annotations

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from tinynas.supernet.settings import Augmentation

LUMINANCE = (0.2989, 0.587, 0.114)  # as torchvision's rgb_to_grayscale
WIDEST = 4 / 3  # aspect ratio of a random crop


def to_input(images: Tensor) -> Tensor:
    """uint8 (N, H, W, C) as float (N, C, H, W) = (pixel - 128) / 128, channels_last in memory."""
    return images.permute(0, 3, 1, 2).float().sub_(128).div_(128)


def augment(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """uint8 images (N, H, W, C) changed, each by its own draw from `generator` (CPU)."""
    images = move(images, settings, generator)
    if settings.zoom < 1:
        images = zoom(images, settings.zoom, generator)
    if settings.randaugment:
        # Imported here: torchvision takes a second, and few trainings need it.
        from tinynas.supernet.randaugment import randaugment

        images = randaugment(images, settings.randaugment, settings.magnitude, generator)
    if settings.colour:
        images = jitter(images, settings.colour, generator)
    return images


def move(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Images shifted and mirrored.

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


def zoom(images: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
    """Crops of `smallest` to all of the area, scaled bilinearly to the size that images have.

    Areas are uniform, aspects log-uniform (Szegedy et al., arXiv 1409.4842, section 6).
    """
    draws = torch.rand(4, len(images), generator=generator)
    area = smallest + (1 - smallest) * draws[0]
    aspect = ((2 * draws[1] - 1) * log(WIDEST)).exp()
    sides = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()]).clamp_(max=1)
    centres = (1 - sides) * (2 * draws[2:] - 1)
    # Rows of the map from an output's (x, y, 1) to the source's x and y, all from -1 to 1.
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = sides[0], sides[1]
    theta[:, :, 2] = centres.T
    x = images.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(theta.to(images.device), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return _pixels(x.permute(0, 2, 3, 1))


def jitter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, then saturation times 1 - strength ... 1 + strength.

    Each as torchvision's adjust_* defines it.
    """
    draws = torch.rand(3, len(images), 1, 1, 1, generator=generator)
    brightness, contrast, saturation = (1 + strength * (2 * draws - 1)).to(images.device)
    x = (images.float() * brightness).clamp_(0, 255)
    x = torch.lerp(_grey(x).mean((1, 2, 3), keepdim=True), x, contrast).clamp_(0, 255)
    return _pixels(torch.lerp(_grey(x), x, saturation))


def _grey(x: Tensor) -> Tensor:
    """Luminance of (N, H, W, C), one channel; of images that are not RGB the mean channel."""
    if x.shape[-1] != len(LUMINANCE):
        return x.mean(-1, keepdim=True)
    return (x * x.new_tensor(LUMINANCE)).sum(-1, keepdim=True)


def _pixels(x: Tensor) -> Tensor:
    return x.round().clamp_(0, 255).to(torch.uint8)
