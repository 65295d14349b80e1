"""RandAugment (Cubuk et al., arXiv 1909.13719) for whole batches.

The operations and their strengths are torchvision's; its class would change all images of a batch
alike. Here each image draws its operations, and those that drew the same go through it together.
"""

from __future__ import annotations

from collections.abc import Callable
from math import atan, degrees

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as ops

STEPS = 30  # the largest magnitude
# At the largest magnitude; a shift is a share of the image's size.
SLOPE, SHIFT = 0.3, 150 / 331
GREY = 128  # comes in over the edges: the network's zero

Op = Callable[[Tensor, float], Tensor]  # images (n, C, H, W), strength from -1 to 1


def _affine(
    images: Tensor, *, shift: tuple[float, float] = (0, 0), slope: tuple[float, float] = (0, 0)
) -> Tensor:
    moved: Tensor = ops.affine(
        images,
        angle=0.0,
        translate=[int(part * images.shape[-1]) for part in shift],
        scale=1.0,
        shear=[degrees(atan(part)) for part in slope],
        fill=GREY,
    )
    return moved


OPS: dict[str, Op] = {
    "identity": lambda images, strength: images,
    "shear x": lambda images, strength: _affine(images, slope=(SLOPE * strength, 0)),
    "shear y": lambda images, strength: _affine(images, slope=(0, SLOPE * strength)),
    "translate x": lambda images, strength: _affine(images, shift=(SHIFT * strength, 0)),
    "translate y": lambda images, strength: _affine(images, shift=(0, SHIFT * strength)),
    "rotate": lambda images, strength: ops.rotate(images, 30 * strength, fill=GREY),
    "brightness": lambda images, strength: ops.adjust_brightness(images, 1 + 0.9 * strength),
    "colour": lambda images, strength: ops.adjust_saturation(images, 1 + 0.9 * strength),
    "contrast": lambda images, strength: ops.adjust_contrast(images, 1 + 0.9 * strength),
    "sharpness": lambda images, strength: ops.adjust_sharpness(images, 1 + 0.9 * strength),
    "posterize": lambda images, strength: ops.posterize(images, 8 - round(4 * abs(strength))),
    "solarize": lambda images, strength: ops.solarize(images, 255 * (1 - abs(strength))),
    "autocontrast": lambda images, strength: ops.autocontrast(images),
    "equalize": lambda images, strength: ops.equalize(images),
}


def randaugment(images: Tensor, count: int, magnitude: int, generator: torch.Generator) -> Tensor:
    """uint8 images (N, H, W, C) after `count` random operations each, of either sign."""
    x = images.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
    for _ in range(count):
        drawn = torch.randint(len(OPS), (len(x),), generator=generator)
        negative = torch.rand(len(x), generator=generator) < 0.5
        for number, operation in enumerate(OPS.values()):
            for sign, of_sign in ((1, ~negative), (-1, negative)):
                chosen = ((drawn == number) & of_sign).nonzero().flatten().to(x.device)
                if len(chosen):
                    x[chosen] = operation(x[chosen], sign * magnitude / STEPS)
    return x.permute(0, 2, 3, 1)
