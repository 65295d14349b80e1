"""Two images of a batch mixed into one, with labels in the same proportion."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tinynas.supernet.settings import Augmentation


def mixed(
    x: Tensor,
    y: Tensor,
    classes: int,
    settings: Augmentation | None,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """x (N, C, H, W) and the labels y (N,) as they are, or both mixed, y then (N, classes).

    Each image is mixed with the one as far from the batch's other end, all in one proportion.
    """
    if settings is None or not (settings.mixup or settings.cutmix):
        return x, y
    cuts = bool(settings.cutmix) and (not settings.mixup or rng.random() < 0.5)
    alpha = settings.cutmix if cuts else settings.mixup
    own = float(rng.beta(alpha, alpha))
    x, own = cutmix(x, own, rng) if cuts else (torch.lerp(x.flip(0), x, own), own)
    target = F.one_hot(y, classes).to(x.dtype)
    return x, torch.lerp(target.flip(0), target, own)


def cutmix(x: Tensor, own: float, rng: np.random.Generator) -> tuple[Tensor, float]:
    """x with a rectangle of the partner's pixels, and what share of each image is its own.

    Yun et al., arXiv 1905.04899: the rectangle, of about the share 1 - `own`, is centred anywhere
    and cut at the edges.
    """
    height, width = x.shape[2:]
    rows, cols = (_stretch(size, (1 - own) ** 0.5, rng) for size in (height, width))
    pasted = x.clone()
    pasted[:, :, rows, cols] = x.flip(0)[:, :, rows, cols]
    taken = (rows.stop - rows.start) * (cols.stop - cols.start)
    return pasted, 1 - taken / (height * width)


def _stretch(size: int, share: float, rng: np.random.Generator) -> slice:
    """About `share` of the pixels along an axis, around a random one."""
    half, centre = round(size * share / 2), int(rng.integers(size))
    return slice(max(0, centre - half), min(size, centre + half))
