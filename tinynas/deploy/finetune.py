"""A chosen subnet trained a little longer, on its own."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinynas.supernet.accelerator import autocast
from tinynas.supernet.batches import Images, Labels, steps_per_epoch
from tinynas.supernet.evaluate import recalibrate, score
from tinynas.supernet.fit import Phase, Progress, fit
from tinynas.supernet.mix import mixed
from tinynas.supernet.network import fuse
from tinynas.supernet.settings import FinetuneSettings


def finetune(
    net: nn.Sequential,
    images: Images,
    labels: Labels,
    settings: FinetuneSettings,
    *,
    seed: int,
    teacher: nn.Sequential | None = None,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> nn.Sequential:
    """A trained copy of an extracted subnet, in evaluation mode with statistics of `images`.

    Images are uint8 (N, H, W, C) of the training split. The last epoch's weights are taken:
    nothing is selected, so no other split is needed. A `teacher`, a calibrated subnet for images
    of the same size, gives soft labels that make up the share `settings.distillation` of the
    loss. See `fit` for `checkpoint` and the errors raised.
    """
    trained = copy.deepcopy(net)
    fused = fuse(teacher).to(device) if teacher else None

    classes = cast(nn.Linear, trained[-1]).out_features

    def backward(x: Tensor, y: Tensor, rng: np.random.Generator) -> Tensor:
        x, y = mixed(x, y, classes, settings.augmentation, rng)
        with autocast(x.device, settings.precision):
            logits = trained(x).float()
            loss = F.cross_entropy(logits, y, label_smoothing=settings.label_smoothing)
            if fused:
                with torch.no_grad():
                    soft_labels = fused(x).float().softmax(1)
                imitation = F.cross_entropy(logits, soft_labels)
                loss = torch.lerp(loss, imitation, settings.distillation)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    steps = settings.epochs * steps_per_epoch(len(images), settings.batch_size)
    identity = {"network": _digest(net), "teacher": _digest(teacher) if teacher else ""}
    fit(
        trained,
        images,
        labels,
        settings,
        [Phase(steps=steps, lr=settings.lr, backward=backward)],
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        identity=identity,
        progress=progress,
    )
    return recalibrate(trained, images)


def _digest(net: nn.Module) -> str:
    """A digest of all weights and statistics."""
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy())
    return digest.hexdigest()


def float_accuracy(net: nn.Sequential, images: Images, labels: Labels) -> float:
    """Fraction of uint8 images (N, H, W, C) that an extracted subnet classifies correctly."""
    return score(net, images, labels).accuracy
