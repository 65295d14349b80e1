"""The sandwich rule with in-place distillation.

BigNAS (Yu et al., arXiv 2003.11142, section 3.1): every step trains the largest subnet on the
labels, and the smallest and a few random ones on what the largest said in the same step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from tinynas.space.arch import Arch, decode
from tinynas.supernet.accelerator import autocast
from tinynas.supernet.batches import Images
from tinynas.supernet.course import Course, Subnets
from tinynas.supernet.fit import Phase
from tinynas.supernet.mix import mixed
from tinynas.supernet.network import Supernet
from tinynas.supernet.settings import TrainSettings


def sandwich_course(
    supernet: Supernet,
    images: Images,
    settings: TrainSettings,
    subnets: Subnets,
    steps: Sequence[int],
    seed: int,
) -> Course:
    """One phase, in which all subnets are trained from the first step on."""
    space, width, resolution = supernet.space, supernet.width, subnets.top.resolution
    classes = supernet.logits.out_features

    def backward(x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
        count = settings.random_subnets
        genes = subnets.draw(count, rng) if count else ()
        others = [decode(space, row, width=width, resolution=resolution) for row in genes]
        x, y = mixed(x, y, classes, settings.augmentation, rng)
        return sandwich(supernet, x, y, subnets.top, [subnets.bottom, *others], settings)

    return Course(phases=(Phase(steps=steps[0], lr=settings.lr, backward=backward),))


def sandwich(
    supernet: Supernet,
    x: Tensor,
    y: Tensor,
    top: Arch,
    others: Sequence[Arch],
    settings: TrainSettings,
) -> Tensor:
    """Loss of `top` on the labels; adds the gradients of its loss and of each other subnet's.

    One backward pass per subnet: only one subnet's activations are in memory at a time.
    """
    with autocast(x.device, settings.precision):
        logits = supernet(x, top).float()
        loss = F.cross_entropy(logits, y, label_smoothing=settings.label_smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    soft_labels = logits.detach().softmax(1)
    for arch in others:
        with autocast(x.device, settings.precision):
            imitation = F.cross_entropy(supernet(x, arch).float(), soft_labels)
        imitation.backward()  # type: ignore[no-untyped-call]
    return loss.detach()
