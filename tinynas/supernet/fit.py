"""The loop that trains a supernet or one subnet, and its checkpoints.

Everything random in an epoch comes from (seed, epoch), and the learning rate from the step alone.
So a checkpoint at the end of an epoch needs the weights, the optimiser's state and the number of
epochs done, and a run that was killed ends with the same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tinynas.errors import DataError, UsageError
from tinynas.supernet.augment import augment, to_input
from tinynas.supernet.settings import FitSettings

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer[Any]]
Backward = Callable[[Tensor, Tensor, np.random.Generator], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training is after a step: both counts of steps are over all epochs."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


def steps_per_epoch(images: int, settings: FitSettings) -> int:
    """Number of batches that `images` images are dealt into, each of at least the batch size."""
    return max(1, images // settings.batch_size)


def learning_rate(step: int, steps: int, settings: FitSettings) -> float:
    """The rate of step 0 ... steps - 1: a linear rise, then a cosine down to zero."""
    warmup = round(settings.warmup_fraction * steps)
    if step < warmup:
        return settings.lr * (step + 1) / (warmup + 1)
    return settings.lr * 0.5 * (1 + cos(pi * (step - warmup) / (steps - warmup)))


def make_optimizer(model: nn.Module, settings: FitSettings) -> torch.optim.AdamW:
    """AdamW that decays weights of convolutions and linear layers, and nothing else."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_weight = parameter.ndim > 1 and name.endswith("weight")
        (decayed if is_weight else kept).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, foreach=True)


def fit(
    model: nn.Module,
    images: Images,
    labels: Labels,
    settings: FitSettings,
    backward: Backward,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    identity: Mapping[str, str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[float, ...]:
    """The mean loss of each epoch; trains `model` in place, images uint8 (N, H, W, C).

    `backward(x, y, rng)` adds a batch's gradients to the model and returns its loss. After each
    epoch `checkpoint` is replaced; if it is there at the start, training goes on from it.
    Raises UsageError if it is of another run, i.e. of another seed, settings, data or `identity`.
    """
    check_data(images, labels)
    model.to(device).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, settings)
    about = {**_about(images, labels, settings, seed), **(identity or {})}
    losses = _resume(checkpoint, about, model, optimizer) if checkpoint else []
    for epoch in range(len(losses), settings.epochs):
        losses.append(
            _epoch(model, optimizer, images, labels, settings, backward, seed, epoch, progress)
        )
        if checkpoint:
            _save(checkpoint, about, model, optimizer, losses)
    return tuple(losses)


def _epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Images,
    labels: Labels,
    settings: FitSettings,
    backward: Backward,
    seed: int,
    epoch: int,
    progress: Callable[[Progress], None] | None,
) -> float:
    rng = np.random.default_rng([seed, epoch])
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    count = steps_per_epoch(len(images), settings)
    steps = count * settings.epochs
    total = 0.0
    for number, batch in enumerate(np.array_split(rng.permutation(len(images)), count)):
        step = epoch * count + number
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, settings)
        x, y = _batch(model, images[batch], labels[batch], settings, generator)
        optimizer.zero_grad(set_to_none=True)
        loss = backward(x, y, rng)
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        total += loss
        if progress:
            progress(
                Progress(
                    epoch=epoch, epochs=settings.epochs, step=step + 1, steps=steps, loss=loss
                )
            )
    return total / count


def _batch(
    model: nn.Module,
    images: Images,
    labels: Labels,
    settings: FitSettings,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    x = torch.from_numpy(images).to(device)
    if settings.augmentation:
        x = augment(x, settings.augmentation, generator)
    return to_input(x), torch.from_numpy(labels.astype(np.int64)).to(device)


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


def _about(images: Images, labels: Labels, settings: FitSettings, seed: int) -> dict[str, str]:
    digest = hashlib.sha256(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, np.int64).data)
    return {"seed": str(seed), "settings": settings.model_dump_json(), "data": digest.hexdigest()}


def _save(
    path: Path,
    about: dict[str, str],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: list[float],
) -> None:
    content = {
        "about": about,
        "losses": losses,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _resume(
    path: Path, about: dict[str, str], model: nn.Module, optimizer: torch.optim.Optimizer
) -> list[float]:
    """Losses of the epochs done, with model and optimiser as they were after them."""
    if not path.exists():
        return []
    content = load_checkpoint(path)
    if content["about"] != about:
        differing = [key for key, value in about.items() if content["about"].get(key) != value]
        raise UsageError(
            f"{path} is of a training with other {', '.join(differing)}; "
            f"delete it or train with the same ones"
        )
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return list(content["losses"])


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `fit` saved: about, losses (one per epoch), model and optimizer states, on the CPU.

    Raises UsageError for a file that is not a checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises half a dozen unrelated types for a damaged file
        content = None
    if not isinstance(content, dict) or not {"about", "losses", "model"} <= content.keys():
        raise UsageError(f"{path} is not a training checkpoint; delete it to start afresh")
    return content
