"""Accuracy of one subnet: its own batch-norm statistics first, then images it was not trained on.

One CPU thread throughout, whatever the caller uses: sums in another order give other last bits,
and a subnet's score must not depend on where it was scored.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tinynas.space.arch import Arch
from tinynas.supernet.augment import to_input
from tinynas.supernet.batches import Images, Labels
from tinynas.supernet.network import Supernet, extract, fuse

BATCH = 32  # images; the activations of larger batches leave the processor's cache
BATCH_ON_GPU = 1024  # where statistics are not taken: those keep their batches everywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How many of `count` images were classified correctly."""

    correct: int
    count: int

    @property
    def accuracy(self) -> float:
        """Fraction of the images classified correctly."""
        return self.correct / self.count


@contextmanager
def one_thread() -> Iterator[None]:
    """Within this context torch uses one CPU thread; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def recalibrate_and_score(
    supernet: Supernet,
    arch: Arch,
    calibration_images: Images,
    val_images: Images,
    val_labels: Labels,
) -> Score:
    """Score of a subnet on uint8 images (N, H, W, C); the supernet is left as it was.

    `calibration_images` must come from the training split.
    """
    with one_thread():
        net = recalibrate(extract(supernet, arch), calibration_images)
        return score(net, val_images, val_labels)


@torch.no_grad()
def recalibrate(net: nn.Sequential, images: Images) -> nn.Sequential:
    """A copy in evaluation mode whose batch-norm statistics are those of `images`.

    They are averages over batches of nearly equal size, the network in training mode, as
    once-for-all and MCUNet do before they judge a subnet (Yu & Huang, arXiv 1903.05134, sec. 3.1).
    """
    result = copy.deepcopy(net).train()
    norms = [module for module in result.modules() if isinstance(module, nn.BatchNorm2d)]
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's name for the plain average
    for x in _batches(result, images):
        result(x)
    for norm, value in zip(norms, momentum, strict=True):
        norm.momentum = value
    return result.eval()


def score(net: nn.Sequential, images: Images, labels: Labels) -> Score:
    """Score of an extracted subnet with its present batch-norm statistics, on one thread."""
    predicted = predict_logits(net, images).argmax(1)
    return Score(correct=int((predicted == labels).sum()), count=len(labels))


def predict_logits(net: nn.Sequential, images: Images) -> npt.NDArray[np.float32]:
    """Logits (N, classes) of an extracted subnet in evaluation mode, on one thread."""
    with one_thread(), torch.inference_mode():
        fused = fuse(net)
        on_cpu = next(fused.parameters()).device.type == "cpu"
        batches = _batches(fused, images, BATCH if on_cpu else BATCH_ON_GPU)
        logits = torch.cat([fused(x) for x in batches])
    return logits.cpu().numpy()


def _batches(net: nn.Module, images: Images, size: int = BATCH) -> Iterator[Tensor]:
    device = next(net.parameters()).device
    for batch in np.array_split(images, max(1, len(images) // size)):
        yield to_input(torch.from_numpy(np.array(batch)).to(device))
