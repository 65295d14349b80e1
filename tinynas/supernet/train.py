"""Training of the shared weights: the sandwich rule with in-place distillation.

BigNAS (Yu et al., arXiv 2003.11142, section 3.1): every step trains the largest subnet on the
labels, and the smallest and a few random ones on what the largest said in the same step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tinynas.space.arch import Arch, Genes, decode, largest, random_genes, smallest
from tinynas.supernet.fit import Images, Labels, Progress, fit
from tinynas.supernet.network import Supernet
from tinynas.supernet.settings import TrainSettings

Sampler = Callable[[int, np.random.Generator], Genes]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """Mean over each epoch's steps of the largest subnet's loss."""

    losses: tuple[float, ...]


def train_supernet(
    supernet: Supernet,
    images: Images,
    labels: Labels,
    settings: TrainSettings,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    sampler: Sampler | None = None,
    top: Arch | None = None,
    bottom: Arch | None = None,
) -> TrainResult:
    """Losses of the training; `supernet` is trained in place on uint8 images (N, H, W, C).

    `sampler(count, rng)` draws the random subnets as genes, uniformly from the whole space by
    default; `top` and `bottom` are the subnets that every step trains, by default the space's
    largest and smallest at the images' resolution. See `fit` for `checkpoint` and errors.
    """
    space, width, resolution = supernet.space, supernet.width, images.shape[1]
    top = top or largest(space, width=width, resolution=resolution)
    bottom = bottom or smallest(space, width=width, resolution=resolution)
    draw = sampler or partial(random_genes, space)

    def backward(x: Tensor, y: Tensor, rng: np.random.Generator) -> float:
        genes = draw(settings.random_subnets, rng) if settings.random_subnets else ()
        others = [decode(space, row, width=width, resolution=resolution) for row in genes]
        return sandwich(supernet, x, y, top, [bottom, *others], settings.label_smoothing)

    identity = {"subnets": json.dumps([top.to_json(), bottom.to_json()])}
    losses = fit(
        supernet,
        images,
        labels,
        settings,
        backward,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        identity=identity,
        progress=progress,
    )
    return TrainResult(losses=losses)


def sandwich(
    supernet: Supernet,
    x: Tensor,
    y: Tensor,
    top: Arch,
    others: list[Arch],
    label_smoothing: float,
) -> float:
    """Loss of `top` on the labels; adds the gradients of its loss and of each other subnet's.

    One backward pass per subnet: only one subnet's activations are in memory at a time.
    """
    logits = supernet(x, top)
    loss = F.cross_entropy(logits, y, label_smoothing=label_smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    soft_labels = logits.detach().softmax(1)
    for arch in others:
        F.cross_entropy(supernet(x, arch), soft_labels).backward()  # type: ignore[no-untyped-call]
    return loss.item()
